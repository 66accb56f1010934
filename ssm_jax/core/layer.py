"""One masked kernel: what is frozen, the scores, and what the rule keeps; the only place that makes a mask.

Everything else, trees of arrays, layers of NNX and the training program, holds such layers and calls these.
A layer may be a stack: leading axes in front of a kernel's own, one layer each, as `scan` over blocks and
`vmap` over heads or seeds have them. A rule sees one layer of the stack at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssm_jax import environment, errors
from ssm_jax.core.initializers import Initializer, SignedConstant
from ssm_jax.core.masking import Masking
from ssm_jax.core.rule import Counts, Rule, State


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    """A masked kernel, or a stack of them.

    Attributes:
      frozen: The random kernel, by name: `kernel`, float32 `[..., I, O]`, or of signed constants `signs`,
        int8 in that shape, and `constant`, a float32 scalar per layer.
      scores: The trainable scores, float32 in the kernel's shape.
      state: What the rule keeps of the layer.
      rule: The mask rule.
      rank: The number of axes of one layer's kernel; what the scores have more are those of the stack.
      dtype: Compute dtype of the effective kernel.
    """

    frozen: Mapping[str, jax.Array]
    scores: jax.Array
    state: State
    rule: Rule = dataclasses.field(metadata={"static": True})
    rank: int = dataclasses.field(metadata={"static": True})
    dtype: DTypeLike = dataclasses.field(default=jnp.float32, metadata={"static": True})

    @property
    def stack(self) -> tuple[int, ...]:
        """The axes of the stack; `()` of one layer."""
        return tuple(self.scores.shape[: self.scores.ndim - self.rank])

    def random_kernel(self) -> jax.Array:
        """The kernel without its mask, float32."""
        return random_kernel(self.frozen)

    def mask(self, key: jax.Array | None = None) -> jax.Array:
        """Make the mask, float32 in the kernel's shape, differentiable in the scores by the rule.

        Args:
          key: A key of this layer and step, for rules that draw at random in training; None in evaluation.

        Raises:
          InputError: It is differentiated without a key, though the rule draws in training.
        """
        if key is None:
            scores = _only_in_evaluation(self.rule, self.scores) if self.draws() else self.scores
            return self._each(lambda scores, state: self.rule.mask(scores, state), scores, self.state)
        keys = jax.random.split(key, self.stack) if self.stack else key
        return self._each(self.rule.mask, self.scores, self.state, keys)

    def apply_rule(self, kernel: jax.Array, mask: jax.Array) -> jax.Array:
        """Apply a mask to a kernel, by the rule, in the compute dtype.

        Args:
          kernel: A kernel in the shape of the layer's, float32.
          mask: A mask of the rule in the same shape, float32.
        """
        return self._each(self.rule.kernel, kernel, mask, self.state).astype(self.dtype)

    def kernel(self, key: jax.Array | None = None) -> jax.Array:
        """Make the effective kernel, in the compute dtype.

        Args:
          key: See `mask`.
        """
        return self.apply_rule(self.random_kernel(), self.mask(key))

    def count(self, mask: jax.Array | None = None) -> Counts:
        """Count what a mask inverts, hides and keeps, over the whole stack.

        Args:
          mask: The mask; that of an evaluation by default.
        """
        counts = self._each(self.rule.count, self.mask() if mask is None else mask)
        return Counts(*(jnp.sum(count, dtype=count.dtype) for count in counts)) if self.stack else counts

    def draws(self) -> bool:
        """Whether the rule draws at random in training: whether its mask depends on the key."""
        return _draws(cast(Any, self.rule), tuple(self.scores.shape[len(self.stack) :]))

    def spread(self, like: Any) -> Layer:
        """Spread the layer's arrays over devices.

        Args:
          like: A kernel of the layer's shape, to be spread as it is.
        """
        scores = _placed(self.scores, like)
        small = functools.partial(_stacked_like, scores, len(self.stack))
        frozen = {
            name: _placed(array, like) if array.shape == scores.shape else small(array)
            for name, array in self.frozen.items()
        }
        state = {name: small(array) for name, array in self.state.items()}
        return dataclasses.replace(self, frozen=frozen, scores=scores, state=state)

    def _each(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of one layer for every layer of the stack."""
        if not self.stack:
            return function(*arguments)
        arguments = jax.tree.map(lambda array: _stacked_like(self.scores, len(self.stack), array), arguments)
        for _ in self.stack:
            function = jax.vmap(function)
        return function(*arguments)


def random_kernel(frozen: Mapping[str, jax.Array]) -> jax.Array:
    """Put a frozen kernel together, float32.

    Args:
      frozen: See `Layer.frozen`.
    """
    if "signs" not in frozen:
        return frozen["kernel"]
    signs, constant = frozen["signs"].astype(jnp.float32), frozen["constant"]
    return signs * (constant.reshape(constant.shape + (1,) * (signs.ndim - constant.ndim)))


