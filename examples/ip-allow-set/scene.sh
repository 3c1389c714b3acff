# Who talks to whom in traffic.pcap; ../record.sh reads it.
# shellcheck shell=bash

pod web-1 10.10.0.11 fd00:10::11
pod batch-1 10.10.0.21 fd00:10::21
outside office 203.0.113.7 2001:db8:a::7
outside partner 198.51.100.15 198.51.100.16 198.51.100.31 198.51.100.32
outside stranger 192.0.2.44 2001:db8:b::7

serve web-1 tcp:8080:http udp:5000:echo
serve batch-1 tcp:9000:lines
serve office tcp:443:http
silent web-1 tcp 8080 192.0.2.44
silent web-1 tcp 8080 fd00:10::21

record

# Members of the set, over both IP versions.
tcp office 203.0.113.7 41001 10.10.0.11 8080 http
tcp office 2001:db8:a::7 41002 fd00:10::11 8080 http
ping office 203.0.113.7 4101 10.10.0.11
ping office 2001:db8:a::7 4102 fd00:10::11

# The partner's /28: first and last address, and their neighbours.
tcp partner 198.51.100.16 41003 10.10.0.11 8080 http
tcp partner 198.51.100.31 41004 10.10.0.11 8080 reset
udp partner 198.51.100.15 41005 10.10.0.11 5000 echo=32
udp partner 198.51.100.32 41006 10.10.0.11 5000 echo=32
udp partner 198.51.100.31 41007 10.10.0.11 5000 echo=32

# Strangers. Those of TCP get no answer and send their SYN again, as they would
# under the policy; the others are answered, as before anybody wrote a policy.
tcp stranger 192.0.2.44 41008 10.10.0.11 8080 http
ping stranger 2001:db8:b::7 4103 fd00:10::11
udp batch-1 10.10.0.21 41009 10.10.0.11 5000 echo=32
tcp batch-1 fd00:10::21 41010 fd00:10::11 8080 http

# A datagram to a closed port of web-1 is answered by an ICMP error.
udp office 203.0.113.7 41011 10.10.0.11 7 echo=32

# Large datagrams travel in three fragments, and so do their echoes. Only the first
# fragment of each has ports.
udp office 203.0.113.7 41014 10.10.0.11 5000 echo=4000
udp office 2001:db8:a::7 41015 fd00:10::11 5000 echo=4000

# Egress is not governed: web-1 calls out, and the answers come back in.
tcp web-1 10.10.0.11 41012 203.0.113.7 443 http
tcp web-1 10.10.0.11 41013 10.10.0.21 9000 lines
