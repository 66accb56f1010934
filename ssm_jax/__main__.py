"""`python -m ssm_jax`, the same as `ssm-jax`."""

from __future__ import annotations

import sys

from ssm_jax.cli import main

if __name__ == "__main__":
    sys.exit(main.main())
