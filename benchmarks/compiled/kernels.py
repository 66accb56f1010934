"""The kernels of one step of a compiled program: what each is, belongs to and costs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from benchmarks.compiled.hlo import Computation, Instruction, Module
from benchmarks.compiled.products import Product, products
from benchmarks.compiled.traffic import traffic

# What takes no time of its own.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "bitcast-convert", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "async-update", "async-done", "copy-done", "slice-done"),
    *("all-reduce-done", "all-gather-done", "collective-permute-done"),
)
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COPIES = frozenset(("parameter", "transpose", "copy", "bitcast", "reshape"))
# A fusion is named for the first of these that is in it.
_BY_OPCODE = (
    ("scatter", "scatter"),
    ("select-and-scatter", "scatter"),
    ("sort", "sort"),
    ("gather", "gather"),
    ("reduce", "reduction"),
    ("reduce-window", "reduction"),
)
_LIBRARIES = re.compile(r"__cudnn|__cublas")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of a step.

    Attributes:
      name: Its instruction's.
      kind: See `kind_of`.
      scope: See `scope_of`.
      library: Whether it is a call of cuDNN or cuBLAS, of which the compiler knows no time.
      flops: Operations of its products and convolutions; everything else counts as none.
      bytes: Read from and written to the main memory; of a collective, sent.
      product: Its largest product, or None.
      graph: Whether it is launched as part of a CUDA graph.
      known: The compiler's own estimate in seconds, or None.
      touched: `bytes`, and those that a TPU keeps on the chip.
    """

    name: str
    kind: str
    scope: str
    library: bool
    flops: int
    bytes: int
    product: Product | None
    graph: bool
    known: float | None
    touched: int = 0


def kernels(module: Module, graph: Mapping[str, bool], clock: float = 0.0) -> list[Kernel]:
    """List the kernels of one step in the order of execution.

    Args:
      module: The program.
      graph: By the instructions' names, whether they are launched as part of a CUDA graph.
      clock: Hz of a TPU's cycles.
    """
    step, found = module.step(), []
    for instruction in step.values():
        kind = kind_of(module, step, instruction)
        if kind == "none":
            continue
        inside = products(module, step, instruction)
        moved = traffic(module, step, instruction)
        if kind == "collective":
            moved = sum(array.bytes for array in instruction.arrays)
        found.append(
            Kernel(
                name=instruction.name,
                kind=kind,
                scope=scope_of(instruction),
                library=bool(_LIBRARIES.match(instruction.target)),
                flops=sum(product.flops for product in inside),
                bytes=moved,
                product=max(inside, key=lambda product: product.flops, default=None),
                graph=graph.get(instruction.name, False),
                known=_known(instruction, clock),
                touched=traffic(module, step, instruction, everywhere=True),
            )
        )
    return found


def kind_of(module: Module, within: Computation, instruction: Instruction) -> str:
    """Say what sort of kernel an instruction is.

    Returns:
      `convolution`, `product`, `reduction`, `elementwise`, `copy`, `gather`, `scatter`, `sort`, `loop`,
      `branch`, `collective`, `host`, `prefetch` (a TPU's, beside the computation), `call` (of anything
      else), or `none` for what is no kernel.
    """
    opcode, target = instruction.opcode, instruction.target
    if opcode in _FREE or target == "ConcatBitcast":
        return "none"
    if opcode.startswith(_COLLECTIVES):
        return "collective"
    single = {"while": "loop", "conditional": "branch", "copy-start": "prefetch", "slice-start": "prefetch"}
    single |= dict.fromkeys(("infeed", "outfeed", "send", "recv"), "host")
    if opcode in single:
        return single[opcode]
    if inside := products(module, within, instruction):
        return "convolution" if any(product.windowed for product in inside) else "product"
    if target:
        return "call"
    if opcode != "fusion" and all(not array.dims for array in instruction.arrays):
        return "none"  # on a TPU's scalar unit, or folded into a launch
    opcodes = {instruction.opcode, *(part.opcode for _, part in module.within(instruction))} - {"fusion"}
    if opcodes <= _COPIES:
        return "copy"
    return next((kind for name, kind in _BY_OPCODE if name in opcodes), "elementwise")


def scope_of(instruction: Instruction) -> str:
    """Say which part of the step an instruction belongs to; a fusion belongs where its last operation does.

    Returns:
      `batch`, `mask`, `forward`, `backward`, `optimizer` or `other`.
    """
    parts = instruction.op_name.split("/")
    for scope in ("batch", "mask", "optimizer"):
        if scope in parts:
            return scope
    if "transpose(" in instruction.op_name:
        return "backward"
    return "forward" if "jvp(" in instruction.op_name else "other"


def _known(instruction: Instruction, clock: float) -> float | None:
    if microseconds := instruction.find(r'"reification_cost":\[\{[^}]*?"exec_time_us":([\d.e+\-]+)'):
        return 1e-6 * float(microseconds)
    cycles = int(instruction.find(r'"estimated_cycles":"?(\d+)') or 2**63)
    return cycles / clock if clock and cycles < 2**62 else None  # a huge number stands for "unknown"
