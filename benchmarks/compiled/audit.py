"""One program, compiled and counted: `python -m benchmarks.compiled.audit '{"target": "h100", ...}'`.

It runs in a process of its own, so that a compiler that crashes takes nothing else with it.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.compiled import costs, graphs, hlo, kernels, targets
from benchmarks.compiled.kernels import Kernel
from benchmarks.compiled.lowering import Program, lower
from benchmarks.compiled.targets import Target

_PACKAGES = {"cuda": "jax-cuda13-plugin", "tpu": "libtpu"}


def audit(program: Program) -> dict[str, Any]:
    """Compile a program and count what one of its steps does.

    Args:
      program: What to compile; JAX must have as many CPU devices as it has devices.

    Returns:
      See `report`, with the program, the versions of the compilers, and how long lowering and compiling took.
    """
    target = targets.TARGETS[program.target]
    start = time.perf_counter()
    lowered, steps = lower(program, targets.devices(target, program.devices))
    between = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {}
        if target.platform == "cuda":
            options = {"xla_dump_to": folder, "xla_gpu_collect_cost_model_stats": True}
        compiled = lowered.compile(compiler_options=options)
        launched = graphs.read(pathlib.Path(folder))
    end = time.perf_counter()
    memory = compiled.memory_analysis()
    found = kernels.kernels(hlo.parse(compiled.as_text()), launched.inside, target.clock)
    packages = ("jax", "jaxlib", _PACKAGES[target.platform])
    return {
        "program": dataclasses.asdict(program),
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "steps_per_call": steps,
        "seconds": {"lower": round(between - start, 1), "compile": round(end - between, 1)},
        "memory_mb": {
            name: round(getattr(memory, f"{name}_size_in_bytes") / 1e6, 1)
            for name in ("argument", "output", "alias", "temp")
        },
        **report(found, launched.count, target, program.precision, program.devices),
    }


def report(
    found: Sequence[Kernel], graph_count: int, target: Target, precision: str, devices: int = 1
) -> dict[str, Any]:
    """Sum up the kernels of a step.

    Args:
      found: The kernels.
      graph_count: How many CUDA graphs launch them.
      target: What they run on.
      precision: Of the products, `float32` or `bfloat16`.
      devices: Between how many collectives move their bytes.

    Returns:
      What the JSON file holds of a program: numbers per step, times in microseconds, `kernel_list` with
      every kernel.
    """
    times = [1e6 * costs.kernel_seconds(kernel, target, precision, devices) for kernel in found]
    kinds = collections.Counter(kernel.kind for kernel in found)

    def groups(attribute: str) -> dict[str, dict[str, float]]:
        sums: dict[str, dict[str, float]] = {}
        for kernel, time_ in zip(found, times):
            group = sums.setdefault(
                getattr(kernel, attribute), {"kernels": 0, "gflop": 0.0, "mb": 0.0, "us": 0.0}
            )
            group["kernels"] += 1
            group["gflop"] += kernel.flops / 1e9
            group["mb"] += kernel.bytes / 1e6
            group["us"] += time_
        return {name: {k: round(v, 3) for k, v in sums[name].items()} for name in sorted(sums)}

    return {
        "kernels": len(found),
        "graphs": {"count": graph_count, "kernels": sum(kernel.graph for kernel in found)},
        "library_calls": sum(kernel.library for kernel in found),
        "copies": kinds["copy"],
        "loops": kinds["loop"],
        "branches": kinds["branch"],
        "host_transfers": kinds["host"],
        "collectives": kinds["collective"],
        "collective_mb": round(sum(k.bytes for k in found if k.kind == "collective") / 1e6, 3),
        "gflop": round(sum(kernel.flops for kernel in found) / 1e9, 3),
        "mb": round(sum(kernel.bytes for kernel in found if kernel.kind != "collective") / 1e6, 3),
        "by_kind": groups("kind"),
        "by_scope": groups("scope"),
        "estimate_us": {
            name: round(1e6 * seconds, 1)
            for name, seconds in costs.estimate(found, target, precision, devices).items()
        },
        "kernel_list": [
            {
                "name": kernel.name,
                "kind": kernel.kind,
                "scope": kernel.scope,
                "gflop": round(kernel.flops / 1e9, 3),
                "mb": round(kernel.bytes / 1e6, 3),
                "us": round(time_, 2),
                "in_graph": kernel.graph,
                "known": kernel.known is not None,
            }
            for kernel, time_ in zip(found, times)
        ],
    }


if __name__ == "__main__":
    print(json.dumps(audit(Program(**json.loads(sys.argv[1])))))
