"""What each experiment trains: functions from its arguments to a list of settings.

A config is written as on the command line of `train.py`, but for its folder: `fcn.py:best,edge_popup`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from ssm_jax import errors
from ssm_jax.config import DENSE
from ssm_jax.core.density import check
from ssm_jax.experiments import paper

# Variants that exchange the mask rule; `signed` is the rule of every config without one of them.
SIGNED = "signed"
RIVALS = (
    SIGNED,
    "binary",
    "binary_absolute",
    "stochastic",
    "edge_popup",
    "signed_topk",
    "biprop",
    "multicoated",
    "2_of_4",
    "1_of_4",
    "tiles",
    "sign_only",
    DENSE,
)
# The variant that trains a network dense by the recipe of the variants before it.
TWIN = "twin"
# These keep every weight, or as many as their probabilities or their name say.
WITHOUT_DENSITY = ("stochastic", "2_of_4", "1_of_4", "sign_only", DENSE)

# The grid of the paper's ablations.
KERNELS = ("elus", "he_constant", "xavier_constant", "he_uniform")
SCORES = ("xavier_uniform", "he_uniform", "elus_uniform")
THRESHOLDS = (0.1, 0.15, 0.25, 0.4, 0.6)
ABLATION_RULES = ("binary", "binary_absolute", "signed_topk")
DENSE_KERNELS = ("elu", "he_uniform", "xavier_uniform")
WIDTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)


# A setting's name becomes that of a folder and of files, wherever the setting was read from.
_NAME = re.compile(r"\w[\w.,=+-]{,199}")
# Files of the folder of results that are no run's.
_TAKEN = ("experiment", "table")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that is trained with one or more seeds.

    Attributes:
      name: Name of the folder of its run.
      config: The config file and its variants.
      overrides: By a config field's dotted name, its value as text, as on a command line.
      labels: What tells it from the others, by column of the tables.

    Raises:
      InputError: The name can't be that of a file, a label can't be a table's cell, or the label `density` is
        no share.
    """

    name: str
    config: str
    overrides: dict[str, str]
    labels: dict[str, str]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _TAKEN:
            raise errors.out_of_range(
                "name", self.name, f"letters, digits and any of _.,=+- but not {' or '.join(_TAKEN)}"
            )
        for name, label in self.labels.items():
            if not (name + label).isprintable() or "|" in name + label:
                raise errors.out_of_range(f"labels.{name}", label, "one line without |")
        density = self.labels.get("density")
        try:
            if density and not 0 < float(density) <= 1:
                raise ValueError
        except ValueError:
            raise errors.out_of_range("labels.density", density, "a share in (0, 1]") from None


def spec(network: str, *variants: str) -> str:
    """Write a config file and its variants as one text; empty variants are left out.

    Examples:
      >>> spec("fcn", "best", "edge_popup")
      'fcn.py:best,edge_popup'
      >>> spec("fcn", "")
      'fcn.py'
    """
    chosen = ",".join(filter(None, variants))
    return f"{network}.py:{chosen}" if chosen else f"{network}.py"


def rows(names: Sequence[str], variants: Mapping[str, str], *, dense: bool = False) -> list[Setting]:
    """Plan rows of the paper's main table.

    Args:
      names: Keys of `paper.ROWS`.
      variants: By the name of a config, the variant to train; missing or empty is the main row.
      dense: Whether to train each row dense too: a variant's twin, which has its recipe, or of the main row
        the paper's baseline.

    Raises:
      InputError: A row is unknown; names the nearest.
    """
    settings = []
    for name in dict.fromkeys(names):
        row = errors.choose("row", name, paper.ROWS)
        masked = variants.get(row.network, "")
        for variant in (masked, *([f"{masked},{TWIN}" if masked else DENSE] if dense else [])):
            config = spec(row.network, variant)
            settings.append(
                Setting(
                    name="-".join(filter(None, (name, variant))),
                    config=config,
                    overrides={} if row.width == 1 else {"model.width": f"{row.width:g}"},
                    labels={"row": name, "config": config},
                )
            )
    return settings


