"""GPT-2 as OpenVINO's own exporter makes it: a stateful graph, the KV cache as variables, beam_idx, fused attention.

It is written with OpenVINO's operations, so that its weights are the checkpoint's. Weights are compressed in the form
that its plugin for CPUs knows: integers, times a multiplier.
"""

import json
import pathlib

import numpy


class _Weights:
    """Constants in a precision; matrices are [outputs, inputs]."""

    def __init__(self, tensors: dict[str, numpy.ndarray], precision: str) -> None:
        self._tensors = tensors
        self._precision = precision
        # A constant made from a tensor does not own its bytes.
        self._kept: list[numpy.ndarray] = []

    def vector(self, name: str):
        from openvino import opset13 as ops

        return ops.constant(self._tensors[name].astype(numpy.float32))

    def matrix(self, name: str, transposed: bool = False, embedding: bool = False):
        from openvino import opset13 as ops

        weight = self._tensors[name].astype(numpy.float32)
        weight = numpy.ascontiguousarray(weight.T if transposed else weight)
        if self._precision == "float":
            return ops.constant(weight)
        if self._precision == "int8" or embedding:
            scale = numpy.abs(weight).max(axis=1, keepdims=True) / 127
            whole = numpy.clip(numpy.rint(weight / scale), -127, 127).astype(numpy.int8)
            return ops.multiply(ops.convert(ops.constant(whole), "f32"), ops.constant(scale.astype(numpy.float32)))
        return self._groups(weight, 128)

    def _groups(self, weight: numpy.ndarray, size: int):
        import openvino
        from openvino import opset13 as ops

        outputs, inputs = weight.shape
        weight = weight.reshape(outputs, inputs // size, size)
        scale = numpy.abs(weight).max(axis=2, keepdims=True) / 7
        whole = numpy.clip(numpy.rint(weight / scale), -8, 7).astype(numpy.int8)
        nibbles = whole.reshape(-1, 2) & 15
        packed = (nibbles[:, 0] | (nibbles[:, 1] << 4)).astype(numpy.uint8)
        self._kept.append(packed)
        tensor = openvino.Tensor(packed, list(weight.shape), openvino.Type.i4)
        product = ops.multiply(ops.convert(ops.constant(tensor), "f32"), ops.constant(scale.astype(numpy.float32)))
        return ops.reshape(product, ops.constant(numpy.array([outputs, inputs])), False)


def write(checkpoint: pathlib.Path, out: pathlib.Path, precision: str) -> None:
    import openvino
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(checkpoint / "model.safetensors").items()
    }
    out.mkdir()
    weights = _Weights(tensors, precision)
    model = _graph(config, weights)
    openvino.save_model(model, out / "openvino_model.xml", compress_to_fp16=False)


def _graph(config: dict, weights: _Weights):
    """ids [b, s], attention_mask [b, t], position_ids [b, s], beam_idx [b] -> logits [b, s, vocabulary].

    Of the mask only the shape counts: every sequence of a batch is as long as the others.
    """
    import openvino
    from openvino import opset13 as ops

    width, heads, epsilon = config["n_embd"], config["n_head"], config["layer_norm_epsilon"]
    head = width // heads

    def whole(*values: int):
        return ops.constant(numpy.array(values, dtype=numpy.int64))

    def norm(x, name: str):
        centered = ops.mvn(x, whole(-1), True, epsilon, "inside_sqrt")
        return ops.add(ops.multiply(centered, weights.vector(f"{name}.weight")), weights.vector(f"{name}.bias"))

    def linear(x, name: str):
        product = ops.matmul(x, weights.matrix(f"{name}.weight", transposed=True), False, True)
        return ops.add(product, weights.vector(f"{name}.bias"))

    ids = ops.parameter([-1, -1], numpy.int64, name="input_ids")
    positions = ops.parameter([-1, -1], numpy.int64, name="position_ids")
    mask_in = ops.parameter([-1, -1], numpy.int64, name="attention_mask")
    beams = ops.parameter([-1], numpy.int32, name="beam_idx")
    inputs = [ids, mask_in, positions, beams]
    for parameter in inputs:
        parameter.output(0).set_names({parameter.get_friendly_name()})
    zero = ops.constant(numpy.int64(0))
    embedding = weights.matrix("wte.weight", embedding=True)
    x = ops.add(ops.gather(embedding, ids, zero), ops.gather(weights.vector("wpe.weight"), positions, zero))

    # A query sees keys up to its own position: [b, 1, s, t].
    total = ops.gather(ops.shape_of(mask_in, "i64"), ops.constant(numpy.int64(1)), zero)
    columns = ops.range(zero, total, ops.constant(numpy.int64(1)), "i64")
    seen = ops.less_equal(columns, ops.unsqueeze(ops.unsqueeze(positions, whole(1)), whole(3)))
    mask = ops.select(seen, ops.constant(numpy.float32(0)), ops.constant(numpy.float32(-65504)))

    batch = ops.gather(ops.shape_of(ids, "i64"), whole(0), zero)
    empty = ops.broadcast(ops.constant(numpy.float32(0)), ops.concat([batch, whole(heads, 0, head)], 0))
    variables, sinks = [], []

    def cached(value, name: str):
        """What is known of the past, then the new keys or values, both [b, heads, t, head]."""
        from openvino.op.util import Variable, VariableInfo

        info = VariableInfo()
        info.data_shape = openvino.PartialShape([-1, heads, -1, head])
        info.data_type = openvino.Type.f32
        info.variable_id = name
        variable = Variable(info)
        past = ops.gather(ops.read_value(empty, variable), beams, zero)
        whole_past = ops.concat([past, value], 2)
        variables.append(variable)
        sinks.append(ops.assign(whole_past, variable))
        return whole_past

    def attention(x, name: str, index: int):
        parts = ops.split(linear(x, f"{name}.c_attn"), ops.constant(numpy.int64(2)), 3)

        def in_heads(part):
            return ops.transpose(ops.reshape(part, whole(0, 0, heads, head), True), whole(0, 2, 1, 3))

        query, key, value = (in_heads(parts.output(place)) for place in range(3))
        key = cached(key, f"past_key_values.{index}.key")
        value = cached(value, f"past_key_values.{index}.value")
        mixed = ops.scaled_dot_product_attention(query, key, value, mask)
        mixed = ops.reshape(ops.transpose(mixed, whole(0, 2, 1, 3)), whole(0, 0, width), True)
        return linear(mixed, f"{name}.c_proj")

    for index in range(config["n_layer"]):
        name = f"h.{index}"
        x = ops.add(x, attention(norm(x, f"{name}.ln_1"), f"{name}.attn", index))
        hidden = ops.gelu(linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"), "tanh")
        x = ops.add(x, linear(hidden, f"{name}.mlp.c_proj"))
    logits = ops.matmul(norm(x, "ln_f"), embedding, False, True)
    logits.output(0).set_names({"logits"})
    return openvino.Model([ops.result(logits)], sinks, inputs, variables, "gpt2")
