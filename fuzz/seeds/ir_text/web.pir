# A Kubernetes policy with sets on one side, named and numeric ports.
# yaml file0:8 - from:
# yaml file0:9   - podSelector: {matchLabels: {role: db}}
# yaml file0:11   - {protocol: TCP, port: 443}
policy "shop/web-0" ingress
file0 = "policy.yaml"
set0 = members "role == 'db' && projectcalico.org/namespace == 'shop'" { 10.0.0.7/32, fd00::7/128 }
set1 = members "named port http" { 10.0.0.9/32 }
set2 = nets "10.0.0.0/8" { 10.0.0.0/8 }
set3 = nets "10.9.0.0/16" { 10.9.0.0/16 }
decision0 = rule allow tier "default" index 0 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "shop" name "web" at file0:8:5
decision1 = rule allow tier "default" index 1 api "networking.k8s.io/v1" object "NetworkPolicy" namespace "shop" name "web" at file0:14:5
decision2 = tier-default deny tier "default" name "default"
chain0 "default" {
  rule0: proto tcp; src in set0; dport 443, 8000-8080 -> allow decision0 at file0:8:5 proto at file0:11:9 src at file0:9:7 dport at file0:11:25
  rule1: src in set2; src not in set3; dport tcp/8080 in set1 -> allow decision1 at file0:14:5 src at file0:15:7 dport at file0:17:9
} deny decision2
order chain0
