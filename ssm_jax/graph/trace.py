"""From what a model computes to operations: its jaxpr, with effective kernels as constants, by a table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from ssm_jax import errors, graph
from ssm_jax.graph import expressions, linear, patterns, primitives
from ssm_jax.graph.expressions import Expression, unknown
from ssm_jax.nn.layers import evaluated, masked_layers

# The model is traced with so many examples: one would be no different from an axis of size 1.
_BATCH = 2

Function = Callable[[jax.Array], jax.Array]


def network(
    model: Function, shape: Sequence[int], dtype: str = "uint8", *, before: Function | None = None
) -> graph.Network:
    """Write down what a model computes in evaluation.

    Args:
      model: An NNX model, whose layers' paths become the operations' names, or any function of JAX; it takes
        a batch of examples.
      shape: Shape of an example, without its batch.
      dtype: Dtype of the examples, `uint8`, `int32` or `float32`.
      before: What is done with the examples first.

    Raises:
      InputError: The model fails on such examples, or computes something that there is no operation for.
    """
    call, known = function(model)
    example = jax.ShapeDtypeStruct((_BATCH, *shape), dtype)
    try:
        closed = jax.make_jaxpr(lambda known, x: call(known, x if before is None else before(x)))(
            [array for _, array in known], example
        )
    except errors.InputError:
        raise
    except Exception as error:  # the user's own code
        raise fails(error, dtype, shape) from error
    images = expressions.variable(example.shape, example.dtype, "images")
    constants = [expressions.constant(array, name) for name, array in known]
    outputs = expressions.Reader().read(closed, [*constants, images])
    if len(outputs) != 1:
        raise errors.InputError(f"the model returns {len(outputs)} arrays; allowed is one")
    return _Tracer(images).network(outputs[0], shape, dtype)


def fails(error: Exception, dtype: str, shape: Sequence[int]) -> errors.InputError:
    """Say that a model fails on such examples."""
    examples = f"{dtype} [B, {', '.join(map(str, shape))}]"
    return errors.InputError(
        f"the model fails on {examples}: {type(error).__name__}: {errors.one_line(error)}"
    )


def function(model: Function) -> tuple[Callable[..., Any], list[tuple[str, jax.Array]]]:
    """Make a function of arrays and inputs of a model in evaluation, with effective kernels.

    Args:
      model: See `network`.

    Returns:
      The function, and the arrays beside the path of the layer that each is of.
    """
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

    def network(self, output: Expression, shape: Sequence[int], dtype: str) -> graph.Network:
        pending = [output]
        while pending:
            try:
                self._values[id(pending[-1])] = self._make(pending[-1])
                pending.pop()
            except _Pending as first:
                pending.append(first.expression)
        result = self._values[id(output)]
        if result.axis != 0 or len(output.shape) < 2:
            raise errors.InputError(
                f"the model returns {list(output.shape)} of {_BATCH} examples; allowed is [B, ..., classes]"
            )
        kernels = self.dtypes.pop() if len(self.dtypes) == 1 else "float32"
        return graph.Network(
            image_shape=tuple(shape),
            image_dtype=dtype,
            classes=output.shape[-1],
            dtype=kernels,
            nodes=graph.used(_uncast(self.nodes, kernels), result.number),
        )

    def of(self, expression: Expression) -> Value:
        """The value of an expression, which is made first if it has not been."""
        if expression.constant:
            raise unknown(expression, "of constants alone")
        if id(expression) not in self._values:
            raise _Pending(expression)
        return self._values[id(expression)]

    def add(self, kind: type[graph.Node], *inputs: Value, batch: int | None = None, **fields: Any) -> Value:
        """Add an operation; the batch is where it was in the first input, or at `batch`."""
        plain = {name: _plain(field) for name, field in fields.items()}
        self.nodes.append(kind(inputs=tuple(value.number for value in inputs), **plain))
        return Value(len(self.nodes), inputs[0].axis if batch is None else batch)

    def name(self, expression: Expression, *constants: Expression) -> str:
        """A name for an operation: its layer's path; no two are the same."""
        paths = sorted(frozenset[str]().union(*(constant.variables for constant in constants)))
        name = re.sub(r"[^A-Za-z0-9_./-]+", "_", paths[0] if paths else expression.name)[:150].strip("/")
        name = name or _NAMES.get(expression.primitive, "norm")
        unique, count = name, 2
        while unique in self._names:
            unique, count = f"{name}_{count}", count + 1
        self._names.add(unique)
        return unique

    def _make(self, expression: Expression) -> Value:
        for find, make in _PATTERNS:
            bound = find(expression)
            if bound is not None and self.of(bound["x"]).axis == 0:
                return make(self, expression, bound)
        if expression.primitive not in _RULES:
            raise unknown(expression)
        return _RULES[expression.primitive](self, expression)


def _uncast(nodes: Sequence[graph.Node], dtype: str) -> list[graph.Node]:
    """Let operations with a kernel, which compute in one dtype, take values before a cast to it."""
    return [
        dataclasses.replace(node, inputs=tuple(_before(nodes, i, dtype) for i in node.inputs))
        if isinstance(node, graph.Linear)
        else node
        for node in nodes
    ]


def _before(nodes: Sequence[graph.Node], number: int, dtype: str) -> int:
    node = nodes[number - 1] if number else None
    return node.inputs[0] if isinstance(node, graph.Cast) and node.dtype == dtype != "float32" else number


def _plain(field: Any) -> Any:
    """A setting without numpy's integers."""
    if isinstance(field, tuple):
        return tuple(map(int, field))
    return int(field) if isinstance(field, np.integer) else field


def _pattern(kind: type[graph.Node]) -> Callable[[_Tracer, Expression, patterns.Bound], Value]:
    return lambda tracer, expression, bound: tracer.add(kind, tracer.of(bound["x"]))


def _normalize(tracer: _Tracer, expression: Expression, bound: patterns.Bound) -> Value:
    value, epsilon = tracer.of(bound["x"]), bound["epsilon"].scalar
    names = {"mean": "mean", "var": "variance", "scale": "scale", "bias": "offset"}
    arrays: dict[str, Any] = {name: bound[key].array for key, name in names.items() if key in bound}
    return tracer.add(
        graph.Normalize,
        value,
        name=tracer.name(expression, bound["mean"]),
        epsilon=float(str(np.float32(epsilon))),  # the shortest number that is this one
        **arrays,
    )


# What is tried before the primitives.
_PATTERNS: list[tuple[Callable[[Expression], patterns.Bound | None], Callable[..., Value]]] = [
    (patterns.standardized, _pattern(graph.Standardize)),
    (patterns.elu, _pattern(graph.Elu)),
    (patterns.mean, _pattern(graph.Mean)),
    (patterns.batch_normalized, _normalize),
]


_RULES = {
    **primitives.RULES,
    "conv_general_dilated": linear.conv,
    "dot_general": linear.dot,
    "gather": linear.gather,
    **{f"reduce_window_{name}": linear.pool(name) for name in ("max", "min", "sum")},
}
