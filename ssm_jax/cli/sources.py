"""What verbs are given: exported files, runs, and files of `ssm_jax.save`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import os
import pathlib
import re
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssm_jax import errors, files, graph, terminal
from ssm_jax.artifact import format
from ssm_jax.artifact.format import Artifact
from ssm_jax.cli import configs, status
from ssm_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from ssm_jax.analysis.stored import Stored
    from ssm_jax.training.step import Build

SOURCE = "a .ssm file, the folder of a run, or a file of ssm_jax.save"
_ZIP = b"PK\x03\x04"  # what every .npz begins with


def add(parser: argparse.ArgumentParser) -> None:
    """Let a verb take whatever `read` or `shown` reads, beside the source itself."""
    parser.add_argument(
        "--model",
        metavar="FILE.py:NAME",
        help="the function from nnx.Rngs to the model, where that is your own; or package.module:NAME",
    )
    parser.add_argument(
        "--rules",
        metavar="FILE.py",
        help="a file that adds mask rules of your own to ssm_jax.core.RULES; or package.module",
    )
    parser.add_argument(
        "--input",
        metavar="SHAPE",
        help="of a file of ssm_jax.save, an input: 28x28x1 for images, which are standardized; "
        "28x28x1:float32, 28x28x1:uint8 or 100:int32 for what the model takes as it is",
    )


def read(
    arguments: argparse.Namespace, source: pathlib.Path, *, seed: int | None = None, best: bool = False
) -> Artifact:
    """Read the network that a verb is given.

    Args:
      arguments: Those that `add` adds.
      source: The file or folder.
      seed: Of a run, which network.
      best: Of a run, whether it is the state that was best on the validation split.

    Raises:
      InputError: It can't be read, or needs the function that built its model.
    """
    if arguments.rules:
        _module(arguments.rules, "--rules")
    if os.path.isdir(source):
        _refuse("input", arguments, f"{source} is a run, which knows it")
        return _of_run(source, arguments.model, seed, best)
    if not is_saved(source):
        for name in ("model", "input"):
            _refuse(name, arguments, f"{source} holds the network by itself")
        return format.read(source)
    build, shape, dtype = _of_saved(arguments, source)
    # JAX takes a second to import, and what is wrong with the arguments has been said.
    from ssm_jax.artifact import model

    return model.of_saved(source, build, shape, dtype)


def shown(
    arguments: argparse.Namespace, sources: Sequence[str]
) -> tuple[list[pathlib.Path | Stored], Build | None]:
    """Find what a verb shows side by side; folders and `.ssm` files are read later.

    Args:
      arguments: Those that `add` adds.
      sources: Files and folders.

    Returns:
      The files and folders, those of `ssm_jax.save` as what they hold; and the function that builds the
      user's own model.

    Raises:
      InputError: There is no such file or folder, or it can't be read without another argument.
    """
    paths = existing(sources)
    if arguments.rules:
        _module(arguments.rules, "--rules")
    saved = {path: _of_saved(arguments, path) for path in paths if not path.is_dir() and is_saved(path)}
    if not saved:
        _refuse("input", arguments, "it is of a file of ssm_jax.save")
        if not any(path.is_dir() for path in paths):
            _refuse("model", arguments, ".ssm files hold their networks by themselves")
    build = function(arguments.model) if arguments.model else None
    # JAX takes a second to import, and what is wrong with the arguments has been said.
    from ssm_jax.analysis import stored

    return [stored.of_saved(path, *saved[path]) if path in saved else path for path in paths], build


def existing(sources: Sequence[str]) -> list[pathlib.Path]:
    """Find files and folders; an `InputError` names the first that is not there."""
    paths = [pathlib.Path(os.path.expanduser(path)) for path in sources]
    for path in paths:
        if not os.path.exists(path):
            raise errors.InputError(f"there is no file or folder {path}; allowed is {SOURCE}")
    return paths


def _of_saved(arguments: argparse.Namespace, source: pathlib.Path) -> tuple[Build, graph.Shape, str | None]:
    """What reads a file of `ssm_jax.save`: the function that builds its model, an input's shape and dtype."""
    for name, example in (("model", "own.py:build"), ("input", "28x28x1")):
        if getattr(arguments, name) is None:
            raise errors.InputError(
                f"{source} is no .ssm file; of a file of ssm_jax.save give --{name} too, such as {example}"
            )
    return function(arguments.model), *input_of(arguments.input)


