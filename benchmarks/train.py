"""Time the training step; one command measures everything on one device:

    python -m benchmarks.train --json benchmarks/results/<device>.json

For every network: the signed supermask against its dense twin and against the same step in PyTorch
(if it is installed), several seeds together against one after another, the seconds that the paper's
whole run takes, and the share of the device's own rate in a large matrix product. Contenders take
turns, in an order that is reversed every time, after a warm-up that is not counted; numbers are medians,
ratios medians of the ratios within a turn. Not a test: run it by hand on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# Before JAX starts: one device, and memory left for PyTorch.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")

import jax

from benchmarks import contenders, devices, flops, sparse, tables
from benchmarks.contenders import Contender, JaxTraining, TorchTraining
from benchmarks.timing import BEGUN, Budget, log, matmul_rate, measure, ratio
from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.training.from_config import from_config

NETWORKS = ("fcn", "conv2", "conv4", "conv6", "conv8", "resnet20")
PARTS = ("steps", "seeds", "sparse")
# Flags that say where something lies on this machine, which is no part of a report.
_PLACES = ("json", "torch_python")


def torch_device() -> tuple[str | None, str]:
    """Where PyTorch can run beside JAX, and if nowhere, why."""
    if importlib.util.find_spec("torch") is None:
        return None, "PyTorch is not installed: not compared"
    import torch

    if jax.default_backend() == "cpu":
        return "cpu", ""
    if jax.default_backend() == "gpu" and torch.cuda.is_available():
        return "cuda", ""
    return None, "PyTorch does not see the accelerator: not compared"


class Benchmark:
    """One run of the benchmark, with its results as they come.

    Args:
      options: the flags.

    Attributes:
      report: what becomes the JSON file.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self._device, note = torch_device() if options.torch else (None, "PyTorch was not asked for")
        packages = ("jax", "jaxlib", "flax", "optax", "numpy") + (("torch",) if self._device else ())
        device = jax.devices()[0]
        self.report: dict[str, Any] = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "device": {
                "kind": device.device_kind,
                "platform": device.platform,
                "count": jax.device_count(),
                "processor": platform.machine(),
                "cores": os.cpu_count(),
            },
            "versions": {"python": platform.python_version()}
            | {package: importlib.metadata.version(package) for package in packages},
            "settings": {name: value for name, value in vars(options).items() if name not in _PLACES}
            | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
            "notes": [note] if note else [],
            "matmul": {},
            "networks": {name: self._facts(name) for name in options.networks},
        }

    def _facts(self, network: str) -> dict[str, Any]:
        config = contenders.config(network, self.options.batch, "float32")
        build = from_config(config).network(contenders.image_shape(network), contenders.CLASSES)
        layers = flops.forward(build, contenders.image_shape(network))
        return {
            "examples": contenders.examples(network),
            "epochs": config.training.epochs,
            "flops_per_image": {"forward": sum(layers), "training": flops.training(layers)},
            "steps": {},
            "seeds": {},
            "sparse": [],
        }

    def run(self) -> None:
        """Measure everything that was asked for, the main precision first; keep the JSON up to date."""
        options = self.options
        main, *others = options.precision
        units: list[tuple[Callable[[str, str, float], None], str, str]] = []
        table: tuple[tuple[str, Callable[[str, str, float], None], list[str]], ...] = (
            ("steps", self.steps, [main]),
            ("seeds", self.seeds, [main]),
            ("sparse", self.sparse, [main] if jax.default_backend() == "cpu" else []),
            ("steps", self.steps, others),
        )
        for part, function, precisions in table:
            if part in options.parts:
                units += [(function, name, p) for p in precisions for name in options.networks]
        for precision in options.precision:
            self.report["matmul"][precision] = matmul_rate(precision, options.matmul)
        budget = Budget(BEGUN + 60 * options.minutes, len(units))
        for function, network, precision in units:
            until = budget.next()
            if time.perf_counter() >= budget.end:
                self._note(f"{function.__name__} of {network} in {precision}: left out, time is up")
                continue
            log(f"{function.__name__} of {network} in {precision}")
            try:
                function(network, precision, until)
            except jax.errors.JaxRuntimeError as error:  # what is out of memory leaves the others alone
                self._note(f"{function.__name__} of {network} in {precision} failed: {str(error)[:300]}")
            gc.collect()
            self.save()

    def _note(self, text: str) -> None:
        self.report["notes"].append(text)
        log(text)

    def _data(self, network: str) -> dict[str, Any]:
        return contenders.noise(network, self.options.examples or contenders.examples(network))

    def steps(self, network: str, precision: str, until: float) -> None:
        """The signed supermask against its dense twin and PyTorch."""
        options, facts, data = self.options, self.report["networks"][network], self._data(network)
        trainings: dict[str, Contender] = {
            name: JaxTraining(contenders.config(network, options.batch, precision, name == "dense"), data)
            for name in ("signed", "dense")
        }
        if self._device:
            try:
                trainings["torch"] = torch_training = TorchTraining(
                    network, data, options.batch, precision, trainings["signed"].steps, self._device
                )
                log(f"    torch: {torch_training.settings}")
            except Exception as error:  # JAX is measured all the same
                reason = (str(error).splitlines() or [""])[0][:300]
                self._note(f"PyTorch failed on {network} in {precision}: {type(error).__name__}: {reason}")
        timed = measure(trainings, options.repeats, options.seconds, until)
        signed = timed["signed"]
        rate = options.batch / signed["median"] * 1e3
        steps = steps_per_epoch(facts["examples"], options.batch) * facts["epochs"]
        operations = facts["flops_per_image"]["training"] * rate
        assert isinstance(trainings["signed"], JaxTraining)
        facts["weights"] = trainings["signed"].weights
        if isinstance(twin := trainings.get("torch"), TorchTraining):
            timed["torch"]["settings"] = twin.settings
        facts["steps"][precision] = {
            "contenders": timed,
            "images_per_second": {name: options.batch / t["median"] * 1e3 for name, t in timed.items()},
            "signed_over_dense": ratio(signed, timed["dense"]),
            "torch_over_signed": ratio(timed["torch"], signed) if "torch" in timed else None,
            "paper_run_seconds": signed["median"] * steps / 1e3,
            "tflops": operations / 1e12,
            "matmul_share": operations / 1e12 / self.report["matmul"][precision]["median"],
        }

    def seeds(self, network: str, precision: str, until: float) -> None:
        """Several seeds together, in each form of the convolution, against one after another."""
        options, facts, data = self.options, self.report["networks"][network], self._data(network)
        convolves = network != "fcn"
        count = options.conv_seeds if convolves else options.seeds
        config = contenders.config(network, options.batch, precision)
        trainings: dict[str, Contender] = {
            "one": JaxTraining(config, data),
            "vmap": JaxTraining(config, data, count),
        }
        if convolves:
            trainings["grouped_vmap"] = JaxTraining(config, data, count, "grouped")
            trainings["im2col_one"] = JaxTraining(config, data, 1, "im2col")
            trainings["im2col_vmap"] = JaxTraining(config, data, count, "im2col")
        timed = measure(trainings, options.repeats, options.seconds, until)
        gains = {
            name: ratio(timed["one"], timed[name], count if name.endswith("vmap") else 1)
            for name in trainings
            if name != "one"
        }
        best = max(gains, key=lambda name: gains[name])
        facts["seeds"] = {
            "precision": precision,
            "count": count,
            "contenders": timed,
            "gain_over_one_after_another": gains,
            "fastest": best if gains[best] > 1 else "one",
        }

    def sparse(self, network: str, precision: str, until: float) -> None:
        """Products at the cost of the weights that remain, at falling densities."""
        options, paper = self.options, sparse.paper_density(network)
        densities = [*(density for density in options.densities if not 0 < density <= paper), paper]
        for density in densities:
            python = options.torch_python if density == paper else ""
            share = time.perf_counter() + max(0.0, until - time.perf_counter()) / len(densities)
            unit = sparse.measured(network, density, options, python, share)
            self.report["networks"][network]["sparse"].append(unit)
            self.save()
            jax.clear_caches()  # of dozens of programs the process would run out of memory maps

    def save(self) -> None:
        """Write the JSON file, whatever there is so far."""
        self.report["seconds"] = time.perf_counter() - BEGUN
        if self.options.json:
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            self.options.json.write_text(json.dumps(self.report, indent=1) + "\n")


