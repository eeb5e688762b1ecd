"""OpenVINO GenAI: its pipeline with paged attention, over the graph that `openvino_` writes."""

import pathlib
import time
from importlib.metadata import version

import numpy

from peers import openvino_

PRECISIONS = openvino_.PRECISIONS
FLAGS = (
    "LLMPipeline, paged attention (its default), a SchedulerConfig without prefix cache, up to 1024 tokens in a step; PERFORMANCE_HINT "
    "LATENCY, INFERENCE_NUM_THREADS as given; inference precision and cache type are its defaults on this processor"
)
OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "ATTENTION_BACKEND": "PA"}


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

    openvino_.convert(checkpoint, out, precision, last_only=False)
    size = AutoConfig.from_pretrained(checkpoint).vocab_size
    tokenizer = Tokenizer(models.BPE(vocab={f"t{index}": index for index in range(size)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    last = f"t{size - 1}"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=last, bos_token=last, pad_token=last)
    for model, name in zip(convert_tokenizer(fast, with_detokenizer=True), ("tokenizer", "detokenizer"), strict=True):
        openvino.save_model(model, out / f"openvino_{name}.xml")


def load(path: str, precision: str, threads: int) -> "Model":
    return Model(path, threads)


class Model:
    def __init__(self, path: str, threads: int) -> None:
        import openvino
        import openvino_genai as library

        self._library, self._tensor = library, openvino.Tensor
        options = OPTIONS | {"INFERENCE_NUM_THREADS": threads}
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
