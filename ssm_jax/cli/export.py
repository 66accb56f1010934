"""`ssm-jax export`: from a run to a file that holds the trained network by itself."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import pathlib
import shlex
from collections.abc import Sequence

from ssm_jax import errors, graph, terminal
from ssm_jax.artifact import export, format
from ssm_jax.artifact.format import Artifact
from ssm_jax.artifact.sizes import Sizes
from ssm_jax.cli import output, status
from ssm_jax.cli.describe import beside_file, headline
from ssm_jax.cli.parser import Parser
from ssm_jax.graph.compact import compact

_ABOUT = """Write a trained network to a file, by itself: without scores, optimizer and checkpoint.

formats:
{formats}"""


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit status.

    Args:
      argv: The arguments, without program and verb.
    """
    return status.run(functools.partial(_main, argv), interrupted="interrupted; nothing was written")


def _parser() -> argparse.ArgumentParser:
    formats = "\n".join(f"  {name:11}  {of.description}" for name, of in export.FORMATS.items())
    parser = Parser(
        prog="ssm-jax export",
        description=_ABOUT.format(formats=formats),
        examples=[
            "runs/conv8                           # runs/conv8/model.ssm",
            "runs/conv8 --format c --compact      # runs/conv8/model.c and model.h",
            "runs/fcn-50 --seed 7 --output 7.ssm  # one network of a run of several",
            "model.ssm --format onnx              # another format without the run",
        ],
    )
    parser.add_argument("source", metavar="SOURCE", help="the folder of a run, or a .ssm file")
    parser.add_argument("--format", metavar="FORMAT", default="ssm", help="see above (default: ssm)")
    parser.add_argument(
        "--output", metavar="PATH", help="file to write (default: the format's name, see above, in the run)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="which network (default: the run's first)")
    parser.add_argument(
        "--best", action="store_true", help="the state that was best on the validation split, not the last"
    )
    parser.add_argument(
        "--compact", action="store_true", help="leave out units that contribute nothing; the logits stay"
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    return parser


def _main(argv: Sequence[str]) -> None:
    arguments = _parser().parse_args(argv)
    chosen = errors.choose("format", arguments.format, export.FORMATS)
    source = pathlib.Path(os.path.expanduser(arguments.source))
    if not os.path.exists(source):
        raise errors.InputError(f"there is no {source}; a source is the folder of a run, or a .ssm file")
    if source.is_dir():
        default = source / chosen.file
    elif arguments.seed is None and not arguments.best:
        default = source.with_suffix(pathlib.Path(chosen.file).suffix)
    else:
        raise errors.InputError(f"--seed and --best choose among the networks of a run; {source} holds one")
    target = pathlib.Path(default if arguments.output is None else os.path.expanduser(arguments.output))
    export.check(arguments.format, target)
    _check_ending(arguments.format, target)
    written = chosen.files(target)
    for path in written:
        output.check_free(path, arguments.force)

    artifact = _of_run(source, arguments) if source.is_dir() else format.read(source)
    terminal.say(headline(artifact.record) or f"{source} has no record of a training")
    if arguments.compact:
        artifact = _compacted(artifact)
    output.write(written, arguments.force, lambda path: export.write(artifact, path, arguments.format))
    for path in written:
        terminal.say(f"wrote {path}, {path.stat().st_size:,} bytes")
    sizes = Sizes.of(layer.kernel for layer in artifact.network.layers())
    terminal.say("\n".join(beside_file(sizes, target.stat().st_size)))
    if arguments.format == "ssm":
        terminal.say(f"\n{_next_steps(target)}")


def _check_ending(name: str, target: pathlib.Path) -> None:
    """Refuse a file whose name says another format: who forgets `--format` would not notice."""
    for other, of in export.FORMATS.items():
        if other != name and target.suffix == pathlib.Path(of.file).suffix:
            raise errors.InputError(f"{target} ends as --format {other} does, and --format is {name}")


def _of_run(folder: pathlib.Path, arguments: argparse.Namespace) -> Artifact:
    # JAX takes a second to import, and what is wrong with the arguments has been said.
    from ssm_jax.artifact import pack

    status.set_up_logging()
    return pack.of_run(folder, seed=arguments.seed, best=arguments.best)


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
