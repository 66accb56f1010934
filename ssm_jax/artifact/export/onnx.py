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

from ssm_jax import files, graph
from ssm_jax.artifact.export import arrays
from ssm_jax.artifact.export.onnx_elementary import WRITE
from ssm_jax.artifact.format import Artifact
from ssm_jax.version import __version__

# The first whose ReduceMean takes its axes as ReduceSum does, and the IR that came with it: older readers
# than those of 2023 are not asked for, and newer ones all know it.
OPSET, IR = 18, 8

_DTYPES = {
    "uint8": onnx.TensorProto.UINT8,
    "int32": onnx.TensorProto.INT32,
    "float32": onnx.TensorProto.FLOAT,
}

# Places of the channels: as this library has them, and as ONNX's convolutions do.
LAST, FIRST = "last", "first"
_TRANSPOSE = {FIRST: (0, 3, 1, 2), LAST: (0, 2, 3, 1)}


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
        if type(node) in WRITE:
            values = (writer.value(number, LAST) for number in node.inputs)
            writer.values.append({LAST: WRITE[type(node)](writer, node, *values)})
        else:
            writer.values.append(_WRITE[type(node)](writer, node))
    result = writer.value(len(network.nodes), LAST)
    # Others than these may end in whole numbers or truth values.
    last: dict[str, Any] = {} if network.plain else {"to": onnx.TensorProto.FLOAT}
    writer.nodes.append(helper.make_node("Cast" if last else "Identity", [result], ["logits"], **last))
    of = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "ssm_jax",
            [of("images", _DTYPES[network.image_dtype], ["batch", *network.image_shape])],
            [of("logits", onnx.TensorProto.FLOAT, ["batch", *network.shapes()[-1]])],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="ssm_jax",
        producer_version=__version__,
    )
    texts = arrays.texts(artifact)
    helper.set_model_props(made, {name: texts[name] for name in ("class_names", "record")})
    onnx.checker.check_model(made, full_check=True)
    return made


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

    def value(self, number: int, place: str) -> str:
        """The name of a value whose channels are in that place; a flat one's are last."""
        names = self.values[number]
        if place not in names:
            (other,) = names.values()
            names[place] = self.add("Transpose", other, perm=_TRANSPOSE[place])
        return names[place]

    def place(self, number: int) -> str:
        """Where the channels of a value are."""
        return next(iter(self.values[number]))

    def kernel(self, kernel: graph.Kernel, axes: tuple[int, ...]) -> str:
        """A kernel, its axes in another order; floating point by the time that it is used."""
        values = kernel.values.transpose(axes)
        if values.dtype != np.int8:
            return self.constant(kernel.dense().transpose(axes))
        # onnxruntime folds these two into a constant as it loads the file; DequantizeLinear it would repeat.
        numbers = self.add("Cast", self.constant(values, np.int8), to=onnx.TensorProto.FLOAT)
        return self.add("Mul", numbers, self.constant(kernel.scale))

    def per_channel(self, array: np.ndarray, number: int) -> str:
        """A constant in the shape that a value can be added to or multiplied by."""
        if self.place(number) == LAST:
            return self.constant(array)
        return self.constant(array.transpose(2, 0, 1) if array.ndim == 3 else array[:, None, None])


def _standardize(writer: _Writer, node: graph.Standardize) -> dict[str, str]:
    (number,) = node.inputs
    images = writer.value(number, LAST)
    axes = writer.constant([1, 2, 3], np.int64)
    centered = writer.add("Sub", images, writer.add("ReduceMean", images, axes))
    variance = writer.add("ReduceMean", writer.add("Mul", centered, centered), axes)
    floor = writer.constant(math.prod(writer.shapes[number]) ** -0.5)
    deviation = writer.add("Max", writer.add("Sqrt", variance), floor)
    return {LAST: writer.add("Div", centered, deviation)}


def _conv(writer: _Writer, node: graph.Conv) -> dict[str, str]:
    (number,) = node.inputs
    size = node.kernel.shape[0]
    before, after = zip(*node.padding(writer.shapes[number]))
    name = writer.add(
        "Conv",
        writer.value(number, FIRST),
        writer.kernel(node.kernel, (3, 2, 0, 1)),
        kernel_shape=(size, size),
        strides=(node.stride, node.stride),
        pads=[*before, *after],
    )
    return {FIRST: name}


def _dense(writer: _Writer, node: graph.Dense) -> dict[str, str]:
    (number,) = node.inputs
    return {LAST: writer.add("MatMul", writer.value(number, LAST), writer.kernel(node.kernel, (0, 1)))}


def _normalize(writer: _Writer, node: graph.Normalize) -> dict[str, str]:
    (number,) = node.inputs
    # As one factor and one offset, found in float64.
    given = {name: array.astype(np.float64) for name, array in node.arrays().items()}
    factor = given.get("scale", 1.0) / np.sqrt(given["variance"] + node.epsilon)
    offset = given.get("offset", 0.0) - given["mean"] * factor
    place = writer.place(number)
    scaled = writer.add("Mul", writer.value(number, place), writer.per_channel(factor, number))
    return {place: writer.add("Add", scaled, writer.per_channel(offset, number))}


def _offset(writer: _Writer, node: graph.Offset) -> dict[str, str]:
    (number,) = node.inputs
    place = writer.place(number)
    return {place: writer.add("Add", writer.value(number, place), writer.per_channel(node.values, number))}


def _elu(writer: _Writer, node: graph.Elu) -> dict[str, str]:
    (number,) = node.inputs
    place = writer.place(number)
    return {place: writer.add("Elu", writer.value(number, place))}


def _max_pool(writer: _Writer, node: graph.MaxPool) -> dict[str, str]:
    (number,) = node.inputs
    name = writer.add(
        "MaxPool",
        writer.value(number, FIRST),
        kernel_shape=(node.window, node.window),
        strides=(node.stride, node.stride),
        pads=[node.padding] * 4,
    )
    return {FIRST: name}


def _flatten(writer: _Writer, node: graph.Flatten) -> dict[str, str]:
    (number,) = node.inputs
    return {LAST: writer.add("Flatten", writer.value(number, LAST))}


def _mean(writer: _Writer, node: graph.Mean) -> dict[str, str]:
    (number,) = node.inputs
    place = writer.place(number)
    axes = writer.constant([1, 2] if place == LAST else [2, 3], np.int64)
    return {LAST: writer.add("ReduceMean", writer.value(number, place), axes, keepdims=0)}


def _add(writer: _Writer, node: graph.Add) -> dict[str, str]:
    place = writer.place(node.inputs[0])
    return {place: writer.add("Add", *(writer.value(number, place) for number in node.inputs))}


_WRITE: dict[type[graph.Node], Callable[[_Writer, Any], dict[str, str]]] = {
    graph.Standardize: _standardize,
    graph.Conv: _conv,
    graph.Dense: _dense,
    graph.Normalize: _normalize,
    graph.Offset: _offset,
    graph.Elu: _elu,
    graph.MaxPool: _max_pool,
    graph.Flatten: _flatten,
    graph.Mean: _mean,
    graph.Add: _add,
}
