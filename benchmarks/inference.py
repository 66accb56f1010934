"""Time trained networks at inference; one command measures every way on one device:

    python -m benchmarks.inference model.ssm other.ssm --json benchmarks/results/inference-<device>.json

For every network and batch the dense network, jitted, against: the compacted one; that with the weights of
its dense layers as int8; that in bfloat16; that with large dense layers that gather and accumulate; and
what the system's C compiler makes of it. Without files the networks are drawn: random masks with as many
weights in every layer as a file in `results/` says; Conv8, which has no such file yet, by a power of a
layer's size as in Conv2. Random masks leave hardly a unit dead, trained ones most: only files show what
compacting does. Contenders take turns, in an order that is reversed every time, after a warm-up that is not
counted; numbers are medians, ratios medians of the ratios within a turn. Not a test: run it by hand on a
quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.sparse import BCOO

from benchmarks import contenders
from benchmarks.timing import BEGUN, Budget, log, measure, ratio
from ssm_jax import graph
from ssm_jax.artifact import format, load, run, to_graph
from ssm_jax.graph.compact import compact
from ssm_jax.nn.networks import build

RESULTS = pathlib.Path(__file__).parents[1] / "results"
DRAWN = ("fcn", "conv2", "conv8")
# Where the shares of weights that are left in every layer are from, and what share of all they are scaled to.
DENSITIES = {
    "fcn": ("paper/fcn-best.json", None),
    "conv2": ("single/conv2-40-epochs.json", None),
    "conv8": ("single/conv2-40-epochs.json", 0.0117),
}
# Dense layers that gather: those of so many weights, of which at most that share is left.
GATHERED_WEIGHTS, GATHERED_SHARE = 100_000, 0.05
CONTENDERS = ("dense", "compact", "int8", "bfloat16", "gather", "native")


class Inference:
    """A contender: a function of images, called as a user calls it.

    Args:
      predict: The function.
      images: uint8 `[B, H, W, C]`.
    """

    steps = 1
    compile_seconds = 0.0

    def __init__(self, predict: Callable[[Any], Any], images: np.ndarray) -> None:
        self._predict, self._images = predict, images

    def call(self) -> None:
        """Compute the logits and wait for them."""
        self.logits()

    def logits(self) -> np.ndarray:
        """The logits, float32 `[B, classes]`."""
        return np.asarray(self._predict(self._images), np.float32)


def power_law(
    sizes: Sequence[int], densities: Sequence[float], others: Sequence[int], density: float
) -> list[float]:
    """Densities of other layers by their sizes, as a power of a layer's size like in a known network.

    Args:
      sizes: Weights of the layers that are known.
      densities: Shares of them that are left.
      others: Weights of the layers that are not known.
      density: The share that is left of all of theirs.
    """
    exponent = np.polyfit(np.log(sizes), np.log(densities), 1)[0]
    known = np.asarray(others, float)
    low, high = -50.0, 50.0  # logarithms of the factor
    for _ in range(100):
        middle = (low + high) / 2
        shares = np.minimum(1, np.exp(middle) * known**exponent)
        low, high = (low, middle) if (shares * known).sum() > density * known.sum() else (middle, high)
    return [float(share) for share in shares]


def draw(name: str) -> graph.Network:
    """A network of the paper with random masks of its layers' densities.

    Args:
      name: One of `DRAWN`.
    """
    path, density = DENSITIES[name]
    layers = json.loads((RESULTS / path).read_text())["layers"]
    densities = [1 - layer["hidden"] for layer in layers]
    shape = contenders.image_shape(name)
    whole = to_graph.network(build(name, shape, contenders.CLASSES, rngs=nnx.Rngs(0)), shape)
    if density is not None:
        sizes = [layer.kernel.values.size for layer in whole.layers()]
        densities = power_law([layer["weights"] for layer in layers], densities, sizes, density)
    generator, left = np.random.default_rng(0), iter(densities)
    nodes: list[graph.Node] = []
    for node in whole.nodes:
        if isinstance(node, (graph.Conv, graph.Dense)):
            size = node.kernel.shape
            signs = generator.choice([-1, 1], size) * (generator.random(size) < next(left))
            node = dataclasses.replace(node, kernel=graph.Kernel(signs.astype(np.int8), node.kernel.scale))
        nodes.append(node)
    return dataclasses.replace(whole, nodes=tuple(nodes))


def forms(network: graph.Network) -> dict[str, Callable[[Any], Any]]:
    """Every way to compute the logits, by its name in `CONTENDERS`; `native` only with a C compiler.

    Args:
      network: The network.
    """
    names = tuple(map(str, range(network.classes)))
    smaller = compact(network)
    whole = format.Artifact(network, names, {})

    def jitted(network: graph.Network, change: Callable[[graph.Node, dict[str, Any]], dict[str, Any]]) -> Any:
        pairs = zip(network.nodes, run.parameters(network), strict=True)
        parameters = [change(node, arrays) for node, arrays in pairs]
        return functools.partial(jax.jit(functools.partial(_apply, network)), parameters)

    def int8(node: graph.Node, arrays: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(node, graph.Dense) or not node.kernel.ternary:
            return arrays
        return {"int8": jnp.asarray(node.kernel.values), "scale": jnp.asarray(node.kernel.scale)}

    def gather(node: graph.Node, arrays: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(node, graph.Dense) or node.kernel.values.size < GATHERED_WEIGHTS:
            return arrays
        few = node.kernel.remaining <= GATHERED_SHARE * node.kernel.values.size
        return {"kernel": BCOO.fromdense(arrays["kernel"])} if few else arrays

    ways = {
        "dense": load.Model(whole, "dense"),
        "compact": load.Model(whole, "compact"),
        "int8": jitted(smaller, int8),
        "bfloat16": jitted(dataclasses.replace(smaller, dtype="bfloat16"), lambda node, arrays: arrays),
        "gather": jitted(smaller, gather),
    }
    try:
        ways["native"] = load.Model(whole, "native")
    except ValueError as error:
        log(f"    native is left out: {error}")
    return ways


def _apply(network: graph.Network, parameters: Sequence[dict[str, Any]], images: jax.Array) -> jax.Array:
    """`run.apply`, also with kernels that are stored as int8."""
    widened = [
        {"kernel": arrays["int8"].astype(jnp.float32) * arrays["scale"]} if "int8" in arrays else arrays
        for arrays in parameters
    ]
    return run.apply(network, widened, images)


def facts(network: graph.Network, origin: str) -> dict[str, Any]:
    """What a network weighs, whole and compacted.

    Args:
      network: The network.
      origin: Where it is from.
    """

    def weight(network: graph.Network) -> dict[str, Any]:
        whole, remaining = graph.multiply_adds(network)
        return {
            "shapes": {layer.name: list(layer.kernel.shape) for layer in network.layers()},
            "weights": sum(layer.kernel.values.size for layer in network.layers()),
            "multiply_adds": whole,
            "multiply_adds_of_remaining_weights": remaining,
        }

    layers = network.layers()
    return {
        "origin": origin,
        "remaining_weights": sum(layer.kernel.remaining for layer in layers),
        "densities": {layer.name: layer.kernel.remaining / layer.kernel.values.size for layer in layers},
        "dense": weight(network),
        "compact": weight(compact(network)),
        "batches": {},
    }


def report_of(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for; the JSON file is kept up to date.

    Args:
      options: The flags.
    """
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "numpy")
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": {
            "kind": device.device_kind,
            "platform": device.platform,
            "count": jax.device_count(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in packages},
        "settings": {
            name: value for name, value in vars(options).items() if name not in ("json", "networks")
        },
        # Others on the machine: with nobody else at work both are near 0 before and below the cores after.
        "load": [os.getloadavg()[0]] * 2,
        "networks": {},
    }
    budget = Budget(BEGUN + 60 * options.minutes, len(options.networks) * len(options.batches))
    for source in options.networks:
        name, network, origin = _given(source)
        report["networks"][name] = entry = facts(network, origin)
        ways = forms(network)
        for batch in options.batches:
            log(f"{name}, batch {batch}")
            images = np.random.default_rng(0).integers(0, 256, (batch, *network.image_shape), np.uint8)
            entry["batches"][str(batch)] = _batch(network, ways, images, options, budget.next())
            report["load"][1] = os.getloadavg()[0]
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _batch(
    network: graph.Network,
    ways: dict[str, Callable[[Any], Any]],
    images: np.ndarray,
    options: argparse.Namespace,
    until: float,
) -> dict[str, Any]:
    inferences = {name: Inference(predict, images) for name, predict in ways.items()}
    logits = {name: contender.logits() for name, contender in inferences.items()}
    most = np.abs(logits["dense"]).max()
    timed = measure(dict(inferences), options.repeats, options.seconds, until)
    return {
        "ms": {name: result["median"] for name, result in timed.items()},
        "turns": {name: result["ms_per_step"] for name, result in timed.items()},
        "speedup": {name: ratio(timed["dense"], result) for name, result in timed.items() if name != "dense"},
        "difference": {
            name: float(np.abs(own - logits["dense"]).max() / most) for name, own in logits.items()
        },
        "auto": load.best(compact(network), len(images)),
    }


