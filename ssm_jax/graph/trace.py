"""From what a model computes to operations: its jaxpr, with effective kernels as constants, by a table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ssm_jax import errors, graph
from ssm_jax.graph import expressions, patterns
from ssm_jax.graph.expressions import Expression
from ssm_jax.nn.layers import evaluated, masked_layers

# The model is traced with so many examples: one would be no different from an axis of size 1.
_BATCH = 2

Function = Callable[[jax.Array], jax.Array]


def network(model: Function, shape: Sequence[int], *, before: Function | None = None) -> graph.Network:
    """Write down what a model computes in evaluation.

    Args:
      model: An NNX model, whose layers' paths become the operations' names, or any function of JAX; it takes
        a batch of examples.
      shape: Shape of an example, without its batch.
      before: What is done with the images first.

    Raises:
      InputError: The model computes something that there is no operation for.
    """
    call, known = _function(model)
    example = jax.ShapeDtypeStruct((_BATCH, *shape), jnp.uint8)
    closed = jax.make_jaxpr(lambda known, x: call(known, x if before is None else before(x)))(
        [array for _, array in known], example
    )
    images = expressions.variable(example.shape, example.dtype, "images")
    constants = [expressions.constant(array, name) for name, array in known]
    outputs = expressions.Reader().read(closed, [*constants, images])
    if len(outputs) != 1:
        raise errors.InputError(f"the model returns {len(outputs)} arrays; allowed is one")
    return _Tracer(images).network(outputs[0], shape)


def _function(model: Function) -> tuple[Callable[..., Any], list[tuple[str, jax.Array]]]:
    """A function of arrays and inputs, and the arrays by the layers that they are of."""
    if not isinstance(model, nnx.Module):
        return lambda _, inputs: model(inputs), []
    # As a trained network computes them, in one compiled program each.
    kernels = [evaluated(layer).kernel for _, layer in masked_layers(model)]
    model = nnx.clone(model)
    model.eval()
    for (_, layer), kernel in zip(list(masked_layers(model)), kernels, strict=True):
        layer.become_dense(kernel)
    definition, state = nnx.split(model)
    leaves, tree = jax.tree_util.tree_flatten_with_path(state)
    names = [_layer(jax.tree_util.keystr(path, simple=True, separator="/")) for path, _ in leaves]

    def call(arrays: Sequence[jax.Array], inputs: jax.Array) -> Any:
        return nnx.merge(definition, jax.tree.unflatten(tree, arrays))(inputs)

    return call, list(zip(names, [array for _, array in leaves], strict=True))


def _layer(variable: str) -> str:
    """The path of the layer that a variable is of."""
    parts = variable.removesuffix("/value").split("/")[:-1]
    return "/".join(parts[:-1] if parts[-1:] == ["kernel"] else parts)


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of the network.

    Attributes:
      number: Its number.
      axis: Where the batch is among its axes in the model.
    """

    number: int
    axis: int


_NAMES = {"dot_general": "dense", "conv_general_dilated": "conv"}


