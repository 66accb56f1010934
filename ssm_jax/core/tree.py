"""Masks on any tree of parameters, as pure functions: `init`, `apply`, `advance`, `counts`.

masks = core.init(key, params, Masking(rule=Signed(density=0.05)), steps=1000)
logits = network(core.apply(masks), images)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ssm_jax import errors
from ssm_jax.core.blocks import Blocks
from ssm_jax.core.control import advance as move
from ssm_jax.core.control import is_due
from ssm_jax.core.control import set_density as control_density
from ssm_jax.core.layer import Layer, draw
from ssm_jax.core.masking import Masking
from ssm_jax.core.rule import Counts
from ssm_jax.core.tabulate import Row, lay_out
from ssm_jax.types import PyTree

KERNELS = ("drawn", "given")
# The share of the steps in which masks go to the density that their rule asks for.
RAMP = 0.6

Where = Callable[[str, Any], bool | Blocks]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Masks:
    """A tree of parameters whose kernels are under masks; a pytree itself.

    Attributes:
      layers: The masked kernels by path, such as `dense/kernel`.
      others: The tree, with None in the place of every masked kernel.
      step: Steps taken, int32.
      steps: Steps of the whole training, by which a density is timed; 0 is unknown.
    """

    layers: dict[str, Layer]
    others: PyTree
    step: jax.Array
    steps: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def trained(self) -> dict[str, PyTree]:
        """What is trained: `scores` by path, and the `others`. Take gradients in these."""
        return {"scores": {path: layer.scores for path, layer in self.layers.items()}, "others": self.others}

    def replace(self, trained: dict[str, PyTree]) -> Masks:
        """Put what is trained in the place of what was.

        Args:
          trained: In the structure of `trained`.
        """
        scores = trained["scores"]
        layers = {
            path: dataclasses.replace(layer, scores=scores[path]) for path, layer in self.layers.items()
        }
        return dataclasses.replace(self, layers=layers, others=trained["others"])


def init(
    key: jax.Array,
    params: PyTree,
    masking: Masking = Masking(),
    *,
    where: Where | None = None,
    kernels: str = "drawn",
    stacked: int | Callable[[str, Any], int] = 0,
    steps: int = 0,
) -> Masks:
    """Put the kernels of a tree of parameters under masks.

    Args:
      key: A key.
      params: Any tree of arrays: of Flax's linen, of Equinox, of dictionaries.
      masking: How kernels are drawn and masked; effective kernels keep the dtype that they have in `params`.
      where: A function of path and array that says which ones are kernels. A kernel is `(..., I, O)`; of one
        with other axes return its `Blocks`. By default all of two axes and more, in each layer of a stack,
        whose path does not speak of an embedding.
      kernels: `drawn` draws new ones, `given` keeps those of `params`; the scores of these are positive and
        in the order of the sizes of the weights.
      stacked: How many of a kernel's first axes stack layers, for `scan` over blocks or `vmap` over heads,
        seeds or tasks: a number, or a function of path and array.
      steps: Steps of the whole training. A density is reached in their first three fifths, and thresholds
        follow it in every tenth step and in the last. 0: at once, and in every step.

    Raises:
      InputError: Nothing is masked, or an argument is not what it must be.
    """
    errors.choose("kernels", kernels, dict.fromkeys(KERNELS))
    if masking.rule is None:
        raise errors.InputError("masking has no rule: there is nothing to mask")
    leaves, structure = jax.tree.flatten_with_path(params)
    layers: dict[str, Layer] = {}
    others: list[Any] = []
    for place, (place_path, leaf) in enumerate(leaves):
        path = path_of(place_path)
        axes = stacked(path, leaf) if callable(stacked) else stacked
        chosen = where(path, leaf) if where else _is_kernel(path, leaf, axes)
        others.append(leaf if chosen is False else None)
        if chosen is False:
            continue
        blocks = chosen if isinstance(chosen, Blocks) else None
        shape = leaf.shape[axes:]
        if len(shape) < 2 or (blocks and blocks.kernel != shape):
            needed = f"{list(blocks.kernel)}, as its blocks say" if blocks else "of two axes at least"
            raise errors.InputError(f"the kernel {path} is {list(shape)} per layer; it must be {needed}")
        own = masking.for_kernel(blocks, leaf.dtype)
        keys = jax.random.split(jax.random.fold_in(key, place))
        given = leaf if kernels == "given" else None
        layer = draw(own, keys[0], keys[1], shape, leaf.shape[:axes], given)
        layers[path] = layer.spread(leaf)
    if not layers:
        known = ", ".join(path_of(path) for path, _ in leaves[:6])
        raise errors.InputError(f"`where` selects nothing of {known or 'an empty tree'}")
    step = jnp.zeros((), jnp.int32)
    return Masks(layers, jax.tree.unflatten(structure, others), step, steps)


def apply(masks: Masks, key: jax.Array | None = None) -> PyTree:
    """Make the parameters: effective kernels in their places, differentiable in `Masks.trained`.

    Args:
      masks: The masks.
      key: A key of the step, for rules that draw at random in training; None in evaluation.

    Returns:
      A tree in the structure that `init` was given.

    Raises:
      InputError: It is differentiated without a key, though a rule draws in training.
    """
    effective = {}
    for place, (path, layer) in enumerate(sorted(masks.layers.items())):
        effective[path] = layer.kernel(None if key is None else jax.random.fold_in(key, place))

    def leaf(path: Any, value: Any) -> Any:
        return effective.get(path_of(path)) if value is None else value

    return jax.tree.map_with_path(leaf, masks.others, is_leaf=lambda value: value is None)


def advance(masks: Masks) -> Masks:
    """Count a step, and move the thresholds of rules that ask for a density when it is time to.

    Args:
      masks: The masks, updated by the optimizer.
    """
    step = masks.step + 1
    due = is_due(step, masks.steps)
    moved = move(masks.layers, step, round(RAMP * masks.steps), due)
    return dataclasses.replace(masks, step=step, layers={**masks.layers, **moved})


def update(masks: Masks, gradient: PyTree, optimizer: Any, state: PyTree) -> tuple[Masks, PyTree]:
    """Take a step: update what is trained, and `advance`.

    Args:
      masks: The masks.
      gradient: That of `Masks.trained`.
      optimizer: A gradient transformation of optax, for example `ssm_jax.score_optimizer`.
      state: Its state, at first `optimizer.init(masks.trained)`.

    Returns:
      The masks and the optimizer's state after the step.
    """
    trained = masks.trained
    updates, state = optimizer.update(gradient, state, trained)
    trained = jax.tree.map(lambda array, change: (array + change).astype(array.dtype), trained, updates)
    return advance(masks.replace(trained)), state


def counts(masks: Masks) -> dict[str, Counts]:
    """Count what masks invert, hide and keep in evaluation, by path.

    Args:
      masks: The masks.
    """
    return {path: layer.count() for path, layer in masks.layers.items()}


def set_density(masks: Masks, density: float, *, floor: float = 0.0, budget: str = "global") -> Masks:
    """Move the thresholds so that a share of the weights remains.

    Args:
      masks: The masks; other rules than `Signed` and `Binary` are left alone.
      density: The share of weights that remain, above 0 and at most 1.
      floor: The least share of every layer, 0 up to the density.
      budget: What the density is a share of, `global` or `layer`.

    Raises:
      InputError: No layer has a threshold, or a setting is out of range.
    """
    moved = control_density(masks.layers, density, floor, budget)
    return dataclasses.replace(masks, layers={**masks.layers, **moved})


def table(masks: Masks) -> str:
    """Lay out the shares of -1, 0 and +1 of every masked kernel, and what is trained without a mask.

    Args:
      masks: The masks.
    """
    sign_counts = jax.device_get(jax.jit(counts)(masks))
    rows = [
        Row(path, type(layer.rule).__name__, layer.scores.shape, sign_counts[path])
        for path, layer in masks.layers.items()
    ]
    others = jax.tree.leaves_with_path(masks.others)
    return lay_out([*rows, *(Row(path_of(path), "", leaf.shape, None) for path, leaf in others)])


def path_of(path: Any) -> str:
    """Write a path of a tree as text, `dense/kernel`.

    Args:
      path: A key path of JAX.
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_kernel(path: str, leaf: Any, axes: int) -> bool:
    return leaf.ndim >= 2 + axes and jnp.issubdtype(leaf.dtype, jnp.floating) and "embed" not in path.lower()
