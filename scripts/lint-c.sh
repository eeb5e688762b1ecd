#!/usr/bin/env bash
# Every C file must compile without a warning, by the toolchain's own clang; nothing is written.
set -euo pipefail
cd "$(dirname "$0")/.."
clang=$(dirname "$(readlink -f "$(command -v swift)")")/clang
[[ -x $clang ]] || clang=clang
folders=(Sources/CKernels Benchmarks/kernels)
# For LD_PRELOAD: it is compiled on Linux alone.
[[ $(uname) == Linux ]] && folders+=(Tests/Support/Allocations)
find "${folders[@]}" -name '*.c' -print0 | sort -z |
    xargs -0 -n 1 -P 2 "$clang" -std=gnu11 -fsyntax-only -Wall -Wextra -Werror -I Sources/CKernels/include
