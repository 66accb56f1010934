"""Train the networks of a config: `python train.py --config=configs/digits.py`.

Flags only; the program is `ssm_jax.train_and_evaluate`. Exit status: 0 done, 1 the run failed, 2 the
input can't be run, 143 or 130 stopped by SIGTERM or Ctrl-C with the state saved.
"""

from __future__ import annotations

import logging
import os
import pathlib
import runpy
import sys
import traceback

from absl import flags
from ml_collections import ConfigDict, config_flags

import ssm_jax
from ssm_jax import config, errors
from ssm_jax.training import hosts

CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/, with :variant if it has any.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default: runs/<config>[-<variant>].")
# For several hosts outside a cluster whose environment tells them; see the README.
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes take part.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)
HEARTBEAT = flags.DEFINE_integer("heartbeat", 100, "Seconds after which a lost process ends the run.", 1)
FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).parent


def default_workdir(value: str) -> str:
    """`runs/<config>[-<variant>]` of a value of `--config`."""
    path, _, variant = value.partition(":")
    return str(pathlib.Path("runs") / "-".join(filter(None, (pathlib.Path(path).stem, variant))))


def parse(argv: list[str]) -> None:
    """Parse the flags; every fault is an `InputError` of one line."""
    for argument in argv[1:]:
        if argument.startswith("--config="):
            _check_file(argument.removeprefix("--config="))
    try:
        rest = FLAGS(argv)[1:]
        if rest:
            raise errors.InputError(f"what is {rest[0]!r}? Every setting is a flag such as --config.seed=1")
        if not FLAGS["config"].present:
            raise errors.InputError("--config is missing; for example --config=configs/digits.py")
        _check_file(config_flags.get_config_filename(FLAGS["config"]))
        list(config.fields(CONFIG.value))  # a config file that failed says so at the first access
    except errors.InputError:
        raise
    except Exception as error:
        raise _first_cause(error, argv) from error


def _check_file(value: str) -> None:
    path = pathlib.Path(value.partition(":")[0])
    if not path.is_file():
        # A bare name such as `digits` means one of ours.
        named = path.parent != pathlib.Path() and any(path.parent.glob("*.py"))
        files = (path.parent if named else ROOT / "configs").glob("*.py")
        raise errors.unknown("config file", str(path), map(os.path.relpath, sorted(files)))


def _config_fault(value: str) -> errors.InputError | None:
    """What is wrong with a config file, by its own line, or None."""
    path, _, variant = value.partition(":")
    try:
        made = runpy.run_path(path)["get_config"](*filter(None, [variant]))
    except errors.InputError as error:
        return error
    except Exception as error:
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


def _first_cause(error: BaseException, argv: list[str]) -> Exception:
    """One line on what is wrong: flags and config files raise whatever they like, wrapped or not."""
    fields = dict(config.fields(config.default()))
    for argument in argv[1:]:
        name, _, value = argument.lstrip("-").partition("=")
        if name == "config" and (fault := _config_fault(value)):
            return fault
        name = name.removeprefix("config.")
        if argument.startswith("--config.") and name not in fields and not hasattr(config.default(), name):
            return errors.unknown("config field", name, fields)
    message = str(error.args[0] if error.args else "") or type(error).__name__
    return errors.InputError(" - ".join(filter(None, map(str.strip, message.splitlines()))))


def _report_unraisable(what: sys.UnraisableHookArgs) -> None:
    # When one array of a damaged checkpoint can't be read, the reads of the others, still under way, find
    # their event loop closed; the error of the first says it all.
    if str(what.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(what)


def main(argv: list[str]) -> int:
    """Run; returns the exit status."""
    sys.unraisablehook = _report_unraisable
    try:
        if {"--help", "-h", "-help"} & set(argv[1:]):
            print(f"{__doc__}\n{FLAGS.main_module_help()}\n\nSettings, as --config.<name>=<value>:")
            for name, value in config.fields(config.default()):
                print(f"  {name}  (default: {value!r})")
            sys.stdout.flush()
            return 0
        parse(argv)
        # What takes long before training starts, such as waiting for hosts or decoding a dataset, says so.
        logging.basicConfig(format="%(message)s", force=True)
        logging.getLogger("ssm_jax").setLevel(logging.INFO)
        # Orbax logs the traceback of a failed save, which arrives here as an error of one line.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        hosts.join(COORDINATOR.value, PROCESSES.value, PROCESS.value, HEARTBEAT.value)
        workdir = WORKDIR.value or default_workdir(config_flags.get_config_filename(FLAGS["config"]))
        ssm_jax.train_and_evaluate(CONFIG.value, workdir)
    except errors.Preempted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_status
    except (errors.InputError, errors.RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read the output has left, as `head` does; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stdout.flush()
        print("interrupted; the last checkpoint, if there is one, is kept", file=sys.stderr, flush=True)
        os._exit(130)  # The threads of a save that was interrupted may never end.
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
