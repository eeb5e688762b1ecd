#!/usr/bin/env bash
# Python scripts are checked by ruff where it is installed, and parsed where only Python is.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(find scripts models Benchmarks Tests -name '*.py' -not -path '*/.*' | sort)
if command -v ruff >/dev/null; then
    ruff check --quiet "${files[@]}"
elif command -v python3 >/dev/null; then
    python3 -c '
import ast, sys
for path in sys.argv[1:]:
    ast.parse(open(path, encoding="utf-8").read(), path)' "${files[@]}"
else
    echo "lint-python: neither ruff nor python3 is installed; ${#files[@]} scripts were not checked." >&2
fi
