#!/usr/bin/env bash
# Asks the built server everything that its own OpenAPI document allows, and much that it does not (schemathesis).
#
#   scripts/api-fuzz.sh [MODEL.lathe]      schemathesis (PyPI) must be on PATH, or named by SCHEMATHESIS
#
# One check is left out: that whatever the schema allows is accepted. Whether a prompt and the tokens asked for fit the
# context is no matter of a schema.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
model=${1:-}
if [[ -z $model ]]; then
    model=$folder/novelist.lathe
    .build/release/lathe quantize models/novelist -o "$model" >/dev/null
fi
.build/release/lathe-serve --model "$model" --port 0 2>"$folder/log" &
server=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*"listening".*"port":\([0-9]*\).*/\1/p' "$folder/log")
    grep -q '"ready"' "$folder/log" && break
    sleep 0.1
done
# It leaves its cache where it runs.
(cd "$folder" && "${SCHEMATHESIS:-schemathesis}" run "http://127.0.0.1:$port/openapi.json" --url "http://127.0.0.1:$port" \
    --max-examples "${EXAMPLES:-500}" --exclude-checks positive_data_acceptance)
kill -0 "$server"
