# test verify
policy "prod/web" ingress
file0 = "policy.yaml"
set0 = nets "10.0.0.0/8" { 10.0.0.0/8 }
set1 = members "role == 'db'" { 10.0.0.7/32, fd00::7/128 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"

chain0 "platform" {
  rule0: src in set0 -> pass decision2
  rule1: icmp 8/0; proto icmp; family v4 -> log decision3
  rule2: dport none -> allow decision0
} pass
# A profile's Pass acts as Deny, and keeps what the user wrote.
chain1 "profiles" {
  rule3: dport tcp/80 in set1, 1-2; not sport 3 -> deny decision2
} deny decision4
unplaced {
  rule4: any -> allow decision5
}
order chain0, chain1
