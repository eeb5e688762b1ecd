#!/usr/bin/env bash
# Measures the recipes of Benchmarks/quality.yaml on the bundled model and writes the figures into docs/quality.md and
# docs/quality.svg. What was measured already is kept in WORK: remove that folder to measure anew.
#
#   scripts/quality.sh LATHE WORK
set -euo pipefail
cd "$(dirname "$0")/.."
lathe=$1 work=$2

"$lathe" sweep models/novelist --text Tests/Golden/novelist/heldout.txt --recipes Benchmarks/quality.yaml \
    --calibration models/novelist/calibration.txt --threads 1,2 -o "$work"
cp "$work/pareto.svg" docs/quality.svg

# Between the two marks stands the table as it was made.
{
    sed '/<!-- begin: make quality -->/q' docs/quality.md
    cat "$work/table.md"
    sed -n '/<!-- end: make quality -->/,$p' docs/quality.md
} >"$work/quality.md"
mv "$work/quality.md" docs/quality.md
