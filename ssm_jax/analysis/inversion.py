"""What inversion buys: runs whose masks invert weights against runs whose masks invert none."""

from __future__ import annotations

from collections.abc import Iterable

from ssm_jax.analysis.findings import Difference, RunReport
from ssm_jax.config import DENSE, RESUME_SAFE_FIELDS

# Densities are equal that differ by no more than this share of the smaller one.
TOLERANCE = 0.05

# What two runs of a comparison need not share.
_FREE = {*RESUME_SAFE_FIELDS, "mask.rule", "seed", "seeds"}


def differences(runs: Iterable[RunReport]) -> tuple[Difference, ...]:
    """Compare every run that inverts weights with every one that inverts none, as far as they are comparable.

    Args:
      runs: Runs, of which those of one network on one dataset are compared; dense ones have no mask,
        and of a `.ssm` file nobody knows what it inverts.
    """
    runs = [run for run in runs if run.rule != DENSE and not run.signs_alone]
    return tuple(
        _difference(first, second)
        for first in runs
        for second in runs
        if first.shares.all.inverted > 0
        and second.shares.all.inverted == 0
        and (first.network, first.dataset) == (second.network, second.dataset)
    )


def _difference(first: RunReport, second: RunReport) -> Difference:
    densities = [run.remaining_weights.mean for run in (first, second)]
    accuracies = [run.test_accuracy for run in (first, second) if run.test_accuracy]
    accuracy = error = None
    if max(densities) <= (1 + TOLERANCE) * min(densities) and len(accuracies) == 2:
        accuracy = accuracies[0].mean - accuracies[1].mean
        if min(len(one.values) for one in accuracies) > 1:
            error = sum(one.std**2 / len(one.values) for one in accuracies) ** 0.5
    names = sorted({*first.settings, *second.settings} - _FREE)
    return Difference(
        inverting=first.name,
        other=second.name,
        density_ratio=densities[0] / densities[1] if densities[1] else None,
        accuracy=accuracy,
        standard_error=error,
        other_settings=tuple(name for name in names if first.settings.get(name) != second.settings.get(name)),
    )
