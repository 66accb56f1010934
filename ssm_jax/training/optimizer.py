"""Optimisers and schedules, put together from optax pieces.

Weight decay is decoupled and *not* multiplied by the learning rate: a step takes
`s <- s - f_t * (weight_decay * s + learning_rate * direction)`, where `f_t` is the schedule's factor.
This decay makes the sparsity: multiplied by the learning rate as well, it would hide almost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from ssm_jax import errors

OPTIMIZERS = ("nesterov", "sgd", "adam")
SCHEDULES = ("exponential", "cosine", "constant", "plateau")


def schedule(
    name: str,
    *,
    steps_per_epoch: int,
    total_epochs: int,
    factor: float = 0.9,
    epochs: float = 10.0,
    patience: int = 15,
    times: int = 5,
) -> optax.GradientTransformationExtraArgs:
    """What multiplies the whole update, learning rate and decay alike, as training goes on.

    Args:
      name: `exponential`: `factor ** (epoch / epochs)`, continuous; `cosine`: from 1 to 0 over the
        run; `constant`; `plateau`: multiplied by `factor` whenever the mean train loss of an epoch
        has not improved (by 1e-4 of itself) for `patience` epochs, `times` times at most. The
        plateau's state is part of the optimiser's and so is resumed.
      steps_per_epoch: steps in an epoch.
      total_epochs: epochs in the run.
      factor: of `exponential` and `plateau`, in (0, 1).
      epochs: of `exponential`, over how many epochs the factor applies once.
      patience: of `plateau`, in epochs.
      times: of `plateau`.

    Returns:
      A gradient transformation; `plateau` takes the loss as `value`.

    Raises:
      InputError: the name is unknown.
    """
    if name == "plateau":
        return _without_branches(
            contrib.reduce_on_plateau(
                factor=factor, patience=patience, accumulation_size=steps_per_epoch, min_scale=factor**times
            )
        )
    curves: dict[str, Callable[[], optax.Schedule]] = {
        "exponential": lambda: optax.exponential_decay(1.0, max(1, round(epochs * steps_per_epoch)), factor),
        "cosine": lambda: optax.cosine_decay_schedule(1.0, total_epochs * steps_per_epoch),
        "constant": lambda: optax.constant_schedule(1.0),
    }
    if name not in curves:
        raise errors.unknown("schedule", name, SCHEDULES)
    return optax.with_extra_args_support(optax.scale_by_schedule(curves[name]()))


def _without_branches(
    scale: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The same schedule with its branches turned into selections, as `vmap` does.

    At a branch a GPU waits for the host, in every step.

    Args:
      scale: multiplies all updates by the same number.
    """

    def update(
        updates: Any, state: Any, params: Any = None, *, value: jax.Array, **_: Any
    ) -> tuple[Any, Any]:
        one, value = jnp.ones(1), jnp.asarray(value)[None]
        factor, state = jax.vmap(lambda one, state, value: scale.update(one, state, value=value))(
            one, jax.tree.map(lambda array: array[None], state), value
        )
        factor, state = jax.tree.map(lambda array: array[0], (factor, state))
        return jax.tree.map(lambda array: factor * array, updates), state

    return optax.GradientTransformationExtraArgs(scale.init, update)


def _is_kernel(params: Any) -> Any:
    return jax.tree.map(lambda array: array.ndim >= 2, params)


def make(
    name: str,
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    decay_normalization: bool = True,
    schedule: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of the given name, with decoupled decay under the same schedule.

    Args:
      name: `nesterov` (SGD with Nesterov momentum, the paper's), `sgd` (plain momentum) or `adam`.
      learning_rate: at the start, positive.
      weight_decay: share of every score that a step takes away at the start, in [0, 1).
      momentum: in [0, 1); Adam's first one.
      decay_normalization: Whether scales, offsets and biases decay too, as the paper's authors have it,
        and not only scores and kernels.
      schedule: what `schedule` returned.

    Returns:
      A gradient transformation whose `update` needs `params` and, for a plateau, `value`.

    Raises:
      InputError: the name is unknown.
    """
    directions: dict[str, Callable[[], optax.GradientTransformation]] = {
        "nesterov": lambda: optax.trace(momentum, nesterov=True),
        "sgd": lambda: optax.trace(momentum),
        "adam": lambda: optax.scale_by_adam(b1=momentum),
    }
    if name not in directions:
        raise errors.unknown("optimizer", name, OPTIMIZERS)
    return optax.chain(
        directions[name](),
        optax.scale(learning_rate),
        optax.add_decayed_weights(weight_decay, mask=None if decay_normalization else _is_kernel),
        optax.scale(-1.0),
        schedule,
    )
