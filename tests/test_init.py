"""The public names: all of them there, JAX only once one needs it."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

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
