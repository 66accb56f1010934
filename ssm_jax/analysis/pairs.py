"""The overlap of networks' masks, within a run and between runs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

from ssm_jax.analysis import masks
from ssm_jax.analysis.findings import Pairs
from ssm_jax.analysis.masks import Masks


@dataclasses.dataclass(frozen=True)
class Network:
    """What is compared of a network.

    Attributes:
      seed: Its seed; None where a file does not tell it.
      masks: Its masks; None where a file holds effective kernels alone.
      effective_signs: Signs of its effective kernels.
    """

    seed: int | None
    masks: Masks | None
    effective_signs: Masks


def overlaps(networks: Mapping[str, Sequence[Network]]) -> Iterator[Pairs]:
    """Yield the pairs of networks within every run, then of one seed and of others between any two runs.

    Args:
      networks: Those of every run by its name, of the same layers.
    """
    for name, own in networks.items():
        yield from _pairs(name, name, False, itertools.combinations(own, 2))
    for (first, ours), (second, theirs) in itertools.combinations(networks.items(), 2):
        for same in (True, False):
            pairs = ((a, b) for a in ours for b in theirs if (a.seed == b.seed is not None) == same)
            yield from _pairs(first, second, same, pairs)


def _pairs(
    first: str, second: str, same_seed: bool, pairs: Iterator[tuple[Network, Network]]
) -> Iterator[Pairs]:
    by_mask, by_sign = [], []
    for a, b in pairs:
        by_sign.append(masks.overlap(a.effective_signs, b.effective_signs))
        if a.masks is not None and b.masks is not None:
            by_mask.append(masks.overlap(a.masks, b.masks))
    if by_sign:
        yield Pairs(
            first=first,
            second=second,
            same_seed=same_seed,
            count=len(by_sign),
            masks=masks.mean(by_mask) if by_mask else None,
            effective_signs=masks.mean(by_sign),
        )
