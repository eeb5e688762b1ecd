#!/usr/bin/env bash
# The main job on the bundled model: convert it, write text with it, and show what the conversion cost.
#   scripts/demo.sh LATHE
set -euo pipefail
cd "$(dirname "$0")/.."
lathe=$1
model=models/novelist
heldout=Tests/Golden/novelist/heldout.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
say() { printf '\n%s%s%s\n\n' "$bold" "$*" "$plain"; }

# perplexity MODEL TEXT WINDOWS: tokenized at once, cut into windows of 512 ids without overlap; the first id of a window
# is not predicted. Prints the perplexity and the number of predictions.
perplexity() {
    local chunk count=0
    while ((count < $3)) && read -r chunk; do
        "$lathe" score --model "$1" --ids "$chunk" --json | sed 's/.*"logprobs":\[\([^]]*\)\].*/\1/'
        count=$((count + 1))
    done < <("$lathe" tokenize --model "$1" --file "$2" | tr ',' '\n' | paste -sd "$(printf ',%.0s' {1..511})\n") |
        awk -F, '{ for (i = 2; i <= NF; i++) { sum -= $i; n++ } } END { printf "%.2f %d\n", exp(sum / n), n }'
}

say "1. Convert the checkpoint $model to int8"
echo "$ lathe quantize $model -o novelist.lathe"
"$lathe" quantize "$model" -o "$work/novelist.lathe" | sed "s|$work/||"

say "2. Write with it"
prompt="It was a dark and stormy night, and the old house"
echo "\$ lathe generate --model novelist.lathe -n 120 --temperature 0.8 --top-p 0.95 --seed 7 \"$prompt\""
printf '\n%s' "$bold$prompt$plain"
"$lathe" generate --model "$work/novelist.lathe" -n 120 --temperature 0.8 --top-p 0.95 --seed 7 "$prompt" 2>"$work/closing"
echo
cat "$work/closing"

say "3. What int8 cost: perplexity over text that the model has not seen (four windows of 512 tokens)"
"$lathe" quantize "$model" --weights f32 -o "$work/exact.lathe" >/dev/null
read -r exact predictions < <(perplexity "$work/exact.lathe" "$heldout" 4)
read -r quantized _ < <(perplexity "$work/novelist.lathe" "$heldout" 4)
size() { awk -v bytes="$(stat -c %s "$1")" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }
printf '  %-28s %10s  %s\n' "" "file" "perplexity"
printf '  %-28s %10s  %s\n' "checkpoint (float16)" "$(size "$model/model.safetensors")" ""
printf '  %-28s %10s  %s\n' "float32 weights" "$(size "$work/exact.lathe")" "$exact"
printf '  %-28s %10s  %s\n' "int8" "$(size "$work/novelist.lathe")" "$quantized"
echo "  ($predictions predictions; the .lathe files hold the tokenizer too)"

say "4. How fast"
echo "\$ lathe bench --model novelist.lathe --prompt-tokens 256 --new-tokens 64 --runs 3"
"$lathe" bench --model "$work/novelist.lathe" --prompt-tokens 256 --new-tokens 64 --runs 3
