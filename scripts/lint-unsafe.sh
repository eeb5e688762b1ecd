#!/usr/bin/env bash
# `unsafe` may stand only in the files that docs/DESIGN.md lists, at most twelve, and each of them must need it.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=12

listed=$(awk '/^```unsafe$/ { inside = 1; next } /^```/ { inside = 0 } inside && NF { print $1 }' docs/DESIGN.md | sort)
# The word outside of // comments; Swift sources here have no block comments.
used=$(find Sources -name '*.swift' -print0 | sort -z | xargs -0 awk '
    { line = $0; sub(/\/\/.*/, "", line) }
    line ~ /(^|[^A-Za-z0-9_.])unsafe([^A-Za-z0-9_]|$)/ { print FILENAME; nextfile }' | sort)

status=0
if [[ -z $listed ]]; then
    echo "lint-unsafe: docs/DESIGN.md has no list in a block that opens with \`\`\`unsafe." >&2
    exit 1
fi
while read -r file; do
    [[ -n $file ]] || continue
    echo "lint-unsafe: $file uses \`unsafe\`, but docs/DESIGN.md does not list it." >&2
    status=1
done < <(comm -13 <(echo "$listed") <(echo "$used"))
while read -r file; do
    [[ -n $file ]] || continue
    echo "lint-unsafe: docs/DESIGN.md lists $file, which does not use \`unsafe\`." >&2
    status=1
done < <(comm -23 <(echo "$listed") <(echo "$used"))
count=$(wc -l <<<"$used")
if ((count > limit)); then
    echo "lint-unsafe: $count files use \`unsafe\`; at most $limit may." >&2
    status=1
fi
exit $status
