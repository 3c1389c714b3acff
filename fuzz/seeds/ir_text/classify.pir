# test classify
policy "prod/web" ingress
file0 = "policy.yaml"
set0 = nets "10.0.0.0/8" { 10.0.0.0/8, 10.9.0.0/16 }
set1 = members "unused" { 10.0.0.7/32 }
set2 = members "role == 'db'" { 10.0.0.7/32, fd00::7/128 }
set3 = members "nobody" { }
set4 = members "port web" { 10.0.0.7/32, 192.0.2.1/32 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
chain0 "default" {
  rule0: src in set0; dst not in set2 -> allow decision0
  rule1: dst in set3; not dport tcp/80 in set4 -> allow decision0
} deny decision4
order chain0
