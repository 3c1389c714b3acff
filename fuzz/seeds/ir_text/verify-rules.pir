# test verify
policy "p" ingress
file0 = "policy.yaml"
set0 = nets "10.0.0.0/8" { 10.0.0.0/8 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
chain0 "t" {
  rule0: dport 90-80 -> deny decision1          # error: empty port range 90-80
  rule1: not sport 2-1, 4-3 -> deny decision1   # error: empty port range 2-1  # error: empty port range 4-3
  rule2: src in set7 -> deny decision1          # error: set7 does not exist
  rule3: dst not in set8, set0 -> deny decision1 # error: set8 does not exist
  rule4: dport tcp/80 in set9 -> deny decision1 # error: set9 does not exist
  rule5: icmp 8; proto tcp -> deny decision1    # error: icmp type with protocol 6
  rule6: icmp 8; proto icmp; family v6 -> deny decision1  # error: icmp type with protocol 1 and v6
  rule7: icmp 8; proto icmpv6; family v4 -> deny decision1 # error: icmp type with protocol 58 and v4
  rule8: any -> allow decision1                 # error: does allow, but decision1 says deny
  rule9: any -> deny decision99                 # error: decision99 does not exist
  rule10: any -> log decision2                  # error: does log, but decision2 says pass
  rule11: any -> deny decision1 at file3:1:1    # error: file3 does not exist
  rule12: any -> deny decision1 dport at file0:0:1 # error: line 0 column 1: both count from 1
} deny decision4
order chain0
