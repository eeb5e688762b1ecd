"""The witness from outside: GPT-2 by transformers, eager attention, float32 on one thread."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, GPT2LMHeadModel

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)


def load(folder: Path, dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    """The checkpoint with its weights converted to `dtype`; a missing, mis-shaped or unused tensor is an error."""
    model, report = GPT2LMHeadModel.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    unused = [name for name in report["unexpected_keys"] if not name.endswith((".attn.bias", ".attn.masked_bias"))]
    faults = list(report["missing_keys"]) + list(report["mismatched_keys"]) + unused
    if faults:
        raise SystemExit(f"{folder}: transformers did not find or use {', '.join(map(str, sorted(faults)))}.")
    return model.eval()


@torch.no_grad()
def logits(model: GPT2LMHeadModel, ids: list[int]) -> torch.Tensor:
    """[tokens, vocabulary] of one sequence without a cache."""
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def log_probabilities(scores: torch.Tensor, ids: list[int]) -> list[float | None]:
    """log p(ids[i] | ids[..<i]), natural; null for the first token. The softmax is taken in float64."""
    predicted = torch.log_softmax(scores[:-1].double(), -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return [None] + [shortest(value) for value in predicted.tolist()]


def shortest(value: float) -> float:
    """The value rounded to float32, printed with nine digits: enough to tell every float32 apart."""
    return float(f"{torch.tensor(value, dtype=torch.float32).item():.9g}")


@torch.no_grad()
def greedy(model: GPT2LMHeadModel, prompt: list[int], count: int, ends: bool) -> list[int]:
    """The continuation by `generate`, without the prompt.

    With `ends` it stops after an end-of-text token of the checkpoint's own generation_config.json or config.json.
    """
    ids = torch.tensor([prompt])
    own = model.generation_config
    if not ends:
        model.generation_config = GenerationConfig()
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, pad_token_id=0
    )
    model.generation_config = own
    return output[0, len(prompt) :].tolist()
