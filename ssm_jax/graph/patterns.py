"""Finds in what a model computes the operations that are several primitives, by what JAX makes of each alone.

A pattern is a function. It is traced as the model has been, so it is the same primitives in every version of
JAX, and compared with a value of the model: inputs of the function stand for whatever is there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ssm_jax.data.batches import standardize
from ssm_jax.graph import expressions
from ssm_jax.graph.expressions import Expression

# Stands for any number in a pattern that has one as a constant.
_ANY_NUMBER = 65 / 512  # in every floating point format
Bound = dict[str, Expression]


def standardized(value: Expression) -> Bound | None:
    """Find `x`, whose standardized images a value is."""
    if value.primitive != "div" or len(value.shape) != 4 or value.dtype != jnp.float32:
        return None
    return _first(value, (_of_one(standardize, value.shape, dtype) for dtype in ("uint8", "float32")))


def elu(value: Expression) -> Bound | None:
    """Find `x`, whose ELU a value is."""
    if value.primitive != "select_n" or not jnp.issubdtype(value.dtype, jnp.floating):
        return None
    return _first(value, (_of_one(nnx.elu, value.shape, value.dtype),))


def mean(value: Expression) -> Bound | None:
    """Find `x`, whose mean over images a value is."""
    if value.primitive not in ("div", "convert_element_type") or len(value.shape) != 2:
        return None
    sums = value if value.primitive == "div" else value.inputs[0]
    while sums.primitive != "reduce_sum" and sums.inputs:
        sums = sums.inputs[0]
    if sums.primitive != "reduce_sum" or len(sums.inputs[0].shape) != 4:
        return None
    return _first(value, (_of_one(_mean, sums.inputs[0].shape, value.dtype),))


def _mean(images: jax.Array) -> jax.Array:
    return images.mean((1, 2))


@functools.cache
def _of_one(function: Callable[[jax.Array], jax.Array], shape: tuple[int, ...], dtype: Any) -> Expression:
    return _traced(function, x=(shape, dtype))


def batch_normalized(value: Expression) -> Bound | None:
    """Find `x`, the constants `mean` and `var` (and `scale` and `bias`) and `epsilon` of a normalization."""
    root = value.inputs[0] if value.primitive == "convert_element_type" else value
    scaled = root.primitive in ("add", "mul") and any(each.constant for each in root.inputs)
    if not scaled or not value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
        return None
    bound = _first(value, _batch_normalizations(value.shape, value.dtype))
    constants = [expression for name, expression in (bound or {}).items() if name != "x"]
    return bound if all(expression.constant for expression in constants) else None


@functools.cache
def _batch_normalizations(shape: tuple[int, ...], dtype: Any) -> list[Expression]:
    features, traced = shape[-1], []
    for scale in (False, True):
        for bias in (False, True):
            layer = nnx.BatchNorm(
                features,
                use_running_average=True,
                epsilon=_ANY_NUMBER,
                use_scale=scale,
                use_bias=bias,
                dtype=dtype,
                rngs=nnx.Rngs(0),
            )
            names = ["mean", "var", *(["scale"] if scale else []), *(["bias"] if bias else [])]

            def apply(x: jax.Array, *, layer: Any = layer, **arrays: jax.Array) -> jax.Array:
                layer = nnx.clone(layer)
                for name, array in arrays.items():
                    getattr(layer, name).set_value(array)
                return layer(x)

            arrays = dict.fromkeys(names, ((features,), "float32"))
            traced.append(_traced(apply, x=(shape, dtype), **arrays))
    return traced


def _traced(function: Callable[..., jax.Array], **inputs: tuple[tuple[int, ...], Any]) -> Expression:
    names, shapes = list(inputs), [jax.ShapeDtypeStruct(*spec) for spec in inputs.values()]

    def positional(x: jax.Array, *arrays: jax.Array) -> jax.Array:
        return function(x, **dict(zip(names[1:], arrays, strict=True)))

    closed = jax.make_jaxpr(positional)(*shapes)
    variables = [expressions.variable(s.shape, s.dtype, name) for s, name in zip(shapes, names, strict=True)]
    (value,) = expressions.Reader().read(closed, variables)
    return value


def _first(value: Expression, patterns: Any) -> Bound | None:
    for pattern in patterns:
        bound: Bound = {}
        if _same(pattern, value, bound):
            return bound
    return None


def _same(pattern: Expression, value: Expression, bound: Bound) -> bool:
    """Whether a value is what a pattern computes; binds the pattern's inputs."""
    if pattern.primitive == "input":
        fits = (pattern.shape, pattern.dtype) == (value.shape, value.dtype)
        return fits and bound.setdefault(pattern.name, value) is value
    if pattern.primitive == "constant":
        if not value.constant or pattern.shape != value.shape:
            return False
        if pattern.shape == () and np.float32(pattern.array) == np.float32(_ANY_NUMBER):
            return bound.setdefault("epsilon", value).scalar == value.scalar
        return np.array_equal(pattern.array, value.array, equal_nan=True)
    return (
        pattern.primitive == value.primitive
        and pattern.shape == value.shape
        and pattern.dtype == value.dtype
        and len(pattern.inputs) == len(value.inputs)
        and _settings(pattern) == _settings(value)
        and all(_same(*pair, bound) for pair in zip(pattern.inputs, value.inputs, strict=True))
    )


def _settings(value: Expression) -> str:
    return repr(sorted(value.parameters.items(), key=lambda pair: pair[0]))
