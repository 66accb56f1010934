"""Config files: Python files with a function `get_config`."""

from __future__ import annotations

import os
import pathlib
import runpy
import traceback

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
        files_there = sorted((path.parent if named else folder).glob("*.py"))
        known = (file for file in files_there if b"get_config" in file.read_bytes())
        raise errors.unknown("config file", str(path), map(os.path.relpath, known))


def fault(value: str) -> errors.InputError | None:
    """Say what is wrong with a config file, by its own line; None where nothing is.

    Args:
      value: The value of `--config`: a path, perhaps with `:variant`.
    """
    path, _, variant = value.partition(":")
    try:
        module = runpy.run_path(path)
        if "get_config" not in module:
            return errors.InputError(f"{path} has no get_config(), it is no config file")
        made = module["get_config"](*filter(None, [variant]))
    except errors.InputError as error:
        return error
    except (Exception, SystemExit) as error:
        frames = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path
        ]
        line = error.lineno if isinstance(error, SyntaxError) else (frames or [1])[-1]
        message = str(error.args[0] if error.args else "").partition("\n")[0]
        return errors.InputError(f"{path}, line {line}: {type(error).__name__}: {message}")
    if not isinstance(made, ConfigDict):
        return errors.InputError(
            f"{path}: get_config() must return a config; start from ssm_jax.config.default()"
        )
    return None


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
