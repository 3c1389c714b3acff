# Who talks to whom in traffic.pcap; ../record.sh reads it.
# shellcheck shell=bash

pod coredns-0 10.20.0.10 fd00:20::10
pod proxy-0 10.20.0.20
pod app-1 10.20.1.11 fd00:20:1::11
pod app-2 10.20.1.12 fd00:20:1::12
pod impostor 10.20.2.66 fd00:20:2::66
outside resolver 192.0.2.53
outside visitor 198.51.100.9

serve coredns-0 udp:53:dns tcp:53:dns tcp:9153:http
serve proxy-0 udp:53:dns
serve app-1 tcp:8080:http
serve app-2 tcp:8080:http
serve impostor udp:53:dns tcp:53:dns
serve resolver udp:53:dns

# The TCP connections that the policy forbids stay unanswered.
silent coredns-0 tcp 9153 10.20.1.11
silent app-2 tcp 8080 fd00:20:1::11
silent app-1 tcp 8080 198.51.100.9
silent app-1 tcp 8080 10.20.2.66

record

# Questions, over both transports and both IP versions.
udp app-1 10.20.1.11 42001 10.20.0.10 53 dns
udp app-1 fd00:20:1::11 42002 fd00:20::10 53 dns
tcp app-1 10.20.1.11 42003 10.20.0.10 53 dns
tcp app-2 fd00:20:1::12 42004 fd00:20::10 53 dns

# An answer too large for one packet: the later fragments have no ports.
udp app-1 10.20.1.11 42005 10.20.0.10 53 dns=3000
udp app-1 fd00:20:1::11 42006 fd00:20::10 53 dns=3000

# Two questions from one port are one connection, as far as anybody can tell.
udp app-2 10.20.1.12 42007 10.20.0.10 53 dns
udp app-2 10.20.1.12 42007 10.20.0.10 53 dns

# The right server, the wrong port or protocol.
tcp app-1 10.20.1.11 42008 10.20.0.10 9153 http
ping app-1 10.20.1.11 4201 10.20.0.10 1

# The right port, the wrong server: namespace, label, or not a pod at all.
udp app-1 10.20.1.11 42009 10.20.0.20 53 dns
udp app-1 10.20.1.11 42010 10.20.2.66 53 dns
udp app-1 fd00:20:1::11 42011 fd00:20:2::66 53 dns
udp app-1 10.20.1.11 42012 192.0.2.53 53 dns

# Neighbours of one namespace cannot talk either. (The first is recorded with its
# answers, as before anybody wrote a policy: every packet of it is denied.)
tcp app-1 10.20.1.11 42013 10.20.1.12 8080 http
tcp app-1 fd00:20:1::11 42014 fd00:20:1::12 8080 http

# Nobody calls in: not from outside, not from another namespace, not even the DNS
# server.
tcp visitor 198.51.100.9 42015 10.20.1.11 8080 http
tcp impostor 10.20.2.66 42016 10.20.1.11 8080 http
udp coredns-0 10.20.0.10 5353 10.20.1.12 8080 echo=20
ping visitor 198.51.100.9 4202 10.20.1.11 1

# Without policy: team-b asks the server, which has no policy either.
udp impostor 10.20.2.66 42017 10.20.0.10 53 dns
# A closed port of the DNS server; its ICMP error goes to a pod that asked nothing
# it was allowed to ask.
udp app-2 10.20.1.12 42018 10.20.0.10 54 echo=20
