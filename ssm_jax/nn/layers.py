"""Flax NNX layers whose kernels are random and frozen and whose scores are trained.

Variable types tell apart what a layer holds (`ssm_jax.nn.variables`). The same layer with
`Masking(rule=None)` is its dense baseline: the kernel is an ordinary `nnx.Param` and there are no scores.
`apply_masks` turns a masked network into the dense one that it amounts to.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ssm_jax import core
from ssm_jax.core import Masking
from ssm_jax.nn.convolution import convolve, matmul
from ssm_jax.nn.products.handlers import Products
from ssm_jax.nn.variables import Constant, Kernel, RuleState, Score, Signs


class Masked(nnx.Module):
    """A frozen kernel under a mask of trainable scores: the common part of `Dense` and `Conv`.

    It holds one `core.Layer`, in variables. A rule that draws at random does so in training, from a
    stream of the layer's own, and not in evaluation: `model.train()` and `model.eval()` say which, as for
    `nnx.Dropout`.

    Args:
      shape: The kernel's shape, `(..., I, O)`.
      masking: How the kernel is drawn and masked.
      rngs: The streams `params` (kernel) and `scores`.
      stack: The axes of a stack, in front of the kernel's.
      given: The kernel to keep, `[*stack, *shape]`; None draws one. It is spread over devices as given.
      like: An array of that shape that is spread over devices as this layer's are to be.

    Raises:
      InputError: The kernel has no weights, or 2^31 and more.
    """

    products: Products | None = None
    # Whether it stands in the place of a parameter, and whether that is the kernel of a layer of Flax.
    stands_for_parameter = False
    is_kernel_of_layer = False

    def __init__(
        self,
        shape: Sequence[int],
        *,
        masking: Masking,
        rngs: nnx.Rngs,
        stack: Sequence[int] = (),
        given: jax.Array | None = None,
        like: Any = None,
    ) -> None:
        core.check_size((*stack, *shape))
        assert not isinstance(masking.rule, str)  # a name has become the rule
        self.rule = masking.rule
        self.dtype = masking.dtype
        self.rank = len(shape)
        kernel_key, score_key = rngs.params(), rngs.scores()
        if masking.rule is None:
            kernel = (
                core.draw_kernel(masking.kernel_init, kernel_key, shape, stack) if given is None else given
            )
            self.kernel: nnx.Variable[jax.Array] = nnx.Param(kernel)
            return
        layer = core.draw(masking, kernel_key, score_key, shape, stack, given).spread(like)
        if "signs" in layer.frozen:
            self.signs = Signs(layer.frozen["signs"])
            self.constant = Constant(layer.frozen["constant"])
        else:
            self.kernel = Kernel(layer.frozen["kernel"])
        self.scores = Score(layer.scores)
        self.rule_state = nnx.Dict({name: RuleState(value) for name, value in layer.state.items()})
        if layer.draws():
            self.deterministic = False
            key = jax.random.fold_in(score_key, 1)
            self.stream = nnx.RngStream(jax.random.split(key, tuple(stack)) if stack else key, tag="masks")

    @property
    def kind(self) -> str:
        """The name of the layer's type."""
        return type(self).__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """The kernel's shape, `(..., I, O)`, behind the axes of a stack."""
        return tuple((self.signs if hasattr(self, "signs") else self.kernel).shape)

    def layer(self) -> core.Layer:
        """The masked kernel as a value; there is none of a dense layer."""
        assert self.rule is not None
        # Not by the mapping's methods, in whose place `nnx.tabulate` puts functions that call themselves.
        state = {
            name: value[...] for name, value in vars(self.rule_state).items() if isinstance(value, RuleState)
        }
        return core.Layer(self._frozen(), self.scores[...], state, self.rule, self.rank, self.dtype)

    def put(self, layer: core.Layer) -> None:
        """Take over what the rule keeps of a masked kernel.

        Args:
          layer: What `layer` returned, changed.
        """
        for name, value in layer.state.items():
            self.rule_state[name][...] = value

    def random_kernel(self) -> jax.Array:
        """The kernel without its mask, float32: as it was drawn, or of a dense layer as it is trained."""
        return core.random_kernel(self._frozen())

    def mask(self, key: jax.Array | None = None) -> jax.Array:
        """The mask in the kernel's shape, float32: of the signed rule -1 (invert), 0 (hide) or 1 (keep).

        A dense layer keeps everything.

        Args:
          key: A key of this layer and step, for rules that draw at random in training; None in evaluation.
        """
        return jnp.ones(self.shape, jnp.float32) if self.rule is None else self.layer().mask(key)

    def effective_kernel(self, key: jax.Array | None = None) -> jax.Array:
        """The kernel that the layer applies, in the compute dtype.

        Args:
          key: See `mask`.
        """
        with jax.named_scope("mask"):
            if self.rule is None:
                return self.random_kernel().astype(self.dtype)
            return self.layer().kernel(key)

    def applied_kernel(self) -> jax.Array:
        """The kernel that the layer applies now: a rule that draws at random draws, unless in evaluation."""
        training = hasattr(self, "stream") and not self.deterministic
        return self.effective_kernel(self.stream() if training else None)

    def apply_rule(self, kernel: jax.Array, mask: jax.Array) -> jax.Array:
        """The kernel that the layer would apply, had it another one or another mask, in the compute dtype.

        Args:
          kernel: A kernel in the shape of the layer's, float32.
          mask: A mask of the layer's rule in the same shape, float32.
        """
        return kernel.astype(self.dtype) if self.rule is None else self.layer().apply_rule(kernel, mask)

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
        return core.count(mask) if self.rule is None else self.layer().count(mask)

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
        for name in ("signs", "constant", "kernel", "scores", "rule_state", "stream", "deterministic"):
            if hasattr(self, name):
                delattr(self, name)
        self.rule = None
        self.kernel = nnx.Param(kernel)

    def mask_anew(self, masking: Masking, rngs: nnx.Rngs, *, keep: bool) -> None:
        """Turn a dense layer into a masked one.

        Args:
          masking: How the kernel is masked; the layer keeps its compute dtype.
          rngs: The streams `params` (kernel) and `scores`.
          keep: Whether the kernel is the one that the layer has; else it is drawn.
        """
        kernel = self.kernel.get_value()
        del self.kernel
        stack, shape = kernel.shape[: -self.rank], kernel.shape[-self.rank :]
        masking, given = dataclasses.replace(masking, dtype=self.dtype), kernel if keep else None
        Masked.__init__(self, shape, masking=masking, rngs=rngs, stack=stack, given=given, like=kernel)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Say whether a rule that draws at random does so; see `nnx.view`.

        Args:
          deterministic: Whether it takes the mask of an evaluation; None changes nothing.
        """
        if deterministic is not None and hasattr(self, "stream"):
            self.deterministic = deterministic

    def _frozen(self) -> dict[str, jax.Array]:
        names = ("signs", "constant") if hasattr(self, "signs") else ("kernel",)
        return {name: getattr(self, name)[...] for name in names}


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
            return matmul(inputs.astype(self.dtype), self.applied_kernel(), self.products)


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
            return convolve(inputs.astype(self.dtype), self.applied_kernel(), self.stride, self.products)


class LayerSnapshot(NamedTuple):
    """What a layer is in evaluation.

    Attributes:
      mask: See `Masked.stored_mask`.
      counts: See `Masked.count`.
      kernel: See `Masked.effective_kernel`.
    """

    mask: jax.Array
    counts: core.Counts
    kernel: jax.Array


def evaluated(layer: Masked) -> LayerSnapshot:
    """Compute what a layer is in evaluation, in one compiled program, as a trained network's is.

    Args:
      layer: A layer of one network.
    """
    return _evaluated(*nnx.split(layer))


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(graph: nnx.GraphDef[Masked], state: nnx.State) -> LayerSnapshot:
    layer = nnx.merge(graph, state)
    return LayerSnapshot(layer.stored_mask(), layer.count(), layer.effective_kernel())


def masked_layers(model: nnx.Module) -> Iterator[tuple[str, Masked]]:
    """Go through the masked (or dense) layers of ours in a model, with their paths such as `convs/0`.

    Of a layer of Flax that `supermask` has masked it is the layer's path, with its masked kernel.

    Args:
      model: Any NNX module.
    """
    for path, module in nnx.iter_graph(model):
        if isinstance(module, Masked):
            path = path[:-1] if module.is_kernel_of_layer else path
            yield "/".join(str(part) for part in path), module


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
    restore_parameters(model)


def restore_parameters(model: nnx.Module) -> None:
    """Make layers of Flax whose kernels have no mask as plain as they were.

    Args:
      model: Any NNX module; changed in place.
    """
    for module in [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.Module)]:
        for name, value in list(vars(module).items()):
            if isinstance(value, Masked) and value.stands_for_parameter and value.rule is None:
                setattr(module, name, value.kernel)
