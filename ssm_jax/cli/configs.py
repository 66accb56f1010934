"""Config files: Python files with a function `get_config`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import runpy
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from ssm_jax import errors, files


def check_file(value: str, folder: pathlib.Path) -> None:
    """Check that there is a config file, before anything opens it.

    Args:
      value: The value of `--config`: a path, perhaps with `:variant`.
      folder: The config files among which a bare name is looked for.

    Raises:
      InputError: There is none; names the nearest.
    """
    path = pathlib.Path(value.partition(":")[0])
    try:
        files.check_regular(path)
    except OSError as error:
        raise errors.InputError(f"cannot read the config file {path}: {files.reason(error)}") from error
    if not path.exists():
        # A bare name such as `digits` means one of ours.
        named = path.parent != pathlib.Path() and any(path.parent.glob("*.py"))
        known = _config_files(path.parent if named else folder)
        raise errors.unknown("config file", str(path), map(os.path.relpath, known))


def _config_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [file for file in sorted(folder.glob("*.py")) if b"get_config" in file.read_bytes()]


def names(folder: pathlib.Path) -> list[str]:
    """Name the config files in a folder, without their ending.

    Args:
      folder: The folder.
    """
    return [file.stem for file in _config_files(folder)]


def fault(value: str) -> errors.InputError | None:
    """Say what is wrong with a config file, by its own line; None where nothing is.

    Args:
      value: The value of `--config`: a path, perhaps with `:variant`.
    """
    try:
        load(value)
    except errors.InputError as error:
        return error
    return None


def load(value: str) -> ConfigDict:
    """Run a config file and return its config.

    Args:
      value: A path, perhaps with `:variant`.

    Raises:
      InputError: The file is no config file or fails; names its line.
    """
    path, _, variant = value.partition(":")
    module = _run(path)
    with _running(path):
        made = module["get_config"](*filter(None, [variant]))
    if not isinstance(made, ConfigDict):
        raise errors.InputError(
            f"{path}: get_config() must return a config; start from ssm_jax.config.default()"
        )
    return made


def variants(path: str) -> list[str]:
    """Name the variants of a config file, its `VARIANTS`.

    Args:
      path: The file.

    Raises:
      InputError: The file is no config file or fails; names its line.
    """
    return list(_run(path).get("VARIANTS", ()))


def _run(path: str) -> dict[str, Any]:
    with _running(path):
        module = runpy.run_path(path)
    if "get_config" not in module:
        raise errors.InputError(f"{path} has no get_config(), it is no config file")
    return module


@contextlib.contextmanager
def _running(path: str) -> Iterator[None]:
    """Let a config file import others of its folder, as `configs.common`, from wherever the program is
    started, and turn whatever it raises into an `InputError` of one line.
    """
    root = str(pathlib.Path(path).resolve().parent.parent)
    sys.path.insert(0, root)
    try:
        yield
    except errors.InputError:
        raise
    except (Exception, SystemExit) as error:
        frames = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path
        ]
        line = error.lineno if isinstance(error, SyntaxError) else (frames or [1])[-1]
        message = str(error.args[0] if error.args else "").partition("\n")[0]
        raise errors.InputError(f"{path}, line {line}: {type(error).__name__}: {message}") from error
    finally:
        sys.path.remove(root)


def default_workdir(value: str) -> str:
    """Name the folder of a run after its config: `runs/<config>[-<variant>]`.

    Args:
      value: The value of `--config`.

    Examples:
      >>> default_workdir("configs/conv8.py:dense")
      'runs/conv8-dense'
    """
    path, _, variant = value.partition(":")
    return str(pathlib.Path("runs") / "-".join(filter(None, (pathlib.Path(path).stem, variant))))
