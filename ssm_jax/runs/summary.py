"""What a finished run has found: `summary.json` and the closing table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from ml_collections import ConfigDict

from ssm_jax import errors
from ssm_jax.columns import aligned
from ssm_jax.config import DENSE
from ssm_jax.runs.schema import Count, Natural, NotNegative, Share, Size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """A number over the seeds of a run.

    Attributes:
      mean: Mean.
      std: Standard deviation (n - 1); 0 for one value.
      values: One number per seed, in the order of the seeds.
    """

    mean: NotNegative
    std: NotNegative
    values: tuple[NotNegative, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Statistics:
        """Compute the statistics of one or more numbers.

        Examples:
          >>> Statistics.of([1.0, 3.0])
          Statistics(mean=2.0, std=1.4142135623730951, values=(1.0, 3.0))
        """
        values = tuple(map(float, values))
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(mean=float(np.mean(values)), std=std, values=values)

    def text(self, factor: float = 1.0) -> str:
        """Write the mean, and behind it the deviation of several values.

        Args:
          factor: By which both are multiplied, for example 100 to make per cent of a share.

        Examples:
          >>> Statistics.of([0.01, 0.03]).text(100)
          '2.00 ± 1.41'
        """
        deviation = f" ± {factor * self.std:.2f}" if len(self.values) > 1 else ""
        return f"{factor * self.mean:.2f}{deviation}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A network that stopped on a number that is not finite: at which step, and which metric it was."""

    seed: Natural
    step: Natural
    metric: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmptyLayers:
    """A network with layers, by their paths, whose mask hides every weight: nothing passes them."""

    seed: Natural
    layers: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """A masked layer; its shares are means over seeds.

    Attributes:
      inverted: Share of -1 in the mask.
      hidden: Share of 0.
      kept: Share of +1.
    """

    name: str
    shape: tuple[Count, ...]
    weights: Size
    inverted: Share
    hidden: Share
    kept: Share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a finished run has found.

    Attributes:
      network: Name of the network.
      dataset: Name of the dataset.
      method: Name of the mask rule.
      weights: Number of weights of the masked layers.
      seeds: Seeds of the networks that were trained to the end, in the order of all values.
      failed_seeds: Networks that stopped on a number that is not finite.
      emptied_layers: Networks in which a layer's mask hides every weight.
      test_accuracy: In %, of the last step.
      remaining_weights: Share in [0, 1], of the last step.
      epochs: Epochs of training of one network, the most of all groups; fewer than the config's where every
        network stopped before.
      steps: Steps of training of one network, the most of all groups.
      train_seconds: Seconds in training steps, of all networks.
      compile_seconds: Seconds in initializing, tracing and compiling.
      images_per_second: Training images per second of `train_seconds`.
      device: Kind of device.
      device_count: Number of devices.
      versions: Versions of Python and of the packages that decide a result.
      layers: The masked layers, in the order of the network.
      config: The run's config.
      present: Number of classes that the test images have; None in a summary of an earlier version.
    """

    format: ClassVar[int] = 1
    network: str
    dataset: str
    method: str
    weights: Size
    seeds: tuple[Natural, ...]
    failed_seeds: tuple[Failure, ...]
    emptied_layers: tuple[EmptyLayers, ...]
    test_accuracy: Statistics
    remaining_weights: Statistics
    epochs: Count
    steps: Count
    train_seconds: NotNegative
    compile_seconds: NotNegative
    images_per_second: NotNegative
    device: str
    device_count: Count
    versions: dict[str, str]
    layers: tuple[Layer, ...]
    config: ConfigDict
    present: Count | None = None

    def __post_init__(self) -> None:
        for name in ("test_accuracy", "remaining_weights"):
            count = len(getattr(self, name).values)
            if not count or count != len(self.seeds):
                raise errors.InputError(f"{name} is of {count} networks, and seeds names {len(self.seeds)}")


def guesses(accuracy: float, classes: int) -> bool:
    """Tell whether an accuracy in % is no better than guessing: never learned, or collapsed."""
    return accuracy <= 110 / max(classes, 2)


def table(summary: Summary, classes: int) -> str:
    """Lay out the closing table: the shares of -1, 0 and +1 per masked layer, then the main numbers.

    Networks that are no better than guessing among the classes of the test images are named.
    """
    # A dense baseline has no mask.
    columns = {} if summary.method == DENSE else {"-1 %": "inverted", "0 %": "hidden", "+1 %": "kept"}
    rows: list[tuple[str, ...]] = [("layer", "kernel", "weights", *columns)]
    for layer in summary.layers:
        shares = (f"{100 * getattr(layer, name):.2f}" for name in columns.values())
        rows.append((layer.name, "x".join(map(str, layer.shape)), f"{layer.weights:,}", *shares))
    means = (
        sum(getattr(layer, name) * layer.weights for layer in summary.layers) / summary.weights
        for name in columns.values()
    )
    rows.append(("all", "", f"{summary.weights:,}", *(f"{100 * mean:.2f}" for mean in means)))
    lines = aligned(rows, left=2)

    seeds, asked = summary.seeds, summary.config.training.epochs
    epochs = str(asked) if summary.epochs == asked else f"{summary.epochs} of {asked}"
    lines += [
        "",
        f"{summary.network} on {summary.dataset}, {summary.method}, "
        + (f"{len(seeds)} seeds, " if len(seeds) > 1 else f"seed {seeds[0]}, ")
        + f"{epochs} epochs",
        f"test accuracy {summary.test_accuracy.text()} %, "
        f"remaining weights {summary.remaining_weights.text(100)} %",
        f"trained in {summary.train_seconds:.1f} s ({summary.images_per_second:,.0f} images/s) after "
        f"{summary.compile_seconds:.1f} s of compilation on {summary.device_count} x {summary.device}",
        *_warnings(summary, classes),
    ]
    return "\n".join(lines)


def _warnings(summary: Summary, classes: int) -> Iterable[str]:
    for failure in summary.failed_seeds:
        yield f"seed {failure.seed} failed: {failure.metric} not finite at step {failure.step}"
    by_layers: dict[tuple[str, ...], list[int]] = {}
    for emptied in summary.emptied_layers:
        by_layers.setdefault(emptied.layers, []).append(emptied.seed)
    for layers, seeds in by_layers.items():
        where = "" if len(layers) == len(summary.layers) else f" of {_some(layers)}"
        yield (
            f"{_seeds(seeds)}: the mask hides every weight{where}; set a lower "
            "config.mask.threshold, config.optimizer.weight_decay or config.optimizer.learning_rate"
        )
    classes = summary.present or classes
    # A loss that has run away and come back to that of guessing is finite.
    hidden = {emptied.seed for emptied in summary.emptied_layers}
    accuracies = zip(summary.seeds, summary.test_accuracy.values, strict=True)
    guessing = [seed for seed, accuracy in accuracies if guesses(accuracy, classes) and seed not in hidden]
    if guessing:
        yield (
            f"{_seeds(guessing)}: no better than guessing among {classes} classes; set a lower "
            "config.optimizer.learning_rate, or train for longer"
        )


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {_some(seeds)}"


def _some(names: Sequence[object], limit: int = 4) -> str:
    listed = ", ".join(map(str, names[:limit]))
    return listed + (f" and {len(names) - limit} more" if len(names) > limit else "")