class _Pending(Exception):
    """An expression is needed first."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression


class _Tracer:
    """Makes operations of expressions, each once."""

    def __init__(self, images: Expression) -> None:
        self._values = {id(images): Value(0, 0)}
        self._names: set[str] = set()
        self.nodes: list[graph.Node] = []
        self.dtypes: set[str] = set()

    def network(self, output: Expression, shape: Sequence[int]) -> graph.Network:
        pending = [output]
        while pending:
            try:
                self._values[id(pending[-1])] = self._make(pending[-1])
                pending.pop()
            except _Pending as first:
                pending.append(first.expression)
        if self._values[id(output)].number != len(self.nodes) or len(output.shape) != 2:
            raise errors.InputError(f"the model returns {list(output.shape)}; allowed is [B, classes]")
        height, width, channels = shape
        dtype = self.dtypes.pop() if len(self.dtypes) == 1 else "float32"
        return graph.Network(
            image_shape=(height, width, channels),
            classes=output.shape[1],
            dtype=dtype,
            nodes=tuple(self.nodes),
        )

    def of(self, expression: Expression) -> Value:
        """The value of an expression, which is made first if it has not been."""
        if expression.constant:
            raise unknown(expression, "of constants alone")
        if id(expression) not in self._values:
            raise _Pending(expression)
        return self._values[id(expression)]

    def add(self, kind: type[graph.Node], *inputs: Value, **fields: Any) -> Value:
        """Add an operation; call it after `of`."""
        self.nodes.append(kind(inputs=tuple(value.number for value in inputs), **fields))
        return Value(len(self.nodes), inputs[0].axis)

    def name(self, expression: Expression, *constants: Expression) -> str:
        """A name for an operation: its layer's path; no two are the same."""
        paths = sorted(frozenset[str]().union(*(constant.variables for constant in constants)))
        name = re.sub(r"[^A-Za-z0-9_./-]+", "_", paths[0] if paths else expression.name)[:150].strip("/")
        name = name or {"dot_general": "dense", "conv_general_dilated": "conv"}.get(
            expression.primitive, "norm"
        )
        count = 2
        unique = name
        while unique in self._names:
            unique, count = f"{name}_{count}", count + 1
        self._names.add(unique)
        return unique

    def _make(self, expression: Expression) -> Value:
        for find, make in _PATTERNS:
            if (bound := find(expression)) is not None:
                return make(self, expression, bound)
        if expression.primitive not in _PRIMITIVES:
            raise unknown(expression)
        return _PRIMITIVES[expression.primitive](self, expression)


def unknown(expression: Expression, how: str = "") -> errors.InputError:
    """Say that there is no operation for what a model computes.

    Args:
      expression: What it computes.
      how: In which manner.
    """
    what = " ".join(word for word in (expression.primitive, how) if word)
    return errors.InputError(
        f"{_near(expression)} computes {what}, which can't be exported; format='stablehlo' can hold any model"
    )


def _near(expression: Expression) -> str:
    """The layer that an expression is of or, if it is of none, the one before it."""
    front, seen = [expression], {id(expression)}
    while front:
        for one in front:
            paths = sorted(path for each in one.inputs for path in each.variables)
            if paths or one.name:
                where = paths[0] if paths else one.name
                return where if one is expression else f"what follows {where}"
        front = [each for one in front for each in one.inputs if id(each) not in seen]
        seen.update(map(id, front))
    return "the model"


def _pattern(kind: type[graph.Node]) -> Callable[[_Tracer, Expression, patterns.Bound], Value]:
    return lambda tracer, expression, bound: tracer.add(kind, tracer.of(bound["x"]))


def _normalize(tracer: _Tracer, expression: Expression, bound: patterns.Bound) -> Value:
    value, epsilon = tracer.of(bound["x"]), bound["epsilon"].scalar
    given = {"mean": "mean", "var": "variance", "scale": "scale", "bias": "offset"}
    return tracer.add(
        graph.Normalize,
        value,
        name=tracer.name(expression, bound["mean"]),
        epsilon=float(str(np.float32(epsilon))),  # the shortest number that is this one
        **{name: bound[key].array for key, name in given.items() if key in bound},
    )


# What is tried before the primitives.
_PATTERNS: list[tuple[Callable[[Expression], patterns.Bound | None], Callable[..., Value]]] = [
    (patterns.standardized, _pattern(graph.Standardize)),
    (patterns.elu, _pattern(graph.Elu)),
    (patterns.mean, _pattern(graph.Mean)),
    (patterns.batch_normalized, _normalize),
]


