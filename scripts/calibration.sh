#!/usr/bin/env bash
# Writes a text for calibrating the compression of a model: what the model itself writes, one sample for each seed. It
# has the statistics that the model sees at work, and belongs to nobody's evaluation. The same bytes on every machine.
#
#   scripts/calibration.sh MODEL > calibration.txt
set -euo pipefail
cd "$(dirname "$0")/.."

model=${1:?a .lathe file or a checkpoint folder}
samples=${2:-96}
lathe=.build/release/lathe

for ((seed = 1; seed <= samples; seed++)); do
    "$lathe" generate --model "$model" --weights f32 -n 500 --temperature 1 --seed "$seed" "" 2>/dev/null
    echo
done
