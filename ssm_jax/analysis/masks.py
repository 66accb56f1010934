"""Numbers of masks and of pairs of masks, by layer and over all layers.

Pure functions of mask trees, dictionaries from a layer's path to its mask in the kernel's shape
`(..., I, O)`, as `ssm_jax.restore(...).masks` holds them: int8, of which only the sign counts (-1 invert,
0 hide, 1 keep).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from ssm_jax import errors

Masks = Mapping[str, np.ndarray]
Numbers = TypeVar("Numbers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByLayer(Generic[Numbers]):
    """Numbers of every layer, and of all of them together.

    Attributes:
      layers: By the layer's path.
      all: Of the layers as if they were one.
    """

    layers: dict[str, Numbers]
    all: Numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
    """What a mask does to the weights, as shares of them in [0, 1].

    Attributes:
      inverted: Share of -1.
      hidden: Share of 0.
      kept: Share of +1.
    """

    inverted: float
    hidden: float
    kept: float

    @property
    def remaining(self) -> float:
        """The share of weights that the mask does not hide."""
        return self.inverted + self.kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flips:
    """What became another from one mask to the next, as shares of all weights in [0, 1].

    Attributes:
      appeared: Share of the weights that were hidden and remain now.
      vanished: Share of those that remained and are hidden now.
      inverted: Share of those that remained and remain, with the other sign.
    """

    appeared: float
    vanished: float
    inverted: float

    @property
    def changed(self) -> float:
        """The share of weights whose mask changed in any of these ways."""
        return self.appeared + self.vanished + self.inverted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
    """What two masks have in common, and what they would by chance.

    By chance every layer keeps its numbers of -1, 0 and +1 in either mask, at places that know nothing of
    each other; of all layers together the expected numbers are added up. What all networks learn of the data,
    such as pixels that are always empty, shows as more than chance.

    Attributes:
      jaccard: Of the weights that remain in either mask, the share that remains in both; None where nothing
        remains in either.
      jaccard_by_chance: The expected number in both over the expected number in either.
      agreement: Of the weights that remain in both, the share of equal signs; None where none does.
      agreement_by_chance: The same for signs that know nothing of each other, at the places that are found.
    """

    jaccard: float | None
    jaccard_by_chance: float | None
    agreement: float | None
    agreement_by_chance: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Units:
    """Units of a layer, channels of a convolution, and how many of them are dead.

    Attributes:
      inputs: I, the number of input units.
      dead_inputs: How many of them have no outgoing weight that remains.
      outputs: O, the number of output units.
      dead_outputs: How many of them have no incoming weight that remains.
    """

    inputs: float
    dead_inputs: float
    outputs: float
    dead_outputs: float


def shares(masks: Masks) -> ByLayer[Shares]:
    """Compute the shares of -1, 0 and +1.

    Args:
      masks: One or more layers' masks; in those of floats, the expectation of a mask that is drawn, the
        expected shares.

    Examples:
      >>> shares({"dense": np.array([[1, 0], [-1, 0]], np.int8)}).all
      Shares(inverted=0.25, hidden=0.5, kept=0.25)
    """

    def count(mask: np.ndarray) -> np.ndarray:
        values = mask if np.issubdtype(mask.dtype, np.floating) else np.sign(mask)
        kept, inverted = values.clip(0).sum(dtype=float), -values.clip(None, 0).sum(dtype=float)
        return np.array([inverted, mask.size - inverted - kept, kept])

    def make(counts: np.ndarray) -> Shares:
        inverted, hidden, kept = map(float, counts / counts.sum())
        return Shares(inverted=inverted, hidden=hidden, kept=kept)

    counts = {path: count(mask) for path, mask in masks.items()}
    return ByLayer(layers={path: make(count) for path, count in counts.items()}, all=make(_sum(counts)))


def flips(before: Masks, after: Masks) -> ByLayer[Flips]:
    """Compute the share of weights whose mask changed, by the kind of the change.

    Args:
      before: The earlier masks.
      after: The later masks of the same layers.

    Raises:
      InputError: The layers differ.

    Examples:
      >>> flips({"dense": np.array([[0, 1, 1, 0]])}, {"dense": np.array([[1, 0, -1, 0]])}).all
      Flips(appeared=0.25, vanished=0.25, inverted=0.25)
    """
    check_same_layers(before, after)
    counts = {}
    for path, mask in before.items():
        first, second = np.sign(mask), np.sign(after[path])
        appeared, vanished = (first == 0) & (second != 0), (first != 0) & (second == 0)
        inverted = first * second < 0
        numbers = [kind.sum(dtype=float) for kind in (appeared, vanished, inverted)]
        counts[path] = np.array([*numbers, mask.size])

    def make(counts: np.ndarray) -> Flips:
        appeared, vanished, inverted = map(float, counts[:3] / counts[3])
        return Flips(appeared=appeared, vanished=vanished, inverted=inverted)

    return ByLayer(layers={path: make(count) for path, count in counts.items()}, all=make(_sum(counts)))


def overlap(first: Masks, second: Masks) -> ByLayer[Overlap]:
    """Compute what two masks have in common, places and signs, against chance.

    Args:
      first: The one mask.
      second: The other mask, of the same layers.

    Raises:
      InputError: The layers differ.

    Examples:
      >>> overlap({"dense": np.array([[1, -1, 0, 0]])}, {"dense": np.array([[1, 0, 1, 0]])}).all.jaccard
      0.3333333333333333
    """
    check_same_layers(first, second)
    counts = {path: _overlap(np.sign(mask), np.sign(second[path])) for path, mask in first.items()}

    def make(counts: np.ndarray) -> Overlap:
        both, either, same, both_chance, either_chance, same_chance = map(float, counts)
        return Overlap(
            jaccard=both / either if either else None,
            jaccard_by_chance=both_chance / either_chance if either_chance else None,
            agreement=same / both if both else None,
            agreement_by_chance=same_chance / both if both else None,
        )

    return ByLayer(layers={path: make(count) for path, count in counts.items()}, all=make(_sum(counts)))


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Weights in both, in either and with one sign; then as expected by chance."""
    both = np.count_nonzero(first * second)
    sizes = np.array([np.count_nonzero(first), np.count_nonzero(second)], float)
    positive = np.array([np.count_nonzero(first > 0), np.count_nonzero(second > 0)]) / np.maximum(sizes, 1)
    both_chance = sizes.prod() / first.size
    same_chance = both * (positive.prod() + (1 - positive).prod())
    same = np.count_nonzero(first * second > 0)
    return np.array(
        [both, sizes.sum() - both, same, both_chance, sizes.sum() - both_chance, same_chance], float
    )


