"""OpenVINO GenAI: its pipeline with paged attention, or its stateful one, over a graph that `openvino_graph` writes."""

import pathlib
import time
from importlib.metadata import version

import numpy
import openvino_graph

PRECISIONS = {
    "float": "float32 weights",
    "int8": "int8 weights, a multiplier for each output, embedding and head too; dynamic int8 activations",
    "int4": "int4 weights in groups of 128, embedding and head int8; dynamic int8 activations",
}
FLAGS = (
    "LLMPipeline without prefix cache, PERFORMANCE_HINT LATENCY, INFERENCE_NUM_THREADS as given; cache type and size "
    "of dynamic quantization's groups are its defaults"
)
_PAGED, _STATEFUL = {"ATTENTION_BACKEND": "PA"}, {"ATTENTION_BACKEND": "SDPA"}
VARIANTS = {
    "paged attention": _PAGED,
    "paged attention, INFERENCE_PRECISION_HINT=f32": _PAGED | {"INFERENCE_PRECISION_HINT": "f32"},
    "paged attention, INFERENCE_PRECISION_HINT=bf16": _PAGED | {"INFERENCE_PRECISION_HINT": "bf16"},
    "stateful": _STATEFUL,
}


def prepare(threads: int) -> None:
    import openvino_genai  # noqa: F401


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("openvino", "openvino-genai")}


def convert(checkpoint: pathlib.Path, out: pathlib.Path, precision: str) -> None:
    """The pipeline insists on a tokenizer: one of as many strings as the vocabulary has. No text goes through it."""
    import openvino
    from openvino_tokenizers import convert_tokenizer
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, PreTrainedTokenizerFast

    openvino_graph.write(checkpoint, out, precision)
    size = AutoConfig.from_pretrained(checkpoint).vocab_size
    tokenizer = Tokenizer(models.BPE(vocab={f"t{index}": index for index in range(size)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    last = f"t{size - 1}"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=last, bos_token=last, pad_token=last)
    for model, name in zip(convert_tokenizer(fast, with_detokenizer=True), ("tokenizer", "detokenizer"), strict=True):
        openvino.save_model(model, out / f"openvino_{name}.xml")


def load(path: str, precision: str, threads: int, settings: dict) -> "Model":
    return Model(path, threads, settings)


class Model:
    def __init__(self, path: str, threads: int, settings: dict) -> None:
        import openvino
        import openvino_genai as library

        self._library, self._tensor = library, openvino.Tensor
        options = settings | {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if options["ATTENTION_BACKEND"] == "PA":
            scheduler = library.SchedulerConfig()
            scheduler.enable_prefix_caching = False
            scheduler.max_num_batched_tokens = 1024
            options["scheduler_config"] = scheduler
        self._pipeline = library.LLMPipeline(path, "CPU", **options)

    def run(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, float, list[int]]:
        options = self._library.GenerationConfig()
        options.do_sample = False
        options.ignore_eos = True
        options.max_new_tokens = options.min_new_tokens = new_tokens
        ids = numpy.array(prompts, dtype=numpy.int64)
        inputs = self._library.TokenizedInputs(self._tensor(ids), self._tensor(numpy.ones_like(ids)))
        start = time.perf_counter()
        results = self._pipeline.generate(inputs, options)
        seconds = time.perf_counter() - start
        if any(len(tokens) != new_tokens for tokens in results.tokens):
            raise RuntimeError("OpenVINO GenAI ended a text early")
        # Milliseconds; all prompts of a batch go through in one step.
        first = results.perf_metrics.get_ttft().mean / 1e3 if new_tokens > 1 else seconds
        return first, seconds - first, [tokens[0] for tokens in results.tokens]
