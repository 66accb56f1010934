"""The masks of a network as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssm_jax.columns import aligned


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      name: The layer's path.
      kind: The kind of layer, or how it is masked.
      shape: The kernel's shape.
      counts: The numbers of -1, 0 and +1; None of what is trained without a mask.
    """

    name: str
    kind: str
    shape: Sequence[int]
    counts: ArrayLike | None


def remaining(counts: Iterable[ArrayLike]) -> float:
    """Compute the share of weights that masks do not hide, in [0, 1].

    Args:
      counts: Of every layer the numbers of -1, 0 and +1.
    """
    total = np.stack([np.asarray(count, float) for count in counts]).sum(0)
    return float(1 - total[1] / total.sum())


def lay_out(rows: Sequence[Row]) -> str:
    """Lay out the shares of -1, 0 and +1 of every masked layer, what has no mask, and all masks together.

    Args:
      rows: One line per layer; one of them at least is masked.
    """
    masked = [(row, row.counts) for row in rows if row.counts is not None]
    lines = [("layer", "kind", "kernel", "weights", "-1 %", "0 %", "+1 %")]
    lines += [(row.name, row.kind, _shape(row), *_cells(counts)) for row, counts in masked]
    for row in rows:
        if row.counts is None:
            size = f"{int(np.prod(row.shape)):,}"
            lines.append((row.name, row.kind, _shape(row), size, "no mask", "", ""))
    lines.append(
        ("all", "", "", *_cells(np.stack([np.asarray(counts, float) for _, counts in masked]).sum(0)))
    )
    return "\n".join(line.rstrip() for line in aligned(lines, left=3))


def _shape(row: Row) -> str:
    return "x".join(map(str, row.shape))


def _cells(counts: ArrayLike) -> tuple[str, str, str, str]:
    counts = np.asarray(counts, float)
    inverted, hidden, kept = (f"{100 * share:.2f}" for share in counts / counts.sum())
    return f"{counts.sum():,.0f}", inverted, hidden, kept
