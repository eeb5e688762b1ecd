"""Random GPT-2 checkpoints of any shape, written as folders in the Hugging Face layout."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """What a checkpoint is: its configuration, and how its files lie."""

    name: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    context: int
    inner: int | None = None
    activation: str = "gelu_new"
    epsilon: float = 1e-5
    tied: bool = True
    scale_weights: bool = True
    scale_by_layer: bool = False
    dtype: str = "float32"
    prefix: str = "transformer."
    buffers: bool = False  # the causal masks that old checkpoints store beside the weights
    shards: int = 1
    seed: int = 0
    extra: dict[str, object] = field(default_factory=dict)  # more keys of config.json
    generation: dict[str, object] | None = None  # generation_config.json

    @property
    def parameters(self) -> int:
        """The number of weights, the head not counted where it is tied."""
        inner = self.inner or 4 * self.width
        layer = 4 * self.width * self.width + 2 * self.width * inner + 9 * self.width + inner
        tables = (self.vocabulary * (1 if self.tied else 2) + self.context + 2) * self.width
        return self.layers * layer + tables


def configuration(shape: Shape) -> dict[str, object]:
    """The content of config.json."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": shape.activation,
        "vocab_size": shape.vocabulary,
        "n_positions": shape.context,
        "n_embd": shape.width,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.inner,
        "layer_norm_epsilon": shape.epsilon,
        "scale_attn_weights": shape.scale_weights,
        "scale_attn_by_inverse_layer_idx": shape.scale_by_layer,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "torch_dtype": shape.dtype,
    } | shape.extra


def weights(shape: Shape) -> dict[str, torch.Tensor]:
    """Random weights on which every term of the model matters.

    As in trained GPT-2 models a few channels of the residual stream are large and constant, biases and normalization
    parameters are far from 0 and 1, and the logits are spread enough for the largest one to stand out.
    """
    generator = torch.Generator().manual_seed(shape.seed)
    width, inner = shape.width, shape.inner or 4 * shape.width

    def normal(*size: int, deviation: float, mean: float = 0.0) -> torch.Tensor:
        return torch.randn(size, generator=generator) * deviation + mean

    outliers = torch.randperm(width, generator=generator)[: max(1, width // 16)] if width >= 4 else []
    tensors = {
        "wte.weight": normal(shape.vocabulary, width, deviation=(3 if shape.tied else 6) / math.sqrt(width)),
        "wpe.weight": normal(shape.context, width, deviation=4 / math.sqrt(width)),
    }
    tensors["wpe.weight"][0] *= 2  # the first position stands out in trained models too
    for layer in range(shape.layers):
        h = f"h.{layer}."
        for norm in ("ln_1", "ln_2"):
            tensors[f"{h}{norm}.weight"] = normal(width, deviation=0.25, mean=1)
            tensors[f"{h}{norm}.bias"] = normal(width, deviation=0.2)
        for linear, depth, columns in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            tensors[f"{h}{linear}.weight"] = normal(depth, columns, deviation=1 / math.sqrt(depth))
            tensors[f"{h}{linear}.bias"] = normal(columns, deviation=0.1 if linear.endswith("c_proj") else 0.3)
        for channel in outliers:
            tensors[f"{h}mlp.c_proj.bias"][channel] = 3.0 * (1 if channel % 2 else -1)
    tensors["ln_f.weight"] = normal(width, deviation=0.25, mean=1)
    tensors["ln_f.bias"] = normal(width, deviation=0.1)
    for channel in outliers:
        tensors["ln_f.weight"][channel] = 0.1
    result = {shape.prefix + name: tensor.to(DTYPES[shape.dtype]) for name, tensor in tensors.items()}
    if not shape.tied:
        head = normal(shape.vocabulary, width, deviation=3 / math.sqrt(width))
        result["lm_head.weight"] = head.to(DTYPES[shape.dtype])
    if shape.buffers:
        mask = torch.ones(shape.context, shape.context).tril()[None, None]
        for layer in range(shape.layers):
            result[f"{shape.prefix}h.{layer}.attn.bias"] = mask.clone()
            result[f"{shape.prefix}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return result


def write(shape: Shape, folder: Path) -> None:
    """Writes config.json, the weights in one file or in shards with their index, and generation_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(configuration(shape), indent=2) + "\n")
    if shape.generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(shape.generation, indent=2) + "\n")
    tensors = weights(shape)
    names = list(tensors)
    files: dict[str, dict[str, torch.Tensor]] = {}
    if shape.shards == 1:
        files["model.safetensors"] = tensors
    else:
        for shard in range(shape.shards):
            part = names[len(names) * shard // shape.shards : len(names) * (shard + 1) // shape.shards]
            files[f"model-{shard + 1:05}-of-{shape.shards:05}.safetensors"] = {name: tensors[name] for name in part}
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {
            "metadata": {"total_size": total},
            "weight_map": {name: file for file, part in files.items() for name in part},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    for file, part in files.items():
        save_file(part, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # safetensors writes files that only their owner reads
