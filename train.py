"""Train the networks of a config: `python train.py --config=configs/digits.py`.

The same as `ssm-jax train`, from a clone.
"""

import sys

from ssm_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
