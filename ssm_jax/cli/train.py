"""Train the networks of a config: `ssm-jax train conv8:best`.

A config is a name, which `ssm-jax configs` lists, or a file of your own; a variant follows a colon. Every
setting is a flag, `--config.training.epochs=3`. Exit status: 0 done, 1 the run failed, 2 the input can't be
run, 143 or 130 stopped by SIGTERM or Ctrl-C with the state saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

import ssm_jax
from ssm_jax import config, errors, terminal
from ssm_jax.cli import configs, status
from ssm_jax.training import hosts

_USAGE = """usage: ssm-jax train <config>[:<variant>] [--workdir=...] [--config.<setting>=<value> ...]

examples:
  ssm-jax train digits                                    # seconds, without a download
  ssm-jax train conv8:best --workdir=runs/conv8 --config.seeds=3
  ssm-jax train own.py:small --config.training.epochs=5   # a file of your own"""


def value_of(name: str, argv: Sequence[str]) -> str | None:
    """Return the last value that the arguments give a flag, or None."""
    return take(name, argv)[0]


def take(name: str, argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the last value that the arguments give a flag, or None, and the arguments without it."""
    value, others, rest = None, [], iter(argv)
    for argument in rest:
        flag, equals, text = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            value = text if equals else next(rest, "")
        else:
            others.append(argument)
    return value, others


def explain(error: BaseException, argv: Sequence[str]) -> errors.InputError:
    """Say in one line why arguments were refused: flags and config files raise whatever they like."""
    try:
        configs.load(value_of("config", argv) or "")
    except errors.InputError as fault:
        return fault
    default = config.default()
    fields = dict(config.fields(default))
    for argument in argv:
        flag = argument.lstrip("-").partition("=")[0]
        name = flag.removeprefix("config.")
        if flag != name and name not in fields and not hasattr(default, name):
            return errors.unknown("config field", name, fields)
    message = str(error.args[0] if error.args else "") or type(error).__name__
    return errors.InputError(" - ".join(filter(None, map(str.strip, message.splitlines()))))


def define(argv: list[str]) -> flags.FlagValues:
    """Define the flags, those for the config fields among the arguments too."""
    values = flags.FlagValues()

    def integer(name: str, default: int | None, text: str, low: int, high: int) -> None:
        flags.DEFINE_integer(name, default, text, low, high, flag_values=values)

    config_flags.DEFINE_config_file(
        "config",
        None,
        "A name of `ssm-jax configs` or a file, with :variant if it has any.",
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


def take_own_settings(argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Take the settings of a mask rule of one's own, for which a config file has no fields.

    Returns:
      The settings by dotted name, and the other arguments.

    Raises:
      InputError: The rule has no such setting, or it is of another type.
    """
    flags_of_masks = (argument.lstrip("-").partition("=")[0] for argument in argv)
    named = {flag.removeprefix("config.") for flag in flags_of_masks if flag.startswith("config.mask.")}
    if not named - {name for name, _ in config.fields(config.default())}:
        return {}, argv
    from ssm_jax.core import registry  # which imports JAX

    chosen = configs.load(value_of("config", argv) or "")
    rule = value_of("config.mask.rule", argv) or chosen.mask.rule
    texts: dict[str, str] = {}
    for name in sorted(named - {name for name, _ in config.fields(chosen)}):
        text, argv = take(f"config.{name}", argv)
        texts[name] = text or ""
    return config.parse(chosen, texts, registry.own_settings(rule)), argv


def parse(argv: list[str]) -> flags.FlagValues:
    """Parse the arguments; every fault is an `InputError` of one line."""
    if not value_of("config", argv):
        raise errors.InputError(
            "a config is missing; for example: ssm-jax train digits (see ssm-jax train --help)"
        )
    try:
        own, argv = take_own_settings(argv)
        values = define(argv)
        rest = values(["ssm-jax train", *argv])[1:]
        if rest:
            raise errors.InputError(f"what is {rest[0]!r}? Every setting is a flag such as --config.seed=1")
        list(config.fields(values.config))  # a config file that failed says so at the first access
        config.override(values.config, own)
    except errors.InputError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a config file may raise whatever it likes
        raise explain(error, argv) from error
    return values


def expand(argv: Sequence[str]) -> list[str]:
    """Replace the name of a config by `--config=` and its file."""
    argv = list(argv)
    if value_of("flagfile", argv) is not None:
        raise errors.InputError("--flagfile is not read: settings go into a config file, --config=own.py")
    if argv and not argv[0].startswith("-"):
        argv[0] = f"--config={argv[0]}"
    chosen, others = take("config", argv)
    return [f"--config={configs.find(chosen)}", *others] if chosen else argv


def train(argv: list[str]) -> None:
    """Do what the arguments say."""
    argv = expand(argv)
    if {"--help", "-h", "-help"} & set(argv):
        chosen = value_of("config", argv)
        shown = configs.load(chosen) if chosen else config.default()
        terminal.say(
            f"{_USAGE}\n\n{__doc__}\n{define([]).get_help()}\n\nSettings, as --config.<name>=<value>:"
        )
        for name, value in config.fields(shown):
            terminal.say(f"  {name}  (default: {value!r})")
        return
    values = parse(argv)
    status.set_up_logging()
    hosts.join(values.coordinator, values.processes, values.process, values.heartbeat)
    chosen = value_of("config", argv) or ""
    ssm_jax.train_and_evaluate(values.config, values.workdir or configs.default_workdir(chosen))
    if dense := configs.dense(chosen, values.config):
        hosts.say(f"dense:   {dense}")


main = status.program()(train)
