"""The density of a network's masks, set through the thresholds of its layers."""

from __future__ import annotations

import jax
from flax import nnx

from ssm_jax.core import control
from ssm_jax.nn.layers import masked_layers


def set_density(
    model: nnx.Module, density: float | jax.Array, *, floor: float = 0.0, budget: str = "global"
) -> None:
    """Set the thresholds of a network so that a share of its weights remains.

    The thresholds of all layers stay in the proportions that they have. Layers of other rules than `Signed`
    and `Binary` are left alone. A trained network does not survive that most of its weights go at once, of
    which this warns: in training, `ssm_jax.Optimizer` goes to the density of the rule step by step.

    Args:
      model: Any NNX module; its thresholds are changed in place.
      density: The share of weights that remain, above 0 and at most 1. Under `nnx.jit` it may be traced, and
        is not checked then.
      floor: The least share of every layer, 0 up to the density.
      budget: What the density is a share of, `global` or `layer`.

    Raises:
      InputError: No layer has a threshold, or a setting is out of range.
    """
    layers = {path: layer for path, layer in masked_layers(model) if layer.rule is not None}
    moved = control.set_density(
        {path: layer.layer() for path, layer in layers.items()}, density, floor, budget
    )
    for path, moved_layer in moved.items():
        layers[path].put(moved_layer)


def follow_density(model: nnx.Module, step: jax.Array, ramp: int, due: jax.Array) -> None:
    """Move the thresholds of the layers whose rule asks for a density, if it is time to.

    Args:
      model: Any NNX module; its thresholds are changed in place.
      step: Steps taken.
      ramp: The steps in which the density is reached; 0 is at once.
      due: Whether it is time to.
    """
    layers = {path: layer for path, layer in masked_layers(model) if layer.rule is not None}
    moved = control.advance({path: layer.layer() for path, layer in layers.items()}, step, ramp, due)
    for path, moved_layer in moved.items():
        layers[path].put(moved_layer)
