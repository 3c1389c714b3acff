# Tiers with Log, Pass, ICMP and negations; no set, hence no table.
policy "prod/api-1" egress
file0 = "tiers.yaml"
decision0 = rule log tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.audit" at file0:10:5
decision1 = rule pass tier "platform" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.audit" at file0:14:5
decision2 = tier-default deny tier "platform" name "platform"
decision3 = rule deny tier "default" index 0 api "projectcalico.org/v3" object "NetworkPolicy" namespace "prod" name "default.api" at file0:30:5
decision4 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
decision5 = no-profile-match deny name ""
chain0 "platform" {
  rule0: family v4; proto icmp; icmp 8/0 -> log decision0 at file0:10:5
  rule1: not proto 47; not icmp 0; not dport 0-1023 -> pass decision1 at file0:14:5
} deny decision2
chain1 "default" {
  rule2: proto udp; sport 53; dport 100, 200, 300-310, 400, 500, 600-65535 -> deny decision3 at file0:30:5
} pass
chain2 "profiles" {
  rule3: any -> allow decision4
} deny decision5
order chain0, chain1, chain2
