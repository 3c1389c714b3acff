# test normalise
policy "prod/web" ingress
file0 = "policy.yaml"
set0 = nets "10.0.0.0/9,10.1.0.0/16,10.128.0.0/9" { 10.0.0.0/9, 10.1.0.0/16, 10.128.0.0/9 }
set1 = nets "10.0.0.0/8" { 10.0.0.0/8 }
set2 = nets "0.0.0.0/0" { 0.0.0.0/0 }
set3 = nets "0.0.0.0/0,::/0" { 0.0.0.0/0, ::/0 }
set4 = members "role == 'db'" { 10.0.0.7/32 }
set5 = members "role == 'db'" { 10.0.0.7/32 }
set6 = members "role == 'web'" { 10.0.0.7/32 }
set7 = nets "fd00::/8" { fd00::/8 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
chain0 "default" {
  # Aggregated sets become one; an IPv4 set gives the family.
  rule0: src in set1, set0 -> deny decision1
  # All of IPv4 is a family; all of both says nothing, its negation never holds.
  rule1: dst in set2; proto tcp -> deny decision1
  rule2: src in set3; dst not in set7 -> deny decision1
  rule3: src not in set3 -> deny decision1
  rule4: src not in set2 -> deny decision1
  # An IPv6 set says nothing about IPv4.
  rule5: family v4; src not in set7; dst in set4 -> deny decision1
  rule6: src in set1, set7 -> deny decision1
  # Equal members do not make equal sets, an equal selector does.
  rule7: src in set4, set5, set6 -> deny decision1
  # Ports: sorted, joined, holes cut, named ports of other protocols dropped.
  rule8: proto tcp; dport 443, 80-90, 91-100, tcp/85 in set4, udp/53 in set4; not dport 82, 500-600 -> allow decision0
  rule9: dport udp/53 in set4, udp/54 in set6 -> allow decision0
  rule10: proto icmp; dport 80 -> allow decision0
  rule11: dport 80; not dport 70-90 -> allow decision0
  # All ports still asks for a packet with ports.
  rule12: dport 0-65535; not proto 47 -> allow decision0
  # ICMP and what it implies.
  rule13: family v6; icmp 128 -> allow decision0
  rule14: proto icmp; icmp 8; not icmp 8/1 -> allow decision0
  rule15: icmp 8/1; not icmp 8 -> allow decision0
  rule16: proto tcp; not icmp 8; not proto udp -> allow decision0
} deny decision4
order chain0
