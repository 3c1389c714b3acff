#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Records an example's traffic.pcap again:  sudo ./examples/record.sh NAME
#
# Every pod and every outside host becomes a network namespace with the kernel's
# own TCP/IP stack; all are plugged into one bridge, where tcpdump listens. The
# scene (examples/NAME/scene.sh) says which hosts there are, what they serve and
# who talks to whom. No policy is enforced while recording: the capture shows what
# was attempted, and `polc run` tells what the policy does about it. A scene marks
# a server as `silent` towards a client where an attempt is to stay unanswered.
#
# The network is flat (every address is on-link for everyone), so no router
# rewrites anything and each frame is seen once.
#
# Needs: root, bash, ip (iproute2), tcpdump, python3. Touches nothing outside the
# namespaces it makes, and removes those when it ends, however it ends.
# Afterwards: POLC_BLESS=1 cargo test --test examples
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
name=${1:-}
scene=$here/$name/scene.sh
if [[ $# -ne 1 || ! -f $scene ]]; then
    echo "usage: $0 NAME   (one of: $(cd "$here" && echo */scene.sh | sed 's|/scene.sh||g'))" >&2
    exit 2
fi
if [[ $(id -u) -ne 0 ]]; then
    echo "$0: making network namespaces needs root" >&2
    exit 2
fi

python=$(command -v /usr/bin/python3 || command -v python3)
prefix=polc-rec-$$
switch=$prefix-switch
work=$(mktemp -d)
namespaces=()
jobs_started=()
hosts=0
tcpdump_pid=

cleanup() {
    local pid ns
    for pid in "${jobs_started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for ns in "${namespaces[@]}"; do ip netns del "$ns" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

new_namespace() { # NAME
    ip netns add "$1"
    namespaces+=("$1")
    ip -n "$1" link set lo up
}

inside() { # HOST COMMAND...
    local ns=$prefix-$1
    shift
    ip netns exec "$ns" "$@"
}

start_in_background() { # NAMESPACE COMMAND...
    local ns=$1
    shift
    ip netns exec "$ns" "$@" &
    jobs_started+=($!)
}

wait_for() { # DESCRIPTION COMMAND...
    local what=$1 i
    shift
    for ((i = 0; i < 100; i++)); do
        if "$@"; then return; fi
        sleep 0.05
    done
    echo "$0: timed out waiting for $what" >&2
    exit 1
}

# --- words of a scene ---------------------------------------------------------

# pod NAME ADDRESS...: a pod of cluster.yaml, which must have these addresses.
pod() {
    local address
    for address in "${@:2}"; do
        if ! grep -qE "ip: \"?$address\"?( |\}|,|\$)" "$here/$name/cluster.yaml"; then
            echo "$scene: no pod of cluster.yaml has the address $address" >&2
            exit 1
        fi
    done
    outside "$@"
}

# outside NAME ADDRESS...: a host that cluster.yaml doesn't know as a pod.
outside() {
    local ns=$prefix-$1 address
    hosts=$((hosts + 1))
    new_namespace "$ns"
    ip -n "$ns" link add eth0 address "$(printf '02:00:00:00:00:%02x' $hosts)" \
        type veth peer name "port$hosts" netns "$switch"
    # Addresses are usable at once and nobody looks for routers.
    ip netns exec "$ns" sysctl -qw net.ipv6.conf.eth0.accept_dad=0 \
        net.ipv6.conf.eth0.router_solicitations=0 net.ipv6.conf.eth0.autoconf=0
    inside "$1" "$python" "$here/traffic.py" offload eth0
    ip -n "$switch" link set "port$hosts" master br0 up
    ip -n "$ns" link set eth0 up
    for address in "${@:2}"; do ip -n "$ns" address add "$address" dev eth0; done
    ip -n "$ns" route add default dev eth0
    ip -n "$ns" -6 route add default dev eth0
}

# serve HOST PROTO:PORT:WHAT...: starts servers; WHAT as traffic.py has it.
serve() {
    start_in_background "$prefix-$1" "$python" "$here/traffic.py" serve "$work/ready-$1" "${@:2}"
    wait_for "the servers of $1" test -e "$work/ready-$1"
}

# silent HOST PROTO PORT ADDRESS: HOST hears what ADDRESS sends to the port, but no
# answer leaves it.
silent() {
    local version=-4
    if [[ $4 = *:* ]]; then version=-6; fi
    ip -n "$prefix-$1" $version rule add pref 100 to "$4" ipproto "$2" sport "$3" blackhole
}

# record: from here on frames are captured. Call it after the hosts are made.
record() {
    sleep 2.5 # multicast listener reports of the new addresses go unrecorded
    start_in_background "$switch" tcpdump -i br0 -s 0 -U --immediate-mode -Z root \
        -w "$work/traffic.pcap" 2>"$work/tcpdump.log"
    tcpdump_pid=${jobs_started[-1]}
    wait_for tcpdump grep -q "listening on" "$work/tcpdump.log"
}

# Clients: HOST, then traffic.py's arguments.
tcp() { inside "$1" "$python" "$here/traffic.py" tcp "${@:2}"; }
udp() { inside "$1" "$python" "$here/traffic.py" udp "${@:2}"; }
ping() { inside "$1" "$python" "$here/traffic.py" ping "${@:2}"; }

# --- the recording -------------------------------------------------------------

new_namespace "$switch"
ip -n "$switch" link add br0 type bridge mcast_snooping 0
ip netns exec "$switch" sysctl -qw net.ipv6.conf.br0.disable_ipv6=1
ip -n "$switch" link set br0 up

# shellcheck source=/dev/null
source "$scene"
if [[ -z $tcpdump_pid ]]; then
    echo "$scene: the scene never calls record" >&2
    exit 1
fi

sleep 0.5
kill -INT "$tcpdump_pid"
wait "$tcpdump_pid" || true
install -m 644 "$work/traffic.pcap" "$here/$name/traffic.pcap"
echo "$here/$name/traffic.pcap: $(stat -c %s "$here/$name/traffic.pcap") bytes, $(tail -n 3 "$work/tcpdump.log" | grep -o '[0-9]* packets captured')"
