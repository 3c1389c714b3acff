# test plan
policy "prod/web" ingress
file0 = "policy.yaml"
set0 = members "web" { 10.0.0.7/32 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
chain0 "platform" {
  rule0: dport 1, 3, 5 -> pass decision2
  # Too large for one program: split, a Log rule between ports only.
  rule1: dport 1, 3, 5, 7, 9, 11, 13, 15 -> deny decision1
  rule2: dport 1-9, 3, 5, tcp/7 in set0, 20, 22, 24, 26 -> log decision3
} pass
# A Pass of an earlier segment leads here, so it opens one.
chain1 "default" {
  rule3: proto tcp -> allow decision0
} pass
chain2 "profiles" {
  rule4: any -> allow decision5
} deny decision4
order chain0, chain1, chain2
