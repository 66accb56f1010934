"""A network as ONNX, which onnxruntime and many others run.

    session = onnxruntime.InferenceSession("model.onnx")
    (logits,) = session.run(["logits"], {"images": images})  # uint8 [B, H, W, C] of any B

Kernels are stored as int8 times a scale where they are whole numbers, a byte a weight. A network that
computes in bfloat16 computes in float32 here, with the arrays that it has rounded to bfloat16. The file's
metadata holds `class_names` and `record`, each JSON.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ssm_jax import errors, files, graph
from ssm_jax.artifact.export import arrays
from ssm_jax.artifact.format import Artifact
from ssm_jax.version import __version__

# The first whose ReduceMean takes its axes as ReduceSum does, and the IR that came with it: older readers
# than those of 2023 are not asked for, and newer ones all know it.
OPSET, IR = 18, 8

# Places of the channels: as this library has them, and as ONNX's convolutions do.
LAST, FIRST = "last", "first"


def model(artifact: Artifact) -> onnx.ModelProto:
    """Translate a network into ONNX, from `images`, uint8 `[batch, H, W, C]`, to `logits` `[batch, classes]`.

    Args:
      artifact: The network.

    Returns:
      A model that `onnx.checker` accepts.
    """
    network = arrays.rounded(artifact.network)
    writer = _Writer(network)
    for node in network.nodes:
        place = LAST
        if isinstance(node, _FIRST):
            place = FIRST
        elif isinstance(node, _ANYWHERE):
            place = writer.place(node.inputs[0])
        inputs = [writer.value(number, place) for number in node.inputs]
        writer.values.append({place: _WRITE[type(node)](writer, node, *inputs)})
    result = writer.value(len(network.nodes), LAST)
    # Others than these may end in whole numbers or truth values.
    last: dict[str, Any] = {} if network.plain else {"to": onnx.TensorProto.FLOAT}
    writer.nodes.append(helper.make_node("Cast" if last else "Identity", [result], ["logits"], **last))
    of, dtype = helper.make_tensor_value_info, getattr(onnx.TensorProto, _DTYPES[network.image_dtype])
    proto = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "ssm_jax",
            [of("images", dtype, ["batch", *network.image_shape])],
            [of("logits", onnx.TensorProto.FLOAT, ["batch", *network.shapes()[-1]])],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="ssm_jax",
        producer_version=__version__,
    )
    texts = arrays.texts(artifact)
    helper.set_model_props(proto, {name: texts[name] for name in ("class_names", "record")})
    onnx.checker.check_model(proto, full_check=True)
    return proto


def write(artifact: Artifact, path: pathlib.Path) -> None:
    """Write a trained network as ONNX.

    Args:
      artifact: The network.
      path: The file.

    Raises:
      OSError: The file can't be written.
    """
    content = model(artifact).SerializeToString()
    files.write_whole(path, lambda file: file.write(content))


class _Writer:
    """Collects nodes and constants; values are known by their number and the place of their channels."""

    def __init__(self, network: graph.Network) -> None:
        self.network, self.shapes = network, network.shapes()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        whole = network.image_dtype == "int32"
        images = "images" if whole else self.add("Cast", "images", to=onnx.TensorProto.FLOAT)
        self.values: list[dict[str, str]] = [{LAST: images}]

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], name, **attributes))
        return name

    def is_constant(self, number: int) -> bool:
        """Whether a value is the same for every example, and there once for all."""
        node = self.network.nodes[number - 1] if number else None
        if isinstance(node, graph.Cast):
            return self.is_constant(node.inputs[0])
        return isinstance(node, graph.Constant)

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype, order="C"), name))
        return name

    def integers(self, *numbers: int) -> str:
        return self.constant(numbers, np.int64)

    def value(self, number: int, place: str) -> str:
        """The name of a value whose channels are in that place; a flat one's are last."""
        names, rank = self.values[number], len(self.shapes[number])
        if place not in names:
            (name,) = names.values()
            if rank < 2:
                return name
            order = (0, rank, *range(1, rank)) if place == FIRST else (0, *range(2, rank + 1), 1)
            names[place] = self.add("Transpose", name, perm=order)
        return names[place]

    def place(self, number: int) -> str:
        """Where the channels of a value are."""
        return next(iter(self.values[number]))

    def kernel(self, kernel: graph.Kernel, axes: tuple[int, ...] = (0, 1)) -> str:
        """A kernel, its axes in another order; floating point by the time that it is used."""
        if not kernel.whole:
            return self.constant(kernel.dense().transpose(axes))
        # onnxruntime folds these two into a constant as it loads the file; DequantizeLinear it would repeat.
        values = self.constant(kernel.values.transpose(axes), np.int8)
        return self.add(
            "Mul", self.add("Cast", values, to=onnx.TensorProto.FLOAT), self.constant(kernel.scale)
        )

    def per_channel(self, array: np.ndarray, number: int) -> str:
        """A constant in the shape that a value can be added to or multiplied by."""
        if self.place(number) == LAST:
            return self.constant(array)
        if array.ndim > 1:
            return self.constant(np.moveaxis(array, -1, 0))
        return self.constant(array.reshape(-1, *(1,) * (len(self.shapes[number]) - 1)))


