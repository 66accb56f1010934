"""Flax NNX layers whose kernels are random and frozen and whose scores are trained.

Variable types tell apart what a layer holds, so that `split` gives what is trained (`Score`), what is
frozen (`Kernel`, or `Signs` and `Constant`) and the rest (`RuleState`, statistics). The same layer with
`Masking(rule=None)` is its dense baseline: the kernel is an ordinary `nnx.Param` and there are no scores.
`apply_masks` turns a masked network into the dense one that it amounts to. `ssm_jax.nn.convert` puts a
`MaskedKernel` into layers of Flax.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ssm_jax import core, environment, errors
from ssm_jax.core import initializers
from ssm_jax.nn.convolution import convolve, matmul
from ssm_jax.nn.products.handlers import Products


class Frozen(nnx.Variable):
    """What is drawn once and never trained."""


class Kernel(Frozen):
    """A frozen random kernel, float32, shape `(..., I, O)`."""


class Signs(Frozen):
    """The signs of a frozen kernel of signed constants, int8, shape `(..., I, O)`."""


class Constant(Frozen):
    """The size of every weight of a kernel of signed constants, a float32 scalar."""


class Score(nnx.Param):
    """The trainable scores of a layer, float32, in the shape of its kernel."""


class RuleState(nnx.Variable):
    """What a layer's mask rule keeps beside the scores, for example a threshold."""


@dataclasses.dataclass(frozen=True)
class Masking:
    """How a layer's kernel is drawn and masked; one object serves a whole network.

    Attributes:
      rule: A mask rule, the name of one in `ssm_jax.core.RULES`, or None for a dense layer whose kernel is
        trained.
      kernel_init: Initializer of the kernel; the paper's ELUS by default.
      score_init: Initializer of the scores.
      dtype: Compute dtype of the effective kernel and of the layer's output, float32 or bfloat16; kernels and
        scores are always kept in float32.

    Raises:
      InputError: There is no rule of that name, or a rule or an initializer is none.
    """

    rule: core.Rule | str | None = core.Signed()
    kernel_init: initializers.Initializer = initializers.elus()
    score_init: initializers.Initializer = initializers.xavier_uniform()
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        if isinstance(self.rule, str):
            object.__setattr__(self, "rule", core.by_name(self.rule))
        elif isinstance(self.rule, type) or not isinstance(self.rule, core.Rule | None):
            raise errors.InputError(f"rule is {reprlib.repr(self.rule)}; it must be a Rule, its name or None")
        try:
            hash(self.rule)
        except TypeError as error:
            raise errors.InputError(f"the rule can't be hashed: {error} (freeze its dataclass)") from error
        for name in ("kernel_init", "score_init"):
            if not callable(init := getattr(self, name)):
                raise errors.InputError(f"{name} is {reprlib.repr(init)}; it must be an initializer")


@functools.partial(jax.jit, static_argnums=(0, 3))
def _draw(
    masking: Masking, kernel_key: jax.Array, score_key: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, core.State]:
    """Draw kernel (or signs), scores and the rule's state; compiled once for all layers of a shape."""
    scores = masking.score_init(score_key, shape, jnp.float32)
    if masking.rule is None:
        return masking.kernel_init(kernel_key, shape, jnp.float32), scores, {}
    assert not isinstance(masking.rule, str)
    if isinstance(masking.kernel_init, initializers.SignedConstant):
        kernel = masking.kernel_init.signs(kernel_key, shape)
    else:
        kernel = masking.kernel_init(kernel_key, shape, jnp.float32)
    return kernel, scores, masking.rule.init(scores)


