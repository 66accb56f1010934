"""XLA's optimized programs as text, read into instructions and the computations that hold them."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's shape.

    Attributes:
      dtype: XLA's name, for example `bf16`.
      dims: Its shape.
      hbm: Whether it lies in the device's main memory; a TPU keeps some arrays in a memory on the chip.
    """

    dtype: str
    dims: tuple[int, ...]
    hbm: bool = True

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """The number of bytes, wherever they lie."""
        bits = {"pred": 8, "token": 0}.get(self.dtype)
        return self.size * int(bits if bits is not None else re.findall(r"\d+", self.dtype)[0]) // 8

    @property
    def hbm_bytes(self) -> int:
        """The number of bytes in the main memory."""
        return self.bytes if self.hbm else 0


_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\](\{[^}]*\})?")


@dataclasses.dataclass
class Instruction:
    """One line of a computation.

    Attributes:
      name: Its name.
      shape: Its result's shape as text.
      opcode: What it does.
      operands: The names of its operands.
      rest: Its attributes as text.
      root: Whether it is its computation's result.
    """

    name: str
    shape: str
    opcode: str
    operands: list[str]
    rest: str
    root: bool

    @functools.cached_property
    def arrays(self) -> list[Array]:
        """The arrays of the result, more than one for a tuple."""
        return [
            Array(found[1], _numbers(found[2]), not re.search(r"S\([1-9]\)", found[3] or ""))
            for found in _ARRAY.finditer(self.shape)
        ]

    @property
    def hbm_bytes(self) -> int:
        """The bytes of the result in the main memory."""
        return sum(array.hbm_bytes for array in self.arrays)

    @property
    def op_name(self) -> str:
        """Where in the Python program it comes from, scopes separated by slashes."""
        return self.find(r'op_name="([^"]*)"')

    @property
    def target(self) -> str:
        """What a custom call calls."""
        return self.find(r'custom_call_target="([^"]*)"')

    def find(self, pattern: str) -> str:
        """Find the first group of a pattern in the attributes; empty without a match."""
        found = re.search(pattern, self.rest)
        return found[1] if found else ""

    def dims(self, attribute: str) -> tuple[int, ...]:
        """Read an attribute such as `lhs_batch_dims={0,1}`; empty where it is missing."""
        return _numbers(self.find(attribute + r"=\{([\d,]*)\}"))


Computation = dict[str, Instruction]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


@dataclasses.dataclass(frozen=True)
class Module:
    """A program.

    Attributes:
      computations: By name.
      entry: The computation that starts.
    """

    computations: dict[str, Computation]
    entry: Computation

    def inner(self, instruction: Instruction) -> Computation:
        """Return the computation of a fusion or a call; empty for other instructions."""
        name = instruction.find(r"\b(?:calls|to_apply)=%?([\w.\-]+)")
        called = instruction.opcode in ("fusion", "call", "async-start")
        return self.computations.get(name, {}) if called else {}

    def within(self, instruction: Instruction) -> Iterator[tuple[Computation, Instruction]]:
        """Iterate over the instructions inside a fusion or a call, nested ones too."""
        body = self.inner(instruction)
        for part in body.values():
            yield body, part
            yield from self.within(part)

    def step(self) -> Computation:
        """Return the body of the scan over steps: the longest of the loops that the entry runs.

        Without a loop the entry itself is the step.
        """
        bodies = [
            self.computations[instruction.find(r"\bbody=%?([\w.\-]+)")]
            for instruction in self.entry.values()
            if instruction.opcode == "while"
        ]
        return max(bodies, key=len, default=self.entry)


_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+)\s*\(.*\) -> .*\{\s*$")
_SHAPE = re.compile(r"[a-z0-9]+\[[^\]]*\](\{[^}]*\})?")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")


def parse(text: str) -> Module:
    """Read a program.

    Args:
      text: What `compiled.as_text()` returns.
    """
    computations: dict[str, Computation] = {}
    entry: Computation = {}
    current: Computation = {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], {})
            entry = current if head[1] else entry
        elif found := _LINE.match(line):
            current[found[2]] = _instruction(found[2], line[found.end() :], bool(found[1]))
    return Module(computations, entry)


def _instruction(name: str, text: str, root: bool) -> Instruction:
    """Read what follows the equals sign: a shape, an opcode, operands in parentheses, attributes."""
    shape = _SHAPE.match(text)
    end = shape.end() if shape else _closing(text, 0)
    opcode = _OPCODE.match(text, end)
    assert opcode, text
    closed = _closing(text, opcode.end() - 1)
    operands = re.findall(r"%([\w.\-]+)", text[opcode.end() : closed])
    return Instruction(name, text[:end], opcode[1], operands, text[closed:], root)


def _closing(text: str, start: int) -> int:
    """The place after the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i + 1
    raise ValueError(f"a bracket stays open: {text[start : start + 80]}")
