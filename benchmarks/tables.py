"""The report of `benchmarks.train` as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import devices

_SPARSE = ("dense", "sparse", "bfloat16", "torch", "torch_compiled")
_SPARSE_RATIOS = (
    *("sparse_over_dense", "bfloat16_over_dense"),
    *("torch_compiled_over_sparse", "torch_compiled_over_bfloat16"),
)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _number(value: float | None, digits: int = 3) -> str:
    """Some significant digits, without an exponent; a dash for None."""
    if value is None or not math.isfinite(value) or value == 0:
        return "-"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def text(report: dict[str, Any]) -> str:
    """The report as text."""
    device, versions = report["device"], report["versions"]
    rates = (f"{p} {_number(rate['median'])} TFLOP/s" for p, rate in report["matmul"].items())
    steps = [["network", "precision", "signed ms", "dense ms", "torch ms", "signed/dense", "torch/signed"]]
    steps[0] += ["images/s", "% of matmul", "paper's run"]
    sparse = [["network", "density %", *(f"{way.replace('_', ' ')} ms" for way in _SPARSE)]]
    sparse[0] += [name.replace("_over_", "/").replace("_", " ") for name in _SPARSE_RATIOS]
    forms = ("vmap", "grouped_vmap", "im2col_one", "im2col_vmap")
    seeds = [["network", "precision", "seeds", "one ms"]]
    seeds[0] += [f"{form.replace('_', ' ')} ms" for form in forms]
    seeds[0] += [f"{form.replace('_', ' ')} gains" for form in forms] + ["fastest"]
    for name, facts in report["networks"].items():
        for precision, unit in facts["steps"].items():
            times = [unit["contenders"].get(c, {}).get("median") for c in ("signed", "dense", "torch")]
            ratios = [unit["signed_over_dense"], unit["torch_over_signed"]]
            steps.append([name, precision, *map(_number, [*times, *ratios])])
            steps[-1] += [f"{unit['images_per_second']['signed']:,.0f}", _number(100 * unit["matmul_share"])]
            steps[-1] += [f"{_number(unit['paper_run_seconds'])} s"]
        for unit in facts["sparse"]:
            times = [unit["contenders"].get(way, {}).get("median") for way in _SPARSE]
            ratios = [unit.get(name) for name in _SPARSE_RATIOS]
            sparse.append([name, f"{100 * unit['density']:.2f}", *map(_number, [*times, *ratios])])
        if unit := facts["seeds"]:
            times = [unit["contenders"].get(c, {}).get("median") for c in ("one", *forms)]
            gains = [unit["gain_over_one_after_another"].get(form) for form in forms]
            seeds.append([name, unit["precision"], str(unit["count"]), *map(_number, [*times, *gains])])
            seeds[-1] += [unit["fastest"]]
    parts = [
        f"{device['count']} x {device['kind']}, {device['cores']} cores; "
        + ", ".join(f"{package} {version}" for package, version in versions.items()),
        f"batch {report['settings']['batch']}, {report['date']}, {report['seconds']:.0f} s; "
        f"matmul {', '.join(rates)}",
    ]
    if len(steps) > 1:
        parts.append("\nmilliseconds per training step, one seed\n" + _columns(steps))
    if len(sparse) > 1:
        title = "\nmilliseconds per training step by the share of weights that remain\n"
        parts.append(title + _columns(sparse))
    if len(seeds) > 1:
        title = "\nmilliseconds per step of all seeds together; gains over one seed after another\n"
        parts.append(title + _columns(seeds))
    for network, losses in report.get("devices", {}).items():
        parts.append(f"\n{network}: loss of step {devices.STEPS} on so many virtual devices")
        rows = [["devices", "loss", "largest difference from 1 device in any step"]]
        for count, values in losses.items():
            difference = max(abs(a - b) for a, b in zip(values, losses["1"]))
            rows.append([count, f"{values[-1]:.6f}", f"{difference:.1e}"])
        parts.append(_columns(rows))
    for network, times in report.get("seeds_on_devices", {}).items():
        cells = ", ".join(f"{_number(statistics.median(ms))} on {count}" for count, ms in times.items())
        parts.append(f"\n{network}: milliseconds per step and seed, a seed on every virtual device: {cells}")
    return "\n".join(parts + [f"note: {note}" for note in report["notes"]])
