"""Train the networks of a config: `python train.py --config=configs/digits.py`.

Flags only; the program is `ssm_jax.train_and_evaluate`. Exit status: 0 done, 1 the run failed, 2 the
input can't be run, 143 stopped by SIGTERM with the state saved.
"""

from __future__ import annotations

import logging
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

import ssm_jax
from ssm_jax import config, errors, hosts

CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/, with :variant if it has any.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default: runs/<config>[-<variant>].")
# For several hosts outside a cluster whose environment tells them; see the README.
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes take part.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)
HEARTBEAT = flags.DEFINE_integer("heartbeat", 100, "Seconds after which a lost process ends the run.", 1)
FLAGS = flags.FLAGS


def default_workdir(config: str) -> str:
    """`runs/<config>[-<variant>]` of a value of `--config`."""
    path, _, variant = config.partition(":")
    return str(pathlib.Path("runs") / "-".join(filter(None, (pathlib.Path(path).stem, variant))))


def parse(argv: list[str]) -> None:
    """Parse the flags; every fault is an `InputError` of one line."""
    try:
        rest = FLAGS(argv)[1:]
        if rest:
            raise errors.InputError(f"what is {rest[0]!r}? Every setting is a flag such as --config.seed=1")
        if not FLAGS["config"].present:
            raise errors.InputError("--config is missing; for example --config=configs/digits.py")
        path = pathlib.Path(config_flags.get_config_filename(FLAGS["config"]).partition(":")[0])
        if not path.is_file():
            raise errors.unknown("config file", str(path), map(str, sorted(path.parent.glob("*.py"))))
        CONFIG.value.seed  # noqa: B018 - a config file that failed says so at the first access
    except errors.InputError:
        raise
    except Exception as error:
        raise _first_cause(error, argv) from error


def _first_cause(error: BaseException, argv: list[str]) -> Exception:
    """One line on what is wrong: flags and config files raise whatever they like, wrapped or not."""
    fields = dict(config.fields(config.default()))
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0].removeprefix("config.")
        if argument.startswith("--config.") and name not in fields and not hasattr(config.default(), name):
            return errors.unknown("config field", name, fields)
    message = str(error.args[0] if error.args else type(error).__name__)
    lines = [line for line in map(str.strip, message.splitlines()) if line] or [type(error).__name__]
    # A fault in a config file arrives as its traceback, which ends with the fault itself.
    line = lines[-1] if "parsing config file" in lines[0] else " - ".join(lines)
    return errors.InputError(line.removeprefix("ssm_jax.errors.InputError: "))


def main(argv: list[str]) -> int:
    """Run; returns the exit status."""
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(f"{__doc__}\n{FLAGS.main_module_help()}\n\nSettings, as --config.<name>=<value>:")
        print("\n".join(f"  {name}  (default: {value!r})" for name, value in config.fields(config.default())))
        return 0
    try:
        parse(argv)
        # What takes long before training starts, such as decoding a dataset, says so.
        logging.basicConfig(format="%(message)s")
        logging.getLogger("ssm_jax").setLevel(logging.INFO)
        # Orbax logs the traceback of a failed save, which arrives here as an error of one line.
        logging.getLogger("absl").setLevel(logging.CRITICAL)

        hosts.join(COORDINATOR.value, PROCESSES.value, PROCESS.value, HEARTBEAT.value)
        workdir = WORKDIR.value or default_workdir(config_flags.get_config_filename(FLAGS["config"]))
        ssm_jax.train_and_evaluate(CONFIG.value, workdir)
    except (errors.InputError, errors.RunError, errors.Preempted) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("error: interrupted; the same command continues from the last save", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
