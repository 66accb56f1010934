"""`python -m ssm_jax`, the same as `ssm-jax`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit status.

    Args:
      argv: The arguments, without the program's name; None for those of the process.
    """
    # What is imported first takes a while: Ctrl-C ends it without a traceback, until `status.run` takes over.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ssm_jax.cli import main as verbs

    return verbs.main(argv)


if __name__ == "__main__":
    sys.exit(main())
