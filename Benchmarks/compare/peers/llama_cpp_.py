"""llama.cpp, by its C interface: a GGUF file of float32 is written with `gguf` and quantized by llama.cpp itself."""

import ctypes
import os
import pathlib
import time
from importlib.metadata import version

import numpy

PRECISIONS = {
    "float": "F16",
    "int8": "Q8_0",
    "int4": "Q4_0 as its quantizer mixes it: the embedding, which is the head too, Q6_K",
}
FLAGS = (
    "n_ctx 1024, n_batch and n_ubatch 512, n_threads and n_threads_batch as given, one f16 cache for all sequences, "
    "mmap, weights repacked where it can; built with GGML_NATIVE=ON and GGML_OPENMP=OFF (its own threads), by clang"
)
VARIANTS = {"flash attention off": {"flash_attn_type": 0}, "flash attention on": {"flash_attn_type": 1}}
_TYPES = {"float": "LLAMA_FTYPE_MOSTLY_F16", "int8": "LLAMA_FTYPE_MOSTLY_Q8_0", "int4": "LLAMA_FTYPE_MOSTLY_Q4_0"}
_BATCH = 8
_CONTEXT = 1024


def prepare(threads: int) -> None:
    import llama_cpp  # noqa: F401


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("llama-cpp-python", "gguf")}


# MARK: Conversion


def _write_gguf(checkpoint: pathlib.Path, out: pathlib.Path) -> None:
    """GPT-2 in llama.cpp's names. Conv1D matrices lie transposed in the checkpoint; vectors stay float32 everywhere."""
    import json

    import gguf
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(str(out), "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    if (checkpoint / "tokenizer.json").exists():
        _add_tokenizer(writer, checkpoint, config)
    else:
        # The prompts are ids.
        writer.add_tokenizer_model("no_vocab")
    names = {
        "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm",
        "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }  # fmt: skip
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        name = name.removeprefix("transformer.")
        block = ""
        if name.startswith("h."):
            _, index, name = name.split(".", 2)
            block = f"blk.{index}."
        stem, kind = name.rsplit(".", 1)
        if stem not in names:
            continue  # the causal mask, and a head tied to the embedding
        tensor = tensor.astype(numpy.float32)
        if ".c_" in name and kind == "weight":
            tensor = numpy.ascontiguousarray(tensor.T)
        writer.add_tensor(f"{block}{names[stem]}.{kind}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer, checkpoint: pathlib.Path, config: dict) -> None:
    """Byte-level BPE, as GPT-2 has it."""
    import json

    import gguf

    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [f"<unused {index}>" for index in range(config["vocab_size"])]
    types = [gguf.TokenType.UNUSED] * len(tokens)
    for text, index in tokenizer["model"]["vocab"].items():
        tokens[index], types[index] = text, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], gguf.TokenType.CONTROL
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def convert(checkpoint: pathlib.Path, out: pathlib.Path, precision: str) -> None:
    import llama_cpp

    source = out.with_name(out.name + ".f32")
    _write_gguf(checkpoint, source)
    options = llama_cpp.llama_model_quantize_default_params()
    options.nthread = os.cpu_count()
    options.ftype = getattr(llama_cpp, _TYPES[precision])
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(options))
    source.unlink()
    if code:
        raise RuntimeError(f"llama_model_quantize returned {code}")


# MARK: Running


def load(path: str, precision: str, threads: int, settings: dict) -> "Model":
    return Model(path, threads, settings)


class Model:
    def __init__(self, path: str, threads: int, settings: dict) -> None:
        import llama_cpp as library

        self._library = library
        library.llama_backend_init()
        options = library.llama_model_default_params()
        self._model = library.llama_model_load_from_file(path.encode(), options)
        if not self._model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        options = library.llama_context_default_params()
        options.n_ctx = _CONTEXT
        options.n_batch = options.n_ubatch = 512
        options.n_seq_max = _BATCH
        options.kv_unified = True
        options.n_threads = options.n_threads_batch = threads
        options.no_perf = True
        options.flash_attn_type = settings["flash_attn_type"]
        self._context = library.llama_init_from_model(self._model, options)
        if not self._context:
            raise RuntimeError("llama.cpp makes no context")
        self._memory = library.llama_get_memory(self._context)
        self._vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model))
        self._batch = library.llama_batch_init(512, 0, 1)

    def _step(self, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """Token, position, sequence, whether its logits are wanted; returns the likeliest next ids."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        wanted = []
        for index, (token, position, sequence, logits) in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = logits
            if logits:
                wanted.append(index)
        code = self._library.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")
        result = []
        for index in wanted:
            pointer = self._library.llama_get_logits_ith(self._context, index)
            result.append(int(numpy.ctypeslib.as_array(pointer, (self._vocabulary,)).argmax()))
        return result

    def run(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, float, list[int]]:
        self._library.llama_memory_clear(self._memory, False)
        length = len(prompts[0])
        start = time.perf_counter()
        last = self._step(
            [
                (token, position, sequence, position == length - 1)
                for sequence, prompt in enumerate(prompts)
                for position, token in enumerate(prompt)
            ]
        )
        first, tokens = time.perf_counter(), last
        for position in range(length, length + new_tokens - 1):
            last = self._step([(token, position, sequence, True) for sequence, token in enumerate(last)])
        return first - start, time.perf_counter() - first, tokens
