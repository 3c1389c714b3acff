# A budget that one program cannot hold: classes are stored, later programs fetch rows.
# slots 190
policy "shop/web-0" ingress
file0 = "policy.yaml"
set0 = members "role == 'db'" { 10.0.0.7/32 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "shop" name "web" at file0:8:5
decision1 = rule pass tier "default" index 1 api "projectcalico.org/v3" object "NetworkPolicy" namespace "shop" name "more" at file0:20:5
decision2 = tier-default deny tier "default" name "default"
decision3 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.shop"
decision4 = no-profile-match deny name ""
chain0 "default" {
  rule0: proto udp; dport 53 -> pass decision1 at file0:20:5
  rule1: proto tcp; dst in set0; dport 1000-1100 -> allow decision0 at file0:8:5
  rule2: proto tcp; dst in set0; dport 2000-2100 -> allow decision0 at file0:8:5
  rule3: proto tcp; dst in set0; dport 3000-3100 -> allow decision0 at file0:8:5
  rule4: proto tcp; dst in set0; dport 4000-4100 -> allow decision0 at file0:8:5
  rule5: proto tcp; dst in set0; dport 5000-5100 -> allow decision0 at file0:8:5
  rule6: proto tcp; dst in set0; dport 6000-6100 -> allow decision0 at file0:8:5
} deny decision2
chain1 "profiles" {
  rule7: src in set0 -> allow decision3
} deny decision4
order chain0, chain1
