#!/usr/bin/env python3
"""Perplexity of a text by `lathe score`, in windows of the model's context without overlap.

    python3 scripts/perplexity.py --model models/novelist --file Tests/Golden/novelist/heldout.txt [--weights f32]

The text is tokenized as one piece and cut into windows; in each, every token but the first is predicted. Prints tokens,
predictions, the sum of negative log-probabilities and the perplexity as one JSON object. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys


def run(command: list[str]) -> dict[str, list]:
    """Runs a command that prints one JSON object."""
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lathe", default=".build/release/lathe", help="the binary")
    parser.add_argument("--model", default="models/novelist")
    parser.add_argument("--file", required=True)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--weights", default="int8", help="for a checkpoint folder")
    args = parser.parse_args()

    ids = run([args.lathe, "tokenize", "--model", args.model, "--file", args.file, "--json"])["ids"]
    nll = 0.0
    predictions = 0
    for start in range(0, len(ids), args.window):
        window = ",".join(map(str, ids[start : start + args.window]))
        command = [args.lathe, "score", "--model", args.model, "--weights", args.weights, "--ids", window, "--json"]
        logprobs = [value for value in run(command)["logprobs"] if value is not None]
        nll -= sum(logprobs)
        predictions += len(logprobs)
        if sys.stderr.isatty():
            print(f"\r{start}/{len(ids)} tokens", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    result = {"tokens": len(ids), "predictions": predictions, "nll": nll, "perplexity": math.exp(nll / predictions)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
