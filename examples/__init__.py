"""Models that are not the paper's, plain Flax NNX, masked in one call; `python -m examples.<name> --help`."""
