"""What trained masks tell, from the command line: `ssm-jax analysis`.

Of every run: shares of -1, 0 and +1, dead units and connected weights by layer; shares and flips over
training where the run stored its masks (--config.logging.masks=true); test accuracy of the mask on other
draws of the kernel. Of several seeds or runs: overlap against chance. Of several runs: what inversion buys
at equal density. Of a file: shares, units, connected weights and overlap.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from ssm_jax import terminal
from ssm_jax.cli import sources, status
from ssm_jax.cli.parser import Parser


@status.program()
def main(argv: list[str]) -> None:
    """Do what the arguments say; returns the exit status."""
    arguments = _parser().parse_args(argv or ["--help"])
    shown, model = sources.shown(arguments, arguments.folders)
    from ssm_jax.analysis import analyze, tables

    status.set_up_logging()
    report = analyze.analyze(shown, seeds=arguments.seeds, draws=arguments.draws, model=model)
    if arguments.json:
        terminal.say(json.dumps(dataclasses.asdict(report), indent=1))
    else:
        terminal.say(tables.text(report))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ssm-jax analysis",
        description=__doc__,
        examples=[
            "runs/fcn",
            "runs/fcn runs/fcn-binary --seeds 0 1",
            "runs/fcn --draws 0 --json > fcn.json",
            "runs/own --model own.py:build",
            "runs/fcn fcn.ssm --draws 0",
        ],
    )
    parser.add_argument("folders", nargs="+", metavar="RUN", help=sources.SOURCE)
    sources.add(parser)
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="of the networks, in every run (default: all)"
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=3,
        metavar="N",
        help="put the masks onto so many other kernels (default: 3); with 0 no data are needed",
    )
    return parser