def _given(name: str) -> tuple[str, graph.Network, str]:
    """The name, the network and where it is from."""
    if name in DRAWN:
        path, density = DENSITIES[name]
        scaled = f", by a power of a layer's size scaled to {density}" if density else ""
        return name, draw(name), f"random masks of the densities of results/{path}{scaled}"
    artifact = format.read(name)
    record = {
        key: artifact.record[key]
        for key in ("network", "dataset", "seed", "epochs", "test_accuracy", "remaining_weights")
        if key in artifact.record
    }
    return pathlib.Path(name).stem, artifact.network, f"trained: {json.dumps(record)}"


def markdown(reports: Sequence[dict[str, Any]]) -> str:
    """The table of `docs/speed.md`.

    Args:
      reports: What `report_of` made, in their order.
    """
    head = "| network | weights left % | weights compacted % | multiply-adds compacted % | batch | dense ms |"
    head += " compact | int8 | bfloat16 | gather | native | native ms | auto |"
    rows = [head, "|---" * (head.count(" | ") + 1) + "|"]
    for report in reports:
        for name, entry in report["networks"].items():
            dense, smaller = entry["dense"], entry["compact"]
            shares = [
                entry["remaining_weights"] / dense["weights"],
                smaller["weights"] / dense["weights"],
                smaller["multiply_adds"] / dense["multiply_adds"],
            ]
            for batch, times in entry["batches"].items():
                cells = [name, *(f"{100 * share:.3g}" for share in shares), batch, _ms(times["ms"]["dense"])]
                cells += [
                    f"{times['speedup'][way]:.2f}" if way in times["speedup"] else ""
                    for way in CONTENDERS[1:]
                ]
                cells += [_ms(times["ms"]["native"]) if "native" in times["ms"] else "", times["auto"]]
                rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("networks", nargs="*", default=list(DRAWN), help=f"*.ssm files, or {', '.join(DRAWN)} to be drawn")
    add("--batches", nargs="+", type=int, default=[1, 32])
    add("--repeats", type=int, default=9, help="turns at most")
    add("--seconds", type=float, default=0.5, help="that a turn takes at least")
    add("--minutes", type=float, default=8.5, help="for everything; turns are left out to keep to it")
    add("--json", type=pathlib.Path, default=None, help="file to write")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON file; returns the exit status."""
    print(markdown([report_of(parse(arguments))]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
