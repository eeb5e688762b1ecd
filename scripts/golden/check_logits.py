#!/usr/bin/env python3
"""Compares two safetensors files of logits, [tokens, vocabulary] float32, by the rule of the project.

    python scripts/golden/check_logits.py REFERENCE OUTPUT [--ids 1,2,3]

Inside means: max |Δlogit| ≤ 1e-4 · max |logit|, and |Δlogprob| ≤ 1e-3 at every position; both over the whole file. The
log-probability compared is that of every token of the vocabulary at that position, or only of the next of --ids where
they are given. Exit status 0 inside, 1 outside or not comparable.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

LOGIT_BOUND = 1e-4
LOGPROB_BOUND = 1e-3


@dataclass(frozen=True)
class Difference:
    """How far two sets of logits are apart."""

    tokens: int
    logit: float  # max |Δlogit| / max |logit of the reference|
    logprob: float  # max |Δlogprob|
    top1: float  # share of positions whose largest logit is the same token

    @property
    def inside(self) -> bool:
        """Whether both bounds hold; a NaN is outside."""
        return self.logit <= LOGIT_BOUND and self.logprob <= LOGPROB_BOUND

    def __str__(self) -> str:
        verdict = "inside" if self.inside else "OUTSIDE"
        return (
            f"{verdict}: {self.tokens} tokens, relative logit difference {self.logit:.2e} (bound {LOGIT_BOUND:.0e}), "
            f"log-probability difference {self.logprob:.2e} (bound {LOGPROB_BOUND:.0e}), same top token {self.top1:.1%}"
        )


def compare(reference: torch.Tensor, output: torch.Tensor, ids: list[int] | None = None) -> Difference:
    """Compares [tokens, vocabulary] logits; with `ids`, position i's log-probability is that of ids[i + 1]."""
    if reference.shape != output.shape or reference.dim() != 2:
        raise ValueError(f"The shapes differ: {list(reference.shape)} in the reference, {list(output.shape)}.")
    reference, output = reference.double(), output.double()
    # Dividing by a reference of zeros alone would hide a difference; then the difference itself is compared.
    largest = reference.abs().max().item() or 1.0
    logprob = (torch.log_softmax(reference, -1) - torch.log_softmax(output, -1)).abs()
    if ids is not None:
        logprob = logprob[:-1].gather(1, torch.tensor(ids[1:])[:, None])
    return Difference(
        tokens=reference.shape[0],
        logit=(reference - output).abs().max().item() / largest,
        logprob=logprob.max().item() if logprob.numel() else 0.0,
        top1=(reference.argmax(-1) == output.argmax(-1)).double().mean().item(),
    )


def read_logits(path: Path) -> torch.Tensor:
    """The tensor `logits` of a safetensors file, float32 with two dimensions; anything else is a ValueError."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    if "logits" not in tensors:
        raise ValueError(f"{path} has no tensor named logits; it has {', '.join(tensors) or 'none'}.")
    logits = tensors["logits"]
    if logits.dtype != torch.float32 or logits.dim() != 2:
        raise ValueError(f"{path}: logits is {logits.dtype} {list(logits.shape)}; float32 [tokens, vocabulary] is due.")
    return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--ids", help="the scored ids, separated by commas: compares only their log-probabilities")
    args = parser.parse_args()
    ids = [int(part) for part in args.ids.split(",")] if args.ids else None
    try:
        reference, output = read_logits(args.reference), read_logits(args.output)
        if ids is not None and len(ids) != len(reference):
            raise ValueError(f"--ids gives {len(ids)} ids, but the reference has {len(reference)} positions.")
        difference = compare(reference, output, ids)
    except ValueError as error:
        sys.exit(str(error))
    print(difference)
    sys.exit(0 if difference.inside else 1)


if __name__ == "__main__":
    main()
