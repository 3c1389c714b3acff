# test verify
policy "p" ingress
file0 = "policy.yaml"
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "prod" name "web" at file0:8:5
decision1 = rule deny tier "default" index 1 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "block" at file0:20:5
decision2 = rule pass tier "platform" index 0 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "platform.go" at file0:30:5
decision3 = rule log tier "default" index 2 api "projectcalico.org/v3" object "GlobalNetworkPolicy" name "audit" at file0:40:5
decision4 = tier-default deny tier "default" name "default"
decision5 = profile allow index 0 api "projectcalico.org/v3" object "Profile" name "kns.prod"
chain0 "a" { rule0: any -> allow decision0 rule0 rule9 } pass # error: rule0 is placed twice  # error: rule9 does not exist
chain1 "b" { rule0 } allow decision4        # error: rule0 is placed twice # error: does allow, but decision4 says deny
chain2 "c" { rule1: any -> pass decision2 } pass # error: rule1 passes in the last chain # error: the last chain ends with pass
order chain0, chain0, chain7, chain2        # error: chain0 is listed twice # error: chain7 does not exist
