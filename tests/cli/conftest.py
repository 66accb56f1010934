"""What tests of the verbs share: a finished run, its exported network, and how a verb is called."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable

import pytest

import ssm_jax
from ssm_jax.cli import configs as config_files
from ssm_jax.cli import export, main

# The exit status, and what is printed.
Ran = tuple[int, str, str]


@pytest.fixture(scope="session")
def trained(configs: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a finished run of two seeds on the digits, with its masks; nobody writes into it."""
    pytest.importorskip("sklearn")
    config = config_files.load(str(configs / "tiny.py"))
    config.seeds, config.logging.masks = 2, True
    workdir = tmp_path_factory.mktemp("trained") / "tiny"
    ssm_jax.train_and_evaluate(config, workdir)
    return workdir


@pytest.fixture(scope="session")
def network(trained: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The run's first network, exported."""
    path = tmp_path_factory.mktemp("network") / "model.ssm"
    assert export.main([str(trained), f"--output={path}"]) == 0
    return path


@pytest.fixture
def run_folder(trained: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the run, to write into."""
    return pathlib.Path(shutil.copytree(trained, tmp_path / "tiny"))


@pytest.fixture
def ssm(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Call `ssm-jax` with some arguments."""

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        status = main.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def refused(ssm: Callable[..., Ran]) -> Callable[..., str]:
    """Call `ssm-jax` with arguments that can't be used; returns the one line that says why."""

    def call(*arguments: object) -> str:
        status, out, err = ssm(*arguments)
        (line,) = err.splitlines()
        assert status == 2 and out == "" and line.startswith("error: ")
        return line

    return call
