"""`python -m ssm_jax.analysis`, the same as `ssm-jax analysis`."""

from __future__ import annotations

import sys

from ssm_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["analysis", *sys.argv[1:]]))
