#!/usr/bin/env bash
# Every C file must compile without a warning, by the toolchain's own clang; nothing is written. The kernels must do so for
# Arm too, where the C library for cross-compiling is installed (`make test-arm` installs it).
set -euo pipefail
cd "$(dirname "$0")/.."
clang=$(dirname "$(readlink -f "$(command -v swift)")")/clang
[[ -x $clang ]] || clang=clang

# check FLAG… -- FOLDER…
check() {
    local flags=()
    while [[ $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    shift
    find "$@" -name '*.c' -print0 | sort -z |
        xargs -0 -n 1 -P 2 "$clang" "${flags[@]}" -std=gnu11 -fsyntax-only -Wall -Wextra -Werror -I Sources/CKernels/include
}

folders=(Sources/CKernels Tests/Arm Benchmarks/kernels)
# For LD_PRELOAD: it is compiled on Linux alone.
[[ $(uname) == Linux ]] && folders+=(Tests/Support/Allocations)
check -O0 -- "${folders[@]}"
if [[ $(uname -m) != aarch64 && -d /usr/aarch64-linux-gnu/include ]]; then
    check --target=aarch64-linux-gnu -- Sources/CKernels Tests/Arm Benchmarks/kernels
fi
