#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Servers and clients of the recorded examples, on the kernel's own TCP/IP stack.

record.sh starts it inside the network namespaces; standard library only. Clients
bind a fixed source port (or ICMP identifier), so a scene's flows have the same
names in every recording. A client that gets no answer is not an error: a scene
records what is sent, and some servers are told to stay silent.

    traffic.py offload DEVICE                  segmentation and checksums in software
    traffic.py serve READY SERVICE...          SERVICE is PROTO:PORT:WHAT
    traffic.py tcp SRC SPORT DST DPORT WHAT    WHAT: http, lines[=N], reset, dns
    traffic.py udp SRC SPORT DST DPORT WHAT    WHAT: echo=BYTES, dns[=BYTES]
    traffic.py ping SRC ID DST [COUNT]
"""

import ctypes
import fcntl
import ipaddress
import select
import socket
import struct
import sys
import time

ANSWER_WITHIN = 0.4  # s; long enough for a local answer, short enough to record many silences
SYN_RETRANSMIT = 1.3  # s; the kernel sends a second SYN after 1 s
LINE_PAUSE = 0.3  # s between the lines of a long-lived connection


def family(address):
    v6 = ipaddress.ip_address(address).version == 6
    return socket.AF_INET6 if v6 else socket.AF_INET


def bound(kind, address, port):
    s = socket.socket(family(address), kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    return s


# --- set-up -----------------------------------------------------------------


def offload(device):
    """Turns off what makes a capture differ from the wire: unfilled checksums,
    segments larger than the MTU."""
    set_tx_checksum, set_tso, set_gso, set_gro = 0x17, 0x1F, 0x24, 0x2C
    siocethtool = 0x8946
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for command in (set_tso, set_gso, set_gro, set_tx_checksum):
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(s, siocethtool, request)


# --- messages ---------------------------------------------------------------


def dns_query(size):
    """A query for shop.example A; `size` asks for an answer of about that size."""
    header = struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 1)
    question = b"\x04shop\x07example\0" + struct.pack("!HH", 1, 1)
    edns = b"\0" + struct.pack("!HHIH", 41, max(size, 512), 0, 0)
    return header + question + edns


def dns_answer(query):
    """Answers with as many A records as the query's EDNS size has room for."""
    room = struct.unpack("!H", query[-8:-6])[0]
    count = 1 if room <= 512 else (room - len(query)) // 16
    question = query[12:-11]
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4)
    answers = b"".join(
        record + bytes([192, 0, 2, n % 254 + 1]) for n in range(count)
    )
    return query[:2] + struct.pack("!5H", 0x8180, 1, count, 0, 0) + question + answers


def framed(message):
    """DNS over TCP: the length goes first."""
    return struct.pack("!H", len(message)) + message


# --- servers ----------------------------------------------------------------


def answer_stream(what, data):
    """Returns the answer and whether the connection is closed after it."""
    if what == "http":
        body = b"hello\n"
        head = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        return (head % len(body)).encode() + body, True
    if what == "dns":
        return framed(dns_answer(data[2:])), False
    return data.upper(), False


def answer_datagram(what, data):
    return dns_answer(data) if what == "dns" else data


def listen(spec):
    """Sockets of one service, one for each IP version."""
    proto, port, what = spec.split(":")
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    for any_address in ("0.0.0.0", "::"):
        s = socket.socket(family(any_address), kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if any_address == "::":
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((any_address, int(port)))
        if proto == "tcp":
            s.listen()
        yield s, (proto + "-listen" if proto == "tcp" else proto, what)


def serve(ready, *services):
    open_sockets = dict(pair for spec in services for pair in listen(spec))
    open(ready, "w").close()
    while True:
        for s in select.select(list(open_sockets), [], [])[0]:
            role, what = open_sockets[s]
            if role == "tcp-listen":
                open_sockets[s.accept()[0]] = ("tcp", what)
            elif role == "udp":
                data, peer = s.recvfrom(65535)
                s.sendto(answer_datagram(what, data), peer)
            elif not serve_connection(s, what):
                del open_sockets[s]
                s.close()


def serve_connection(s, what):
    """Whether the connection stays open."""
    try:
        data = s.recv(65535)
        if not data:
            return False
        answer, close = answer_stream(what, data)
        s.sendall(answer)
        return not close
    except ConnectionError:
        return False


# --- clients ----------------------------------------------------------------


def tcp(src, sport, dst, dport, what):
    what, _, count = what.partition("=")
    with bound(socket.SOCK_STREAM, src, int(sport)) as s:
        s.settimeout(SYN_RETRANSMIT)
        try:
            s.connect((dst, int(dport)))
            s.settimeout(ANSWER_WITHIN)
            converse(s, what, int(count or 1), dst)
        except OSError as e:
            print(f"  {src} > {dst}:{dport}: {e}")


def converse(s, what, count, host):
    if what == "http":
        s.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        while s.recv(65535):
            pass
    elif what == "dns":
        s.sendall(framed(dns_query(512)))
        s.recv(65535)
    else:
        for n in range(count):
            time.sleep(LINE_PAUSE if n else 0)
            s.sendall(b"line %d\n" % n)
            s.recv(65535)
    if what == "reset":  # lingering for 0 s closes with RST in place of FIN
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def udp(src, sport, dst, dport, what):
    what, _, size = what.partition("=")
    data = dns_query(int(size or 512)) if what == "dns" else bytes(int(size))
    with bound(socket.SOCK_DGRAM, src, int(sport)) as s:
        s.settimeout(ANSWER_WITHIN)
        try:
            s.connect((dst, int(dport)))
            s.send(data)
            s.recv(65535)
        except OSError as e:
            print(f"  {src} > {dst}:{dport}: {e}")


def internet_checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ping(src, identifier, dst, count="2"):
    v6 = family(dst) == socket.AF_INET6
    proto, request = (socket.IPPROTO_ICMPV6, 128) if v6 else (socket.IPPROTO_ICMP, 8)
    with socket.socket(family(dst), socket.SOCK_RAW, proto) as s:
        s.bind((src, 0))
        s.settimeout(ANSWER_WITHIN)
        for sequence in range(1, int(count) + 1):
            rest = struct.pack("!HH", int(identifier), sequence) + b"polc" * 4
            blank = struct.pack("!BBH", request, 0, 0)
            # The kernel fills in the checksum of ICMPv6 only.
            checksum = 0 if v6 else internet_checksum(blank + rest)
            s.sendto(struct.pack("!BBH", request, 0, checksum) + rest, (dst, 0))
            time.sleep(0.05)


if __name__ == "__main__":
    commands = {f.__name__: f for f in (offload, serve, tcp, udp, ping)}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
