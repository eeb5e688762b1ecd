#!/bin/sh
# Fuzzes every reader of foreign bytes, or the targets named, each for SECONDS:
#
#     Tests/Fuzz/run.sh SECONDS [TARGET...]
#
# What was found interesting is kept in .build/corpus and used again next time; an input that crashes, hangs or eats memory
# is kept in .build/crashes, and the script then exits 1.
set -eu

[ $# -ge 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 64; }
seconds=$1
shift
cd "$(dirname "$0")"

case $(uname -sm) in
"Linux x86_64") library=linux/libclang_rt.fuzzer_no_main-x86_64.a ;;
"Linux aarch64") library=linux/libclang_rt.fuzzer_no_main-aarch64.a ;;
*) echo "libFuzzer's library is known for Linux only" >&2; exit 1 ;;
esac
resources=$(swiftc -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
library=$resources/clang/lib/$library
[ -f "$library" ] || { echo "this toolchain has no $library" >&2; exit 1; }

swift build -c release --sanitize=address -Xswiftc -enable-testing -Xlinker "$library" -Xlinker -lstdc++
fuzzer=$(swift build -c release --show-bin-path)/FuzzTargets
# A crash is libFuzzer's to report; a backtrace would take minutes.
export SWIFT_BACKTRACE=enable=no
"$fuzzer" seeds .build/seeds

[ $# -gt 0 ] || set -- json safetensors graph config tokenizer lathe
status=0
for target in "$@"; do
    mkdir -p ".build/corpus/$target" ".build/crashes/$target"
    log=.build/$target.log
    # No limit of libFuzzer's holds when the process itself hangs.
    if FUZZ_TARGET=$target timeout -s KILL $((seconds + 120)) "$fuzzer" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix=".build/crashes/$target/" ".build/corpus/$target" ".build/seeds/$target" >"$log" 2>&1
    then result=ok
    else result=FAILED status=1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    echo "$target: $result, ${runs:-?} executions, ${coverage:-?} edges covered"
    [ $result = ok ] || { grep -vE 'NEW|REDUCE|pulse|RELOAD' "$log" | tail -40; ls ".build/crashes/$target"; }
done
exit $status
