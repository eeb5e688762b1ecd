"""What is compared: contenders, phases, models. Everything else reads these tables."""

import dataclasses

MODELS = ("distilgpt2", "gpt2", "gpt2-medium")
VOCABULARY = 50257
FIRST_PROMPT = 32

# Batch, prompt and new tokens of each sequence, counted runs in a pass; the first new token belongs to prefill.
PHASES = [
    {"name": "prefill_128", "batch": 1, "prompt": 128, "new": 1, "runs": 3},
    {"name": "prefill_512", "batch": 1, "prompt": 512, "new": 1, "runs": 2},
    {"name": "decode", "batch": 1, "prompt": 32, "new": 128, "runs": 1},
    {"name": "batch_8", "batch": 8, "prompt": 32, "new": 33, "runs": 1},
]


@dataclasses.dataclass(frozen=True)
class Contender:
    """An engine at a precision. `group` is the contest that it takes part in: float, int8, int4, or None.

    `isa` is the level that `LATHE_ISA` lowers Lathe to, None for the best that the machine has.
    """

    engine: str
    precision: str
    title: str
    group: str | None
    isa: str | None = None

    @property
    def key(self) -> str:
        return f"{self.engine}/{self.precision}{f'@{self.isa}' if self.isa else ''}"


ENGINES = {
    "lathe": "Lathe",
    "llama_cpp_": "llama.cpp",
    "ctranslate2_": "CTranslate2",
    "openvino_genai_": "OpenVINO GenAI",
    "onnxruntime_": "ONNX Runtime",
    "torch_": "PyTorch",
}

LOWERED = ("avx512vnni", "avxvnni", "avx2")

CONTENDERS = [
    Contender("lathe", "float", "Lathe", "float"),
    Contender("lathe", "int8", "Lathe", "int8"),
    Contender("lathe", "int4", "Lathe", "int4"),
    # Half of its weights are zeros: not the model that the others run, so it takes part in no contest.
    Contender("lathe", "int4-sparse", "Lathe, half pruned", None),
    # Lowered to older instruction sets, beside peers that are not: a table of its own.
    *(
        Contender("lathe", precision, f"Lathe, {precision}, {isa}", None, isa)
        for precision in ("int8", "int4")
        for isa in LOWERED
    ),
    Contender("llama_cpp_", "float", "llama.cpp F16", "float"),
    Contender("llama_cpp_", "int8", "llama.cpp Q8_0", "int8"),
    Contender("llama_cpp_", "int4", "llama.cpp Q4_0", "int4"),
    Contender("ctranslate2_", "float", "CTranslate2", "float"),
    Contender("ctranslate2_", "int8", "CTranslate2", "int8"),
    Contender("openvino_genai_", "float", "OpenVINO GenAI", "float"),
    Contender("openvino_genai_", "int8", "OpenVINO GenAI", "int8"),
    Contender("openvino_genai_", "int4", "OpenVINO GenAI", "int4"),
    Contender("onnxruntime_", "float", "ONNX Runtime", "float"),
    Contender("onnxruntime_", "int8", "ONNX Runtime", "int8"),
    Contender("onnxruntime_", "blocks", "ONNX Runtime blocks", "int8"),
    Contender("onnxruntime_", "int4", "ONNX Runtime", "int4"),
    Contender("torch_", "float", "PyTorch", "float"),
    Contender("torch_", "int8", "PyTorch", "int8"),
]

# Options of `lathe quantize`; the embedding and the head stay int8 in int4, as they do in llama.cpp's Q4_0 (Q6_K).
LATHE_OPTIONS = {
    "float": ["--weights", "f32", "--sparse", "off"],
    "int8": ["--weights", "int8", "--sparse", "off"],
    "int4": ["--weights", "int4", "--sparse", "off"],
    "int4-sparse": ["--weights", "int4", "--sparse", "on"],
}
LATHE_PRECISIONS = {
    "float": "float32 weights, float32 cache",
    "int8": "int8 weights, a multiplier for each output, embedding and head too; float16 cache",
    "int4": "int4 weights in groups of 64, embedding and head int8; float16 cache",
    "int4-sparse": "the same after `lathe prune --sparsity 0.5 --balance-pairs`, zeros left out",
}


def is_in_default(contender: Contender, model: str, threads: int) -> bool:
    """What is measured without --full: about half of all that could be.

    Float weights take as long as all else together: they are run where two threads read them, and not on gpt2-medium,
    which by itself runs on two threads alone.
    """
    if contender.group == "float":
        return threads > 1 and model != "gpt2-medium"
    if contender.precision == "blocks":
        return False
    return threads > 1 or model != "gpt2-medium"
