#!/usr/bin/env python3
"""Writes the tiny checkpoints of Tests/Golden and what transformers makes of them.

    python scripts/golden/models.py --novelist models/novelist -o Tests/Golden

For each model: a checkpoint folder with `logits.safetensors` and `expected.json` in the folder `expected` beside its
files. What they hold is stated in Tests/Golden/README.md. Refuses to write a reference that float32 itself does not
determine: where float64 differs by more than a tenth of the tolerance, or a greedy choice hangs on a small margin.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import reference
import safetensors
import tokenizers
import torch
import transformers
from check_logits import LOGIT_BOUND, LOGPROB_BOUND, compare
from checkpoints import Shape, write
from safetensors.torch import save_file
from tokenizers import Tokenizer

PROMPT_TOKENS, GREEDY_TOKENS = 12, 16
MARGIN = 1e-2  # between the best and the second logit of every greedy step

SHAPES = [
    Shape(
        name="tiny-gpt2", vocabulary=101, width=32, layers=2, heads=2, context=64, seed=20,
        extra={"n_ctx": 64, "bos_token_id": 99, "eos_token_id": 100},
    ),
    Shape(
        name="odd-gpt2", vocabulary=3, width=48, layers=3, heads=3, context=33, seed=21, inner=100, activation="relu",
        epsilon=1e-6, tied=False, scale_by_layer=True, dtype="bfloat16", prefix="", buffers=True, shards=2,
    ),
    Shape(
        name="gelu-gpt2", vocabulary=257, width=40, layers=2, heads=4, context=50, seed=22, activation="gelu",
        epsilon=1e-3, scale_weights=False, dtype="float16", extra={"bos_token_id": 256},
    ),
]  # fmt: skip

PASSAGE_TOKENS, PASSAGE_POSITIONS = 180, 16  # at least, of novelist/passage.txt


def margin(model: transformers.GPT2LMHeadModel, prompt: list[int], continuation: list[int]) -> float:
    """The smallest distance of the best logit to the second over the greedy steps."""
    scores = reference.logits(model, prompt + continuation)[len(prompt) - 1 : -1]
    best = scores.topk(2).values
    if scores.argmax(-1).tolist() != continuation:
        return 0.0
    return (best[:, 0] - best[:, 1]).min().item()


def steady_prompt(model: transformers.GPT2LMHeadModel, vocabulary: int, seed: int, distinct: int) -> list[int]:
    """A random prompt whose greedy continuation has clear choices and at least `distinct` different tokens."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(200):
        prompt = torch.randint(vocabulary, (PROMPT_TOKENS,), generator=generator).tolist()
        continuation = reference.greedy(model, prompt, GREEDY_TOKENS, ends=False)
        if margin(model, prompt, continuation) > MARGIN and len(set(continuation)) >= distinct:
            return prompt
    sys.exit("No prompt has a greedy continuation with clear choices; choose another seed of the weights.")


def checked_logits(folder: Path, ids: list[int]) -> torch.Tensor:
    """The float32 logits, after a look at how far float64 differs from them."""
    scores = reference.logits(reference.load(folder), ids)
    gap = compare(reference.logits(reference.load(folder, torch.float64), ids), scores)
    print(f"{folder.name}: float32 against float64: {gap}")
    if gap.logit > LOGIT_BOUND / 10 or gap.logprob > LOGPROB_BOUND / 10:
        sys.exit(f"{folder}: float32 does not determine these logits well enough for a reference.")
    return scores


def write_expected(folder: Path, tensors: dict[str, torch.Tensor], expected: dict[str, object]) -> None:
    """Writes the two files of a reference."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "logits.safetensors")
    (folder / "logits.safetensors").chmod(0o644)
    lines = ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in expected.items()
    )
    (folder / "expected.json").write_text("{\n" + lines + "\n}\n")


def tiny(shape: Shape, output: Path) -> None:
    """One random checkpoint with its logits over the whole context and a greedy continuation."""
    folder = output / shape.name
    write(shape, folder)
    model = reference.load(folder)
    prompt = steady_prompt(model, shape.vocabulary, shape.seed, distinct=min(6, shape.vocabulary))
    continuation = reference.greedy(model, prompt, GREEDY_TOKENS, ends=False)
    if shape.name == "gelu-gpt2":
        # config.json names a token that comes early, generation_config.json overrules it with two others.
        early, late = continuation[1], next(t for t in continuation[4:] if t not in continuation[:4])
        shape = replace(
            shape,
            extra=shape.extra | {"eos_token_id": early},
            generation={"bos_token_id": 256, "eos_token_id": [255, late]},
        )
        write(shape, folder)
        model = reference.load(folder)
    generated = reference.greedy(model, prompt, GREEDY_TOKENS, ends=True)
    generator = torch.Generator().manual_seed(shape.seed + 1)
    ids = torch.randint(shape.vocabulary, (shape.context,), generator=generator).tolist()
    scores = checked_logits(folder, ids)
    write_expected(
        folder / "expected",
        {"input_ids": torch.tensor(ids, dtype=torch.int32), "logits": scores},
        {
            "ids": ids,
            "logprobs": reference.log_probabilities(scores, ids),
            "prompt_ids": prompt,
            "greedy_ids": continuation,
            "greedy_margin": margin(model, prompt, continuation),
            "generated": {
                "ids": generated,
                "finish_reason": "length" if len(generated) == GREEDY_TOKENS else "end_of_text",
            },
        },
    )


def novelist(checkpoint: Path, output: Path) -> None:
    """The trained model on a passage that it has not seen: log-probabilities, and the logits of some positions."""
    folder = output / "novelist"
    text = (folder / "passage.txt").read_text(encoding="utf-8")
    ids = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(text).ids
    if len(ids) < PASSAGE_TOKENS:
        sys.exit(f"{folder / 'passage.txt'} has {len(ids)} tokens; at least {PASSAGE_TOKENS} are due.")
    scores = checked_logits(checkpoint, ids)
    positions = torch.linspace(0, len(ids) - 1, PASSAGE_POSITIONS).round().int()
    model = reference.load(checkpoint)
    prompt = ids[:PROMPT_TOKENS]
    continuation = reference.greedy(model, prompt, GREEDY_TOKENS, ends=False)
    write_expected(
        folder,
        {"positions": positions, "logits": scores[positions].contiguous()},
        {
            "ids": ids,
            "logprobs": reference.log_probabilities(scores, ids),
            "prompt_ids": prompt,
            "greedy_ids": continuation,
            "greedy_margin": margin(model, prompt, continuation),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder Tests/Golden")
    parser.add_argument("--novelist", type=Path, required=True, help="the checkpoint folder models/novelist")
    args = parser.parse_args()
    for shape in SHAPES:
        tiny(shape, args.output)
    novelist(args.novelist, args.output)
    versions = {module.__name__: module.__version__ for module in (torch, transformers, tokenizers, safetensors)}
    print("made by " + ", ".join(f"{name} {version}" for name, version in versions.items()))


if __name__ == "__main__":
    main()
