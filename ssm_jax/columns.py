"""Tables for people: rows of cells as lines of aligned columns."""

from __future__ import annotations

from collections.abc import Sequence

from ssm_jax import terminal


def aligned(rows: Sequence[Sequence[str]], left: int, *, total: bool = True) -> list[str]:
    """Align the columns of a table.

    Args:
      rows: The cells; the first row is the head, ruled off.
      left: The number of columns that begin at the left; numbers end at the right.
      total: Whether the last row is a sum, ruled off too.

    Examples:
      >>> print("\\n".join(aligned([("layer", "weights"), ("dense", "8"), ("all", "8")], left=1)))
      layer  weights
      --------------
      dense        8
      --------------
      all          8
    """
    rows = [list(map(terminal.printable, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    if not total:
        return [lines[0], rule, *lines[1:]]
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
