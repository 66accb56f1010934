"""Which kernels of a GPU's step are launched together as a CUDA graph, from XLA's dump of its thunks."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Iterator

_THUNK = re.compile(r"(\s*)(\d+): (k\w+)")


@dataclasses.dataclass(frozen=True)
class Graphs:
    """The CUDA graphs of a step.

    Attributes:
      count: How many there are.
      inside: By the instructions' names, whether they are launched as part of one.
    """

    count: int
    inside: dict[str, bool]


def read(folder: pathlib.Path) -> Graphs:
    """Read what XLA wrote to a folder for the largest of its programs.

    Args:
      folder: What `xla_dump_to` named.
    """

    def largest(name: str) -> str:
        return max((path.read_text() for path in folder.glob(f"*{name}.txt")), key=len, default="")

    return parse(largest("thunk_sequence_after_thunk_passes"), largest("thunk_metadata"))


def parse(sequence: str, metadata: str) -> Graphs:
    """Find the graphs of the loop over steps, or of everything where there is no loop.

    Args:
      sequence: The thunks, indented below the graphs (`kCommandBuffer`) and loops that hold them.
      metadata: The thunks' numbers and the names of their instructions.
    """
    names = {
        int(number[1]): name[1]
        for block in metadata.split("thunk_metadata {")[1:]
        if (name := re.search(r'profile_annotation: "([^"]*)"', block))
        and (number := re.search(r"thunk_id: (\d+)", block))
    }
    count, inside = 0, {}
    lines, in_graph = _step(sequence.splitlines())
    graph = -1 if in_graph else None  # the indentation of the graph that holds the line
    count += in_graph
    for line in lines:
        if not (found := _THUNK.match(line)):
            continue
        depth = len(found[1])
        if graph is not None and depth <= graph:
            graph = None
        if found[3] == "kCommandBuffer":
            count, graph = count + 1, depth
        else:
            inside[names.get(int(found[2]), f"thunk {found[2]}")] = graph is not None
    return Graphs(count, inside)


def _step(lines: list[str]) -> tuple[list[str], bool]:
    """The lines of the longest loop's body, and whether a graph holds the whole loop."""
    bodies = list(_bodies(lines))
    return max(bodies, key=lambda body: len(body[0]), default=(lines, False))


def _bodies(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    for i, line in enumerate(lines):
        if line.strip() != "body:":
            continue
        loop = next(j for j in range(i, -1, -1) if "kWhile" in lines[j])
        around = ("kCommandBuffer" in above and _depth(above) < _depth(lines[loop]) for above in lines[:loop])
        yield list(_below(lines, i)), any(around)


def _below(lines: list[str], start: int) -> Iterator[str]:
    """The lines after one that are indented deeper."""
    return itertools.takewhile(lambda line: _depth(line) > _depth(lines[start]), lines[start + 1 :])


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
