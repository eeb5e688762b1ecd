#!/usr/bin/env python3
"""Writes a collection of random GPT-2 checkpoints of odd shapes, for scripts/witness.py to run over.

    python scripts/golden/odd_checkpoints.py -o FOLDER [--only NAME]

Keep the folder outside the repository: the largest takes about 100 MB. Each of head dimension, vocabulary, context,
inner width, activation, dtype, head, sharding and naming takes its extremes somewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from checkpoints import Shape, write

SHAPES = [
    Shape("width-one", vocabulary=2, width=1, layers=1, heads=1, context=2, inner=1, seed=1),
    Shape("context-one", vocabulary=17, width=20, layers=1, heads=4, context=1, activation="relu", seed=2),
    Shape("head-dim-one", vocabulary=50, width=6, layers=2, heads=6, context=17, dtype="bfloat16", tied=False, seed=3),
    Shape("head-dim-5", vocabulary=17, width=15, layers=3, heads=3, context=40, inner=7, activation="gelu", seed=4),
    Shape("head-dim-12-no-scale", vocabulary=3, width=48, layers=2, heads=4, context=33, scale_weights=False, seed=5),
    Shape("head-dim-80", vocabulary=999, width=160, layers=2, heads=2, context=130, prefix="", dtype="float16", seed=6),
    Shape("head-dim-128", vocabulary=513, width=256, layers=2, heads=2, context=300, scale_by_layer=True, seed=7),
    Shape("head-dim-256", vocabulary=300, width=256, layers=1, heads=1, context=70, activation="relu", seed=8),
    Shape(
        "narrow-inner", vocabulary=97, width=96, layers=4, heads=3, context=65, inner=5, tied=False, prefix="",
        activation="gelu_pytorch_tanh", dtype="float16", shards=3, seed=9,
    ),
    Shape("wide-inner", vocabulary=64, width=24, layers=2, heads=2, context=64, inner=1601, activation="gelu", seed=10),
    Shape("vocabulary-50257", vocabulary=50257, width=64, layers=2, heads=1, context=128, dtype="bfloat16", seed=11),
    Shape("vocabulary-50257-untied", vocabulary=50257, width=32, layers=1, heads=2, context=20, tied=False, seed=12),
    Shape("context-2048", vocabulary=256, width=64, layers=2, heads=2, context=2048, dtype="float16", seed=13),
    Shape(
        "everything-odd", vocabulary=129, width=63, layers=5, heads=9, context=257, inner=191, tied=False,
        epsilon=1e-2, scale_weights=False, scale_by_layer=True, activation="gelu_pytorch_tanh", dtype="bfloat16",
        buffers=True, shards=4, seed=14,
    ),
    Shape("distilgpt2-like", vocabulary=50257, width=768, layers=1, heads=12, context=1024, dtype="float16", seed=15),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder that receives one folder per shape")
    parser.add_argument("--only", choices=[shape.name for shape in SHAPES], help="write only this one")
    args = parser.parse_args()
    for shape in SHAPES:
        if args.only in (None, shape.name):
            write(shape, args.output / shape.name)
            print(f"{shape.name}: {shape.parameters:,} parameters, {shape.dtype}")


if __name__ == "__main__":
    main()
