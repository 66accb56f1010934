"""A trained network and what is known of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ssm_jax.artifact import graph


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A trained network and what is known of it.

    Attributes:
      network: The network.
      class_names: Names of the classes in the logits' order.
      record: What JSON can hold: where the network comes from and how good it is.
    """

    network: graph.Network
    class_names: tuple[str, ...]
    record: dict[str, Any]
