"""Compile the training step for an accelerator that need not be there, and count what is in it:

    python -m benchmarks.compiled --target h100 --networks fcn conv8 --seeds 1 8 --json h100.json

Needs the compiler, `pip install -e '.[audit]'`, no driver and no device. Every program is compiled in a
process of its own. A JSON file keeps what it holds of other programs. Compiler options are taken from
XLA_FLAGS (GPUs) and LIBTPU_INIT_ARGS (TPUs). Times are estimates by the figures that are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.compiled import report, targets
from benchmarks.compiled.lowering import Program
from ssm_jax import errors
from ssm_jax.nn.networks import NETWORKS

BATCH = 128
# Seconds that a program may take to compile.
TIMEOUT = 1800


def run(program: Program) -> dict[str, Any]:
    """Audit a program in a process of its own.

    Args:
      program: What to compile.

    Returns:
      What `audit` returns, or the `program` and in a line why it `failed`.
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",  # the plugins are to compile, not to look for devices
        "JAX_NUM_CPU_DEVICES": str(program.devices),
        "TPU_SKIP_MDS_QUERY": "1",  # nor for a cloud's description of this machine
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nobody holds a TPU, so others may compile at the same time
    }
    described = dataclasses.asdict(program)
    command = [sys.executable, "-m", "benchmarks.compiled.audit", json.dumps(described)]
    try:
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return {"program": described, "failed": f"not compiled after {TIMEOUT} s"}
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        failed = errors.one_line(RuntimeError(f"exit status {process.returncode}: {last}"))
        return {"program": described, "failed": failed}
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


class Results:
    """The programs of one target, in a JSON file if there is one.

    Args:
      name: The target's name.
      path: The file, or None.

    Raises:
      InputError: The file holds something else.
    """

    def __init__(self, name: str, path: pathlib.Path | None) -> None:
        self._path = path
        self._report: dict[str, Any] = {
            "target": name,
            "figures": dataclasses.asdict(targets.TARGETS[name]),
            "programs": [],
        }
        if path and path.exists():
            try:
                stored = json.loads(path.read_text())
                found, self._report["programs"] = stored["target"], stored["programs"]
            except (ValueError, LookupError, TypeError) as error:
                raise errors.InputError(
                    f"{path} holds no results of an audit: {errors.one_line(error)}"
                ) from None
            if found != name:
                raise errors.InputError(f"{path} holds programs for {found}, not for {name}")

    def add(self, result: dict[str, Any]) -> None:
        """Keep a program's result in place of an earlier one."""
        kept = {key: value for key, value in result.items() if key != "kernel_list"}
        programs = [p for p in self._report["programs"] if p["program"] != result["program"]] + [kept]
        self._report["programs"] = sorted(programs, key=lambda program: _order(program["program"]))
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._report, indent=1) + "\n")


def _order(program: dict[str, Any]) -> tuple[Any, ...]:
    return (
        list(NETWORKS).index(program["network"]),
        *(program[name] for name in ("devices", "seeds", "dense", "precision", "batch")),
    )


def _natural(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the flags."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--target", required=True, help=", ".join(targets.TARGETS))
    add("--networks", nargs="+", required=True, help=", ".join(NETWORKS))
    add("--dense", action="store_true", help="the dense baselines in place of the masked networks")
    add("--seeds", nargs="+", type=_natural, default=[1], help="side by side, a program for each number")
    add("--devices", type=_natural, default=1, help="that share the batch of one seed, or several seeds")
    add("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    add("--kernels", action="store_true", help="list every kernel, the longest first")
    add("--json", type=pathlib.Path, help="file to write")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Audit, print, write the JSON file; returns the exit status."""
    options = parse(arguments)
    try:
        target = targets.check(options.target, options.devices)
        for network in options.networks:
            errors.choose("network", network, NETWORKS)
        results = Results(options.target, options.json)
    except errors.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{options.target}: {report.figures(target)}")
    status = 0
    for network in options.networks:
        for seeds in options.seeds:
            program = Program(
                target=options.target,
                network=network,
                dense=options.dense,
                precision=options.precision,
                seeds=seeds,
                devices=options.devices,
                batch=BATCH,
            )
            start = time.perf_counter()
            result = run(program)
            print(f"{network}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            results.add(result)
            print(report.text(result, options.kernels), flush=True)
            status = 1 if "failed" in result else status
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