class Masked(nnx.Module):
    """A frozen kernel under a mask of trainable scores: the common part of `Dense` and `Conv`.

    Args:
      shape: The kernel's shape, `(..., I, O)`.
      masking: How the kernel is drawn and masked.
      rngs: The streams `params` (kernel) and `scores`.

    Raises:
      InputError: The kernel has no weights, or 2^31 and more.
    """

    products: Products | None = None

    def __init__(self, shape: Sequence[int], *, masking: Masking, rngs: nnx.Rngs) -> None:
        weights = math.prod(shape)
        if not 0 < weights < 2**31:  # they are counted in int32
            raise errors.out_of_range(f"the number of weights of {tuple(shape)}", weights, "1 to 2147483647")
        assert not isinstance(masking.rule, str)  # a name has become the rule
        self.rule = masking.rule
        self.dtype = masking.dtype
        self.rank = len(shape)
        with environment.pinned():
            kernel, scores, state = _draw(masking, rngs.params(), rngs.scores(), tuple(shape))
        if masking.rule is None:
            self.kernel: nnx.Variable[jax.Array] = nnx.Param(kernel)
            return
        if isinstance(masking.kernel_init, initializers.SignedConstant):
            self.signs = Signs(kernel)
            self.constant = Constant(masking.kernel_init.constant(shape))
        else:
            self.kernel = Kernel(kernel)
        self.scores = Score(scores)
        self.rule_state = nnx.Dict({name: RuleState(value) for name, value in state.items()})

    @property
    def kind(self) -> str:
        """The name of the layer's type."""
        return type(self).__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """The kernel's shape, `(..., I, O)`."""
        return tuple((self.signs if hasattr(self, "signs") else self.kernel).shape)

    def random_kernel(self) -> jax.Array:
        """The kernel without its mask, float32: as it was drawn, or of a dense layer as it is trained."""
        if hasattr(self, "signs"):
            return self.signs[...].astype(jnp.float32) * self.constant[...]
        return self.kernel[...]

    def mask(self, key: jax.Array | None = None) -> jax.Array:
        """The mask in the kernel's shape, float32: of the signed rule -1 (invert), 0 (hide) or 1 (keep).

        A dense layer keeps everything.

        Args:
          key: A key of this layer and step, for rules that draw at random in training; None in evaluation.
        """
        if self.rule is None:
            return jnp.ones(self.shape, jnp.float32)
        return self.rule.mask(self.scores[...], self._state(), key)

    def effective_kernel(self, key: jax.Array | None = None) -> jax.Array:
        """The kernel that the layer applies, in the compute dtype.

        Args:
          key: See `mask`.
        """
        with jax.named_scope("mask"):
            if self.rule is None:
                return self.random_kernel().astype(self.dtype)
            return self.masked(self.random_kernel(), self.mask(key))

    def masked(self, kernel: jax.Array, mask: jax.Array) -> jax.Array:
        """The kernel that the layer would apply, had it another one or another mask, in the compute dtype.

        Args:
          kernel: A kernel in the shape of the layer's, float32.
          mask: A mask of the layer's rule in the same shape, float32.
        """
        if self.rule is not None:
            kernel = self.rule.kernel(kernel, mask, self._state())
        return kernel.astype(self.dtype)

    def stored_mask(self) -> jax.Array:
        """The mask of an evaluation as it is stored: int8, or float32 where the rule takes an expectation."""
        # What is expected is counted in floats.
        mask = self.mask()
        whole = jnp.issubdtype(jax.eval_shape(self._counted, mask).kept.dtype, jnp.integer)
        # A straight-through `hard + soft - stop_gradient(soft)` may come to 0.99999994.
        return jnp.rint(mask).astype(jnp.int8) if whole else mask.astype(jnp.float32)

    def count(self) -> core.Counts:
        """How many weights the layer inverts, hides and keeps in evaluation."""
        return self._counted(self.mask())

    def _counted(self, mask: jax.Array) -> core.Counts:
        return core.count(mask) if self.rule is None else self.rule.count(mask)

    def apply_mask(self, key: jax.Array | None = None) -> None:
        """Become the dense layer that this one amounts to: its kernel is the effective one.

        Args:
          key: See `mask`.
        """
        self.become_dense(self.effective_kernel(key))

    def become_dense(self, kernel: jax.Array) -> None:
        """Become the dense layer of a kernel.

        Args:
          kernel: A kernel in the shape of the layer's, in the compute dtype.
        """
        for name in ("signs", "constant", "kernel", "scores", "rule_state"):
            if hasattr(self, name):
                delattr(self, name)
        self.rule = None
        self.kernel = nnx.Param(kernel)

    def _state(self) -> core.State:
        # Not by `items`: `nnx.tabulate` wraps every public method, and shows this one by calling it.
        values = vars(self.rule_state).items()
        return {name: value[...] for name, value in values if isinstance(value, RuleState)}


