"""Optimizers and schedules, put together from optax pieces.

Weight decay is decoupled and *not* multiplied by the learning rate: a step takes
`s <- s - f_t * (weight_decay * s + learning_rate * direction)`, where `f_t` is the schedule's factor.
This decay makes the sparsity: multiplied by the learning rate as well, it would hide almost nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssm_jax import errors
from ssm_jax.optim import decayed
from ssm_jax.types import PyTree

# The plateau rule's constants.
FIRST_EPOCH = 11  # the first epoch that can be bad, counted from 1
COOLDOWN = 10  # epochs after a reduction in which nothing counts
MARGIN = 1e-4  # by how much a good epoch's loss is lower


class PlateauState(NamedTuple):
    """What the plateau rule remembers of one network.

    Attributes:
      steps: Steps taken, int32.
      total: Sum of this epoch's losses so far, float32.
      losses: Mean losses of the last `patience - 2` epochs, oldest first, float32 `[patience - 2]`;
        infinite for epochs before the first.
      bad: Number of bad epochs so far, int32.
      cooldown: Number of epochs that still don't count, int32.
      reductions: Number of reductions so far, int32.
      stopped: Whether the last allowed reduction has happened, bool.
    """

    steps: jax.Array
    total: jax.Array
    losses: jax.Array
    bad: jax.Array
    cooldown: jax.Array
    reductions: jax.Array
    stopped: jax.Array


def stopped(optimizer_state: PyTree) -> jax.Array:
    """Tell whether a plateau schedule has made its last reduction: the network is final from then on.

    Args:
      optimizer_state: State of an optimizer that `make` returned, with any leading axes.

    Returns:
      A bool array of those axes; a single False for schedules that never stop.
    """
    leaves = jax.tree.leaves(optimizer_state, is_leaf=lambda leaf: isinstance(leaf, PlateauState))
    flags = [leaf.stopped for leaf in leaves if isinstance(leaf, PlateauState)]
    return flags[0] if flags else jnp.zeros((), bool)


def _plateau(
    *, steps_per_epoch: int, factor: float, patience: int, max_reductions: int, **_: Any
) -> optax.GradientTransformationExtraArgs:
    def init(params: PyTree) -> PlateauState:
        zero = jnp.zeros((), jnp.int32)
        return PlateauState(
            steps=zero,
            total=jnp.zeros((), jnp.float32),
            losses=jnp.full((patience - 2,), jnp.inf, jnp.float32),
            bad=zero,
            cooldown=zero,
            reductions=zero,
            stopped=jnp.zeros((), bool),
        )

    def after_epoch(state: PlateauState) -> PlateauState:
        loss = state.total / steps_per_epoch
        counts = (state.steps >= FIRST_EPOCH * steps_per_epoch) & (state.cooldown == 0)
        is_bad = counts & ~(loss + MARGIN < state.losses.min())
        bad = state.bad + is_bad.astype(jnp.int32)
        reduces = is_bad & (bad > patience)
        reductions = state.reductions + reduces.astype(jnp.int32)
        return PlateauState(
            steps=state.steps,
            total=jnp.zeros_like(state.total),
            losses=jnp.concatenate([state.losses[1:], loss[None]]),
            bad=bad,
            cooldown=jnp.where(reduces, COOLDOWN, jnp.maximum(state.cooldown - 1, 0)),
            reductions=reductions,
            stopped=reductions >= max_reductions,
        )

    def update(
        updates: PyTree, state: PlateauState, params: PyTree = None, *, value: jax.typing.ArrayLike, **_: Any
    ) -> tuple[PyTree, PlateauState]:
        power = jnp.float32(factor) ** state.reductions.astype(jnp.float32)
        scale = jnp.where(state.stopped, 0.0, power)
        state = state._replace(steps=state.steps + 1, total=state.total + jnp.asarray(value, jnp.float32))
        ends = state.steps % steps_per_epoch == 0
        # A selection: at a branch a GPU would wait for the host, in every step.
        state = jax.tree.map(lambda new, old: jnp.where(ends, new, old), after_epoch(state), state)
        return jax.tree.map(lambda array: scale.astype(array.dtype) * array, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _curve(curve: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(optax.scale_by_schedule(curve))


def _exponential(
    *, steps_per_epoch: int, factor: float, decay_epochs: float, staircase: bool = False, **_: Any
) -> optax.GradientTransformationExtraArgs:
    steps = max(1, round(decay_epochs * steps_per_epoch))
    return _curve(optax.exponential_decay(1.0, steps, factor, staircase=staircase))


def _cosine(*, steps_per_epoch: int, total_epochs: int, **_: Any) -> optax.GradientTransformationExtraArgs:
    return _curve(optax.cosine_decay_schedule(1.0, total_epochs * steps_per_epoch))


def _constant(**_: Any) -> optax.GradientTransformationExtraArgs:
    return _curve(optax.constant_schedule(1.0))


SCHEDULES: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {
    "exponential": _exponential,
    "staircase": functools.partial(_exponential, staircase=True),
    "cosine": _cosine,
    "constant": _constant,
    "plateau": _plateau,
}


def schedule(
    name: str,
    *,
    steps_per_epoch: int,
    total_epochs: int,
    factor: float = 0.9,
    decay_epochs: float = 10.0,
    patience: int = 15,
    max_reductions: int = 5,
) -> optax.GradientTransformationExtraArgs:
    """Make the schedule: it multiplies the whole update, learning rate and decay alike.

    `plateau` is the rule of the paper's authors. From the 11th epoch on, an epoch is bad unless its mean
    train loss is more than 1e-4 below the lowest of the `patience - 2` epochs before it. Bad epochs are
    counted and the count is never reset; every bad epoch beyond `patience` of them reduces the factor.
    In the 10 epochs after a reduction nothing counts. The last allowed reduction ends the training: from
    then on the factor is 0 and `stopped` says so. The rule's state is part of the optimizer's.

    Args:
      name: One of `SCHEDULES`. `exponential`: `factor ** (epoch / decay_epochs)`, continuous; `staircase`:
        the same with whole exponents only; `cosine`: from 1 to 0 over the run; `constant`; `plateau`.
      steps_per_epoch: Steps in an epoch.
      total_epochs: Epochs in the run.
      factor: What a reduction multiplies by, in (0, 1).
      decay_epochs: Over how many epochs `exponential` and `staircase` apply the factor once, positive.
      patience: How many bad epochs `plateau` bears, at least 3.
      max_reductions: The reduction with which `plateau` ends, at least 1.

    Returns:
      A gradient transformation; `plateau` takes the step's loss as `value`.

    Raises:
      InputError: The name is unknown.
    """
    return errors.choose("schedule", name, SCHEDULES)(
        steps_per_epoch=steps_per_epoch,
        total_epochs=total_epochs,
        factor=factor,
        decay_epochs=decay_epochs,
        patience=patience,
        max_reductions=max_reductions,
    )


def _is_kernel(params: PyTree) -> PyTree:
    return jax.tree.map(lambda array: array.ndim >= 2, params)


def clip_by_variable_norm(max_norm: float) -> optax.GradientTransformation:
    """Clip every variable's gradient to an L2 norm of its own: `g * max_norm / max(|g|, max_norm)`."""

    def clipped(gradient: jax.Array) -> jax.Array:
        norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
        return gradient * (max_norm / jnp.maximum(norm, max_norm))

    return optax.stateless(lambda gradients, _: jax.tree.map(clipped, gradients))


OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "nesterov": lambda momentum: optax.trace(momentum, nesterov=True),
    "sgd": lambda momentum: optax.trace(momentum),
    "adam": lambda momentum: optax.scale_by_adam(b1=momentum),
}


def make(
    name: str,
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    decay_normalization: bool = True,
    schedule: optax.GradientTransformationExtraArgs,
    clip: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Make the optimizer of the given name, with decoupled decay under the same schedule.

    Args:
      name: One of `OPTIMIZERS`: `nesterov` (SGD with Nesterov momentum, the paper's), `sgd` (plain
        momentum) or `adam`.
      learning_rate: Learning rate at the start, positive.
      weight_decay: Share of every score that a step takes away at the start, in [0, 1).
      momentum: Momentum in [0, 1); Adam's first one.
      decay_normalization: Whether scales, offsets and biases decay too, as the paper's authors have it,
        and not only scores and kernels.
      schedule: What `schedule` returned.
      clip: Largest L2 norm of a variable's gradient; 0 clips nothing.

    Returns:
      A gradient transformation whose `update` needs `params` and, for a plateau, `value`.

    Raises:
      InputError: The name is unknown.
    """
    clipped = clip_by_variable_norm(clip) if clip else optax.identity()
    direction = errors.choose("optimizer", name, OPTIMIZERS)(momentum)
    mask = None if decay_normalization else _is_kernel
    return optax.chain(clipped, *decayed(direction, learning_rate, weight_decay, mask), schedule)
