# test reorder
policy "prod/web" ingress
file0 = "policy.yaml"
set0 = members "role == 'db'" { 10.0.0.7/32 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
chain0 "default" {
  # Narrow and dear first, as written.
  rule0: proto tcp; src in set0; dport 80, 81, 90, 443 -> allow decision0
  rule1: proto udp; dport 53 -> deny decision1
  # Overlaps rule0 with another decision: stays behind it.
  rule2: proto tcp -> deny decision1
  rule3: proto sctp -> log decision3
  rule4: proto sctp -> allow decision0
  rule5: family v4; proto icmp -> deny decision1
} deny decision4
order chain0