class Dense(Masked):
    """A masked dense layer without bias: `y = x @ (kernel * mask)`.

    Args:
      in_features: I, the number of input features.
      out_features: O, the number of output features.
      masking: How the kernel is drawn and masked.
      rngs: The streams `params` and `scores`; a stream `default` serves for both.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> layer = Dense(4, 3, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 4))).shape
      (2, 3)
    """

    def __init__(
        self, in_features: int, out_features: int, *, masking: Masking = Masking(), rngs: nnx.Rngs
    ) -> None:
        super().__init__((in_features, out_features), masking=masking, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Apply the layer to `[..., I]`; returns `[..., O]` in the compute dtype."""
        with jax.named_scope("dense"):
            return matmul(inputs.astype(self.dtype), self.effective_kernel(), self.products)


class Conv(Masked):
    """A masked 2-D convolution without bias, SAME padding.

    Args:
      in_features: I, the number of input channels.
      out_features: O, the number of output channels.
      kernel_size: The side of the square window.
      stride: The stride of both sides.
      masking: How the kernel is drawn and masked.
      rngs: The streams `params` and `scores`; a stream `default` serves for both.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> layer = Conv(3, 8, stride=2, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((1, 6, 6, 3))).shape
      (1, 3, 3, 8)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        masking: Masking = Masking(),
        rngs: nnx.Rngs,
    ) -> None:
        self.stride = stride
        super().__init__((kernel_size, kernel_size, in_features, out_features), masking=masking, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Apply the layer to `[B, H, W, I]`; returns `[B, ceil(H/s), ceil(W/s), O]`, compute dtype."""
        with jax.named_scope("conv"):
            return convolve(inputs.astype(self.dtype), self.effective_kernel(), self.stride, self.products)


class MaskedKernel(Masked):
    """A masked kernel in the place of the `nnx.Param` that a layer of Flax calls its kernel.

    Such a layer reads `self.kernel[...]`, which is the effective kernel here.

    Args:
      shape: The kernel's shape.
      kind: The name of the layer's type.
      masking: How the kernel is drawn and masked; its `dtype` is that of the kernel.
      rngs: The streams `params` (kernel) and `scores`.
    """

    def __init__(self, shape: Sequence[int], kind: str, *, masking: Masking, rngs: nnx.Rngs) -> None:
        super().__init__(shape, masking=masking, rngs=rngs)
        self.layer_kind = kind

    @property
    def kind(self) -> str:
        """The name of the layer's type."""
        return self.layer_kind

    def __getitem__(self, index: Any) -> jax.Array:
        """Index the effective kernel."""
        return self.effective_kernel()[index]

    def __jax_array__(self) -> jax.Array:
        """Stand for the effective kernel in functions of JAX."""
        return self.effective_kernel()


class Parts(NamedTuple):
    """A model taken apart; `nnx.merge(*parts)` puts it together again.

    Attributes:
      graph: Its definition, static.
      params: What is trained: scores, and any `nnx.Param` of other layers.
      frozen: What is drawn once, the random kernels.
      rest: Everything else: what mask rules keep, statistics of normalizations.
      random: The streams of random numbers that layers keep, as dropout does.
    """

    graph: nnx.GraphDef[Any]
    params: nnx.State
    frozen: nnx.State
    rest: nnx.State
    random: nnx.State


def split(model: nnx.Module) -> Parts:
    """Take a model apart into what is trained, what is frozen, the rest and its streams of random numbers.

    Args:
      model: Any NNX module.
    """
    graph, params, frozen, random, rest = cast(
        tuple[Any, ...], nnx.split(model, nnx.Param, Frozen, nnx.RngState, ...)
    )
    return Parts(graph, params, frozen, rest, random)


class Evaluated(NamedTuple):
    """What a layer is in evaluation.

    Attributes:
      mask: See `Masked.stored_mask`.
      counts: See `Masked.count`.
      kernel: See `Masked.effective_kernel`.
    """

    mask: jax.Array
    counts: core.Counts
    kernel: jax.Array


def evaluated(layer: Masked) -> Evaluated:
    """Compute what a layer is in evaluation, in one compiled program, as a trained network's is.

    Args:
      layer: A layer of one network.
    """
    return _evaluated(*nnx.split(layer))


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(graph: nnx.GraphDef[Masked], state: nnx.State) -> Evaluated:
    layer = nnx.merge(graph, state)
    return Evaluated(layer.stored_mask(), layer.count(), layer.effective_kernel())


def masked_layers(model: nnx.Module) -> Iterator[tuple[str, Masked]]:
    """Go through the masked (or dense) layers of ours in a model, with their paths such as `convs/0`.

    Of a layer of Flax that `supermask` has masked it is the layer's path, with its masked kernel.

    Args:
      model: Any NNX module.

    Raises:
      InputError: A layer is a stack of several, as `nnx.vmap` makes them: what has a value per layer, such as
        a threshold, belongs to one layer alone.
    """
    for path, module in nnx.iter_graph(model):
        if isinstance(module, Masked):
            path = path[:-1] if isinstance(module, MaskedKernel) else path
            name = "/".join(str(part) for part in path)
            if len(module.shape) != module.rank:
                raise errors.InputError(
                    f"{name or 'the model'} is a stack of layers, of kernels {list(module.shape)}: its masks "
                    "can be used one layer at a time, inside nnx.vmap or nnx.scan"
                )
            yield name, module


def apply_masks(model: nnx.Module, key: jax.Array | None = None) -> None:
    """Turn a masked network into the dense one that it amounts to.

    Every layer gets its effective kernel, in the compute dtype, as an `nnx.Param`; scores and random kernels
    go. The network computes what it computed before; layers of Flax are as plain as they were.

    Args:
      model: Any NNX module; changed in place.
      key: A key of the step, for rules that draw at random in training; None in evaluation.
    """
    for place, (_, layer) in enumerate(list(masked_layers(model))):
        layer.apply_mask(None if key is None else jax.random.fold_in(key, place))
    modules: list[Any] = [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.Module)]
    for module in modules:
        kernel = getattr(module, "kernel", None)
        if isinstance(kernel, MaskedKernel):
            module.kernel = kernel.kernel
