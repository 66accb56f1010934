"""The public names: all of them there, JAX only once one needs it."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import ssm_jax


def test_every_public_name_is_there_and_listed():
    assert ssm_jax.__all__ == sorted(ssm_jax.__all__)
    for name in ssm_jax.__all__:
        assert getattr(ssm_jax, name) is getattr(ssm_jax, name), name
        assert name in dir(ssm_jax)


def test_type_checkers_see_what_is_imported_on_first_use():
    tree = ast.parse(pathlib.Path(ssm_jax.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name: f"{line.module}:{alias.name}"
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    there = {}
    for name, place in ssm_jax._ON_FIRST_USE.items():
        module, _, inside = place.partition(":")
        there[name] = f"ssm_jax.{module}:{inside or name}"
    assert seen == there


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'ssm_jax' has no attribute 'Nothing'"):
        ssm_jax.Nothing  # noqa: B018
    with pytest.raises(ImportError, match="Nothing"):
        exec("from ssm_jax import Nothing")


def test_importing_the_package_imports_python_alone():
    program = (
        "import sys; import ssm_jax, ssm_jax.errors, ssm_jax.files; ssm_jax.InputError\n"
        "assert not {'jax', 'numpy', 'flax', 'ml_collections'} & set(sys.modules)"
    )
    folder = pathlib.Path(ssm_jax.__file__).parents[1]
    subprocess.run([sys.executable, "-S", "-c", program], check=True, cwd=folder)


# What an installation without extras lacks, by the names that are imported.
WITHOUT_EXTRAS = """
import importlib, pkgutil, sys

missing = "sklearn onnx onnxruntime safetensors flatbuffers matplotlib jinja2 grain chex hypothesis pytest"
sys.modules.update(dict.fromkeys([*missing.split(), "mkdocs"]))
import ssm_jax
from ssm_jax.cli import main
from ssm_jax.data import datasets

for module in pkgutil.walk_packages(ssm_jax.__path__, "ssm_jax."):
    if not module.name.endswith("__main__") and ".export." not in module.name:
        importlib.import_module(module.name)

config = ssm_jax.default_config()
config.update_from_flattened_dict(
    {"data.name": "data.npz", "model.width": 0.1, "training.epochs": 1, "training.batch_size": 8}
)
ssm_jax.train_and_evaluate(config, "run")
assert ssm_jax.restore("run").logits(datasets.load("data.npz").test_images).shape == (8, 2)
assert main.main(["export", "run", "--format=ssm", "--format=npz", "--format=c"]) == 0
for command in (["export", "run", "--format=onnx"], ["report", "run"]):
    assert main.main(command) == 2, command
try:
    datasets.load("digits")
except ssm_jax.InputError as error:
    sys.exit(str(error))
"""


def test_an_installation_without_extras_trains_and_exports_and_says_what_is_missing(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), np.uint8)
    labels = np.arange(8) % 2
    test = {"test_images": images, "test_labels": labels}
    np.savez(tmp_path / "data.npz", train_images=images, train_labels=labels, **test)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr  # the last of them
    for extra in ("onnx", "report", "digits"):
        assert f"ssm_jax[{extra}]" in done.stderr
