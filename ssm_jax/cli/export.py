"""`ssm-jax export`: from a run to a file that holds the trained network by itself."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shlex
from typing import NamedTuple

import numpy as np

from ssm_jax import errors, graph, terminal
from ssm_jax.artifact import export, integer
from ssm_jax.artifact.export import c, c_integer
from ssm_jax.artifact.format import Artifact
from ssm_jax.artifact.sizes import Sizes
from ssm_jax.cli import output, sources, status
from ssm_jax.cli.describe import beside_file, headline
from ssm_jax.cli.parser import Parser
from ssm_jax.data import datasets
from ssm_jax.graph.compact import compact
from ssm_jax.runs.folder import RunFolder

_ABOUT = """Write a trained network to a file, by itself: without scores, optimizer and checkpoint.

formats:
{formats}"""


def _parser() -> argparse.ArgumentParser:
    formats = "\n".join(f"  {name:11}  {of.description}" for name, of in export.FORMATS.items())
    parser = Parser(
        prog="ssm-jax export",
        description=_ABOUT.format(formats=formats),
        examples=[
            "runs/conv8                           # runs/conv8/model.ssm",
            "runs/conv8 --format c --compact      # runs/conv8/model.c and model.h",
            "runs/mcu --format c --integer        # C without floating point, for a microcontroller",
            "runs/fcn-50 --seed 7 --output 7.ssm  # one network of a run of several",
            "model.ssm --format onnx              # another format without the run",
            "runs/own --model own.py:build          # a run that trained a model of your own",
            "saved.npz --model own.py:build --input 28x28x1",
        ],
    )
    parser.add_argument("source", metavar="SOURCE", help=sources.SOURCE)
    parser.add_argument("--format", metavar="FORMAT", default="ssm", help="see above (default: ssm)")
    parser.add_argument(
        "--output", metavar="PATH", help="file to write (default: the format's name, see above, in the run)"
    )
    sources.add(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="which network (default: the run's first)")
    parser.add_argument(
        "--best", action="store_true", help="the state that was best on the validation split, not the last"
    )
    parser.add_argument(
        "--compact", action="store_true", help="leave out units that contribute nothing; the logits stay"
    )
    parser.add_argument(
        "--integer", action="store_true", help="with --format c: int8 values, int32 sums, no floating point"
    )
    parser.add_argument(
        "--images",
        metavar="PATH",
        help="with --integer: a .npy of images that the scales of int8 follow from (default: the training "
        "images of the network's dataset)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    return parser


@status.program("interrupted; nothing was written")
def main(argv: list[str]) -> None:
    """Do what the arguments say; returns the exit status."""
    arguments = _parser().parse_args(argv)
    chosen = errors.choose("format", arguments.format, export.FORMATS)
    source = pathlib.Path(os.path.expanduser(arguments.source))
    if not os.path.exists(source):
        raise errors.InputError(f"there is no {source}; a source is {sources.SOURCE}")
    if source.is_dir():
        default = source / chosen.file
    elif arguments.seed is None and not arguments.best:
        default = source.with_suffix(pathlib.Path(chosen.file).suffix)
    else:
        raise errors.InputError(f"--seed and --best choose among the networks of a run; {source} holds one")
    target = pathlib.Path(default if arguments.output is None else os.path.expanduser(arguments.output))
    export.check(arguments.format, target)
    _check_ending(arguments.format, target)
    if arguments.integer and arguments.format != "c":
        raise errors.InputError(f"--integer is for --format c, not for --format {arguments.format}")
    if arguments.images is not None and not arguments.integer:
        raise errors.InputError("--images is for --integer, whose scales follow from them")
    written = chosen.files(target)
    for path in written:
        output.check_free(path, arguments.force)

    artifact = sources.read(arguments, source, seed=arguments.seed, best=arguments.best)
    terminal.say(headline(artifact.record) or f"{source} has no record of a training")
    if arguments.compact:
        artifact = _compacted(artifact)
    if arguments.integer:
        data = _data(source, artifact, arguments)
        whole = integer.quantize(artifact.network, data.calibration)
        output.write(written, arguments.force, lambda path: c_integer.write(artifact, path, whole))
        terminal.say("\n".join(_as_integers(whole, data)))
    else:
        output.write(written, arguments.force, lambda path: export.write(artifact, path, arguments.format))
        if arguments.format == "c":
            terminal.say(_of_memory(*c.memory(artifact.network)))
    if arguments.format == "c":  # the size of a text tells nothing
        terminal.say("\n".join(f"wrote {path}" for path in written))
    else:
        terminal.say(f"wrote {target}, {target.stat().st_size:,} bytes")
        sizes = Sizes.of(layer.kernel for layer in artifact.network.layers())
        terminal.say("\n".join(beside_file(sizes, target.stat().st_size)))
    if arguments.format == "ssm":
        terminal.say(f"\n{_next_steps(target)}")


class _Data(NamedTuple):
    """Images of which scales follow, and those whose labels are known."""

    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray


# Images that scales follow from, and multiply-adds that are spent on the accuracy.
_CALIBRATION = 256
_MOST_OPERATIONS = 2 * 10**11


def _data(source: pathlib.Path, artifact: Artifact, arguments: argparse.Namespace) -> _Data:
    if len(artifact.network.image_shape) != 3:
        raise errors.InputError("whole numbers are of networks that take images [H, W, C]")
    height, width, channels = artifact.network.image_shape
    shape = height, width, channels
    if arguments.images is not None:
        from ssm_jax.data import images

        calibration, _ = images.read(pathlib.Path(os.path.expanduser(arguments.images)), shape)
        return _Data(calibration[:_CALIBRATION], calibration[:0], np.zeros(0, np.int32))
    if source.is_dir():
        config = RunFolder(source).require_record().config
        name, folder = config.data.name, config.data.dir
    else:
        recorded = artifact.record.get("config")
        name, folder = recorded.get("data.name") if isinstance(recorded, dict) else None, ""
    if not isinstance(name, str):
        raise errors.InputError(f"{source} names no dataset: give --integer images by --images")
    dataset = datasets.load(name, folder, read_only=not source.is_dir())
    if dataset.image_shape != shape:
        raise errors.InputError(
            f"{name} has images of {dataset.image_shape}; allowed is {shape}: give --images"
        )
    return _Data(dataset.train_images[:_CALIBRATION], dataset.test_images, dataset.test_labels)


def _of_memory(flash: int, ram: int) -> str:
    return f"tables (flash): {flash:,} bytes, scratch (RAM): {ram:,} bytes"


def _as_integers(whole: integer.Integer, data: _Data) -> list[str]:
    """What became of a network in whole numbers: its memory, and its accuracy where labels are known."""
    lines = [_of_memory(*c_integer.memory(whole))]
    tested = min(len(data.labels), _MOST_OPERATIONS // max(graph.multiply_adds(whole.network)[0], 1))
    if tested:
        right = whole.logits(data.images[:tested]).argmax(1) == data.labels[:tested]
        lines.append(f"test accuracy in whole numbers: {100 * right.mean():.2f} % of {tested:,} images")
    return lines


def _check_ending(name: str, target: pathlib.Path) -> None:
    """Refuse a file whose name says another format: who forgets `--format` would not notice."""
    for other, of in export.FORMATS.items():
        if other != name and target.suffix == pathlib.Path(of.file).suffix:
            raise errors.InputError(f"{target} ends as --format {other} does, and --format is {name}")


def _compacted(artifact: Artifact) -> Artifact:
    before = artifact.network
    after = compact(before)
    counts = [sum(layer.kernel.values.size for layer in each.layers()) for each in (before, after)]
    operations = [graph.multiply_adds(each)[0] for each in (before, after)]
    terminal.say(
        f"compacted: {counts[0]:,} weights to {counts[1]:,}, {operations[0]:,} multiply-adds to "
        f"{operations[1]:,} (those of zeros counted)"
    )
    return dataclasses.replace(artifact, network=after)


def _next_steps(path: pathlib.Path) -> str:
    quoted = shlex.quote(str(path))
    return (
        f"inspect:  ssm-jax inspect {quoted}\n"
        f"predict:  ssm-jax predict {quoted} images.npy photo.png\n"
        f"use it:   ssm_jax.load({str(path)!r})(images)"
    )