def units(masks: Masks) -> ByLayer[Units]:
    """Count the units that a layer's own mask leaves without any weight.

    Args:
      masks: The layers' masks; the last two axes are inputs and outputs.
    """
    counts = {}
    for path, mask in masks.items():
        remaining = (mask != 0).any(axis=tuple(range(mask.ndim - 2)))
        dead = [np.count_nonzero(~remaining.any(axis)) for axis in (1, 0)]
        counts[path] = np.array([remaining.shape[0], dead[0], remaining.shape[1], dead[1]])

    def make(counts: np.ndarray) -> Units:
        inputs, dead_inputs, outputs, dead_outputs = map(int, counts)
        return Units(inputs=inputs, dead_inputs=dead_inputs, outputs=outputs, dead_outputs=dead_outputs)

    return ByLayer(layers={path: make(count) for path, count in counts.items()}, all=make(_sum(counts)))


def _sum(counts: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(counts.values()), axis=0)


def check_same_layers(first: Masks, second: Masks) -> None:
    """Check that two mask trees are of the same layers.

    Args:
      first: The one.
      second: The other.

    Raises:
      InputError: A path or a shape differs; names it.
    """
    for path in sorted({*first, *second}):
        shapes = [masks[path].shape if path in masks else "nothing" for masks in (first, second)]
        if shapes[0] != shapes[1]:
            raise errors.InputError(
                f"the masks are of different networks: {path} is {shapes[0]} and {shapes[1]}"
            )


def mean(values: Iterable[Numbers]) -> Numbers:
    """Average dataclasses of numbers, field by field.

    Args:
      values: One or more of them, of one type, nested as they like; a None among numbers is left out.

    Examples:
      >>> two = [Shares(inverted=0.0, hidden=0.5, kept=0.5), Shares(inverted=0.5, hidden=0.5, kept=0.0)]
      >>> mean(two)
      Shares(inverted=0.25, hidden=0.5, kept=0.25)
    """
    return _mean(list(values))


def _mean(values: list[Any]) -> Any:
    first = values[0]
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first)(**{name: _mean([getattr(value, name) for value in values]) for name in names})
    if isinstance(first, dict):
        return {key: _mean([value[key] for value in values]) for key in first}
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def fold(mask: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Count the remaining weights of a dense layer by the place in the image that they look at.

    Args:
      mask: Shape `(H * W * C, O)`; a weight remains where it is not 0, or of an expected mask in part.
      shape: `(H, W, C)` of what the layer takes: the image, or the map of features.

    Returns:
      float64 `[H, W]`.

    Examples:
      >>> fold(np.array([[1, -1], [0, 0], [0, 1], [0, 0]]), (2, 2, 1)).tolist()
      [[2.0, 0.0], [1.0, 0.0]]
    """
    return np.minimum(np.abs(mask), 1).sum(1, dtype=float).reshape(shape).sum(2)


def incoming(mask: np.ndarray) -> np.ndarray:
    """Count the remaining weights into every unit.

    Args:
      mask: Shape `(..., I, O)`.

    Returns:
      Integers `[O]`.

    Examples:
      >>> incoming(np.array([[1, 0], [-1, 0]])).tolist()
      [2, 0]
    """
    return np.count_nonzero(mask.reshape(-1, mask.shape[-1]), axis=0)
