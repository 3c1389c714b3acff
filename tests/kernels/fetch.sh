#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# fetch.sh SERIES DESTINATION: puts Debian's newest cloud kernel of a series (5.10,
# 6.1, 6.12) there as DESTINATION/vmlinuz, the modules that attaching takes in
# DESTINATION/modules, and its package's name in DESTINATION/package.
#
# The mirror is the one that this machine's apt uses. Lists and packages stay in
# apt folders below DESTINATION; the system's own are read and never written.
set -eu

series=$1
destination=$2

case $series in
    5.10) suite=bullseye-security ;;
    6.1) suite=bookworm ;;
    6.12) suite=trixie ;;
    *) echo "no suite is known for kernel $series" >&2; exit 2 ;;
esac

# One of the URIs that the system has for Debian itself, or for its security archive.
mirror() {
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v security="$1" '$1 == "Debian" && ($2 ~ /-security$/) == security { print $3; exit }'
}
case $suite in
    *-security) uri=$(mirror 1) ;;
    *) uri=$(mirror 0) ;;
esac
if [ -z "$uri" ]; then
    echo "apt has no Debian mirror for $suite" >&2
    exit 1
fi

apt=$destination/apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [arch=amd64 signed-by=$keyring] $uri $suite main" >"$apt/sources.list"

private() { # PROGRAM ARGUMENTS...
    program=$1
    shift
    "$program" -q -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" \
        -o Dir::Cache="$apt/cache" -o Dir::Etc::sourcelist="$apt/sources.list" \
        -o Dir::Etc::sourceparts=- -o APT::Architecture=amd64 -o APT::Sandbox::User= \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o Acquire::Languages=none \
        -o APT::Update::Error-Mode=any "$@"
}

private apt-get update >&2
pattern="^linux-image-$(echo "$series" | sed 's/\./\\./g')\\.[^ ]*-cloud-amd64\$"
package=$(private apt-cache search --names-only "$pattern" | cut -d' ' -f1 | sort -V | tail -n 1)
if [ -z "$package" ]; then
    echo "$suite has no package that matches $pattern" >&2
    exit 1
fi
cd "$destination"
private apt-get download "$package" >&2
mkdir -p apt/files
dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x -C apt/files --wildcards './boot/vmlinuz-*' \
    '*/net/veth.ko*' '*/sched/sch_ingress.ko*' '*/sched/cls_bpf.ko*'
rm -rf modules
mkdir modules
find apt/files -name '*.ko*' -exec mv {} modules ';'
mv apt/files/boot/vmlinuz-* vmlinuz
rm -rf "$package"_*.deb apt
echo "$package" >package
