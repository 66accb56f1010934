"""The tree's reading order: imports go one way, from configs and data to training and the command line."""

from __future__ import annotations

import ast
import functools
import importlib.util
import pathlib

import pytest

# A module may import what stands in its own layer or in an earlier one; layers side by side share a line.
LAYERS = [
    {
        "version",
        "columns",
        "compilers",
        "environment",
        "errors",
        "files",
        "npz",
        "terminal",
        "tfrecord",
        "types",
    },
    {"config"},
    {"data", "core"},
    {"nn", "runs"},
    {"optim", "saved"},
    {"training"},
    {"trained"},
    {"graph"},
    {"artifact"},
    {"analysis"},
    {"experiments"},
    {"cli"},
]
ROOT = pathlib.Path(importlib.util.find_spec("ssm_jax").origin).parent


def modules() -> dict[str, pathlib.Path]:
    """Every module of the package by its dotted name below it; a package by its own."""
    found = {}
    # In a clone the configs are a link, which is not followed; in a wheel they are copies, and no modules.
    for path in (path for path in ROOT.rglob("*.py") if "recipes" not in path.relative_to(ROOT).parts):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@functools.cache
def imports(name: str) -> set[str]:
    """The modules of the package that a module imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        else:
            continue
        for imported in names:
            inside = imported.removeprefix("ssm_jax.")
            if imported.startswith("ssm_jax.") and inside in MODULES:
                found.add(inside)
    return found - {name}


def layer(name: str) -> int:
    """The place of a module's layer; what a package does on `python -m` is a command line."""
    if name.endswith("__main__"):
        return len(LAYERS) - 1
    return next(i for i, names in enumerate(LAYERS) if name.partition(".")[0] in names)


INNER = sorted(name for name in MODULES if name)


def test_imports_go_one_way():
    for name in INNER:
        assert {other for other in imports(name) if layer(other) > layer(name)} == set(), name


def test_no_module_reaches_itself():
    reached = {name: imports(name) for name in INNER}
    for _ in INNER:
        reached = {
            name: others.union(*(reached[other] for other in others)) for name, others in reached.items()
        }
    circles = {name for name, others in reached.items() if name in others}
    assert circles == set()


@pytest.mark.parametrize(
    ("name", "forbidden"),
    [("core", {"nn", "runs"}), ("runs", {"core", "nn"}), ("data", {"core"}), ("nn", {"data", "runs"})],
)
def test_neighbors_do_not_know_each_other(name, forbidden):
    for module in INNER:
        if module.partition(".")[0] == name:
            assert {other.partition(".")[0] for other in imports(module)} & forbidden == set()


def test_the_package_knows_no_config_file():
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("configs"), name
