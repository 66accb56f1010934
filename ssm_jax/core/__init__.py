"""Masks: what turns trainable scores into the mask that multiplies a frozen kernel.

`RULES` names every rule that a config may ask for; a rule of one's own joins by an entry there, or is handed
to `ssm_jax.Masking` as an object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

from ml_collections import ConfigDict

from ssm_jax import errors
from ssm_jax.config import DENSE
from ssm_jax.core.density import BUDGETS
from ssm_jax.core.rule import Counts, Rescaled, Rule, State, count, straight_through
from ssm_jax.core.sign import SignOnly
from ssm_jax.core.stochastic import Stochastic
from ssm_jax.core.threshold import Binary, Signed
from ssm_jax.core.topk import Biprop, EdgePopup, Multicoated, SignedTopK

__all__ = [
    "RULES",
    "Binary",
    "Biprop",
    "Counts",
    "EdgePopup",
    "Multicoated",
    "Rescaled",
    "Rule",
    "SignOnly",
    "Signed",
    "SignedTopK",
    "State",
    "Stochastic",
    "by_name",
    "count",
    "name_of",
    "straight_through",
]

RULES: dict[str, Callable[..., Rule]] = {
    "signed": Signed,
    "binary": Binary,
    "stochastic": Stochastic,
    "edge_popup": EdgePopup,
    "signed_topk": SignedTopK,
    "biprop": Biprop,
    "multicoated": Multicoated,
    "sign_only": SignOnly,
}


def by_name(name: str, settings: ConfigDict | None = None) -> Rule | None:
    """Make the rule of a name; the one place where `dense` becomes no mask.

    Args:
      name: A key of `RULES`, or `dense`.
      settings: `config.mask`; its fields that the rule has too become the rule's. None leaves its defaults.

    Returns:
      The rule, or None for a dense network whose kernels are trained.

    Raises:
      InputError: The name is unknown, or a setting out of range.
    """
    made = errors.choose("mask rule", name, {**RULES, DENSE: None})
    fields = {field.name for field in dataclasses.fields(cast(Any, made))} if made else set()
    if settings and settings.density and "density" not in fields:
        raise errors.InputError(
            f"config.mask.density is {settings.density}; the mask rule {name!r} takes none: set it to 0"
        )
    if made is None:
        return None
    if settings and "budget" in fields and settings.budget not in BUDGETS:
        raise errors.unknown("config.mask.budget", settings.budget, BUDGETS)
    try:
        return made(**{name: value for name, value in (settings or {}).items() if name in fields})
    except errors.InputError as error:  # of a setting, by the rule's own name of it
        raise errors.InputError(f"config.mask.{error}") from error


def name_of(rule: Rule | None) -> str:
    """Name a rule as a config does; None is `dense`, and a rule of one's own has the name of its class.

    Args:
      rule: The rule of a layer.

    Examples:
      >>> name_of(Signed(threshold=0.5))
      'signed'
    """
    if rule is None:
        return DENSE
    return next((name for name, kind in RULES.items() if type(rule) is kind), type(rule).__name__)
