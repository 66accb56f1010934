"""A network as a graph of operations on plain data; numpy alone."""

from __future__ import annotations

# An operation is known here by its class alone.
from ssm_jax.graph.elementary import *  # noqa: F403
from ssm_jax.graph.network import *  # noqa: F403
from ssm_jax.graph.operations import *  # noqa: F403
