"""`ssm-jax report`: one page about runs and networks in files."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Sequence

from ssm_jax import terminal
from ssm_jax.cli import output, sources, status
from ssm_jax.cli.parser import Parser

_ABOUT = """Write one HTML page about a finished run or a network in a file, or about several side by side.

It holds settings, curves, masks, filters, units, mistakes and sizes, and needs nothing else to be read.
To make it takes jinja2 and matplotlib: pip install "ssm_jax[report]"."""

_FILE = "report.html"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ssm-jax report",
        description=_ABOUT,
        examples=[
            "runs/conv8                   # runs/conv8/report.html",
            "runs/conv8 runs/conv8-dense  # runs/report.html",
            "runs/fcn-50 --seed 7 --output fcn.html",
            "runs/own --model own.py:build  # a run that trained a model of your own",
            "conv8.ssm",
            "saved.npz --model own.py:build --input 28x28x1",
        ],
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=sources.SOURCE)
    parser.add_argument(
        "--output",
        metavar="PATH",
        help=f"file to write (default: {_FILE} in the run, or beside all that is given)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="network to show (default: each run's first)")
    sources.add(parser)
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    return parser


@status.program("interrupted; nothing was written")
def main(argv: list[str]) -> None:
    """Do what the arguments say; returns the exit status."""
    arguments = _parser().parse_args(argv)
    runs = sources.existing(arguments.runs)
    target = pathlib.Path(os.path.expanduser(arguments.output or _default(runs)))
    output.check_free(target, arguments.force)
    shown, model = sources.shown(arguments, arguments.runs)
    from ssm_jax.analysis import report

    status.set_up_logging()
    output.write(
        [target], arguments.force, lambda path: report.write(shown, path, seed=arguments.seed, model=model)
    )
    terminal.say(f"wrote {target}, {target.stat().st_size:,} bytes: open it in a browser")


def _default(runs: Sequence[pathlib.Path]) -> pathlib.Path:
    if len(runs) == 1 and runs[0].is_dir():
        return runs[0] / _FILE
    # A common folder is that of the names given, which may be relative.
    return pathlib.Path(os.path.commonpath([run.absolute().parent for run in runs])) / _FILE
