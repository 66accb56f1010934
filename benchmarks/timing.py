"""Timing in turns, within a budget of minutes."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.contenders import Contender

BEGUN = time.perf_counter()
LEAST_REPEATS = 3
# Seconds. Longer calls are not called a second time, and longer turns not a third time once time is up.
TOO_LONG, LONG = 60.0, 20.0


def log(text: str) -> None:
    """A line of progress, on stderr."""
    print(f"[{time.perf_counter() - BEGUN:6.1f} s] {text}", file=sys.stderr, flush=True)


@dataclasses.dataclass
class Budget:
    """How long measuring may take.

    Attributes:
      end: of everything, by `time.perf_counter`.
      units: that are still to be measured.
    """

    end: float
    units: int

    def next(self) -> float:
        """When the next unit should be done: its even share of what is left."""
        now = time.perf_counter()
        share = max(0.0, self.end - now) / max(1, self.units)
        self.units -= 1
        return now + share


def measure(
    contenders: Mapping[str, Contender], repeats: int, seconds: float, until: float
) -> dict[str, dict[str, Any]]:
    """Time contenders in turns.

    Args:
      contenders: by name.
      repeats: turns at most; fewer when time is up, but three if a turn is not very long.
      seconds: that a contender's turn should take at least.
      until: when to be done, by `time.perf_counter`.

    Returns:
      By name: `ms_per_step` of every turn, their `median`, `steps_per_call`, `calls_per_repeat`,
      `first_call_seconds` (with compiling) and `compile_seconds`. If even the second call would take
      too long, the only value is that of the first call without compiling and `cold` is true.
    """
    results: dict[str, dict[str, Any]] = {}
    costs: dict[str, float] = {}
    for name, contender in contenders.items():
        compiled, start = contender.compile_seconds, time.perf_counter()
        contender.call()
        first = time.perf_counter() - start
        compiling = contender.compile_seconds - compiled
        results[name] = {
            "ms_per_step": [],
            "steps_per_call": contender.steps,
            "first_call_seconds": first,
            "compile_seconds": compiling,
            "cold": first - compiling > TOO_LONG,
        }
        costs[name] = first - compiling
        if not results[name]["cold"]:
            start = time.perf_counter()
            contender.call()
            costs[name] = time.perf_counter() - start
        results[name]["calls_per_repeat"] = max(1, round(seconds / costs[name]))
        log(f"    {name}: first call {first:.1f} s, then {1e3 * costs[name] / contender.steps:.3f} ms a step")
    names = [name for name in contenders if not results[name]["cold"]]
    for turn in range(repeats):
        if time.perf_counter() > until and (turn >= LEAST_REPEATS or (turn and sum(costs.values()) > LONG)):
            break
        for name in names if turn % 2 == 0 else reversed(names):
            calls = results[name]["calls_per_repeat"]
            start = time.perf_counter()
            for _ in range(calls):
                contenders[name].call()
            taken = time.perf_counter() - start
            results[name]["ms_per_step"].append(1e3 * taken / calls / contenders[name].steps)
    for name, result in results.items():
        result["ms_per_step"] = result["ms_per_step"] or [1e3 * costs[name] / contenders[name].steps]
        result["median"] = statistics.median(result["ms_per_step"])
    return results


def ratio(above: dict[str, Any], below: dict[str, Any], factor: float = 1.0) -> float:
    """Median over the turns of `factor * above / below`, of two results of `measure`."""
    if above["cold"] or below["cold"]:
        return factor * above["median"] / below["median"]
    return statistics.median(factor * a / b for a, b in zip(above["ms_per_step"], below["ms_per_step"]))


def matmul_rate(precision: str, size: int, repeats: int = 5) -> dict[str, Any]:
    """The device's own rate, in a product of two square matrices of random numbers.

    Args:
      precision: `float32` (TF32 on NVIDIA, as JAX has it) or `bfloat16`.
      size: of the matrices' sides.
      repeats: how often, after a warm-up.

    Returns:
      `tflops` (10^12 operations per second) of every repeat and their `median`.
    """
    keys = jax.random.split(jax.random.key(0))
    left, right = (jax.random.normal(key, (size, size), jnp.dtype(precision)) for key in keys)
    product = jax.jit(jnp.matmul).lower(left, right).compile()
    rates, calls = [], 1 if jax.default_backend() == "cpu" else 20
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(calls):
            result = product(left, right)
        result.block_until_ready()
        rates.append(calls * 2 * size**3 / (time.perf_counter() - start) / 1e12)
    return {"size": size, "tflops": rates[1:], "median": statistics.median(rates[1:])}
