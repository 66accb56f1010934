"""Initializers of frozen kernels and of scores, in the manner of `jax.nn.initializers`.

Each function returns an initializer `(key, shape, dtype) -> array`. Fans follow JAX: of a shape
`(..., I, O)`, fan_in is the product of all dimensions but the last and fan_out the product of all
but the second-last (3x3x64x128: 576 and 1152).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssm_jax import errors

Initializer = Callable[..., jax.Array]
Mode = Literal["fan_in", "fan_avg"]


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Compute fan_in and fan_out of a kernel.

    Args:
      shape: The kernel's shape `(..., I, O)`, at least two dimensions.

    Examples:
      >>> fans((3, 3, 64, 128))
      (576, 1152)
    """
    return math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]


@dataclasses.dataclass(frozen=True)
class SignedConstant:
    """`+c` or `-c` with a fair, independent sign and variance `c^2 = scale / fan`.

    An initializer `(key, shape, dtype) -> array` whose kernels hold exactly two values, so that a sign per
    weight and the constant store them.

    Attributes:
      scale: The variance's numerator, positive.
      mode: `fan_in`, or `fan_avg` for the mean of fan_in and fan_out.

    Examples:
      >>> import jax
      >>> kernel = SignedConstant(2.0)(jax.random.key(0), (4, 2))
      >>> print(abs(kernel[0]))
      [0.70710677 0.70710677]
    """

    scale: float
    mode: Mode = "fan_in"

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Draw a kernel of that shape and dtype."""
        return self.signs(key, shape).astype(dtype) * self.constant(shape).astype(dtype)

    def signs(self, key: jax.Array, shape: Sequence[int]) -> jax.Array:
        """Draw the signs of a kernel: int8, -1 or 1."""
        positive = jax.random.bernoulli(key, 0.5, _flat(shape)).reshape(shape)
        return jnp.where(positive, jnp.int8(1), jnp.int8(-1))

    def constant(self, shape: Sequence[int]) -> jax.Array:
        """The size of every weight of a kernel of that shape, a float32 scalar."""
        return jnp.float32(math.sqrt(self.scale / _fan(shape, self.mode)))


def uniform(scale: float, mode: Mode = "fan_in") -> Initializer:
    """Uniform around 0 with variance `scale / fan`, that is within `±sqrt(3 * scale / fan)`.

    Args:
      scale: The variance's numerator, positive.
      mode: The fan, `fan_in`, or `fan_avg` for the mean of fan_in and fan_out.
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        # As a matrix, which has the fan_in of the kernel.
        scale_of_matrix = scale * fans(shape)[0] / _fan(shape, mode)
        draw = jax.nn.initializers.variance_scaling(scale_of_matrix, "fan_in", "uniform")
        return draw(key, _flat(shape), dtype).reshape(shape)

    return init


def _fan(shape: Sequence[int], mode: Mode) -> float:
    fan_in, fan_out = fans(shape)
    return fan_in if mode == "fan_in" else (fan_in + fan_out) / 2


def _flat(shape: Sequence[int]) -> tuple[int, int]:
    # Drawn as a matrix: the same numbers, but XLA compiles the draw three times as fast as in 4-D.
    return math.prod(shape[:-1]), shape[-1]


def he_constant() -> Initializer:
    """Signed constant with `c = sqrt(2 / fan_in)`."""
    return SignedConstant(2.0)


def xavier_constant() -> Initializer:
    """Signed constant with `c = sqrt(2 / (fan_in + fan_out))`."""
    return SignedConstant(1.0, "fan_avg")


def elus(factor: float = 1.5) -> Initializer:
    """ELUS, the paper's own: the He signed constant with its variance scaled for ELU networks.

    Args:
      factor: On He's variance; 1.5 gives `c = sqrt(3 / fan_in)`. The paper's authors also used 1.3
        for some of the deep ResNets and, in an older script, 3.
    """
    return SignedConstant(2.0 * factor)


def he_uniform(factor: float = 1.0) -> Initializer:
    """Uniform with variance `2 * factor / fan_in`, that is within `±sqrt(6 * factor / fan_in)`."""
    return uniform(2.0 * factor)


def elu(factor: float = 0.75) -> Initializer:
    """ELU, of the dense baselines: uniform with variance `1.5 / fan_in` (He scaled by 0.75)."""
    return he_uniform(factor)


def xavier_uniform() -> Initializer:
    """Uniform within `±sqrt(6 / (fan_in + fan_out))`, the scores of the paper's main rows."""
    return uniform(1.0, "fan_avg")


def kernel_initializer(name: str, *, elus_factor: float = 1.5, elu_factor: float = 0.75) -> Initializer:
    """Look up a kernel initializer by its name (`config.init.kernel`).

    Args:
      name: `elus`, `he_constant`, `xavier_constant`, `he_uniform`, `xavier_uniform` or `elu`.
      elus_factor: The factor of `elus`.
      elu_factor: The factor of `elu`.

    Raises:
      InputError: The name is unknown.
    """
    kernels = {
        "elus": elus(elus_factor),
        "he_constant": he_constant(),
        "xavier_constant": xavier_constant(),
        "he_uniform": he_uniform(),
        "xavier_uniform": xavier_uniform(),
        "elu": elu(elu_factor),
    }
    return errors.choose("kernel initializer", name, kernels)


def score_initializer(name: str, *, elus_factor: float = 1.5) -> Initializer:
    """Look up a score initializer by its name (`config.init.score`).

    Args:
      name: `xavier_uniform`, `he_uniform`, `elus_uniform` (uniform with the variance of ELUS) or `elu`
        (within `±sqrt(4.5 / fan_in)`, whatever the factors of kernels).
      elus_factor: The factor of `elus_uniform`.

    Raises:
      InputError: The name is unknown.
    """
    scores = {
        "xavier_uniform": xavier_uniform(),
        "he_uniform": he_uniform(),
        "elus_uniform": he_uniform(elus_factor),
        "elu": elu(),
    }
    return errors.choose("score initializer", name, scores)
