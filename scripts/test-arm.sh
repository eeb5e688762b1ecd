#!/usr/bin/env bash
# Holds the NEON kernels to the committed digests and to the scalar definitions (Tests/Arm): on this processor as it is,
# and from x86-64 cross-compiled, on processors that qemu emulates, one for each level. Emulation shows bits, never speed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "test-arm: $*" >&2; }
clang=$(dirname "$(readlink -f "$(command -v swift)")")/clang
[[ -x $clang ]] || clang=clang
work=.build/arm
golden=Tests/Golden/kernels.json
mkdir -p "$work"

sources=()
while IFS= read -r file; do sources+=("$file"); done < <(find Sources/CKernels Tests/Arm -name '*.c' | sort)
# build PROGRAM FLAG…
build() {
    local program=$1
    shift
    "$clang" "$@" -std=gnu11 -Wall -Wextra -Werror -I Sources/CKernels/include "${sources[@]}" -lpthread -lm -o "$program"
}

build "$work/kernels" -O2 -DNDEBUG
# Where that is x86-64, it shows that the cases in C are those of the Swift tests.
echo "This processor ($(uname -m)):"
"$work/kernels" "$golden"
[[ $(uname -m) == x86_64 ]] || exit 0

# What cross-compiling needs. The number in the name of libgcc's package is that of the distribution's compiler.
packages=()
[[ -f /usr/aarch64-linux-gnu/lib/libc.a ]] || packages+=(libc6-dev-arm64-cross)
if ! compgen -G '/usr/lib/gcc-cross/aarch64-linux-gnu/*/libgcc_eh.a' >/dev/null; then
    found=$(apt-cache search --names-only '^libgcc-[0-9]+-dev-arm64-cross$' 2>/dev/null | sort -V | tail -n 1 || true)
    packages+=("${found%% *}")
    [[ ${packages[-1]} ]] || packages[-1]=libgcc-12-dev-arm64-cross
fi
command -v qemu-aarch64 >/dev/null || packages+=(qemu-user)
if ((${#packages[@]})); then
    if [[ $(uname -s) != Linux ]] || ! command -v dpkg-query >/dev/null; then
        say "needed are an aarch64 C library for cross-compiling with clang, libgcc beside it, and qemu-aarch64" \
            "(Debian: ${packages[*]}); neither Debian nor Ubuntu is here to install them."
        exit 1
    fi
    scripts/setup.sh "${packages[@]}"
fi

cross=(--target=aarch64-linux-gnu -fuse-ld=lld -static)
build "$work/kernels-O2" "${cross[@]}" -O2 -DNDEBUG
build "$work/kernels-O0" "${cross[@]}" -O0

# run PROGRAM CPU [--digests-only] LEVEL…: the processor must have these levels, the last as its best, and each must have
# been compared.
run() {
    local program=$1 cpu=$2
    shift 2
    echo "$program on $cpu, $*:"
    qemu-aarch64 -cpu "$cpu" "$work/$program" "$golden" "$@"
}
run kernels-O2 max neon neondot neoni8mm
# Older processors fault where an instruction has slipped out of its kernel.
run kernels-O2 cortex-a53 neon
run kernels-O2 neoverse-n1 --digests-only neon neondot
# Nothing depends on what the optimizer does.
run kernels-O0 max --digests-only neon neondot neoni8mm
echo "test-arm: every bit agrees on every level."
