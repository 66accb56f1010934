"""Train the networks of a config: `python train.py --config=configs/digits.py`.

Flags only; the program is `ssm_jax.train_and_evaluate`. Exit status: 0 done, 1 the run failed, 2 the
input can't be run, 143 or 130 stopped by SIGTERM or Ctrl-C with the state saved.
"""

from __future__ import annotations

import functools
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

import ssm_jax
from ssm_jax import config, errors
from ssm_jax.cli import arguments, configs, status
from ssm_jax.training import hosts

CONFIGS = pathlib.Path(__file__).parent / "configs"


def define(argv: list[str]) -> flags.FlagValues:
    """Define the flags, those for the config fields among the arguments too."""
    values = flags.FlagValues()

    def integer(name: str, default: int | None, text: str, low: int, high: int) -> None:
        flags.DEFINE_integer(name, default, text, low, high, flag_values=values)

    config_flags.DEFINE_config_file(
        "config",
        None,
        "A file in configs/, with :variant if it has any.",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Where the run is kept; default: runs/<config>[-<variant>].",
        flag_values=values,
    )
    # For several hosts outside a cluster whose environment tells them; see the README.
    flags.DEFINE_string("coordinator", None, "host:port of process 0.", flag_values=values)
    integer("processes", None, "How many processes take part.", 1, 2**16)
    integer("process", None, "Which of them this is, from 0.", 0, 2**16 - 1)
    integer("heartbeat", 100, "Seconds after which a lost process ends the run.", 1, 86_400)
    return values


def parse(argv: list[str]) -> flags.FlagValues:
    """Parse the arguments; every fault is an `InputError` of one line."""
    chosen = arguments.value_of("config", argv)
    if not chosen and argv and argv[0].partition(":")[0].endswith(".py"):
        raise errors.InputError(f"a config is given by its flag: --config={argv[0]}")
    if not chosen:
        raise errors.InputError("--config is missing; for example --config=configs/digits.py")
    configs.check_file(chosen, CONFIGS)
    try:
        values = define(argv)
        rest = values(["train.py", *argv])[1:]
        if rest:
            raise errors.InputError(f"what is {rest[0]!r}? Every setting is a flag such as --config.seed=1")
        list(config.fields(values.config))  # a config file that failed says so at the first access
    except errors.InputError:
        raise
    except (Exception, SystemExit) as error:
        raise arguments.explain(error, argv) from error
    return values


def train(argv: list[str]) -> None:
    """Do what the arguments say."""
    argv = arguments.expand(argv)
    if {"--help", "-h", "-help"} & set(argv):
        chosen = arguments.value_of("config", argv)
        shown = config.default()
        if chosen:
            configs.check_file(chosen, CONFIGS)
            shown = configs.load(chosen)
        print(f"{__doc__}\n{define([]).get_help()}\n\nSettings, as --config.<name>=<value>:")
        for name, value in config.fields(shown):
            print(f"  {name}  (default: {value!r})")
        return
    values = parse(argv)
    status.set_up_logging()
    hosts.join(values.coordinator, values.processes, values.process, values.heartbeat)
    workdir = values.workdir or configs.default_workdir(arguments.value_of("config", argv) or "")
    ssm_jax.train_and_evaluate(values.config, workdir)


def main(argv: list[str]) -> int:
    """Run; returns the exit status."""
    return status.run(functools.partial(train, argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
