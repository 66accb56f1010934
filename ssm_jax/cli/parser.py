"""The parser of a command line: faults are one line, and the help ends with examples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ssm_jax import errors, terminal


class Parser(argparse.ArgumentParser):
    """A parser whose faults are an `InputError`.

    Args:
      examples: Arguments of example calls, for the end of the help; text after two spaces and `#` says what
        a call does.
    """

    def __init__(self, *, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)
        if examples:
            lines = "\n".join(f"  {self.prog} {example}".rstrip() for example in examples)
            self.epilog = f"example{'s' * (len(examples) > 1)}:\n{lines}"

    def print_help(self, file: Any = None) -> None:
        """Print the help on standard output; `file` is argparse's and stays unused."""
        terminal.say(self.format_help().rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        raise errors.InputError(f"{message} (see {self.prog} --help)")
