# Who talks to whom in traffic.pcap; ../record.sh reads it.
# shellcheck shell=bash

pod web-1 10.30.1.11 fd00:30:1::11
pod debug 10.30.1.99
pod api-1 10.30.2.11 fd00:30:2::11
pod api-2 10.30.2.12
pod db-0 10.30.3.11 fd00:30:3::11
pod prometheus-0 10.30.9.11
outside customer 192.0.2.80 2001:db8:80::1
outside attacker 198.51.100.127 198.51.100.128
outside bank 203.0.113.10 203.0.113.200

serve web-1 tcp:8080:http tcp:9100:http tcp:9111:http udp:9100:echo
serve api-1 tcp:8000:http tcp:8443:http tcp:9105:http
serve api-2 tcp:8443:http
serve db-0 tcp:5432:lines tcp:9187:http
serve bank tcp:443:http

# Forbidden connections of which nobody answers the SYN.
silent web-1 tcp 8080 198.51.100.127
silent api-1 tcp 8443 10.30.1.11
silent api-1 tcp 8000 10.30.1.99
silent db-0 tcp 5432 10.30.1.11
silent bank tcp 443 10.30.3.11

record

# A long-lived connection of the api to its database; the rest happens meanwhile.
tcp api-1 10.30.2.11 43001 10.30.3.11 5432 lines=12 &
database_session=$!

# An order: customer, web, api, bank.
tcp customer 192.0.2.80 43002 10.30.1.11 8080 http
tcp web-1 10.30.1.11 43003 10.30.2.11 8000 http
tcp api-1 10.30.2.11 43004 203.0.113.10 443 http
# The other api pod, at its own number of the same port name.
tcp web-1 10.30.1.11 43005 10.30.2.12 8443 reset
# Over IPv6 the same between pods.
tcp web-1 fd00:30:1::11 43006 fd00:30:2::11 8000 http
tcp api-1 fd00:30:2::11 43007 fd00:30:3::11 5432 lines

# The hole in the ipBlock: its last address, and the first one after it.
tcp attacker 198.51.100.127 43008 10.30.1.11 8080 http
tcp attacker 198.51.100.128 43009 10.30.1.11 8080 http
# The world is admitted over IPv4 only. (Recorded with its answers.)
tcp customer 2001:db8:80::1 43010 fd00:30:1::11 8080 http
# The bank's test systems are cut out of the other block.
tcp api-1 10.30.2.11 43011 203.0.113.200 443 http

# Right pods, wrong number: 8443 is http-api of api-2 only.
tcp web-1 10.30.1.11 43012 10.30.2.11 8443 http
# Past a tier, from the wrong pod, backwards, and out of the database.
tcp web-1 10.30.1.11 43013 10.30.3.11 5432 lines
tcp debug 10.30.1.99 43014 10.30.2.11 8000 http
udp api-1 10.30.2.11 43015 10.30.1.11 9100 echo=32
tcp db-0 10.30.3.11 43016 203.0.113.10 443 http

# Monitoring: in the range, at its end (closed: the pod answers with RST), after it,
# and the right number of the wrong protocol.
tcp prometheus-0 10.30.9.11 43017 10.30.1.11 9100 http
tcp prometheus-0 10.30.9.11 43018 10.30.1.11 9110 http
tcp prometheus-0 10.30.9.11 43019 10.30.1.11 9111 http
udp prometheus-0 10.30.9.11 43020 10.30.1.11 9100 echo=32
tcp prometheus-0 10.30.9.11 43021 10.30.2.11 9105 http
tcp prometheus-0 10.30.9.11 43022 10.30.3.11 9187 http

# A port never matches ICMP: nobody may ping the web pod, not even customers.
ping customer 192.0.2.80 4301 10.30.1.11 1

wait $database_session
