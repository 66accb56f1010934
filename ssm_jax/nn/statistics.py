"""Statistics of batch normalizations, measured anew.

Running statistics average over the steps of training. Weights that a mask flips change more in a step than
trained ones, so that the averages are of networks that are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from ssm_jax import environment, errors
from ssm_jax.types import PyTree

Model = TypeVar("Model", bound=nnx.Module)

# No variance: the mark of a normalization that has seen no batch.
_UNSEEN = -1.0


class Moments(NamedTuple):
    """What a normalization keeps, float32 of any shape `[..., C]`."""

    mean: jax.Array
    variance: jax.Array


def normalizations(model: nnx.Module) -> list[nnx.BatchNorm]:
    """Find the batch normalizations of a model, in the order of its graph."""
    return [module for _, module in nnx.iter_graph(model) if isinstance(module, nnx.BatchNorm)]


def measuring(model: Model, axis_name: str | None = None) -> Model:
    """Set a model so that a call leaves the statistics of its batch; all else is as in evaluation.

    Args:
      model: Any NNX module; changed in place.
      axis_name: The axis over which a batch is spread.

    Returns:
      The model.
    """
    model.eval()
    for norm in normalizations(model):
        norm.use_running_average, norm.momentum, norm.axis_name = False, 0.0, axis_name
    return model


def measure(model: nnx.Module, *inputs: PyTree) -> list[Moments]:
    """Call a model that `measuring` has set.

    Args:
      model: The model; its statistics are changed.
      *inputs: What it is called with.

    Returns:
      What every normalization has found, of several calls of one the last; where it was not called, a
      negative variance.
    """
    norms = normalizations(model)
    for norm in norms:
        norm.mean[...] = jnp.zeros_like(norm.mean[...])
        norm.var[...] = jnp.full_like(norm.var[...], _UNSEEN)
    model(*inputs)
    return [Moments(norm.mean[...], norm.var[...]) for norm in norms]


def pool(known: Sequence[Moments], new: Sequence[Moments], share: jax.Array | float) -> list[Moments]:
    """Pool the moments of some batches with those of one more: exactly those of all examples together.

    Args:
      known: Of the batches before.
      new: Of the batch.
      share: The batch's share of all examples so far, 1 for the first.
    """

    def one(known: Moments, new: Moments) -> Moments:
        delta = new.mean - known.mean
        spread = new.variance - known.variance + (1 - share) * delta**2
        pooled = Moments(known.mean + share * delta, known.variance + share * spread)
        first = jnp.asarray(share) >= 1
        unseen = new.variance < 0
        return Moments(
            *(
                jnp.where(unseen, old, jnp.where(first, latest, both))
                for old, latest, both in zip(known, new, pooled, strict=True)
            )
        )

    return [one(*pair) for pair in zip(known, new, strict=True)]


def moments(model: nnx.Module) -> list[Moments]:
    """Read what the normalizations of a model keep."""
    return [Moments(norm.mean[...], norm.var[...]) for norm in normalizations(model)]


def set_moments(model: nnx.Module, found: Sequence[Moments]) -> None:
    """Write what the normalizations of a model keep.

    Args:
      model: Any NNX module; changed in place.
      found: For every normalization.
    """
    for norm, (mean, variance) in zip(normalizations(model), found, strict=True):
        norm.mean[...], norm.var[...] = mean, variance


@environment.pinned()
def recalibrate(model: nnx.Module, batches: Iterable[PyTree]) -> None:
    """Measure the statistics of every `nnx.BatchNorm` of a model anew, over some batches.

    For a training loop of one's own: call it at the end, and before an evaluation. The running averages of
    training lag behind masks that flip. Mean and variance become those of all examples of the batches
    together, in a network that computes as in evaluation but for its normalizations, which see a batch as in
    training. The result depends on the model and the batches alone.

    Args:
      model: Any NNX module. Its statistics are changed in place and nothing else: neither its mode nor its
        streams of random numbers. Of a normalization that is called several times the last call counts.
      batches: What the model is called with, one after another; a tuple is several arguments. A few dozen
        batches of training images are enough.

    Raises:
      InputError: The model has no batch normalization, a call reaches none, or there is no batch.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> norm = nnx.BatchNorm(1, rngs=nnx.Rngs(0))
      >>> recalibrate(norm, [jnp.array([[1.0], [3.0]]), jnp.array([[5.0], [7.0]])])
      >>> print(norm.mean[...], norm.var[...])
      [4.] [5.]
    """
    if not normalizations(model):
        raise errors.InputError("the model has no nnx.BatchNorm whose statistics could be measured")
    graph, state = nnx.split(measuring(nnx.clone(model)))

    @jax.jit
    def compiled(state: nnx.State, inputs: tuple[PyTree, ...]) -> list[Moments]:
        return measure(nnx.merge(graph, state), *inputs)

    pooled, examples, reached = moments(model), 0, False
    for batch in batches:
        inputs = batch if isinstance(batch, tuple) else (batch,)
        size = len(jax.tree.leaves(inputs)[0])
        examples += size
        new = compiled(state, inputs)
        reached = reached or any(bool((one.variance >= 0).any()) for one in new)
        pooled = pool(pooled, new, size / examples)
    if not examples:
        raise errors.InputError("there is no batch to measure statistics over")
    if not reached:
        raise errors.InputError(
            "no nnx.BatchNorm of the model takes the statistics of a batch: leave use_running_average out of "
            "its call"
        )
    set_moments(model, pooled)
