# test print
# Order of items and spelling of the input do not matter to the print.
order chain1, chain0
chain0 "profiles" {
  rule4: any -> allow decision5
  rule1
} deny decision4
chain1 "tier \"x\"" {
  rule2: dst not in set0; src in set1, set0; proto 17; family v6; not proto 6 -> pass decision2 at file0:1:2 proto at file0:3:4 src at file0:5:6 dst at file0:7:8 sport at file0:9:10 dport at file0:11:12
  rule1: not icmp 3/1; icmp 8 -> log decision3 sport at file0:1:1
  rule0: sport 1-2,3,6/80 in set1; not sport 9; dport none; not dport 0-65535 -> deny decision1
} pass
unplaced { rule3: proto 99 -> allow decision0 }
set1 = members "role == 'db'" { }
set0 = nets "10.0.0.0/8,fd00::/8" { 10.0.0.0/8, fd00::/8 }
file0 = "dir/policy.yaml"
policy "prod/web" ingress
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
