#!/usr/bin/env python3
"""Checks what `lathe prune` wrote by loading it with transformers.

    python scripts/witness_pruned.py ORIGINAL PRUNED

Both folders are loaded; every weight of the second must be zero or have the bits of the first, the zeros of each matrix
must be as many as the checkpoint's own metadata says, and excluded matrices must be as they were. Prints one line per
matrix that has new zeros; exit status 1 if anything is not so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import safetensors
import torch
from transformers import AutoModelForCausalLM


def load(folder: Path) -> dict[str, torch.Tensor]:
    """The parameters by name, in the element type of the files."""
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto")
    return dict(model.named_parameters())


def pruning(folder: Path) -> dict[str, object]:
    """What the weights' metadata says of their zeros."""
    with safetensors.safe_open(sorted(folder.glob("*.safetensors"))[0], framework="pt") as file:
        return json.loads(file.metadata()["lathe.pruning"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("pruned", type=Path)
    args = parser.parse_args()
    told = pruning(args.pruned)
    before, after = load(args.original), load(args.pruned)
    good = before.keys() == after.keys()
    counted = 0
    for name, new in after.items():
        old = before[name]
        kept = new != 0
        same = old.dtype == new.dtype and torch.equal(new[kept], old[kept])
        zeros = int((~kept).sum())
        entry = told["tensors"].get(name.removeprefix("transformer."))
        right = same and (entry["zeros"] == zeros if entry else torch.equal(old, new))
        good = good and right
        if entry:
            counted += 1
            print(f"{'ok   ' if right else 'WRONG'} {name}: {zeros} of {new.numel()} zero, {new.dtype}")
        elif not right:
            print(f"WRONG {name}: changed, though it was not pruned")
    good = good and counted == len(told["tensors"])
    print(f"{'the same zeros' if good else 'DIFFERENT'}: {counted} matrices, {told['achieved']:.4f} of them zero")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
