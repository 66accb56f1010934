"""Config files, Python files with a function `get_config`, and `ssm-jax configs`, which lists ours."""

from __future__ import annotations

import ast
import contextlib
import os
import pathlib
import runpy
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors, files, terminal
from ssm_jax.cli import status
from ssm_jax.cli.parser import Parser

# The configs of the package: in a clone, a link to those at its top.
FOLDER = pathlib.Path(__file__).parents[1] / "recipes" / "configs"


def find(value: str) -> str:
    """Find a config file, before anything opens it; returns its path.

    Args:
      value: The name of one of ours, or a path that ends in `.py`; either perhaps with `:variant`.

    Raises:
      InputError: There is none; names the nearest.
    """
    name, colon, variant = value.partition(":")
    path = pathlib.Path(name)
    if path.name == name and not path.suffix:
        if name not in names(FOLDER):
            raise errors.unknown("config", name, names(FOLDER))
        return f"{FOLDER / name}.py{colon}{variant}"
    try:
        files.check_regular(path)
    except OSError as error:
        raise errors.InputError(f"cannot read the config file {path}: {files.reason(error)}") from error
    if not path.exists():
        known = _config_files(path.parent) if path.parent.is_dir() else []
        raise errors.unknown("config file", str(path), map(str, known) if known else names(FOLDER))
    return value


def _config_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [file for file in sorted(folder.glob("*.py")) if b"get_config" in file.read_bytes()]


def names(folder: pathlib.Path) -> list[str]:
    """Name the config files in a folder, without their ending."""
    return [file.stem for file in _config_files(folder)]


def load(value: str) -> ConfigDict:
    """Run a config file, perhaps with `:variant` behind its path, and return its config.

    Raises:
      InputError: The file is no config file or fails; names its line.
    """
    path, _, variant = value.partition(":")
    module = _run(path)
    with _in_folder(path):
        config = module["get_config"](*filter(None, [variant]))
    if not isinstance(config, ConfigDict):
        raise errors.InputError(
            f"{path}: get_config() must return a config; start from ssm_jax.config.default()"
        )
    return config


def variants(path: str) -> list[str]:
    """Name the variants of a config file, its `VARIANTS`.

    Raises:
      InputError: The file is no config file or fails; names its line.
    """
    return list(_run(path).get("VARIANTS", ()))


def dense(value: str, config: ConfigDict) -> str | None:
    """Say what a dense network gets under a config's main settings, if its file knows, its `DENSE`."""
    if ":" in value:
        return None
    ours, main = (dict(configuration.fields(each)) for each in (config, load(value)))
    changed = {line.partition(":")[0] for line in configuration.differences(ours, main)}
    return None if changed - {"seed", "seeds"} else _run(value).get("DENSE")


def _run(path: str) -> dict[str, Any]:
    with _in_folder(path):
        module = runpy.run_path(path)
    if "get_config" not in module:
        raise errors.InputError(f"{path} has no get_config(), it is no config file")
    return module


def _in_folder(path: str) -> contextlib.AbstractContextManager[None]:
    """Let a config file import others of its folder, as `configs.common`, see `running`."""
    return running(path, str(pathlib.Path(path).resolve().parent.parent))


@contextlib.contextmanager
def running(path: str, root: str) -> Iterator[None]:
    """Let a user's file import what is below a folder; what it raises becomes an `InputError` of one line."""
    sys.path.insert(0, root)
    try:
        yield
    except errors.InputError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a config file may raise whatever it likes
        frames = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if os.path.abspath(frame.filename) == os.path.abspath(path)
        ]
        line = error.lineno if isinstance(error, SyntaxError) else (frames or [1])[-1]
        message = str(error.args[0] if error.args else "").partition("\n")[0]
        where = f"{path}, line {line}" if path.endswith(".py") else path
        raise errors.InputError(f"{where}: {type(error).__name__}: {message}") from error
    finally:
        sys.path.remove(root)


def default_workdir(value: str) -> str:
    """Name the folder of a run after its config: `runs/<config>[-<variant>]`.

    Examples:
      >>> default_workdir("configs/conv8.py:dense")
      'runs/conv8-dense'
    """
    path, _, variant = value.partition(":")
    return str(pathlib.Path("runs") / "-".join(filter(None, (pathlib.Path(path).stem, variant))))


@status.program()
def main(argv: list[str]) -> None:
    """List the configs and their variants; returns the exit status."""
    parser = Parser(
        prog="ssm-jax configs",
        description="List the configs that `ssm-jax train` knows by name, or the variants of one.",
        examples=["", "conv8   # its variants and what they reach"],
    )
    parser.add_argument("config", nargs="?", help="the name of one")
    chosen = parser.parse_args(argv).config
    if chosen is None:
        width = max(map(len, names(FOLDER)))
        for file in _config_files(FOLDER):
            terminal.say(f"{file.stem:{width}}  {_documentation(file).partition(chr(10))[0]}")
    else:
        terminal.say(_documentation(pathlib.Path(find(chosen).partition(":")[0])))


def _documentation(file: pathlib.Path) -> str:
    return ast.get_docstring(ast.parse(file.read_bytes())) or ""
