"""How fast the training step is, measured by hand: `python -m benchmarks.train --json out.json`."""
