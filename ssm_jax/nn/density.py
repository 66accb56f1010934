"""The density of a network's masks, set through the thresholds of its layers."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ssm_jax import errors
from ssm_jax.core.density import check, check_shares, target, thresholds
from ssm_jax.core.threshold import Threshold
from ssm_jax.nn.layers import Masked, masked_layers


def set_density(
    model: nnx.Module, density: float | jax.Array, *, floor: float = 0.0, budget: str = "global"
) -> None:
    """Set the thresholds of a network so that a share of its weights remains.

    For a training loop of one's own: call it every some steps and at the end. The thresholds of all layers
    stay in the proportions that they have. Layers of other rules than `Signed` and `Binary` are left alone.

    Args:
      model: Any NNX module; its thresholds are changed in place.
      density: The share of weights that remain, above 0 and at most 1. Under `nnx.jit` it may be traced, and
        is not checked then.
      floor: The least share of every layer, 0 up to the density.
      budget: What the density is a share of, `global` or `layer`.

    Raises:
      InputError: No layer has a threshold, or a setting is out of range.
    """
    try:
        known = 1.0 if isinstance(density, jax.core.Tracer) else float(density)
    except (TypeError, ValueError) as error:
        raise errors.out_of_range("density", density, "one number above 0 and at most 1") from error
    check(known)
    check_shares(known, floor, budget)
    layers = [layer for _, layer in masked_layers(model) if isinstance(layer.rule, Threshold)]
    if not layers:
        raise errors.InputError("no layer of the model has a threshold: its density can't be set")
    _set(layers, density, floor, budget)


def has_density(model: nnx.Module) -> bool:
    """Whether a layer's rule asks for a density that its thresholds have to reach."""
    return bool(_controlled(model))


def follow_density(model: nnx.Module, progress: jax.Array) -> None:
    """Set the thresholds of the layers whose rule asks for a density, on the way to it.

    Layers of different rules have budgets of their own.

    Args:
      model: Any NNX module; its thresholds are changed in place.
      progress: The share of the way from the first density to the last; 1 and above is its end.
    """
    for rule, layers in _controlled(model).items():
        sizes = [layer.scores[...].size for layer in layers]
        starts = [layer.rule_state["start"][...] for layer in layers]
        start = sum(s * (size / sum(sizes)) for s, size in zip(starts, sizes, strict=True))
        share = target(jnp.asarray(start), rule.density, progress)
        _set(layers, share, rule.floor, rule.budget)


def _controlled(model: nnx.Module) -> dict[Threshold, list[Masked]]:
    found: dict[Threshold, list[Masked]] = {}
    for _, layer in masked_layers(model):
        if isinstance(layer.rule, Threshold) and layer.rule.density:
            found.setdefault(layer.rule, []).append(layer)
    return found


def _set(layers: Sequence[Masked], density: jax.Array | float, floor: float, budget: str) -> None:
    values, scales = [], []
    for layer in layers:
        assert isinstance(layer.rule, Threshold)
        values.append(layer.rule.compared(layer.scores[...]))
        state = layer.rule_state
        scale = state["scale" if "scale" in state else "threshold"][...]
        # Thresholds of 0, or below where all weights remain, have no proportions: values count as they are.
        scales.append(jnp.where(scale > 0, scale, 1))
    found = thresholds(values, scales, density, floor, budget)
    for layer, threshold in zip(layers, found, strict=True):
        layer.rule_state["threshold"][...] = threshold
