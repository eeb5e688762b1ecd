#!/usr/bin/env python3
"""Compares `lathe score` with transformers in float32 on checkpoint folders of any shape.

    python scripts/witness.py CHECKPOINT… --lathe PATH_TO_BINARY [--tokens N] [--runs R] [--extra "ARGUMENTS"]

For each checkpoint and run: random ids, the logits of both, and the tolerance of scripts/golden/check_logits.py; the
log-probabilities that the command prints are compared with those of transformers too. One line per run; exit status 1
if any is outside or fails. Without --tokens a run takes the whole context the first time, random lengths afterwards.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from golden import reference
from golden.check_logits import LOGPROB_BOUND, compare, read_logits


def lathe(args: argparse.Namespace, checkpoint: Path, ids: list[int], logits: Path) -> dict[str, object]:
    """Runs `lathe score --json` and returns what it printed; a failure is a RuntimeError with its message."""
    command = [
        str(args.lathe), "score", "--model", str(checkpoint), "--ids", ",".join(map(str, ids)),
        "--weights", args.weights, "--logits", str(logits), "--json", *shlex.split(args.extra),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout, check=False)
    if done.returncode != 0:
        message = " ".join(done.stderr.split()) or "no message"
        raise RuntimeError(f"exit status {done.returncode}: {message[:300]}")
    return json.loads(done.stdout)


def log_probability_difference(printed: object, expected: list[float | None]) -> float:
    """max |Δ| between the printed log-probabilities and the expected ones; a wrong form is a ValueError."""
    if not isinstance(printed, list) or len(printed) != len(expected) or (printed and printed[0] is not None):
        raise ValueError("the printed logprobs are not a list of the tokens' length that begins with null")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in printed[1:]):
        raise ValueError("a printed logprob after the first is not a finite number")
    differences = [abs(a - b) for a, b in zip(printed[1:], expected[1:], strict=True)]
    return max(differences, default=0.0)


def witness(args: argparse.Namespace, checkpoint: Path) -> bool:
    """Runs one checkpoint; prints a line per run and returns whether all were inside."""
    model = reference.load(checkpoint)
    vocabulary, context = model.config.vocab_size, model.config.n_positions
    source = random.Random(args.seed)
    inside = True
    for run in range(args.runs):
        tokens = args.tokens or (context if run == 0 else source.randint(1, context))
        ids = [source.randrange(vocabulary) for _ in range(min(tokens, context))]
        label = f"{checkpoint.name}, run {run + 1}"
        try:
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / "logits.safetensors"
                score = lathe(args, checkpoint, ids, output)
                scores = reference.logits(model, ids)
                difference = compare(scores, read_logits(output))
            if score.get("tokens") != ids:
                raise ValueError("the printed tokens are not the ids that were asked for")
            printed = log_probability_difference(score.get("logprobs"), reference.log_probabilities(scores, ids))
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            print(f"FAILED  {label}: {error}", flush=True)
            inside = False
            continue
        good = difference.inside and printed <= LOGPROB_BOUND
        inside = inside and good
        print(f"{'ok     ' if good else 'OUTSIDE'} {label}: {difference}; printed {printed:.2e}", flush=True)
    return inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="folders in the Hugging Face layout")
    parser.add_argument("--lathe", type=Path, required=True, help="the lathe binary")
    parser.add_argument("--tokens", type=int, help="ids of each run (at most the context)")
    parser.add_argument("--runs", type=int, default=2, help="runs of each checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", default="f32", help="as of lathe score; the tolerance is meant for f32")
    parser.add_argument("--extra", default="", help='more arguments of the command, e.g. "--threads 2"')
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one run of the command may take")
    args = parser.parse_args()
    if not args.lathe.is_file():
        parser.error(f"--lathe: {args.lathe} is not a file")
    results = [witness(args, checkpoint) for checkpoint in args.checkpoints]
    print(f"{sum(results)} of {len(results)} checkpoints inside")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
