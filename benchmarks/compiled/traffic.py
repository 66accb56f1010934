"""The bytes that an instruction reads from and writes to the main memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.compiled.hlo import Computation, Instruction, Module

_Size = Callable[[Instruction], int]
_PARTIAL = ("dynamic-slice", "gather", "slice")
_VIEWS = ("bitcast", "reshape", "copy")


def traffic(module: Module, within: Computation, instruction: Instruction, everywhere: bool = False) -> int:
    """Count every operand and every result once, and of what is only taken from, the part that is taken.

    Of an operand that is sliced or gathered from, the slices count; of a result that is an operand with a
    part replaced, that part.

    Args:
      module: The program.
      within: The computation that holds the instruction.
      instruction: Any instruction.
      everywhere: Whether to count what stays in a TPU's memory on the chip, too.
    """

    def size(part: Instruction) -> int:
        return sum(array.bytes for array in part.arrays) if everywhere else part.hbm_bytes

    body = module.inner(instruction) if instruction.opcode == "fusion" else {}
    if body:
        (root,) = (part for part in body.values() if part.root)
        read = (_read(body, part, size) for part in body.values() if part.opcode == "parameter")
        return sum(read) + _written(body, root, size)
    if instruction.opcode in ("copy-start", "slice-start"):  # to, from, context
        to, source = instruction.arrays[:2]
        return min(to.bytes, source.bytes) * (to.hbm + source.hbm)
    if instruction.opcode in _PARTIAL:
        return 2 * size(instruction)
    operands = [within[name] for name in instruction.operands if name in within]
    if instruction.opcode == "dynamic-update-slice":
        return 2 * size(operands[1])
    return size(instruction) + sum(size(operand) for operand in operands)


def _users(body: Computation, name: str) -> Iterator[Instruction]:
    return (user for user in body.values() if name in user.operands)


def _read(body: Computation, part: Instruction, size: _Size) -> int:
    """What the users of a value inside a fusion need of it."""
    whole, total = size(part), 0
    if not whole:
        return 0
    for user in _users(body, part.name):
        first = user.operands[0] == part.name
        if user.opcode in _PARTIAL and first:
            total += sum(array.bytes for array in user.arrays)
        elif user.opcode in _VIEWS:
            total += _read(body, user, size)
        elif not (user.opcode == "dynamic-update-slice" and first):
            return whole
    return min(total, whole)


def _written(body: Computation, part: Instruction, size: _Size) -> int:
    """What a fusion's result needs written."""
    if part.opcode == "tuple":
        return sum(_written(body, body[name], size) for name in part.operands)
    if part.opcode == "bitcast" and body[part.operands[0]].opcode == "dynamic-update-slice":
        part = body[part.operands[0]]
    if part.opcode == "dynamic-update-slice":
        return size(body[part.operands[1]])
    return size(part)
