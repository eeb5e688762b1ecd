#!/usr/bin/env bash
# Runs the service and the server under ThreadSanitizer, and the built server under LeakSanitizer.
#
#   scripts/sanitize.sh [thread] [leak]      both where nothing is said
#
# ThreadSanitizer needs a build of its own (.build-tsan, ten minutes on two cores). For LeakSanitizer the toolchain's
# runtime is made a library that the ordinary build is started with; each of its processes must end without a leak.
set -euo pipefail
cd "$(dirname "$0")/.."
kinds=${*:-thread leak}
clang=$(dirname "$(readlink -f "$(command -v swift)")")/clang
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if [[ $kinds == *thread* ]]; then
    tsan=(-c release --sanitize=thread --scratch-path .build-tsan -Xswiftc -enable-testing)
    swift build "${tsan[@]}" --build-tests
    "$clang" -O1 -shared -fPIC Tests/Sanitizers/mutex_order.c -o "$folder/order.so"
    # By itself: `swift test` would be loaded with the library too. Where there is no /proc, the sanitizer complains.
    runner=$(swift build "${tsan[@]}" --show-bin-path)/lathePackageTests.xctest
    for target in LatheServiceTests LatheServeTests; do
        LD_PRELOAD=$folder/order.so LATHE_TEST_PRELOAD=$folder/order.so TSAN_OPTIONS=exitcode=66 \
            "$runner" --testing-library swift-testing --filter "$target" --skip SurroundingsTests
    done
fi

if [[ $kinds == *leak* ]]; then
    resources=$("$clang" --print-resource-dir)
    archive=$(find "$resources/lib" -name "libclang_rt.lsan*$(uname -m)*.a" -o -name libclang_rt.lsan.a | head -n 1)
    [[ -n $archive ]] || { echo "sanitize: this toolchain has no LeakSanitizer in $resources/lib." >&2; exit 1; }
    "$clang" -shared -fPIC -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -lpthread -ldl -lm -o "$folder/lsan.so"
    # Every server that a test starts; a leak makes its exit status 23, and the test fails that expects another.
    LATHE_TEST_PRELOAD=$folder/lsan.so LSAN_OPTIONS=exitcode=23 swift test -c release -Xswiftc -enable-testing \
        --disable-testable-imports --skip-build --filter 'ServedModelTests|ProcessTests'
fi