def _natural(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags, their defaults those of the device."""
    cpu = jax.default_backend() == "cpu"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    add("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    precisions = ["float32"] if cpu else ["bfloat16", "float32"]
    add("--precision", nargs="+", choices=("float32", "bfloat16"), default=precisions, help="main one first")
    add("--batch", type=_natural, default=128)
    add("--seeds", type=_natural, default=8 if cpu else 50, help="of fcn, side by side")
    add("--conv-seeds", type=_natural, default=4 if cpu else 8, help="of the others, side by side")
    add("--repeats", type=_natural, default=7, help="turns at most")
    add("--seconds", type=float, default=0.5, help="that a turn takes at least")
    add("--minutes", type=float, default=8.5, help="for everything; turns are left out to keep to it")
    add("--examples", type=int, default=0, help="images of noise; 0: as many as the dataset has")
    add("--matmul", type=_natural, default=2048 if cpu else 8192, help="side of the matrices")
    add("--torch", action=argparse.BooleanOptionalAction, default=True)
    text = "shares of weights beside the paper's, for the part `sparse`; 0 is that of the start"
    add("--densities", nargs="*", type=float, default=[0.0, 0.25, 0.1, 0.03], help=text)
    add("--torch-python", default="", help="a Python with PyTorch, for the part `sparse`")
    add("--virtual-devices", action="store_true", help="also try virtual CPU devices")
    add("--json", type=lambda text: str(text), default=None, help="file to write")
    options = parser.parse_args(arguments)
    options.json = pathlib.Path(options.json) if options.json else None
    if jax.device_count() > 1:
        parser.error(
            f"one device is measured, but JAX sees {jax.device_count()}: set CUDA_VISIBLE_DEVICES, "
            "TPU_VISIBLE_CHIPS or JAX_NUM_CPU_DEVICES"
        )
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, write the JSON file; returns the exit status."""
    benchmark = Benchmark(parse(arguments))
    with contextlib.suppress(KeyboardInterrupt):  # what was measured is worth showing
        benchmark.run()
    if benchmark.options.virtual_devices:
        log("virtual devices")
        benchmark.report["devices"] = devices.check()
        benchmark.report["seeds_on_devices"] = devices.seeds_at_once()
    benchmark.save()
    print(tables.text(benchmark.report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
