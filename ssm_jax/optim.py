"""Optimizers for training loops of one's own: the scores' own decay, and densities that are followed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ssm_jax import errors
from ssm_jax.core import control
from ssm_jax.core.tree import RAMP, path_of
from ssm_jax.nn.density import follow_density
from ssm_jax.types import PyTree


def score_optimizer(
    steps: int,
    *,
    learning_rate: float = 3e-2,
    weight_decay: float = 1e-3,
    scores: optax.GradientTransformation | None = None,
    others: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Make the optimizer of a masked model: one for its scores and another one for everything else.

    A step takes `s <- s - f_t * (weight_decay * s + learning_rate * direction)` from every score, where `f_t`
    rises in the first twentieth of the steps and goes to 0 by a cosine. The decay is *not* multiplied by the
    learning rate: multiplied, as in `optax.adamw`, it is too small to hide anything.

    Args:
      steps: The steps of the whole training, at least 1.
      learning_rate: Largest learning rate of the scores; of everything else too, unless `others` is given.
      weight_decay: Share of every score that a step takes away at most, in [0, 1).
      scores: What gives the scores' direction, for example `optax.trace(0.9, nesterov=True)`; Adam's by
        default.
      others: The optimizer of what has no scores, embeddings and normalizations for example; Adam with the
        same curve by default.

    Returns:
      A transformation of optax, for `ssm_jax.Optimizer`, for `ssm_jax.core.update` or for a loop of one's own
      over `ssm_jax.core.Masks.trained`.

    Raises:
      InputError: A number is out of range.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise errors.out_of_range("steps", steps, "at least 1")
    if not 0 <= weight_decay < 1:
        raise errors.out_of_range("weight_decay", weight_decay, "at least 0 and below 1")
    curve = optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, steps // 20), max(2, steps))
    direction = decayed(scores or optax.scale_by_adam(b2=0.95), learning_rate, weight_decay)
    of_scores = optax.chain(*direction, optax.scale_by_schedule(curve))
    if others is None:
        others = optax.adam(lambda step: learning_rate * curve(step), b2=0.95)
    return _by_kind(*map(optax.with_extra_args_support, (of_scores, others)))


def decayed(
    direction: optax.GradientTransformation, learning_rate: float, weight_decay: float, mask: Any = None
) -> tuple[optax.GradientTransformation, ...]:
    """Make the parts of a step down a direction, with decay that is not multiplied by the learning rate.

    Args:
      direction: What gives the direction.
      learning_rate: The learning rate, positive.
      weight_decay: Share of every parameter that a step takes away, in [0, 1).
      mask: What decays, as `optax.add_decayed_weights` takes it; None is everything.
    """
    decay = optax.add_decayed_weights(weight_decay, mask=mask)
    return direction, optax.scale(learning_rate), decay, optax.scale(-1.0)


def _by_kind(
    of_scores: optax.GradientTransformationExtraArgs, of_others: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """Give scores, which lie below a key `scores`, to one optimizer and the rest to another."""

    def split(tree: PyTree) -> tuple[tuple[Any, ...], tuple[Any, ...], list[bool]]:
        leaves = jax.tree.leaves_with_path(tree)
        kinds = ["scores" in path_of(path).split("/") for path, _ in leaves]
        scores = tuple(leaf for (_, leaf), is_score in zip(leaves, kinds) if is_score)
        others = tuple(leaf for (_, leaf), is_score in zip(leaves, kinds) if not is_score)
        return scores, others, kinds

    def init(params: PyTree) -> tuple[PyTree, PyTree]:
        scores, others, _ = split(params)
        return of_scores.init(scores), of_others.init(others)

    def update(
        gradient: PyTree, state: tuple[PyTree, PyTree], params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        *gradients, kinds = split(gradient)
        scores, others, _ = split(params)
        for_scores, score_state = of_scores.update(gradients[0], state[0], scores, **extra)
        for_others, other_state = of_others.update(gradients[1], state[1], others, **extra)
        updates = [iter(for_scores), iter(for_others)]
        leaves = [next(updates[0] if is_score else updates[1]) for is_score in kinds]
        return jax.tree.unflatten(jax.tree.structure(gradient), leaves), (score_state, other_state)

    return optax.GradientTransformationExtraArgs(init, update)


class Optimizer(nnx.Optimizer[Any]):
    """An `nnx.Optimizer` for masked models: its `update` also moves the thresholds of rules with a density.

    The density is reached in the first three fifths of the steps. From then on thresholds follow it in every
    tenth step and in the last.

    Args:
      model: The masked model.
      tx: A transformation of optax; `score_optimizer(steps)` by default.
      steps: The steps of the whole training; without them a density is reached at once, and thresholds follow
        it in every step.
      wrt: What is trained.

    Raises:
      InputError: Neither steps nor a transformation is given.

    Examples:
      >>> import ssm_jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> masking = ssm_jax.Masking(rule=ssm_jax.Signed(density=0.1))
      >>> model = ssm_jax.supermask(nnx.Linear(50, 4, rngs=nnx.Rngs(0)), masking)
      >>> optimizer = ssm_jax.Optimizer(model, steps=20)
      >>> @nnx.jit
      ... def step(model, optimizer):
      ...     gradient = nnx.grad(lambda model: jnp.sum(model(jnp.ones((3, 50))) ** 2))(model)
      ...     optimizer.update(model, gradient)
      >>> for _ in range(20):
      ...     step(model, optimizer)
      >>> round(ssm_jax.remaining_weights(model), 6)
      0.1
    """

    def __init__(
        self,
        model: nnx.Module,
        tx: optax.GradientTransformation | None = None,
        *,
        steps: int = 0,
        wrt: nnx.filterlib.Filter = nnx.Param,
    ) -> None:
        if tx is None and not steps:
            raise errors.InputError("steps is missing: the default optimizer has a schedule")
        super().__init__(model, score_optimizer(steps) if tx is None else tx, wrt=wrt)
        self.steps = steps

    def update(self, model: nnx.Module, gradient: PyTree, /, **extra: Any) -> Any:
        """Take a step.

        Args:
          model: The model, changed in place.
          gradient: What `nnx.grad` returned.
          **extra: More for the transformation, for example the loss as `value`.
        """
        updates = super().update(model, gradient, **extra)
        step = self.step[...].astype(jnp.int32)
        follow_density(model, step, round(RAMP * self.steps), control.is_due(step, self.steps))
        return updates