def frontier(
    network: str, variant: str, densities: Sequence[float], rules: Sequence[str] = (SIGNED,)
) -> list[Setting]:
    """Plan accuracy against remaining weights.

    Args:
      variant: The variant between network and rule, or empty.
      densities: Shares of weights that remain at the end, in (0, 1].
      rules: Entries of `RIVALS` that can hold a density.

    Raises:
      InputError: A density is out of range, or a rule is unknown or holds none.
    """
    for density in densities:
        check(density)
    for rule in rules:
        if rule in WITHOUT_DENSITY:
            holding = [name for name in RIVALS if name not in WITHOUT_DENSITY]
            raise errors.InputError(f"{rule} holds no density (those that do: {', '.join(holding)})")
    return [
        _of_rule(network, variant, rule, "density", "mask.density", density)
        for rule in dict.fromkeys(rules)
        for density in dict.fromkeys(densities)
    ]


def rivals(
    network: str, variant: str, rules: Sequence[str] = RIVALS, density: float | None = None
) -> list[Setting]:
    """Plan mask rules side by side under the same training.

    Args:
      density: The share of weights that remain at the end, in (0, 1], for the rules that can hold one; None
        leaves every rule what its variant says.

    Raises:
      InputError: A rule is unknown or the density out of range.
    """
    if density is not None:
        check(density)
    return [
        _of_rule(
            network, variant, rule, "density", "mask.density", None if rule in WITHOUT_DENSITY else density
        )
        for rule in dict.fromkeys(rules)
    ]


def rates(network: str, variant: str, rules: Sequence[str], learning_rates: Sequence[float]) -> list[Setting]:
    """Plan a choice of learning rates.

    Raises:
      InputError: A rule is unknown.
    """
    return [
        _of_rule(network, variant, rule, "rate", "optimizer.learning_rate", rate)
        for rule in dict.fromkeys(rules)
        for rate in dict.fromkeys(learning_rates)
    ]


def _of_rule(network: str, variant: str, rule: str, label: str, field: str, number: float | None) -> Setting:
    """Plan a rule with a number for a field of the config, of whose digits none are lost; or without one."""
    if rule not in RIVALS:
        raise errors.unknown("rule", rule, RIVALS)
    value = "" if number is None else f"{number:.15g}"
    return Setting(
        name="-".join(filter(None, (rule, value))),
        config=spec(network, variant, "" if rule == SIGNED else rule),
        overrides={field: value} if value else {},
        labels={"rule": rule, label: value},
    )


def ablation(network: str, variant: str, base: ConfigDict) -> list[Setting]:
    """Plan the paper's ablations: one change at a time, but for kernels and scores, which are a grid.

    Args:
      variant: The variant that everything starts from, or empty.
      base: The config of that variant; what equals it is planned once.
    """

    def setting(part: str, label: str, config: str, **overrides: str) -> Setting:
        changes = {name.replace("_", ".", 1): value for name, value in overrides.items()}
        name = label.replace(" ", "-").replace(",", "")
        return Setting(name=name, config=config, overrides=changes, labels={"part": part, "setting": label})

    main = spec(network, variant)
    settings = [setting("base", "base", main)]
    for kernel in KERNELS:
        for score in SCORES:
            if (kernel, score) != (base.init.kernel, base.init.score):
                changes = {"init_kernel": kernel, "init_score": score}
                settings.append(setting("kernels and scores", f"{kernel}, {score}", main, **changes))
    for share in THRESHOLDS:
        if share != base.mask.threshold:
            settings.append(setting("threshold", f"threshold {share:g}", main, mask_threshold=f"{share:g}"))
    settings += [setting("mask rule", rule, spec(network, variant, rule)) for rule in ABLATION_RULES]
    settings += [
        setting("dense", f"dense {kernel}", spec(network, DENSE), init_kernel=kernel)
        for kernel in DENSE_KERNELS
    ]
    if base.model.normalization != "none":
        settings.append(setting("normalization", "batch norm", spec(network, variant, "batch_norm")))
        settings += [
            setting("width", f"width {width:g}", main, model_width=f"{width:g}")
            for width in WIDTHS
            if width != base.model.width
        ]
    return settings
