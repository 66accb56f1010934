"""The numbers of the paper and of others on the same networks: the one place where they stand.

Koster, Grothe and Rettinger, "Signing the Supermask: Keep, Hide, Invert" (ICLR 2022, arXiv 2201.13361).
The brackets are as its authors print them; what they mean is not stated. Nor is it known whether accuracies
are of the last or of the best epoch.
"""

from __future__ import annotations

import dataclasses

from ssm_jax.config import DENSE


@dataclasses.dataclass(frozen=True)
class Published:
    """A number as it was published, with the ends of its bracket where it has one."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the paper's main table.

    Attributes:
      network: Name of the network and of its config file.
      dense: Test accuracy in % of the dense baseline.
      accuracy: Test accuracy in % of the signed supermask.
      remaining: Its remaining weights, a share in [0, 1].
      runs: Number of runs that the numbers are means of; None where it is not known.
    """

    network: str
    data: str
    width: float
    dense: Published
    accuracy: Published
    remaining: Published
    runs: int | None = 50

    def accuracy_of(self, method: str) -> Published:
        """Return the accuracy of the dense baseline or of the signed supermask, by a run's rule."""
        return self.dense if method == DENSE else self.accuracy

    def remaining_of(self, method: str) -> Published | None:
        """Return the remaining weights, likewise; None for the dense baseline, which keeps all."""
        return None if method == DENSE else self.remaining


_P = Published

# Network, data and width; dense accuracy, the mask's, its remaining weights.
ROWS = {
    "fcn": Row("fcn", "mnist", 1.0, _P(97.42), _P(97.48, 97.3, 97.7), _P(0.0377, 0.037, 0.038)),
    "conv2": Row(
        "conv2", "cifar10", 1.0, _P(68.79, 68.4, 69.2), _P(68.37, 67.7, 69.0), _P(0.0060, 0.0058, 0.0062)
    ),
    "conv4": Row("conv4", "cifar10", 1.0, _P(74.50), _P(77.40, 76.7, 78.3), _P(0.0291, 0.029, 0.030)),
    "conv6": Row(
        "conv6", "cifar10", 1.0, _P(75.91, 75.4, 76.4), _P(79.17, 78.1, 80.5), _P(0.0236, 0.019, 0.026)
    ),
    "conv8": Row(
        "conv8", "cifar10", 1.0, _P(72.24, 71.4, 73.0), _P(80.91, 79.9, 81.7), _P(0.0117, 0.011, 0.012)
    ),
    "resnet20": Row("resnet20", "cifar10", 1.0, _P(84.91), _P(81.68), _P(0.2113)),
    "resnet20-x2": Row("resnet20", "cifar10", 2.0, _P(86.80), _P(84.42), _P(0.0769)),
    "resnet20-x3": Row("resnet20", "cifar10", 3.0, _P(87.32), _P(84.89), _P(0.0406)),
    # The authors' configs say 1 to 3 runs of these two.
    "resnet56": Row("resnet56", "cifar100", 1.0, _P(68.04), _P(60.01), _P(0.2939), runs=None),
    "resnet110": Row("resnet110", "cifar100", 1.0, _P(62.70), _P(46.42), _P(0.2064), runs=None),
}


@dataclasses.dataclass(frozen=True)
class Point:
    """What others published for a network of frozen random weights.

    Attributes:
      source: Who, and by what method.
      low: The least share of remaining weights, in [0, 1].
      high: The largest; the same as `low` where one share was published.
    """

    source: str
    network: str
    data: str
    accuracy: float
    low: float
    high: float

    @property
    def short(self) -> str:
        """The source in a word or two, for a figure."""
        return self.source.partition(",")[0].partition(" et al.")[0]


def _points(source: str, low: float, high: float, accuracies: dict[str, float]) -> tuple[Point, ...]:
    return tuple(
        Point(source, network, "mnist" if network == "fcn" else "cifar10", accuracy, low, high)
        for network, accuracy in accuracies.items()
    )


ZHOU = "Zhou et al. 2019"
EDGE_POPUP = "edge-popup, Ramanujan et al. 2020"
BIPROP = "biprop, Diffenderfer and Kailkhura 2021"
RARE_GEMS = "Rare Gems, Sreenivasan et al. 2022"

POINTS = (
    *_points(ZHOU, 0.11, 0.93, {"fcn": 98.0, "conv2": 66.0, "conv4": 72.5, "conv6": 76.5}),
    *_points(BIPROP, 0.1, 0.1, {"conv2": 70.0, "conv4": 79.0, "conv6": 82.0, "conv8": 85.0}),
    *_points(EDGE_POPUP, 0.1, 0.1, {"conv2": 65.0, "conv4": 74.0, "conv6": 77.0, "conv8": 70.0}),
    *_points(EDGE_POPUP, 0.5, 0.5, {"resnet20": 87.42}),
    *_points(EDGE_POPUP, 0.018, 0.018, {"resnet20": 26.4}),
    *_points(RARE_GEMS, 0.0175, 0.0175, {"resnet20": 74.0}),
)