def _refuse(name: str, arguments: argparse.Namespace, why: str) -> None:
    if getattr(arguments, name) is not None:
        raise errors.InputError(f"leave --{name} out: {why}")


def is_saved(path: pathlib.Path) -> bool:
    """Whether a file is one of `ssm_jax.save`, or another `.npz`."""
    try:
        files.check_regular(path)
        with path.open("rb") as file:
            return file.read(len(_ZIP)) == _ZIP
    except OSError:
        return False  # whoever reads it says why


def _of_run(folder: pathlib.Path, name: str | None, seed: int | None, best: bool) -> Artifact:
    exported, record = folder / "model.ssm", RunFolder(folder).require_record()
    if record.model is not None and name is None and seed is None and not best and os.path.isfile(exported):
        # What has been exported of it holds the network by itself.
        terminal.complain(f"reading {exported}, which was exported of the run; --model reads its checkpoint")
        return format.read(exported)
    build = None if name is None else function(name)
    from ssm_jax.artifact import to_graph

    status.set_up_logging()
    return to_graph.of_run(folder, model=build, seed=seed, best=best)


def function(text: str) -> Build:
    """Find a function that builds a model.

    Args:
      text: `own.py:build` or `package.module:build`; the folder of the file, or the current one, is searched
        for what it imports.

    Raises:
      InputError: There is none, or its file fails; names its line.
    """
    where, _, name = text.rpartition(":")
    if not where or not name.isidentifier():
        raise errors.InputError(
            f"--model is {text!r}; allowed is a function of a file or module: own.py:build, package.module:f"
        )
    module = _module(where, "--model")
    known = {key for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    if not callable(getattr(module, name, None)):
        raise errors.unknown(f"function of {where}", name, sorted(known))
    build: Build = getattr(module, name)
    return build


def _module(where: str, option: str) -> types.ModuleType:
    """Import `own.py` or `package.module`."""
    path = pathlib.Path(os.path.expanduser(where))
    if path.suffix != ".py":
        with configs.running(where, os.getcwd()):
            return importlib.import_module(where)
    if not os.path.isfile(path):
        raise errors.InputError(f"there is no file {path}, which {option} names")
    name = f"_own_{path.stem}"
    loader = importlib.util.spec_from_file_location(name, path)
    assert loader is not None and loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[name] = module  # where dataclasses look for it
    with configs.running(str(path), str(path.resolve().parent)):
        loader.loader.exec_module(module)
    return module


def input_of(text: str) -> tuple[graph.Shape, str | None]:
    """Read `28x28x1` or `28x28x1:float32`: the shape of an input, and its dtype where one is given."""
    match = re.fullmatch(r"([1-9]\d{0,8}(?:x[1-9]\d{0,8})*)(?::(\w+))?", text)
    dtype = match and match[2]
    if not match or (dtype and dtype not in graph.INPUT_DTYPES):
        allowed = f"28x28x1, or 28x28x1:DTYPE of {', '.join(graph.INPUT_DTYPES)}"
        raise errors.InputError(f"--input is {text!r}; allowed is a shape without its batch: {allowed}")
    shape = tuple(map(int, match[1].split("x")))
    if (
        len(shape) > graph.MOST_AXES
        or math.prod(shape) > graph.MOST_ELEMENTS
        or (not dtype and len(shape) != 3)
    ):
        allowed = (
            "HxWxC of images" if not dtype else f"{graph.MOST_AXES} sizes, {graph.MOST_ELEMENTS:,} elements"
        )
        raise errors.InputError(f"--input is {text!r}; allowed is {allowed}")
    return shape, dtype
