# Who talks to whom in traffic.pcap; ../record.sh reads it.
# shellcheck shell=bash

pod server-1 10.40.1.11 fd00:40:1::11
pod client-1 10.40.2.11 fd00:40:2::11
pod canary-1 10.40.2.12 fd00:40:2::12
outside user 192.0.2.60 2001:db8:60::1
outside threat 198.51.100.66 2001:db8:bad::66
outside payment 203.0.113.40 203.0.113.41 2001:db8:40::5
outside metadata 169.254.169.254

serve server-1 tcp:8080:http tcp:9010:http tcp:9011:http tcp:7000:lines udp:5000:echo
serve user udp:53:dns tcp:25:lines
serve threat tcp:80:http
serve payment tcp:443:http

silent server-1 tcp 8080 10.40.2.12
silent server-1 tcp 8080 198.51.100.66
silent server-1 tcp 9011 fd00:40:2::11
silent user tcp 25 10.40.2.11
silent user tcp 25 fd00:40:2::12

record

# Clients, over both IP versions; the range's last port and the one after it.
tcp client-1 10.40.2.11 44001 10.40.1.11 8080 http
tcp client-1 fd00:40:2::11 44002 fd00:40:1::11 8080 reset
tcp client-1 10.40.2.11 44003 10.40.1.11 9010 http
tcp client-1 fd00:40:2::11 44004 fd00:40:1::11 9011 http

# A canary is kept from one port and let in at another.
tcp canary-1 10.40.2.12 44005 10.40.1.11 8080 http
tcp canary-1 fd00:40:2::12 44006 fd00:40:1::11 9010 http

# The world may send datagrams, whole and in fragments; the cluster's pods may not.
udp user 192.0.2.60 44007 10.40.1.11 5000 echo=32
udp user 2001:db8:60::1 44008 fd00:40:1::11 5000 echo=32
udp user 192.0.2.60 44009 10.40.1.11 5000 echo=4000
udp user 2001:db8:60::1 44010 fd00:40:1::11 5000 echo=4000
udp client-1 10.40.2.11 44011 10.40.1.11 5000 echo=32
udp client-1 fd00:40:2::11 44012 fd00:40:1::11 5000 echo=4000

# Passed on to the profile, which allows.
tcp user 192.0.2.60 44013 10.40.1.11 7000 lines
tcp user 2001:db8:60::1 44014 fd00:40:1::11 7000 lines=2

# The blocklist comes before everything that would admit these.
tcp threat 198.51.100.66 44015 10.40.1.11 8080 http
udp threat 2001:db8:bad::66 44016 fd00:40:1::11 5000 echo=32
ping threat 198.51.100.66 4401 10.40.1.11 1

# Pods may ping, the world may not.
ping client-1 10.40.2.11 4402 10.40.1.11
ping client-1 fd00:40:2::11 4403 fd00:40:1::11
ping user 192.0.2.60 4404 10.40.1.11 1
ping user 2001:db8:60::1 4405 fd00:40:1::11 1

# The server calls out: the payment service, its neighbour, and over IPv6.
tcp server-1 10.40.1.11 44017 203.0.113.40 443 http
tcp server-1 10.40.1.11 44018 203.0.113.41 443 http
tcp server-1 fd00:40:1::11 44019 2001:db8:40::5 443 http
# Closed ports: allowed datagrams, answered by errors that must come in …
udp server-1 10.40.1.11 44020 192.0.2.60 9999 echo=32
udp server-1 fd00:40:1::11 44021 2001:db8:60::1 9999 echo=32
# … and a forbidden one to the server, whose error may go out.
udp user 192.0.2.60 44022 10.40.1.11 5001 echo=32
# DNS is the one datagram that it may not send; the metadata service is closed.
udp server-1 10.40.1.11 44023 192.0.2.60 53 dns
udp server-1 10.40.1.11 44024 169.254.169.254 80 echo=32

# Clients: mail is closed in both IP versions, threats in IPv6 only.
tcp client-1 10.40.2.11 44025 192.0.2.60 25 lines
tcp canary-1 fd00:40:2::12 44026 2001:db8:60::1 25 lines
tcp client-1 fd00:40:2::11 44027 2001:db8:bad::66 80 http
tcp client-1 10.40.2.11 44028 198.51.100.66 80 http
