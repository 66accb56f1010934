"""`python -m ssm_jax.experiments`."""

from __future__ import annotations

import sys

from ssm_jax.cli import experiments

if __name__ == "__main__":
    sys.exit(experiments.main(sys.argv[1:]))
