"""`ssm-jax inspect`: what a trained network holds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ssm_jax import graph, terminal
from ssm_jax.artifact import format
from ssm_jax.artifact.format import Artifact
from ssm_jax.artifact.sizes import Sizes
from ssm_jax.cli import sources, status
from ssm_jax.cli.describe import beside_file, headline, plain
from ssm_jax.cli.parser import Parser
from ssm_jax.columns import aligned

_ABOUT = """Show what a trained network holds, layer by layer.

Shares are of the weights as they are applied, mask times frozen weight: below 0, 0, and above 0. Those above
and below are not the shares of -1 and +1 that a run's table has of its masks. Bytes are those
of a kernel that is packed by itself, entropy is what no coder goes below that codes every weight by itself.
An input is dead that no weight reads, an output that no weight enters; ssm-jax export --compact leaves such
units out."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ssm-jax inspect",
        description=_ABOUT,
        examples=[
            "runs/conv8/model.ssm",
            "model.ssm --json | jq .record.config",
            "saved.npz --model own.py:build --input 28x28x1   # a file of ssm_jax.save",
        ],
    )
    parser.add_argument("network", metavar="NETWORK", help=sources.SOURCE)
    sources.add(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object, which holds the config too")
    return parser


@status.program()
def main(argv: list[str]) -> None:
    """Do what the arguments say; returns the exit status."""
    arguments = _parser().parse_args(argv)
    path = pathlib.Path(os.path.expanduser(arguments.network))
    artifact = sources.read(arguments, path)
    by_itself = os.path.isfile(path) and not sources.is_saved(path)
    size = path.stat().st_size if by_itself else len(format.encode(artifact))
    terminal.say(json.dumps(_facts(artifact, size), indent=2) if arguments.json else _text(artifact, size))


@dataclasses.dataclass(frozen=True)
class Layer:
    """What a layer's kernel holds.

    Attributes:
      shape: Shape of the kernel, `(..., I, O)`.
      negative: Share of weights below 0, of a signed supermask -1.
      bytes: Size when it is packed by itself.
      entropy: Bytes of the weights' entropy.
      inputs: Number of input units or channels, `I`.
      dead_inputs: Those that no weight reads.
      outputs: Number of output units or channels, `O`.
      dead_outputs: Those that no weight enters.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    negative: float
    hidden: float
    positive: float
    bytes: int
    entropy: int
    inputs: int
    dead_inputs: int
    outputs: int
    dead_outputs: int


def layer(node: graph.Layer) -> Layer:
    """Count what is in a layer's kernel."""
    values = node.kernel.values
    used = (values != 0).reshape(-1, *values.shape[-2:]).any(0)
    return Layer(
        name=node.name,
        shape=values.shape,
        weights=values.size,
        negative=float((values < 0).mean()),
        hidden=float((values == 0).mean()),
        positive=float((values > 0).mean()),
        bytes=format.kernel_bytes(node.kernel),
        entropy=Sizes.of([node.kernel]).entropy,
        inputs=used.shape[0],
        dead_inputs=int((~used.any(1)).sum()),
        outputs=used.shape[1],
        dead_outputs=int((~used.any(0)).sum()),
    )


def _facts(artifact: Artifact, size: int) -> dict[str, Any]:
    network = artifact.network
    whole, remaining = graph.multiply_adds(network)
    return {
        "image_shape": network.image_shape,
        "class_names": artifact.class_names,
        "dtype": network.dtype,
        "layers": [dataclasses.asdict(layer(node)) for node in network.layers()],
        "bytes": {"file": size, **dataclasses.asdict(Sizes.of(node.kernel for node in network.layers()))},
        "multiply_adds": {"all": whole, "remaining": remaining},
        "record": artifact.record,
    }


def _text(artifact: Artifact, size: int) -> str:
    network = artifact.network
    layers = [layer(node) for node in network.layers()]
    sizes = Sizes.of(node.kernel for node in network.layers())
    whole, remaining = graph.multiply_adds(network)
    sides = "x".join(map(str, network.image_shape))
    return "\n".join(
        [
            headline(artifact.record) or "a network without a record",
            f"inputs {sides} of {network.image_dtype}, computed in {network.dtype}",
            f"{network.classes} classes: {plain(list(artifact.class_names))}",
            "",
            *aligned([_HEAD, *map(_row, layers), _all(layers, sizes)], left=2),
            "<0, 0, >0: of the weights as applied, mask times frozen weight; a run's table is of the mask",
            "dead: inputs that no weight reads, outputs that no weight enters",
            "",
            f"the file has {size:,} bytes, {sum(each.bytes for each in layers):,} of them kernels",
            *beside_file(sizes, size),
            f"an image takes {whole:,} multiply-adds, {remaining:,} of them with weights that are not 0",
            *_record(artifact.record),
        ]
    )


def _record(record: Mapping[str, Any]) -> list[str]:
    if not record:
        return []
    lines = [f"  {plain(name)}: {plain(value)}" for name, value in record.items() if name != "config"]
    return ["", "training record", *lines, *(["  config: see --json"] if "config" in record else [])]


_HEAD = ("layer", "kernel", "weights", "<0 %", "0 %", ">0 %", "bytes", "entropy", "dead in", "dead out")


def _row(each: Layer) -> tuple[str, ...]:
    return (
        each.name,
        "x".join(map(str, each.shape)),
        f"{each.weights:,}",
        *(f"{100 * share:.2f}" for share in (each.negative, each.hidden, each.positive)),
        f"{each.bytes:,}",
        f"{each.entropy:,}",
        f"{each.dead_inputs}/{each.inputs}",
        f"{each.dead_outputs}/{each.outputs}",
    )


def _all(layers: Sequence[Layer], sizes: Sizes) -> tuple[str, ...]:
    shares = (
        sum(getattr(each, name) * each.weights for each in layers) / max(sizes.weights, 1)
        for name in ("negative", "hidden", "positive")
    )
    return (
        "all",
        "",
        f"{sizes.weights:,}",
        *(f"{100 * share:.2f}" for share in shares),
        f"{sum(each.bytes for each in layers):,}",
        f"{sizes.entropy:,}",
        f"{sum(each.dead_inputs for each in layers)}/{sum(each.inputs for each in layers)}",
        f"{sum(each.dead_outputs for each in layers)}/{sum(each.outputs for each in layers)}",
    )