def _standardize(writer: _Writer, node: graph.Standardize, images: str) -> str:
    axes = writer.integers(1, 2, 3)
    centered = writer.add("Sub", images, writer.add("ReduceMean", images, axes))
    variance = writer.add("ReduceMean", writer.add("Mul", centered, centered), axes)
    floor = writer.constant(math.prod(writer.shapes[node.inputs[0]]) ** -0.5)
    return writer.add("Div", centered, writer.add("Max", writer.add("Sqrt", variance), floor))


def _convolution(writer: _Writer, node: graph.Conv | graph.Convolution, value: str) -> str:
    sizes = list(writer.shapes[node.inputs[0]])
    whole, rank = node.general(tuple(sizes)), len(sizes)
    for axis, spread in enumerate(whole.spread):
        if spread > 1:  # zeros between two places
            sides, behind = sizes[:-1], rank - 2 - axis
            apart = [0, 0, *sides[: axis + 1], 1, *sides[axis + 1 :]]
            value = writer.add("Reshape", value, writer.integers(*apart))
            ends = [0] * (axis + 3) + [spread - 1] + [0] * behind
            value = writer.add("Pad", value, writer.integers(*[0] * (rank + 2), *ends))
            sides[axis] *= spread
            value = writer.add("Reshape", value, writer.integers(0, 0, *sides))
            sizes[axis] = sides[axis] - spread + 1
            parts = (writer.integers(each) for each in (0, sizes[axis], axis + 2))
            value = writer.add("Slice", value, *parts)
    return writer.add(
        "Conv",
        value,
        writer.kernel(node.kernel, (rank, rank - 1, *range(rank - 1))),
        kernel_shape=node.kernel.shape[:-2],
        strides=whole.stride,
        pads=[*whole.low, *whole.high],
        dilations=whole.dilation,
        group=whole.groups,
    )


def _pool(writer: _Writer, node: graph.MaxPool | graph.Pool, value: str) -> str:
    pool = node.general()
    channels = pool.window[-1], pool.stride[-1], pool.low[-1], pool.high[-1]
    if channels != (1, 1, 0, 0) or len(pool.window) < 2:
        raise errors.InputError("ONNX has no pool over channels")
    settings: dict[str, Any] = {"kernel_shape": pool.window[:-1], "strides": pool.stride[:-1]}
    settings["pads"] = [*pool.low[:-1], *pool.high[:-1]]
    match pool.function:
        case "sum":
            average = writer.add("AveragePool", value, count_include_pad=1, **settings)
            return writer.add("Mul", average, writer.constant(float(math.prod(pool.window))))
        case "min":
            return writer.add("Neg", writer.add("MaxPool", writer.add("Neg", value), **settings))
    return writer.add("MaxPool", value, **settings)


def _normalize(writer: _Writer, node: graph.Normalize, value: str) -> str:
    factor, offset = (writer.per_channel(each, node.inputs[0]) for each in node.affine())
    return writer.add("Add", writer.add("Mul", value, factor), offset)


def _mean(writer: _Writer, node: graph.Mean, value: str) -> str:
    axes = (1, 2) if writer.place(node.inputs[0]) == LAST else (2, 3)
    return writer.add("ReduceMean", value, writer.integers(*axes), keepdims=0)


def _unary(writer: _Writer, node: graph.Unary, value: str) -> str:
    match node.function:
        case "erfc":
            return writer.add("Sub", writer.constant(1.0), writer.add("Erf", value))
        case "expm1":
            return writer.add("Sub", writer.add("Exp", value), writer.constant(1.0))
        case "log1p":
            return writer.add("Log", writer.add("Add", value, writer.constant(1.0)))
        case "rsqrt":
            return writer.add("Reciprocal", writer.add("Sqrt", value))
        case "square":
            return writer.add("Mul", value, value)
        case "is_finite":
            return writer.add("Not", writer.add("Or", writer.add("IsInf", value), writer.add("IsNaN", value)))
    return writer.add({"logistic": "Sigmoid"}.get(node.function, node.function.capitalize()), value)


