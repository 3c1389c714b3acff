#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
# Builds polc_entry.o from this folder: the same bytes wherever the folder is.
# Other releases of clang give other bytes, so the release is part of the name.
#
# usage: build.sh [OUTPUT]     default: polc_entry.o here, and SHA256SUMS
set -eu
cd "$(dirname "$0")"
CLANG=${CLANG:-clang-19}
STRIP=${STRIP:-llvm-strip-19}
OUT=${1:-polc_entry.o}

"$CLANG" -target bpf -mcpu=v3 -O2 -g -nostdinc -std=gnu11 -Wall -Wextra -Werror \
	-ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
	-c entry.c -o "$OUT"
# DWARF goes, BTF stays.
"$STRIP" -g "$OUT"

if [ "$OUT" = polc_entry.o ]; then
	sha256sum build.sh conntrack.h entry.c failsafe.h fragment.h log.h parse.h polc.h polc_abi.h polc_entry.o quote.h xdp.h >SHA256SUMS
fi
