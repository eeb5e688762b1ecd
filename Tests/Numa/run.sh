#!/usr/bin/env bash
# Placement over memory nodes on a kernel that has two: Debian's, emulated by qemu with two processors on each node, since the
# machine at hand mostly has one. What is shown there says Tests/Numa/init. Installs qemu and busybox where they are missing,
# and keeps the kernel in .build/numa.
set -euo pipefail
cd "$(dirname "$0")/../.."
lathe=${1:-.build/release/lathe}
work=.build/numa

[[ $(uname -sm) == "Linux x86_64" ]] || { echo "test-numa: the emulated machine runs x86-64 Linux programs." >&2; exit 1; }
scripts/setup.sh qemu-system-x86 busybox-static
mkdir -p "$work"

kernel=$(find "$work" -name 'vmlinuz-*' | sort | tail -n 1)
if [[ -z $kernel ]]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -nE 's/^ *Depends: (linux-image-[0-9].*)/\1/p' | head -n 1)
    [[ -n $package ]] || { echo "test-numa: apt knows no linux-image-cloud-amd64; put a vmlinuz-… into $work." >&2; exit 1; }
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$package" && dpkg-deb --fsys-tarfile "$package"_*.deb |
        tar -x --strip-components=2 ./boot)
    rm "$work/$package"_*.deb
    kernel=$(find "$work" -name 'vmlinuz-*' | sort | tail -n 1)
fi

# A root of the program, what it links and libnuma, the model, and busybox for the script.
root=$work/root
rm -rf "$root"
mkdir -p "$root"/{bin,proc,sys,dev,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
cp Tests/Numa/init "$root/init"
cp "$lathe" "$root/bin/lathe"
ldd "$lathe" | grep -oE '/[^ ]+' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
libnuma=$(ldconfig -p | sed -nE 's|.*libnuma\.so\.1 .*x86-64.* => (.*)|\1|p' | head -n 1)
mkdir -p "$root$(dirname "$libnuma")"
cp -L "$libnuma" "$root$libnuma"
# The library path that the executable was linked with reaches its own; the others lie where the loader looks.
"$lathe" quantize models/novelist -o "$root/model.lathe" >/dev/null
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initramfs.gz"

status=0
timeout 900 qemu-system-x86_64 -nographic -no-reboot -cpu max -accel tcg,thread=multi -m 2G -smp 4 \
    -object memory-backend-ram,id=m0,size=1G -numa node,nodeid=0,cpus=0-1,memdev=m0 \
    -object memory-backend-ram,id=m1,size=1G -numa node,nodeid=1,cpus=2-3,memdev=m1 \
    -kernel "$kernel" -initrd "$work/initramfs.gz" -append "console=ttyS0 quiet panic=-1" </dev/null |
    tr -d '\r' | tee "$work/console.log" | grep --line-buffered '^test-numa' || status=$?
if ((status)) || ! grep -q '^test-numa: passed$' "$work/console.log"; then
    echo "test-numa: failed; the machine's console is in $work/console.log." >&2
    exit 1
fi
