"""ONNX Runtime: GPT-2 written with its own fused operators, as its exporters for generation write decoders.

GroupQueryAttention with past and present in one buffer, FastGelu; only the last position reaches the head.
"""

import json
import pathlib
import time
from importlib.metadata import version

import numpy

PRECISIONS = {
    "float": "float32",
    "int8": "`quantize_dynamic`: int8 weights for each output, head and embedding too; uint8 activations",
    "blocks": "MatMulNBits of 8 bits in blocks of 32, accuracy level 4 (int8 activations), head too",
    "int4": "MatMulNBits of 4 bits in blocks of 32, accuracy level 4 (int8 activations), head 8 bits",
}
FLAGS = (
    "GroupQueryAttention with past and present in one float32 buffer of 1024 tokens, IO binding, all graph "
    "optimizations, intra_op_num_threads as given, spinning"
)
VARIANTS = {"": {}}
_CONTEXT = 1024


def prepare(threads: int) -> None:
    import onnxruntime  # noqa: F401


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("onnxruntime", "onnx")}


# MARK: Conversion


class _Builder:
    def __init__(self, tensors: dict[str, numpy.ndarray]) -> None:
        self.nodes = []
        self.constants = {}
        self._tensors = tensors

    def constant(self, name: str, value: numpy.ndarray | None = None) -> str:
        if name not in self.constants:
            value = self._tensors[name].astype(numpy.float32) if value is None else value
            self.constants[name] = value
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str] | None = None, domain: str = "", **attributes):
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        outputs = outputs or [name]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]


def _graph(config: dict, tensors: dict[str, numpy.ndarray]):
    from onnx import TensorProto, helper, numpy_helper

    builder = _Builder(tensors)
    node, constant = builder.node, builder.constant
    heads, epsilon = config["n_head"], config["layer_norm_epsilon"]
    head = config["n_embd"] // heads

    def norm(x: str, name: str) -> str:
        inputs = [x, constant(f"{name}.weight"), constant(f"{name}.bias")]
        return node("LayerNormalization", inputs, epsilon=epsilon, axis=-1)

    def linear(x: str, name: str) -> str:
        return node("Add", [node("MatMul", [x, constant(f"{name}.weight")]), constant(f"{name}.bias")])

    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("total_length", TensorProto.INT32, [1]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", config["vocab_size"]])]
    cache = ["batch", heads, "capacity", head]
    x = node("Add", [
        node("Gather", [constant("wte.weight"), "input_ids"]), node("Gather", [constant("wpe.weight"), "position_ids"]),
    ])  # fmt: skip
    for index in range(config["n_layer"]):
        name = f"h.{index}"
        names = [f"{kind}.{index}.{part}" for kind in ("past", "present") for part in ("key", "value")]
        inputs += [helper.make_tensor_value_info(past, TensorProto.FLOAT, cache) for past in names[:2]]
        outputs += [helper.make_tensor_value_info(present, TensorProto.FLOAT, cache) for present in names[2:]]
        query = linear(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn")
        mixed = node(
            "GroupQueryAttention", [query, "", "", *names[:2], "seqlens_k", "total_length"],
            [f"mixed.{index}", *names[2:]], domain="com.microsoft", num_heads=heads, kv_num_heads=heads,
        )  # fmt: skip
        x = node("Add", [x, linear(mixed, f"{name}.attn.c_proj")])
        hidden = linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        hidden = node("FastGelu", [hidden], domain="com.microsoft")
        x = node("Add", [x, linear(hidden, f"{name}.mlp.c_proj")])
    last = node("Gather", [x, constant("last", numpy.array(-1, dtype=numpy.int64))], axis=1)
    head_weight = constant("head.weight", numpy.ascontiguousarray(tensors["wte.weight"].astype(numpy.float32).T))
    node("MatMul", [norm(last, "ln_f"), head_weight], ["logits"])
    graph = helper.make_graph(
        builder.nodes, "gpt2", inputs, outputs,
        [numpy_helper.from_array(value, name) for name, value in builder.constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def convert(checkpoint: pathlib.Path, out: pathlib.Path, precision: str) -> None:
    import onnx
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(checkpoint / "model.safetensors").items()
    }
    out.mkdir()
    model = _graph(config, tensors)
    if precision in ("blocks", "int4"):
        model = _in_blocks(model, precision)
    path = out / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
    if precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        plain = out.with_name(out.name + ".f32")
        out.rename(plain)
        out.mkdir()
        quantize_dynamic(
            plain / "model.onnx", path, per_channel=True, weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gather"],
            use_external_data_format=True, extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
        for file in plain.iterdir():
            file.unlink()
        plain.rmdir()
    shape = {key: config[key] for key in ("n_layer", "n_head", "n_embd")}
    (out / "shape.json").write_text(json.dumps(shape))


def _in_blocks(model, precision: str):
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    head = model.graph.node[-1].name
    layers = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.name != head]
    for bits, excluded in ((8, []),) if precision == "blocks" else ((4, [head]), (8, layers)):
        options = DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, accuracy_level=4, bits=bits)
        quantizer = MatMulNBitsQuantizer(model, nodes_to_exclude=excluded, algo_config=options)
        quantizer.process()
        model = quantizer.model.model
    return model


# MARK: Running


def load(path: str, precision: str, threads: int, settings: dict) -> "Model":
    return Model(pathlib.Path(path), threads)


class Model:
    def __init__(self, path: pathlib.Path, threads: int) -> None:
        import onnxruntime

        self._library = onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._session = onnxruntime.InferenceSession(path / "model.onnx", options, providers=["CPUExecutionProvider"])
        shape = json.loads((path / "shape.json").read_text())
        self._layers, self._heads = shape["n_layer"], shape["n_head"]
        self._head = shape["n_embd"] // shape["n_head"]
        self._caches: dict[int, list] = {}

    def _cache(self, batch: int) -> list:
        """Buffers for whole contexts, allocated once for a batch, each both past and present."""
        if batch not in self._caches:
            capacity = _CONTEXT if batch == 1 else _CONTEXT // batch
            shape = (batch, self._heads, capacity, self._head)
            self._caches[batch] = [
                (f"{index}.{part}", self._library.OrtValue.ortvalue_from_shape_and_type(shape, numpy.float32, "cpu"))
                for index in range(self._layers)
                for part in ("key", "value")
            ]
        return self._caches[batch]

    def _step(self, ids: numpy.ndarray, position: int) -> numpy.ndarray:
        batch, length = ids.shape
        total = position + length
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        positions = numpy.broadcast_to(numpy.arange(position, total), (batch, length))
        binding.bind_cpu_input("position_ids", numpy.ascontiguousarray(positions))
        binding.bind_cpu_input("seqlens_k", numpy.full(batch, total - 1, dtype=numpy.int32))
        binding.bind_cpu_input("total_length", numpy.array([total], dtype=numpy.int32))
        for name, buffer in self._cache(batch):
            binding.bind_ortvalue_input(f"past.{name}", buffer)
            binding.bind_ortvalue_output(f"present.{name}", buffer)
        binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy().argmax(-1)[:, None]

    def run(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, float, list[int]]:
        ids = numpy.array(prompts, dtype=numpy.int64)
        self._cache(len(prompts))
        start = time.perf_counter()
        tokens = self._step(ids, 0)
        first, start_tokens = time.perf_counter(), tokens[:, 0].tolist()
        for position in range(ids.shape[1], ids.shape[1] + new_tokens - 1):
            tokens = self._step(tokens, position)
        return first - start, time.perf_counter() - first, start_tokens
