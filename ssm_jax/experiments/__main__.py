"""`python -m ssm_jax.experiments`, the same as `ssm-jax experiments`."""

from __future__ import annotations

import sys

from ssm_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["experiments", *sys.argv[1:]]))
