"""The audit's results as text, and as the table of `docs/accelerators.md`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.compiled.targets import Target

_HEAD = (
    "target",
    "network",
    "seeds",
    "devices",
    "kernels",
    "in CUDA graphs",
    "library calls",
    "collectives",
    "GFLOP",
    "MB",
    "µs a step",
    "over dense",
    "gain over one by one",
)


def figures(target: Target) -> str:
    """Say in a line by which figures of a card times are estimated.

    Args:
      target: The card.
    """
    rates = ", ".join(f"{flops / 1e12:.0f} TFLOP/s in {name}" for name, flops in target.flops.items())
    parts = [target.description, rates, f"{target.bandwidth / 1e12:.2f} TB/s of memory"]
    parts += [f"{target.link / 1e9:.0f} GB/s between devices"]
    if target.platform == "cuda":
        parts += [
            f"{target.reached_bandwidth:.0%} of the bandwidth reached",
            f"kernels of {1e6 * target.least:.1f} µs at least",
            f"launches of {1e6 * target.launch:.1f} µs",
            f"of {1e6 * target.launch_in_graph:.1f} µs in a CUDA graph",
        ]
    else:
        parts += [f"the compiler's own cycles at {target.clock / 1e9:.2f} GHz"]
    return "; ".join(parts)


def text(program: dict[str, Any], kernels: bool = False) -> str:
    """Describe one program in a few lines.

    Args:
      program: What `audit` returned, or the program and why it `failed`.
      kernels: Whether to list every kernel.
    """
    name = _name(program["program"])
    if "failed" in program:
        return f"{name}\n  failed: {program['failed']}"
    kinds = ", ".join(f"{group['kernels']} {kind}" for kind, group in program["by_kind"].items())
    graphs, memory, us = program["graphs"], program["memory_mb"], program["estimate_us"]
    lines = [
        name,
        f"{program['kernels']} kernels ({kinds}), {graphs['kernels']} of them in {graphs['count']} CUDA "
        "graphs",
        f"{program['library_calls']} library calls, {program['copies']} copies, {program['loops']} loops, "
        f"{program['branches']} branches, {program['host_transfers']} transfers from or to the host, "
        f"{program['collectives']} collectives of {program['collective_mb']:.1f} MB",
        f"{program['gflop']:.2f} GFLOP, {program['mb']:.1f} MB moved; memory: {memory['argument']:.0f} MB of "
        f"arguments, {memory['temp']:.0f} MB besides",
        f"estimate: {us['total']:.0f} µs a step (products {us['products']:.0f}, other kernels "
        f"{us['other']:.0f}, collectives {us['collectives']:.0f}, launches {us['launches']:.0f}); at the "
        f"datasheet's rates products {us['compute_bound']:.0f}, memory {us['memory_bound']:.0f}",
    ]
    if kernels:
        lines += [
            f"{kernel['us']:9.2f} µs {kernel['gflop']:9.3f} GFLOP {kernel['mb']:9.3f} MB  "
            f"{kernel['kind']:11}  {kernel['scope']:9}  {kernel['name']}"
            for kernel in sorted(program["kernel_list"], key=lambda kernel: -kernel["us"])
        ]
    return "\n  ".join(lines)


def _name(program: dict[str, Any]) -> str:
    rule = "dense" if program["dense"] else "signed"
    parts = [program["target"], program["network"], rule, program["precision"]]
    return ", ".join([*parts, *(f"{key} {program[key]}" for key in ("seeds", "devices"))])


def markdown(reports: Sequence[dict[str, Any]]) -> str:
    """Make the table of `docs/accelerators.md`: a row a masked program, its dense baseline in a column.

    Args:
      reports: What the JSON files hold, one for each target.
    """
    lines = [f"| {' | '.join(_HEAD)} |", "|---" * len(_HEAD) + "|"]
    for report in reports:
        done = [program for program in report["programs"] if "failed" not in program]
        cuda = report["figures"]["platform"] == "cuda"
        lines += [f"| {' | '.join(_row(p, done, cuda))} |" for p in done if not p["program"]["dense"]]
    return "\n".join(lines)


def _row(program: dict[str, Any], others: Sequence[dict[str, Any]], cuda: bool) -> list[str]:
    what, total = program["program"], program["estimate_us"]["total"]

    def of(**changes: Any) -> float | None:
        """The estimate of the program that differs in so much."""
        return next((o["estimate_us"]["total"] for o in others if o["program"] == what | changes), None)

    dense, one = of(dense=True), of(seeds=1)
    cells = [what["target"], what["network"], what["seeds"], what["devices"], program["kernels"]]
    cells += [program["graphs"]["kernels"], program["library_calls"]] if cuda else ["", ""]
    cells += [program["collectives"]]
    cells += [f"{program['gflop']:.2f}", f"{program['mb']:.0f}", f"{total:,.0f}"]
    cells += [f"{total / dense:.2f}" if dense else ""]
    cells += [f"{what['seeds'] * one / total:.2f}" if one and what["seeds"] > 1 else ""]
    return [str(cell) for cell in cells]
