"""Export models of every kind and compare what their files compute; one command, a minute or two:

    python -m benchmarks.exports --json benchmarks/results/exports/models.json

Models are not trained: those of `benchmarks/strangers.py` and of `examples/`. Of each: the largest difference
of its logits from the model's, by the file, onnxruntime and compiled C, as a share of the largest one; bytes
of the files; tables and scratch memory of the C, or why there is none. Needs cc and onnxruntime.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flax import nnx

import ssm_jax
from benchmarks.strangers import MODELS, inputs_of
from examples import characters, convnet, mixer
from ssm_jax import compilers, errors
from ssm_jax.artifact import format
from ssm_jax.artifact.export import c


def _examples() -> dict[str, tuple[Callable[[], Any], np.ndarray]]:
    rng = np.random.default_rng(0)
    digits = rng.normal(size=(3, 28, 28, 1)).astype(np.float32)
    texts = rng.integers(0, 26, (3, characters.CONTEXT), np.int32)
    return {
        "examples/convnet": (lambda: convnet.masked(nnx.Rngs(0)), digits),
        "examples/mixer": (lambda: mixer.masked(nnx.Rngs(0)), digits),
        "examples/characters": (lambda: ssm_jax.supermask(characters.Transformer(nnx.Rngs(0))), texts),
    }


def models() -> dict[str, tuple[Callable[[], Any], np.ndarray]]:
    """All models: how each is made, and three inputs for it."""
    return {name: (build, inputs_of(name)) for name, (build, *_) in MODELS.items()} | _examples()


def run_onnx(path: pathlib.Path, inputs: np.ndarray) -> np.ndarray:
    """What onnxruntime computes of a file."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return np.asarray(onnxruntime.InferenceSession(path, options).run(["logits"], {"images": inputs})[0])


def run_c(path: pathlib.Path, inputs: np.ndarray, result: Sequence[int]) -> np.ndarray:
    """What a file `net.c` computes, compiled by cc."""
    sources = {each.name: each.read_text() for each in (path, path.with_suffix(".h"))}
    library = compilers.build(
        compilers.find("C"), sources, [("-std=c99", "-O2")], ["-lm"], what="the network"
    )
    (size,) = map(int, re.findall(r"#define NET_SCRATCH (\d+)", sources["net.h"]))
    library.net_predict.argtypes, library.net_predict.restype = [ctypes.c_void_p] * 3, None
    scratch, logits = np.empty(size, np.float32), np.empty((len(inputs), *result), np.float32)
    for example, row in zip(np.ascontiguousarray(inputs), logits, strict=True):
        library.net_predict(example.ctypes.data, row.ctypes.data, scratch.ctypes.data)
    return logits


def measured(build: Callable[[], Any], inputs: np.ndarray) -> dict[str, Any]:
    """Export a model to every format, and compare."""
    model = build()
    if isinstance(model, nnx.Module):
        model.eval()
    expected = np.asarray(model(inputs), np.float32)

    def differs(actual: Any) -> float:
        return float(np.abs(np.asarray(actual, np.float32) - expected).max() / np.abs(expected).max())

    with tempfile.TemporaryDirectory() as folder:
        file, onnx, source = (pathlib.Path(folder) / f"net.{ending}" for ending in ("ssm", "onnx", "c"))
        ssm_jax.export(model, inputs, file)
        ssm_jax.export(model, inputs, onnx, "onnx")
        network = format.read(file).network
        facts: dict[str, Any] = {
            "operations": len(network.nodes),
            "weights": sum(layer.kernel.values.size for layer in network.layers()),
            "remaining": sum(layer.kernel.remaining for layer in network.layers()),
            "ssm": {"bytes": file.stat().st_size, "difference": differs(ssm_jax.load(file)(inputs))},
            "onnx": {"bytes": onnx.stat().st_size, "difference": differs(run_onnx(onnx, inputs))},
        }
        try:
            ssm_jax.export(model, inputs, source, "c")
        except errors.InputError as error:
            return facts | {"c": {"refused": str(error)}}
        tables, scratch = c.memory(network)
        difference = differs(run_c(source, inputs, expected.shape[1:]))
        return facts | {"c": {"tables": tables, "scratch": scratch, "difference": difference}}


def table(results: dict[str, Any]) -> str:
    """Write the results as a table in Markdown."""
    head = "| model | weights, remaining | .ssm bytes | ONNX bytes | C tables, scratch "
    head += "| largest difference of .ssm, ONNX, C |"
    rows = [head, "|---" * head.count(" | ") + "|---|"]
    for name, of in results.items():
        exported = "refused" not in of["c"]
        differences = [of[kind]["difference"] for kind in ("ssm", "onnx", *(["c"] if exported else []))]
        written = of["c"].get("refused", "").split(",")[0]
        if exported:
            written = f"{of['c']['tables']:,}, {of['c']['scratch']:,}"
        cells = [
            name,
            f"{of['weights']:,}, {of['remaining']:,}",
            f"{of['ssm']['bytes']:,}",
            f"{of['onnx']['bytes']:,}",
            written,
            ", ".join(f"{each:.0e}" for each in differences),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all models and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", required=True, help="file to write")
    arguments = parser.parse_args(argv)
    results = {name: measured(build, inputs) for name, (build, inputs) in models().items()}
    pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
