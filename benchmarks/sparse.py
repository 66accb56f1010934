"""The step with sparse products on a CPU, at falling densities, beside XLA's dense one and PyTorch's."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import contenders
from benchmarks.contenders import Contender, JaxTraining
from benchmarks.elsewhere import Elsewhere
from benchmarks.timing import log, measure, ratio
from ssm_jax.experiments import paper

WAYS = {
    "dense": {"cpu_products": "dense"},
    "sparse": {"cpu_products": "sparse"},
    "bfloat16": {"cpu_products": "sparse", "cpu_gradient": "bfloat16"},
}
_EXAMPLES = 2560  # of noise; the step does not depend on how many there are


def paper_density(network: str) -> float:
    """The density of the network's row in the paper's main table."""
    return next(row.remaining.mean for row in paper.ROWS.values() if row.network == network)


def measured(
    network: str,
    density: float,
    options: argparse.Namespace,
    python: str,
    until: float,
) -> dict[str, Any]:
    """Time a step at one density.

    Args:
      network: Name of the network.
      density: The share of its weights that remain; 0 is that of the start.
      options: The benchmark's flags.
      python: A Python that has PyTorch, which is measured too; an empty string: it is not.
      until: When to be done, by `time.perf_counter`.

    Returns:
      The density that was reached and the times of all contenders, with their ratios.
    """
    data = contenders.noise(network, options.examples or _EXAMPLES)
    trainings: dict[str, Contender] = {}
    reached = 0.0
    for name, settings in WAYS.items():
        config = contenders.config(network, options.batch, "float32")
        config.update_from_flattened_dict({"mask.density": density, "mask.density_ramp": 0.0, **settings})
        trainings[name] = training = JaxTraining(config, data)
        for _ in range(-(-11 // training.steps)):  # the density is reached at the tenth step
            training.call()
        reached = training.density()
    threshold = contenders.config(network, options.batch, "float32").mask.threshold
    for name, compiled in (("torch", False), ("torch_compiled", True)) if python else ():
        trainings[name] = torch = Elsewhere(python, network, threshold, options.batch, compiled)
        log(f"    {name}: {torch.settings}")
    try:
        timed = measure(trainings, options.repeats, options.seconds, until)
    finally:
        for contender in trainings.values():
            if isinstance(contender, Elsewhere):
                contender.close()
    ratios = {f"{name}_over_dense": ratio(timed[name], timed["dense"]) for name in ("sparse", "bfloat16")}
    for name in ("torch", "torch_compiled"):
        if name in timed:
            ratios |= {f"{name}_over_{way}": ratio(timed[name], timed[way]) for way in ("sparse", "bfloat16")}
    return {"density": reached, "contenders": timed, **ratios}
