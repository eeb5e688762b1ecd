"""CTranslate2: its own loader for GPT-2, its own quantization; generation inside the library."""

import os
import pathlib
import time
from importlib.metadata import version

PRECISIONS = {
    "float": "compute type float32 (it has no bfloat16 on CPUs)",
    "int8": "compute type int8 (embedding and head too)",
}
FLAGS = (
    "`generate_batch` with include_prompt_in_result=False, greedy, inter_threads 1, intra_threads as given, "
    "float32 cache; its OpenMP threads bound to processors and spinning, without which two of them decode GPT-2 small at a "
    "third of the speed here"
)
VARIANTS = {"its own choice of instructions": {}, "CT2_FORCE_CPU_ISA=AVX512": {"CT2_FORCE_CPU_ISA": "AVX512"}}
_TYPES = {"float": "float32", "int8": "int8"}


def prepare(threads: int) -> None:
    # Read when the library is loaded.
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "active",
        "GOMP_SPINCOUNT": "10000000",
        "GOMP_CPU_AFFINITY": " ".join(map(str, sorted(os.sched_getaffinity(0))[:threads])),
    }
    import ctranslate2  # noqa: F401


def versions() -> dict[str, str]:
    return {"ctranslate2": version("ctranslate2")}


def convert(checkpoint: pathlib.Path, out: pathlib.Path, precision: str) -> None:
    from ctranslate2.converters.transformers import GPT2Loader
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(checkpoint)
    spec = GPT2Loader().get_model_spec(model)
    # No tokenizer: any distinct strings do, and no token ends a text.
    tokens = [f"t{index}" for index in range(model.config.vocab_size)]
    spec.register_vocabulary(tokens)
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = tokens[-1]
    spec.validate()
    spec.optimize(quantization=_TYPES[precision])
    out.mkdir()
    spec.save(str(out))


def load(path: str, precision: str, threads: int, settings: dict) -> "Model":
    # Read when the first model is loaded.
    os.environ.update(settings)
    return Model(path, precision, threads)


class Model:
    def __init__(self, path: str, precision: str, threads: int) -> None:
        import ctranslate2

        self._generator = ctranslate2.Generator(
            path, device="cpu", compute_type=_TYPES[precision], inter_threads=1, intra_threads=threads
        )

    def run(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, float, list[int]]:
        """The callback of the first step ends prefill; it is called for every prompt of the batch."""
        first = 0.0

        def step(result) -> bool:
            nonlocal first
            if result.step == 0:
                first = time.perf_counter()
            return False

        words = [[f"t{token}" for token in prompt] for prompt in prompts]
        start = time.perf_counter()
        results = self._generator.generate_batch(
            words,
            max_batch_size=len(prompts),
            max_length=new_tokens,
            min_length=new_tokens,
            include_prompt_in_result=False,
            sampling_topk=1,
            callback=step,
        )
        end = time.perf_counter()
        if any(len(result.sequences_ids[0]) != new_tokens for result in results):
            raise RuntimeError("CTranslate2 ended a text early")
        return first - start, end - first, [result.sequences_ids[0][0] for result in results]
