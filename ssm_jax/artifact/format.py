"""A trained network with what is known of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ssm_jax.artifact import graph


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A trained network with what is known of it.

    Attributes:
      network: What it computes.
      class_names: Names of the classes.
      record: What JSON can hold: network, dataset, accuracy and so on.
    """

    network: graph.Network
    class_names: tuple[str, ...]
    record: dict[str, Any]
