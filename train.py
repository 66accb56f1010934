"""Train the networks of a config: `python train.py --config=configs/digits.py`.

The same as `ssm-jax train`, from a clone.
"""

import sys

from ssm_jax.cli import train

if __name__ == "__main__":
    sys.exit(train.main(sys.argv[1:]))
