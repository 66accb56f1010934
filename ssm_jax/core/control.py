"""Thresholds that follow a density: those of all layers together, as their rules share it out."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from ssm_jax import errors
from ssm_jax.core.density import check_request, target, thresholds
from ssm_jax.core.layer import Layer
from ssm_jax.core.rule import State
from ssm_jax.core.tabulate import remaining
from ssm_jax.core.threshold import Threshold

# Thresholds follow a density every so many steps.
INTERVAL = 10

Name = TypeVar("Name")


def controlled(layers: Mapping[Name, Layer]) -> dict[Threshold, list[Name]]:
    """Tell which layers have a density to reach, by rule: each has a budget of its own.

    Args:
      layers: Layers by any name.
    """
    by_rule: dict[Threshold, list[Name]] = {}
    for name, layer in layers.items():
        if isinstance(layer.rule, Threshold) and layer.rule.density:
            by_rule.setdefault(layer.rule, []).append(name)
    return by_rule


def follow(layers: Mapping[Name, Layer], progress: jax.Array) -> dict[Name, Layer]:
    """Move the thresholds of the layers whose rule asks for a density, on the way to it.

    Args:
      layers: Layers by any name.
      progress: The share of the way from the first density to the last; 1 and above is its end.

    Returns:
      Those layers that were moved.
    """
    moved: dict[Name, Layer] = {}
    for rule, names in controlled(layers).items():
        some = [layers[name] for name in names]
        total = sum(layer.scores.size for layer in some)
        starts = [layer.state["start"] for layer in some]
        starts = [jnp.mean(start) if start.ndim else start for start in starts]
        start = sum(s * (layer.scores.size / total) for s, layer in zip(starts, some, strict=True))
        share = target(jnp.asarray(start), rule.density, progress)
        moved |= zip(names, leave(some, share, rule.floor, rule.budget), strict=True)
    return moved


def set_density(
    layers: Mapping[Name, Layer], density: float | jax.Array, floor: float, budget: str
) -> dict[Name, Layer]:
    """Move the thresholds of all layers that have one, so that a share of the weights remains.

    It warns where most of what remained goes at once, which a trained network does not survive.

    Args:
      layers: Layers by any name; those without a threshold are left alone.
      density: The share of weights that remain, above 0 and at most 1; a traced one is not checked.
      floor: The least share of every layer, 0 up to the density.
      budget: One of `ssm_jax.core.density.BUDGETS`.

    Returns:
      The layers that were moved.

    Raises:
      InputError: No layer has a threshold, or a setting is out of range.
    """
    check_request(density, floor, budget)
    some = {name: layer for name, layer in layers.items() if isinstance(layer.rule, Threshold)}
    if not some:
        raise errors.InputError("no layer of the model has a threshold: its density can't be set")
    if not any(isinstance(array, jax.core.Tracer) for array in jax.tree.leaves((some, density))):
        before = remaining(layer.count() for layer in some.values())
        if density < before / 2:
            warnings.warn(
                f"set_density hides most of what remains, {before:.1%} to {float(density):.1%} at once: a "
                "trained network does not survive that; ssm_jax.Optimizer goes there step by step",
                stacklevel=3,
            )
    moved = leave(list(some.values()), density, floor, budget)
    return dict(zip(some, moved, strict=True))


def leave(layers: Sequence[Layer], density: jax.Array | float, floor: float, budget: str) -> list[Layer]:
    """Move thresholds so that a share of the weights remains, in the proportions that they have.

    Args:
      layers: Layers whose rules have a threshold.
      density: The share of weights that remain, above 0 and at most 1.
      floor: The least share of every layer, 0 up to the density.
      budget: One of `ssm_jax.core.density.BUDGETS`.
    """
    values, scales = [], []
    for layer in layers:
        assert isinstance(layer.rule, Threshold)
        values.append(layer.rule.selection_values(layer.scores))
        scale = layer.state["scale" if "scale" in layer.state else "threshold"]
        # Thresholds of 0, or below where all weights remain, have no proportions: values count as they are.
        scales.append(jnp.where(scale > 0, scale, 1))
    new_thresholds = thresholds(values, scales, density, floor, budget)
    return [
        dataclasses.replace(layer, state={**layer.state, "threshold": threshold})
        for layer, threshold in zip(layers, new_thresholds, strict=True)
    ]


def is_due(step: jax.Array, steps: int) -> jax.Array:
    """Tell whether thresholds move after a step: after every tenth, and from the last one on.

    Args:
      step: Steps taken.
      steps: The steps of the whole training; 0 is unknown, and thresholds move in every step.
    """
    return (step % INTERVAL == 0) | (step >= steps)


def advance(layers: Mapping[Name, Layer], step: jax.Array, ramp: int, due: jax.Array) -> dict[Name, Layer]:
    """Move the thresholds of the layers whose rule asks for a density, if it is time to.

    Args:
      layers: Layers by any name.
      step: Steps taken.
      ramp: The steps in which a density is reached; 0 is at once.
      due: Whether it is time to.

    Returns:
      Those layers that may have been moved; none where no rule asks for a density.
    """
    names = [name for some in controlled(layers).values() for name in some]
    if not names:
        return {}

    def move(carry: tuple[jax.Array, list[State]]) -> tuple[jax.Array, list[State]]:
        moved = follow(at(carry[1]), step.astype(jnp.float32) / max(ramp, 1))
        return jnp.zeros_like(due), [moved[name].state for name in names]

    def at(states: list[State]) -> dict[Name, Layer]:
        return {
            name: dataclasses.replace(layers[name], state=state)
            for name, state in zip(names, states, strict=True)
        }

    # A branch that is taken only where it is due, side by side too: vmap would make a `cond` do both.
    with jax.named_scope("density"):
        states = [layers[name].state for name in names]
        return at(lax.while_loop(lambda carry: carry[0], move, (due, states))[1])
