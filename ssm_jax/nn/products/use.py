"""Whether a run has products of its own on a CPU, and how a model gets them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import nnx
from jax import lax

from ssm_jax import errors
from ssm_jax.nn.convolution import convolve, matmul
from ssm_jax.nn.products import library
from ssm_jax.nn.products.handlers import Products

# The density up to which a list of the remaining weights beats blocks of all of them; measured on 2 cores for
# kernels of 3x3 with 64 to 256 channels.
_LISTED = 0.2


def choose(mode: str, gradient: str, precision: str) -> tuple[Products | None, str]:
    """Choose the products of a run.

    Args:
      mode: `config.cpu_products`.
      gradient: `config.cpu_gradient`.
      precision: `config.training.precision`.

    Returns:
      The products, None for XLA's; and why it is those where others were asked for.

    Raises:
      InputError: `sparse`, or a gradient in bfloat16, can't be had here.
    """
    if mode == "dense" or jax.default_backend() != "cpu":
        return None, ""
    asked = mode == "sparse" or gradient == "bfloat16"
    try:
        if precision != "float32":
            raise errors.InputError(
                f"sparse products compute in float32; config.training.precision is {precision!r}"
            )
        library.register()
    except errors.InputError as error:
        if asked:
            raise
        return None, str(error)
    return Products(_LISTED, gradient == "bfloat16"), ""


def use(model: nnx.Module, products: Products | None) -> None:
    """Give a model products, which its layers take wherever they fit; changes it in place.

    Args:
      model: Any NNX module: this library's layers in it, and `nnx.Conv` and `nnx.Linear`.
      products: What `choose` returned.
    """
    if products is None:
        return
    for _, module in nnx.iter_graph(model):
        if hasattr(module, "products"):
            module.products = products
        elif isinstance(module, nnx.Conv) and module.conv_general_dilated is lax.conv_general_dilated:
            module.conv_general_dilated = _Convolution(products)
        elif (
            isinstance(module, nnx.Linear)
            and module.dot_general in (None, lax.dot_general)
            and getattr(module, "dot_general_cls", None) is None
        ):
            module.dot_general = _Dot(products)


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """`lax.conv_general_dilated` as `nnx.Conv` calls it."""

    products: Products

    def __call__(
        self,
        inputs: jax.Array,
        kernel: jax.Array,
        strides: tuple[int, ...],
        padding: Any,
        lhs_dilation: tuple[int, ...],
        rhs_dilation: tuple[int, ...],
        dimension_numbers: lax.ConvDimensionNumbers,
        feature_group_count: int,
        **options: Any,
    ) -> jax.Array:
        plain = (
            (inputs.ndim, padding, feature_group_count) == (4, "SAME", 1)
            and {*lhs_dilation, *rhs_dilation} == {1}
            and len({*strides}) == 1
            and all(value is None for value in options.values())
        )
        if plain and self.products.fit(inputs, kernel):
            return convolve(inputs, kernel, strides[0], self.products)
        return lax.conv_general_dilated(
            inputs,
            kernel,
            strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            **options,
        )


@dataclasses.dataclass(frozen=True)
class _Dot:
    """`lax.dot_general` as `nnx.Linear` calls it."""

    products: Products

    def __call__(self, inputs: jax.Array, kernel: jax.Array, dimensions: Any, **options: Any) -> jax.Array:
        plain = inputs.ndim == 2 and all(value is None for value in options.values())
        if plain and self.products.fit(inputs, kernel):
            return matmul(inputs, kernel, self.products)
        return lax.dot_general(inputs, kernel, dimensions, **options)
