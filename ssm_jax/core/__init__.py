"""Masks on any tree of arrays: rules, the one manner of computing a mask, densities. No Flax, no config.

`init`, `apply`, `advance` and `counts` mask a whole tree of parameters; `Layer` is one masked kernel of it.
`RULES` names every rule that a config may ask for.
"""

from __future__ import annotations

from ssm_jax.core.blocks import Blocks
from ssm_jax.core.layer import Layer, check_size, draw, draw_kernel, random_kernel
from ssm_jax.core.masking import Masking
from ssm_jax.core.registry import RULES, by_name, name_of
from ssm_jax.core.rule import Counts, Rescaled, Rule, State, count, straight_through
from ssm_jax.core.sign import SignOnly
from ssm_jax.core.stochastic import Stochastic
from ssm_jax.core.structured import NOfM, Tiles
from ssm_jax.core.threshold import Binary, Signed
from ssm_jax.core.topk import Biprop, EdgePopup, Multicoated, SignedTopK
from ssm_jax.core.tree import Masks, advance, apply, counts, init, set_density, table, update

__all__ = [
    "RULES",
    "Binary",
    "Biprop",
    "Blocks",
    "Counts",
    "EdgePopup",
    "Layer",
    "Masking",
    "Masks",
    "Multicoated",
    "NOfM",
    "Rescaled",
    "Rule",
    "SignOnly",
    "Signed",
    "SignedTopK",
    "State",
    "Stochastic",
    "Tiles",
    "advance",
    "apply",
    "by_name",
    "check_size",
    "count",
    "counts",
    "draw",
    "draw_kernel",
    "init",
    "name_of",
    "random_kernel",
    "set_density",
    "straight_through",
    "table",
    "update",
]
