"""The mask rules by name.

A rule of one's own joins by an entry in `RULES`, or is handed to `ssm_jax.Masking` as an object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

from ssm_jax import errors
from ssm_jax.config import DENSE, default
from ssm_jax.core.density import BUDGETS
from ssm_jax.core.rule import Rule
from ssm_jax.core.sign import SignOnly
from ssm_jax.core.stochastic import Stochastic
from ssm_jax.core.structured import NOfM, Tiles
from ssm_jax.core.threshold import Binary, Signed
from ssm_jax.core.topk import Biprop, EdgePopup, Multicoated, SignedTopK

RULES: dict[str, Callable[..., Rule]] = {
    "signed": Signed,
    "binary": Binary,
    "stochastic": Stochastic,
    "edge_popup": EdgePopup,
    "signed_topk": SignedTopK,
    "biprop": Biprop,
    "multicoated": Multicoated,
    "sign_only": SignOnly,
    "n_of_m": NOfM,
    "tiles": Tiles,
}


def by_name(name: str, settings: Mapping[str, Any] | None = None) -> Rule | None:
    """Make the rule of a name; the one place where `dense` becomes no mask.

    Args:
      name: A key of `RULES`, or `dense`.
      settings: `config.mask`; its fields that the rule has too become the rule's. None leaves its defaults.
        Every field that is not among those of the default config must be one of the rule's.

    Returns:
      The rule, or None for a dense network whose kernels are trained.

    Raises:
      InputError: The name is unknown, a setting out of range, or one that the rule does not have.
    """
    settings = settings or {}
    rule_class = errors.choose("mask rule", name, {**RULES, DENSE: None})
    fields = {field.name for field in dataclasses.fields(cast(Any, rule_class))} if rule_class else set()
    for setting in settings:
        if setting not in fields and setting not in default().mask:
            known = [f"mask.{name}" for name in sorted({*fields, *default().mask})]
            raise errors.unknown("config field", f"mask.{setting}", known)
    if settings.get("density") and "density" not in fields:
        raise errors.InputError(
            f"config.mask.density is {settings['density']}; the mask rule {name!r} takes none: set it to 0"
        )
    if rule_class is None:
        return None
    if "budget" in fields and settings.get("budget", BUDGETS[0]) not in BUDGETS:
        raise errors.unknown("config.mask.budget", settings["budget"], BUDGETS)
    try:
        return rule_class(**{name: value for name, value in settings.items() if name in fields})
    except errors.InputError as error:  # of a setting, by the rule's own name of it
        raise errors.InputError(f"config.mask.{error}") from error


def own_settings(name: str) -> dict[str, bool | int | float | str]:
    """Tell the settings of a rule that the default config lacks, by dotted name, with their defaults.

    Args:
      name: A key of `RULES`; of any other name there are none.
    """
    rule_class = cast(Any, RULES.get(name))
    return {
        f"mask.{field.name}": field.default
        for field in (dataclasses.fields(rule_class) if rule_class else ())
        if field.name not in default().mask and isinstance(field.default, bool | int | float | str)
    }


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
