# test prune
policy "prod/web" ingress
file0 = "policy.yaml"
set0 = nets "10.0.0.0/8" { 10.0.0.0/8 }
set1 = nets "10.1.0.0/16" { 10.1.0.0/16 }
set2 = members "role == 'db'" { }
set3 = members "unused" { }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
chain0 "platform" {
  rule0: dport none -> pass decision2
  rule1: proto tcp; not proto tcp -> pass decision2
  rule2: src in set0 -> deny decision1
  # Covered by rule2, with members that are part of the policy.
  rule3: src in set1; proto tcp; dport 80 -> allow decision0
  # Empty today is not empty for ever.
  rule4: dst in set2 -> pass decision2
  rule5: any -> log decision3
  # Log covers nothing.
  rule6: proto udp; dport 50-60 -> allow decision0
  rule7: proto udp; dport 53, 55-56 -> deny decision1
} pass
chain1 "default" {
  # Does what the end does, but is another decision.
  rule8: proto tcp -> deny decision1
  rule9: any -> allow decision0
  rule10: any -> log decision3
} pass
chain2 "profiles" {
  rule11: src in set3 -> allow decision5
} deny decision4
order chain0, chain1, chain2
