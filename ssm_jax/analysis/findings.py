"""What the masks of one or several runs tell: the content of the tables and of the JSON."""

from __future__ import annotations

import dataclasses

from ssm_jax.analysis.masks import ByLayer, Flips, Overlap, Shares, Units
from ssm_jax.runs.summary import Statistics


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskSnapshot:
    """Masks at one report of the training, means over the seeds.

    Attributes:
      epoch: Epochs done; 0 is before training.
      step: Steps taken.
      shares: Shares of -1, 0 and +1.
      flips: What changed since the report before; None at the first.
    """

    epoch: float
    step: int
    shares: ByLayer[Shares]
    flips: ByLayer[Flips] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connectivity:
    """What lies on a path from the input to the output, means over the seeds.

    Attributes:
      connected: Of the weights that remain, the share on such a path; None where none remains.
      units: Units once the weights on no path are hidden too.
    """

    connected: ByLayer[float | None]
    units: ByLayer[Units]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfers:
    """The mask on other kernels.

    Attributes:
      kernel_seeds: The seeds by which the other kernels were drawn, the same for every network.
      accuracy: By the name of a field of `Transfer`, the test accuracy in % over networks and, where other
        kernels or random signs are drawn, draws.
    """

    kernel_seeds: tuple[int, ...]
    accuracy: dict[str, Statistics]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """The overlap of two networks' masks, means over all pairs of a kind.

    Attributes:
      first: Name of the one's run.
      second: Name of the other's, which may be the same.
      same_seed: Whether the two have one seed, hence signs of kernels that were drawn alike.
      count: The number of pairs.
      masks: Overlap of the masks; None with a file that holds effective kernels alone.
      effective_signs: Overlap of the signs of the effective kernels, `sign(kernel) * mask`.
    """

    first: str
    second: str
    same_seed: bool
    count: int
    masks: ByLayer[Overlap] | None
    effective_signs: ByLayer[Overlap]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What the masks of one run or file tell; shares, units and the like are means over the seeds.

    Attributes:
      name: The run's folder or the file, as far as it tells the runs apart.
      network: Name of the network.
      dataset: Name of the dataset; empty where a file does not tell it.
      rule: Name of the mask rule, or `dense`.
      signs_alone: Whether -1 and +1 are signs of effective kernels, since a `.ssm` file holds no masks.
      settings: The config's fields that differ from the defaults.
      seeds: The networks' seeds; empty where a file does not tell it, as are steps and epochs.
      steps: The steps that each has taken.
      epochs: The epochs that each has done.
      test_accuracy: In %, of these steps; None where there was no report at them.
      remaining_weights: Share of the weights that remain.
      device: Kind of the device that trained it; None as long as the run goes on.
      versions: Versions of Python and of packages at that time; likewise.
      shares: Shares of -1, 0 and +1.
      units: Dead units by the layer's own mask; None where the mask is drawn at random, as is what follows.
      connectivity: None for a network with operations that it is not followed through, as well.
      moments: Masks over training; empty where the run did not store them (`logging.masks`), None of a
        file.
      since_start: Overlap of the first stored mask with the last.
      transfer: The mask on other kernels; None where none were asked for.
    """

    name: str
    network: str
    dataset: str
    rule: str
    signs_alone: bool = False
    settings: dict[str, object]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    test_accuracy: Statistics | None
    remaining_weights: Statistics
    device: str | None
    versions: dict[str, str] | None
    shares: ByLayer[Shares]
    units: ByLayer[Units] | None
    connectivity: Connectivity | None
    moments: tuple[MaskSnapshot, ...] | None
    since_start: ByLayer[Overlap] | None
    transfer: Transfers | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A run with inversion against one without it.

    Attributes:
      inverting: Name of the run whose masks invert weights.
      other: Name of the run whose masks invert none.
      density_ratio: Remaining weights of the one over those of the other; None where these are none.
      accuracy: Mean test accuracy of the one minus that of the other, in points; None where densities differ
        by more than `inversion.TOLERANCE` or an accuracy is unknown.
      standard_error: Of that difference; None where a run has a single seed as well.
      other_settings: Config fields beside the rule in which the runs differ, so that the difference may be
        theirs.
    """

    inverting: str
    other: str
    density_ratio: float | None
    accuracy: float | None
    standard_error: float | None
    other_settings: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the masks of one or several runs tell.

    Attributes:
      runs: What each run tells.
      overlaps: Pairs of networks within a run, then between runs.
      differences: Runs with inversion against runs without it, of one network on one dataset.
      device: Kind of the device of this analysis.
      versions: Versions of Python and packages of this analysis.
    """

    runs: tuple[RunReport, ...]
    overlaps: tuple[Pairs, ...]
    differences: tuple[Difference, ...]
    device: str
    versions: dict[str, str]
