"""How the project's figures look, and the check that they can be drawn; imports matplotlib when asked."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from ssm_jax import errors

if TYPE_CHECKING:
    from matplotlib.axis import Axis

# Text, axes and whatever has no color of its own: a page puts the color of its text in its place.
INK = "#1a1a1a"
GRAY = "#767676"

# Okabe and Ito's colors, which the color-blind tell apart, without the yellow that paper swallows; markers
# and lines differ as well, for prints without color.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
LINES = ("-", "--", "-.", ":")

# Of the values of a mask.
INVERTED, HIDDEN, KEPT = COLORS[1], "#9a9a9a", COLORS[0]

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    # A name is shown as it is.
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    # The same results give the same file.
    "svg.hashsalt": "ssm_jax",
}


def require() -> None:
    """Check that figures can be drawn.

    Raises:
      InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise errors.InputError(
            "figures need matplotlib: pip install 'matplotlib>=3.10,<4', or this package with [report]"
        )


def label_log_axis(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5 with plain numbers.

    Args:
      axis: An axis of logarithmic scale.
    """
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(ticker.NullFormatter())
