"""How the project's figures look; matplotlib is imported when one is drawn."""

from __future__ import annotations

import functools
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

from ssm_jax import errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

P = ParamSpec("P")

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

WIDTH = 4.0  # inches: 288 points, which a phone shows at a little more than their size
_LONGEST_NAME = 32


def require() -> None:
    """Check that figures can be drawn.

    Raises:
      InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise errors.InputError('figures need matplotlib: pip install "ssm_jax[report]"')


def drawn(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the project's style, once it is known that it can draw.

    Args:
      draw: The function.
    """

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        require()
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


def figure(height: float) -> Figure:
    """Make an empty figure for a column, which belongs to no window.

    Args:
      height: In inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def legend(figure: Figure, handles: Iterable[Any], names: Iterable[str]) -> None:
    """Put a legend above everything, in as many columns as there is room for.

    Args:
      figure: The figure.
      handles: What is named.
      names: The names.
    """
    cut = [short(name) for name in names]
    columns = max(1, min(len(cut), int(52 / (8 + max(map(len, cut))))))
    figure.legend(list(handles), cut, loc="outside upper left", ncols=columns, fontsize=8)


def short(name: str) -> str:
    """Cut a name that would leave no room for anything else.

    Args:
      name: The name.

    Examples:
      >>> short("fcn"), len(short("x" * 100))
      ('fcn', 32)
    """
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return f" {name}" if name.startswith("_") else name  # a legend would leave it out


def bare(axes: Axes) -> None:
    """Take everything from around a picture.

    Args:
      axes: The axes that show it.
    """
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def label_log_axis(axis: Axis, digits: Sequence[int] = (1, 2, 5)) -> None:
    """Label a logarithmic axis with plain numbers.

    Args:
      axis: An axis of logarithmic scale.
      digits: The first digits of the numbers.
    """
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=digits))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(ticker.NullFormatter())


def svg(figure: Figure) -> str:
    """Write a figure as SVG on a transparent ground, text as text; the same figure gives the same SVG.

    Args:
      figure: The figure.
    """
    import matplotlib

    text = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(STYLE | {"svg.fonttype": "none"}), warnings.catch_warnings():
        # The reader's fonts decide, not those that measure the text here.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return text.getvalue()


def in_bytes(size: float) -> str:
    """Write a size for people.

    Args:
      size: Bytes.

    Examples:
      >>> in_bytes(999), in_bytes(15_300), in_bytes(2_000_000)
      ('999 B', '15.3 kB', '2 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{float(f'{size / factor:.3g}'):g} {unit}"
    return f"{float(f'{size:.3g}'):g} B"
