"""A network that a file holds by itself, as reports show it beside runs."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import numpy as np

from ssm_jax import config as configuration
from ssm_jax import errors, graph
from ssm_jax.analysis import masks
from ssm_jax.analysis.transfer import effective_signs
from ssm_jax.artifact import format, model
from ssm_jax.config import DENSE
from ssm_jax.nn.layers import evaluated, masked_layers
from ssm_jax.runs.folder import model_name
from ssm_jax.runs.summary import Layer, Statistics
from ssm_jax.training.layout import mask_rules
from ssm_jax.training.step import Build

Value = TypeVar("Value")
Layers = dict[str, np.ndarray]
_NOTHING: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Stored:
    """A network without the run that trained it.

    Attributes:
      name: The file, as far as it tells what is shown apart.
      path: The file.
      artifact: What the network computes, and what the file tells of its training.
      effective_signs: Signs of the effective kernels by layer, int8; of the masked layers, or of all where
        none is.
      own_masks: Masks by layer; None of a `.ssm` file, which holds effective kernels alone.
    """

    name: str = ""
    path: pathlib.Path
    artifact: format.Artifact
    effective_signs: Layers
    own_masks: Layers | None = None

    @property
    def masks(self) -> Layers:
        """The masks, or the signs that stand for them."""
        return self.effective_signs if self.own_masks is None else self.own_masks

    @property
    def signs_alone(self) -> bool:
        """Whether -1 and 1 are signs of effective kernels, and no masks."""
        return self.own_masks is None

    @property
    def has_masks(self) -> bool:
        """Whether there are masks, or kernels that look like it."""
        return self.own_masks is not None or any(
            _masked(layer.kernel) for layer in self.artifact.network.layers()
        )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the masks by layer."""
        return {name: mask.shape for name, mask in self.masks.items()}

    @property
    def shown(self) -> str:
        """What it is, for an error."""
        return f"{self.path} ({self.network}{self.dataset and f' on {self.dataset}'})"

    @property
    def network(self) -> str:
        """Name of the network."""
        return self._told("network", "a network")

    @property
    def dataset(self) -> str:
        """Name of the dataset; empty where the file tells of none."""
        return self._told("dataset", "")

    @property
    def rule(self) -> str:
        """Name of the mask rule."""
        return self._told("rule", "masked" if self.has_masks else DENSE)

    @property
    def test_accuracy(self) -> Statistics | None:
        """The test accuracy in %, where it has been measured."""
        accuracy = self._told("test_accuracy", -1.0)
        return Statistics.of([accuracy]) if accuracy >= 0 else None

    @property
    def remaining_weights(self) -> Statistics:
        """The share of the weights that remain."""
        return Statistics.of([masks.shares(self.masks).all.remaining])

    @property
    def weights(self) -> int:
        """Number of weights that have a mask."""
        return sum(mask.size for mask in self.masks.values())

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What the masks do, by layer."""
        return tuple(
            Layer(
                name=name,
                shape=self.masks[name].shape,
                weights=self.masks[name].size,
                **dataclasses.asdict(shares),
            )
            for name, shares in masks.shares(self.masks).layers.items()
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The network's seed, where the file tells it."""
        seed = self._told("seed", -1)
        return (seed,) if seed >= 0 else ()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that it has taken, where the file tells them."""
        step = self._told("step", -1)
        return (step,) if step >= 0 else ()

    @property
    def epochs(self) -> tuple[float, ...]:
        """The epochs that it has done, where the file tells them."""
        epochs = self._told("epochs", -1)
        return (epochs,) if epochs >= 0 else ()

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python and packages of the training."""
        return {str(name): str(version) for name, version in self._told("versions", _NOTHING).items()}

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of the config that the file tells, by their dotted names."""
        known = {name for name, _ in configuration.fields(configuration.default())}
        return {name: value for name, value in self._told("config", _NOTHING).items() if name in known}

    def _told(self, name: str, otherwise: Value) -> Value:
        """An entry of the record, which may be anybody's."""
        entry = self.artifact.record.get(name)
        if isinstance(otherwise, float) and isinstance(entry, int):
            entry = float(entry)
        usable = isinstance(entry, type(otherwise)) and str(entry).isprintable()
        return cast(Value, entry) if usable else otherwise

    def facts(self) -> dict[str, str]:
        """What a report says of it, by what that is of."""
        remaining, accuracy = self.remaining_weights, self.test_accuracy
        done = [f"{number:,}" for number in (*self.epochs, *self.steps)]
        return {
            "network": f"{self.network}, {self.weights:,} weights",
            "data": f"{self.dataset} {self._told('dataset_version', '')}".strip(),
            "mask rule": self.rule,
            "seed shown": ", ".join(map(str, self.seeds)),
            "epochs, steps": ", ".join(done),
            "test accuracy": "" if accuracy is None else f"{accuracy.text()} %",
            "remaining weights": f"{remaining.text(100)} %, {remaining.mean * self.weights:,.0f}",
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        }


def of_file(path: str | os.PathLike[str]) -> Stored:
    """Read a `.ssm` file.

    Args:
      path: The file.

    Raises:
      InputError: The file can't be read, is damaged or another, or its network has no weights.
    """
    artifact = format.read(path)
    layers = artifact.network.layers()
    layers = [layer for layer in layers if _masked(layer.kernel)] or layers
    if not layers:
        raise errors.InputError(f"the network in {os.fspath(path)} has no weights")
    signs = {layer.name: np.sign(layer.kernel.values).astype(np.int8) for layer in layers}
    return Stored(path=pathlib.Path(path), artifact=artifact, effective_signs=signs)


def _masked(kernel: graph.Kernel) -> bool:
    """Whether a kernel looks masked: weights are hidden, or all of one size."""
    return kernel.remaining < kernel.values.size or kernel.values.dtype == np.int8


def of_saved(
    path: str | os.PathLike[str], build: Build, shape: Sequence[int], dtype: str | None = None
) -> Stored:
    """Read a model that `ssm_jax.save` has put into a file, with its masks.

    Args:
      path: The file.
      build: The function that built the model, masked as it was saved.
      shape: Shape of an input, without its batch.
      dtype: Dtype of the inputs; None for uint8 images that the model takes standardized.

    Raises:
      InputError: The file is of another model, no layer is masked, or the model computes what there is no
        operation for.
    """
    network = model.saved(path, build)
    own = {name: np.asarray(evaluated(layer).mask) for name, layer in masked_layers(network)}
    if not own:
        raise errors.InputError(f"{model_name(build)} has no masked layer; ssm_jax.supermask masks a model")
    artifact = model.of_model(network, shape, dtype, name=model_name(build))
    artifact.record["rule"] = mask_rules(network)
    return Stored(
        path=pathlib.Path(path),
        artifact=artifact,
        effective_signs=effective_signs(network),
        own_masks=own,
    )