def _conv(tracer: _Tracer, expression: Expression) -> Value:
    value, kernel = tracer.of(expression.inputs[0]), expression.inputs[1]
    given = expression.parameters
    numbers, strides = given["dimension_numbers"], set(given["window_strides"])
    plain = given["batch_group_count"] == given["feature_group_count"] == 1
    plain &= {*given["lhs_dilation"], *given["rhs_dilation"]} == {1} and len(strides) == 1
    if not (plain and kernel.constant and numbers.lhs_spec == numbers.out_spec == (0, 3, 1, 2)):
        raise unknown(expression, "with these settings")
    array = np.asarray(
        kernel.array.astype(np.float32).transpose([*numbers.rhs_spec[2:], *numbers.rhs_spec[1::-1]])
    )
    (stride,) = strides
    same = [
        graph.same_padding(size, window, stride)
        for size, window in zip(expression.inputs[0].shape[1:3], array.shape)
    ]
    if list(given["padding"]) != same:
        raise unknown(expression, f"with padding {given['padding']}")
    tracer.dtypes.add(str(expression.dtype))
    name = tracer.name(expression, kernel)
    return tracer.add(graph.Conv, value, name=name, kernel=graph.Kernel.of(array), stride=stride)


def _dense(tracer: _Tracer, expression: Expression) -> Value:
    value, kernel = tracer.of(expression.inputs[0]), expression.inputs[1]
    ((left, right), batched) = expression.parameters["dimension_numbers"]
    if not kernel.constant or batched != ((), ()) or (*left, *right) != (1, 0) or len(expression.shape) != 2:
        raise unknown(expression, "of these axes")
    tracer.dtypes.add(str(expression.dtype))
    name = tracer.name(expression, kernel)
    return tracer.add(graph.Dense, value, name=name, kernel=graph.Kernel.of(kernel.array.astype(np.float32)))


def _max_pool(tracer: _Tracer, expression: Expression) -> Value:
    source, margin = expression.inputs[0], [(0, 0)] * len(expression.shape)
    if source.primitive == "pad" and source.inputs[1].scalar == float(jnp.finfo(source.dtype).min):
        margin = [(low, high) for low, high, inner in source.parameters["padding_config"] if inner == 0]
        source = source.inputs[0]
    value, given = tracer.of(source), expression.parameters
    sides = [tuple(map(sum, zip(*both))) for both in zip(margin, given["padding"], strict=True)]
    window, stride = given["window_dimensions"], given["window_strides"]
    square = len(window) == 4 and window == (1, window[1], window[1], 1)
    square = square and stride == (1, stride[1], stride[1], 1)
    padded = sides[1] if sides == [(0, 0), sides[1], sides[1], (0, 0)] and len(set(sides[1])) == 1 else None
    if not square or padded is None or {*given["base_dilation"], *given["window_dilation"]} != {1}:
        raise unknown(expression, "of these windows")
    return tracer.add(graph.MaxPool, value, window=window[1], stride=stride[1], padding=padded[0])


def _reshape(tracer: _Tracer, expression: Expression) -> Value:
    value = tracer.of(expression.inputs[0])
    if len(expression.shape) != 2 or expression.shape[0] != _BATCH:
        raise unknown(expression, f"to {list(expression.shape)}")
    return tracer.add(graph.Flatten, value)


def _add(tracer: _Tracer, expression: Expression) -> Value:
    values = [tracer.of(each) for each in expression.inputs if not each.constant]
    if len(values) == 2:
        return tracer.add(graph.Add, *values)
    (constant,) = (each for each in expression.inputs if each.constant)
    array = smallest(constant.array.astype(np.float32))
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    if len(rows) > 1:
        raise unknown(expression, "with these constants")
    return tracer.add(graph.Offset, values[0], values=np.broadcast_to(rows[0], expression.shape[-1:]).copy())


def smallest(array: np.ndarray) -> np.ndarray:
    """Keep one of every axis along which an array repeats itself."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array


def _converted(tracer: _Tracer, expression: Expression) -> Value:
    value = tracer.of(expression.inputs[0])
    dtypes = expression.dtype, expression.inputs[0].dtype
    if not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        raise unknown(expression, f"to {expression.dtype}")
    return value  # operations with a kernel compute in the network's dtype


_PRIMITIVES: dict[str, Callable[[_Tracer, Expression], Value]] = {
    "conv_general_dilated": _conv,
    "dot_general": _dense,
    "reduce_window_max": _max_pool,
    "reshape": _reshape,
    "add": _add,
    "convert_element_type": _converted,
}
