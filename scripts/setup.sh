#!/usr/bin/env bash
# Makes sure that what the build needs is there: a Swift toolchain, three system libraries, and the packages that are named
# as arguments.
# Says nothing and changes nothing where all of it is.
set -euo pipefail

packages=(libopenblas-dev libomp-dev libnuma-dev "$@")

if ! command -v swift >/dev/null; then
    echo "setup: no Swift toolchain was found; install Swift 6.2 or newer (https://www.swift.org/install) and put it on PATH." >&2
    exit 1
fi
version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+)\.([0-9]+).*/\1 \2/p' | head -n 1)
read -r major minor <<<"${version:-0 0}"
if ((major < 6 || (major == 6 && minor < 2))); then
    echo "setup: Swift 6.2 or newer is needed; \`swift --version\` says ${major}.${minor}." >&2
    exit 1
fi

[[ $(uname -s) == Linux ]] || exit 0

if ! command -v dpkg-query >/dev/null; then
    # Another distribution: nothing links these libraries, so their absence stops nothing.
    echo "setup: this is neither Debian nor Ubuntu; the counterparts of ${packages[*]} are not installed here." >&2
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

run=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "setup: please install as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    run=(sudo)
fi
echo "setup: installing ${missing[*]}" >&2
install=("${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
if ! "${install[@]}" >/dev/null 2>&1; then
    # The package lists may be missing or old.
    "${run[@]}" apt-get update -qq >&2
    "${install[@]}" >/dev/null
fi