def draw(
    masking: Masking,
    kernel_key: jax.Array,
    score_key: jax.Array,
    shape: Sequence[int],
    stack: Sequence[int] = (),
    given: jax.Array | None = None,
) -> Layer:
    """Draw a masked kernel, or a stack of them.

    Of a given kernel, the scores are positive and in the order of the sizes of its weights, the largest twice
    the smallest: a threshold of the signed or the binary rule starts below all of them and hides the smallest
    weights first, and what selects the largest scores begins with the largest weights.

    Args:
      masking: How; it has a rule.
      kernel_key: A key for the kernel.
      score_key: A key for the scores.
      shape: The shape of one layer's kernel, `(..., I, O)`.
      stack: The axes of the stack.
      given: The kernel `[*stack, *shape]` to keep; None draws one.

    Raises:
      InputError: The kernel has no weights, or 2^31 and more.
    """
    check_size((*stack, *shape))
    assert masking.rule is not None and not isinstance(masking.rule, str)
    keys = (kernel_key, score_key)
    if stack:
        keys = (jax.random.split(kernel_key, tuple(stack)), jax.random.split(score_key, tuple(stack)))
    with environment.pinned():
        frozen, scores, state = _draw(masking, *keys, tuple(shape), len(stack), given)
    return Layer(frozen, scores, state, masking.rule, len(shape), masking.dtype)


def draw_kernel(
    init: Initializer, key: jax.Array, shape: Sequence[int], stack: Sequence[int] = ()
) -> jax.Array:
    """Draw a kernel without a mask, or a stack of them, float32.

    Args:
      init: Its initializer.
      key: A key.
      shape: The shape of one layer's kernel.
      stack: The axes of the stack.
    """
    key = jax.random.split(key, tuple(stack)) if stack else key
    with environment.pinned():
        return _draw_kernel(init, key, tuple(shape), len(stack))


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _draw_kernel(init: Initializer, key: jax.Array, shape: tuple[int, ...], stacked: int) -> jax.Array:
    draw = functools.partial(init, shape=shape, dtype=jnp.float32)
    for _ in range(stacked):
        draw = jax.vmap(draw)
    return draw(key)


def check_size(shape: Sequence[int]) -> None:
    """Check that a kernel's weights can be counted in int32.

    Args:
      shape: The kernel's shape.

    Raises:
      InputError: It has no weights, or 2^31 and more.
    """
    if not 0 < (weights := math.prod(shape)) < 2**31:
        raise errors.out_of_range(f"the number of weights of {tuple(shape)}", weights, "1 to 2147483647")


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _draw(
    masking: Masking,
    kernel_key: jax.Array,
    score_key: jax.Array,
    shape: tuple[int, ...],
    stacked: int,
    kernel: jax.Array | None,
) -> tuple[dict[str, jax.Array], jax.Array, State]:
    """Compiled once for all layers of a shape."""
    rule, init = masking.rule, masking.kernel_init

    def one(
        kernel_key: jax.Array, score_key: jax.Array, kernel: jax.Array | None
    ) -> tuple[dict[str, jax.Array], jax.Array, State]:
        assert isinstance(rule, Rule)
        scores = masking.score_init(score_key, shape, jnp.float32)
        if kernel is not None:
            sizes, bound = jnp.abs(kernel.astype(jnp.float32)), jnp.max(jnp.abs(scores))
            sizes = sizes / jnp.maximum(jnp.max(sizes), jnp.finfo(jnp.float32).tiny)
            # A little chance, so that weights of one size don't tie.
            scores = bound * (0.5 + 0.49 * sizes) + 0.01 * jnp.abs(scores)
            frozen = {"kernel": kernel.astype(jnp.float32)}
        elif isinstance(init, SignedConstant):
            frozen = {"signs": init.signs(kernel_key, shape), "constant": init.constant(shape)}
        else:
            frozen = {"kernel": init(kernel_key, shape, jnp.float32)}
        return frozen, scores, rule.init(scores)

    for _ in range(stacked):
        one = jax.vmap(one)
    return one(kernel_key, score_key, kernel)


def _is_explicit(array: Any) -> bool:
    """Whether an array's type says how it is spread over a mesh."""
    mesh = jax.typeof(array).sharding.mesh
    return not mesh.empty and mesh.are_all_axes_explicit


def _placed(array: jax.Array, like: Any) -> jax.Array:
    """Spread an array over devices as another of its shape is, where that one is known to be spread."""
    if isinstance(like, jax.core.Tracer):
        return jax.sharding.reshard(array, jax.typeof(like).sharding) if _is_explicit(like) else array
    if isinstance(like, jax.Array) and len(like.devices()) > 1:
        return jax.device_put(array, like.sharding)
    return array


def _stacked_like(scores: jax.Array, axes: int, array: jax.Array) -> jax.Array:
    """Spread the axes of a stack as those of the scores are, which `vmap` asks for."""
    if not _is_explicit(scores):
        return array
    inner = jax.typeof(array).sharding.spec[axes:]
    spec = jax.sharding.PartitionSpec(*jax.typeof(scores).sharding.spec[:axes], *inner)
    return jax.sharding.reshard(array, spec)


@functools.cache
def _draws(rule: Any, shape: tuple[int, ...]) -> bool:
    scores = jax.ShapeDtypeStruct(shape, jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    jaxpr = jax.make_jaxpr(rule.mask)(scores, jax.eval_shape(rule.init, scores), key).jaxpr
    used = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    return id(jaxpr.invars[-1]) in used


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _only_in_evaluation(rule: Rule, scores: jax.Array) -> jax.Array:
    return scores


@_only_in_evaluation.defjvp
def _refuse(rule: Rule, primals: Any, tangents: Any) -> Any:
    raise errors.InputError(
        f"the mask rule {type(rule).__name__} draws at random in training and needs a key there; without one "
        "its mask is that of an evaluation, which is not trained"
    )
