"""PyTorch with transformers, eager: the model as everybody runs it, its own cache, logits of the last position."""

import os
import pathlib
import time
from importlib.metadata import version

PRECISIONS = {
    "float": "the checkpoint as it is",
    "int8": "`quantize_dynamic` to qint8 of every linear layer and the head, while loading",
}

FLAGS = (
    "eager, SDPA attention, inference mode, use_cache with DynamicCache, logits_to_keep=1, torch.set_num_threads as "
    "given"
)
VARIANTS = {"float32": {"dtype": "float32"}, "bfloat16": {"dtype": "bfloat16"}}


def prepare(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    import transformers  # noqa: F401
    from transformers import GPT2LMHeadModel  # noqa: F401


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers")}


def convert(checkpoint: pathlib.Path, out: pathlib.Path, precision: str) -> None:
    """It reads the checkpoint itself: dynamic quantization and other types happen while loading."""
    out.symlink_to(checkpoint.resolve())


def load(path: str, precision: str, threads: int, settings: dict) -> "Model":
    if precision == "int8" and settings["dtype"] != "float32":
        raise ValueError("dynamic quantization is made from float32")
    return Model(path, precision, settings)


class Model:
    def __init__(self, path: str, precision: str, settings: dict) -> None:
        import torch
        from transformers import GPT2LMHeadModel

        kind = getattr(torch, settings["dtype"])
        model = GPT2LMHeadModel.from_pretrained(path, dtype=kind, attn_implementation="sdpa").eval()
        self._model = _quantized(model) if precision == "int8" else model
        self._torch = torch

    def run(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, float, list[int]]:
        with self._torch.inference_mode():
            start = time.perf_counter()
            out = self._model(self._torch.tensor(prompts), use_cache=True, logits_to_keep=1)
            tokens = out.logits[:, -1].argmax(-1, keepdim=True)
            first, start_tokens = time.perf_counter(), tokens[:, 0].tolist()
            for _ in range(new_tokens - 1):
                out = self._model(tokens, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
                tokens = out.logits[:, -1].argmax(-1, keepdim=True)
            return first - start, time.perf_counter() - first, start_tokens


def _quantized(model):
    """Conv1D is a linear layer with its weight transposed; the quantizer knows nn.Linear alone."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):
                linear = torch.nn.Linear(*child.weight.shape)
                linear.weight = torch.nn.Parameter(child.weight.detach().T.contiguous())
                linear.bias = child.bias
                setattr(module, name, linear)
    return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
