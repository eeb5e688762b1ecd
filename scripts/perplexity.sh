#!/usr/bin/env bash
# Perplexity of a model over a text, by `lathe score`: the whole text is tokenized at once and cut into windows without
# overlap; the first token of each window is not predicted.
#
#   scripts/perplexity.sh LATHE MODEL TEXT [WINDOW [WINDOWS [ARGUMENT…]]]
#
# Prints the perplexity and the number of predictions. WINDOWS 0 means all of them.
set -euo pipefail
lathe=$1 model=$2 text=$3 window=${4:-512} windows=${5:-0}
shift $(($# < 5 ? $# : 5))

ids=$("$lathe" tokenize --model "$model" --file "$text")
count=0
while read -r chunk && ((windows == 0 || count < windows)); do
    "$lathe" score --model "$model" --ids "$chunk" --json "$@" | sed 's/.*"logprobs":\[\([^]]*\)\].*/\1/'
    count=$((count + 1))
done < <(tr ',' '\n' <<<"$ids" | awk -v n="$window" '
    { line = line (line == "" ? "" : ",") $1; if (NR % n == 0) { print line; line = "" } }
    END { if (line != "") print line }') |
    awk -F, '{ for (i = 2; i <= NF; i++) { sum -= $i; n++ } } END { printf "%.2f %d\n", exp(sum / n), n }'
