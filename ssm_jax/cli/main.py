"""The command line `ssm-jax`: a verb, and a module of its name that does it."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence

from ssm_jax import errors, terminal
from ssm_jax.cli import status
from ssm_jax.version import __version__

# What each verb does; `ssm_jax.cli.<verb>.main` takes its arguments and returns the exit status.
VERBS = {
    "train": "train the networks of a config, from the first step or a checkpoint to the last",
    "configs": "list the configs that come with the package, and their variants",
    "export": "write a trained network to a file: our own, C, StableHLO, ONNX, ...",
    "predict": "label images by an exported network",
    "inspect": "show what an exported network holds: layers, shares, bytes, training record",
    "report": "write one HTML page about a run, or about several",
    "analysis": "compare the masks of runs, and try them elsewhere",
    "experiments": "train and table many settings: the paper's rows, rivals, densities, ablations",
}

_ABOUT = """usage: ssm-jax <verb> ...

Train signed supermasks, and use what they leave.

verbs:
{verbs}

  ssm-jax <verb> --help shows a verb's arguments, and examples
  ssm-jax --version     shows the version

From one to the next:
  ssm-jax train digits
  ssm-jax export runs/digits
  ssm-jax inspect runs/digits/model.ssm
  ssm-jax predict runs/digits/model.ssm images.npy photo.png
  ssm-jax report runs/digits

Exit status: 0 done, 1 failed, 2 what was given can't be used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments, by default the process's, say; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in VERBS:
        # Loaded on first use: some verbs need JAX, whose import takes longer than what others do.
        try:
            module = importlib.import_module(f"ssm_jax.cli.{arguments[0]}")
        except ValueError as error:  # of a setting of JAX in the environment
            return status.run(functools.partial(_fail, error))
        return int(module.main(arguments[1:]))
    return status.run(functools.partial(_about, arguments))


def _fail(error: Exception) -> None:
    raise error


def _about(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        terminal.say(_ABOUT.format(verbs="\n".join(f"  {verb:11}  {text}" for verb, text in VERBS.items())))
    elif arguments[0] == "--version":
        terminal.say(f"ssm_jax {__version__}")
    else:
        raise errors.unknown("verb", arguments[0], VERBS)