def _binary(writer: _Writer, node: graph.Binary, left: str, right: str) -> str:
    match node.function:
        case "ne":
            return writer.add("Not", writer.add("Equal", left, right))
        case "rem":
            return writer.add("Mod", left, right, fmod=1)
        case "atan2":
            raise errors.InputError("ONNX has no atan2")
    return writer.add(_COMPARED.get(node.function, node.function.capitalize()), left, right)


def _slice(writer: _Writer, node: graph.Slice, value: str) -> str:
    axes = range(1, len(node.start) + 1)
    return writer.add(
        "Slice", value, *(writer.integers(*x) for x in (node.start, node.stop, axes, node.step))
    )


def _pad(writer: _Writer, node: graph.Pad, value: str) -> str:
    sides = writer.integers(0, *node.low, 0, *node.high)
    return writer.add("Pad", value, sides, writer.constant(node.value))


def _concatenate(writer: _Writer, node: graph.Concatenate, *values: str) -> str:
    """Constants are repeated for every example."""
    known = [writer.is_constant(number) for number in node.inputs]
    batch = writer.add("Shape", values[known.index(False)], start=0, end=1) if any(known) else ""
    parts = []
    for number, value, constant in zip(node.inputs, values, known):
        if constant:
            sizes = writer.integers(*writer.shapes[number])
            value = writer.add("Expand", value, writer.add("Concat", batch, sizes, axis=0))
        parts.append(value)
    return writer.add("Concat", *parts, axis=node.axis + 1)


def _reduce(writer: _Writer, node: graph.Reduce, value: str) -> str:
    axes = writer.integers(*(axis + 1 for axis in node.axes))
    return writer.add(f"Reduce{node.function.capitalize()}", value, axes, keepdims=0)


def _embed(writer: _Writer, node: graph.Embed, value: str) -> str:
    places = writer.add("Cast", value, to=onnx.TensorProto.INT64)
    ends = (writer.constant(end, np.int64) for end in (0, node.kernel.shape[0] - 1))
    return writer.add("Gather", writer.kernel(node.kernel), writer.add("Clip", places, *ends), axis=0)


_DTYPES = {"bfloat16": "FLOAT", "float32": "FLOAT", "int32": "INT32", "bool": "BOOL", "uint8": "UINT8"}
_COMPARED = {"eq": "Equal", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less"}

# What takes channels first, and what takes them where they are; all else has them last.
_FIRST = (graph.Conv, graph.Convolution, graph.MaxPool, graph.Pool)
_ANYWHERE = (graph.Normalize, graph.Offset, graph.Elu, graph.Mean, graph.Add)

# From an operation and the names of what it takes to the name of its result, whose channels are likewise.
_WRITE: dict[type[graph.Node], Callable[..., str]] = {
    **dict.fromkeys((graph.Conv, graph.Convolution), _convolution),
    **dict.fromkeys((graph.MaxPool, graph.Pool), _pool),
    graph.Standardize: _standardize,
    graph.Dense: lambda writer, node, value: writer.add("MatMul", value, writer.kernel(node.kernel)),
    graph.Normalize: _normalize,
    graph.Offset: lambda writer, node, value: writer.add(
        "Add", value, writer.per_channel(node.values, node.inputs[0])
    ),
    graph.Elu: lambda writer, node, value: writer.add("Elu", value),
    graph.Flatten: lambda writer, node, value: writer.add("Flatten", value),
    graph.Mean: _mean,
    graph.Add: lambda writer, node, *values: writer.add("Add", *values),
    graph.Constant: lambda writer, node: writer.constant(node.values[None], node.values.dtype),
    graph.Unary: _unary,
    graph.Binary: _binary,
    graph.Select: lambda writer, node, *values: writer.add("Where", *values),
    graph.Cast: lambda writer, node, value: writer.add(
        "Cast", value, to=getattr(onnx.TensorProto, _DTYPES[node.dtype])
    ),
    graph.Reshape: lambda writer, node, value: writer.add("Reshape", value, writer.integers(0, *node.sizes)),
    graph.Broadcast: lambda writer, node, value: writer.add("Expand", value, writer.integers(1, *node.sizes)),
    graph.Transpose: lambda writer, node, value: writer.add(
        "Transpose", value, perm=[0, *(axis + 1 for axis in node.axes)]
    ),
    graph.Slice: _slice,
    graph.Pad: _pad,
    graph.Concatenate: _concatenate,
    graph.Reduce: _reduce,
    graph.Product: lambda writer, node, *values: writer.add("MatMul", *values),
    graph.Embed: _embed,
}
