# test verify
policy "p" ingress
set0 = nets "unmasked" { 10.0.0.1/8 }                # error: 10.0.0.1/8 is not masked
set1 = members "unsorted" { 10.0.0.2/32, 10.0.0.1/32 } # error: 10.0.0.1/32 is not sorted after 10.0.0.2/32
set2 = nets "twice" { ::/0, ::/0 }                   # error: ::/0 is listed twice
set3 = nets "nested is fine" { 10.0.0.0/8, 10.0.0.0/16 }
decision0 = tier-default deny name "t" at file0:1:1  # error: file0 does not exist
chain0 "t" {
} deny decision0
order chain0
