#!/usr/bin/env bash
# Imports follow the arrows of docs/DESIGN.md: downwards only, and the two halves never meet below the tools.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0

# arrows FOLDER MODULE…: the files of FOLDER import of this package's modules only those named.
arrows() {
    local folder=$1 line module file
    shift
    while IFS=: read -r file line; do
        module=$(sed -E 's/.*import +((class|struct|enum|func|protocol|typealias|let|var) +)?([A-Za-z0-9_]+).*/\3/' <<<"$line")
        case $module in CKernels | LatheFormat | LatheCompiler | Lathe | LatheWorkbench | LatheService | LatheCommand | LatheServe) ;; *) continue ;; esac
        if [[ " $* " != *" $module "* ]]; then
            echo "lint-arrows: $file imports $module; $folder may import ${*:-nothing of ours}." >&2
            status=1
        fi
    done < <(grep -rEH --include='*.swift' '^ *(@[A-Za-z_()]+ +)*((public|package|internal|fileprivate|private) +)?import ' "$folder" || true)
}

arrows Sources/Runtime/Format
arrows Sources/Runtime/Compile LatheFormat CKernels
arrows Sources/Runtime/Execute LatheFormat CKernels
arrows Sources/Tools/Workbench Lathe LatheCompiler LatheFormat
arrows Sources/Tools/Service Lathe LatheFormat
arrows Sources/Tools/lathe-yaml LatheFormat
arrows Sources/Tools/lathe-serve LatheService Lathe LatheFormat
arrows Sources/Tools/lathe Lathe LatheCompiler LatheFormat LatheService LatheWorkbench

# The kernels include the C library, intrinsics and each other.
while IFS=: read -r file line; do
    name=$(sed -E 's/.*#include +[<"]([^>"]+)[>"].*/\1/' <<<"$line")
    # libnuma is opened in one file, and nothing else ever is.
    [[ $file == Sources/CKernels/numa.c && ($name == dlfcn.h || $name == errno.h) ]] && continue
    case $line in
    *\<*)
        case $name in
        std*.h | string.h | pthread.h | sched.h | signal.h | time.h | math.h | immintrin.h | arm_neon.h | cpuid.h | unistd.h | sys/*.h) ;;
        *)
            echo "lint-arrows: $file includes <$name>, which no kernel needed before; allow it in scripts/lint-arrows.sh." >&2
            status=1
            ;;
        esac
        ;;
    *)
        if [[ ! -f Sources/CKernels/include/$name && ! -f $(dirname "$file")/$name ]]; then
            echo "lint-arrows: $file includes \"$name\", which is not within Sources/CKernels." >&2
            status=1
        fi
        ;;
    esac
done < <(grep -rEH '^ *#include' Sources/CKernels)
exit $status
