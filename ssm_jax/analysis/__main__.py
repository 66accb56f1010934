"""`python -m ssm_jax.analysis`."""

from __future__ import annotations

import sys

from ssm_jax.cli import analysis

if __name__ == "__main__":
    sys.exit(analysis.main(sys.argv[1:]))
