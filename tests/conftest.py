"""What every test shares: eight CPU devices, a cache of their own, strict arithmetic on demand."""

from __future__ import annotations

import logging
import os
import pathlib
import re
import sys
from collections.abc import Iterator

import hypothesis
import pytest

DEVICES = 8
MOST_MAPS = 20_000  # at the end of a file of tests; the largest adds fewer than as many again

# The same few examples every time, however slow the machine.
hypothesis.settings.register_profile("tests", max_examples=25, derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("tests")

# Before JAX is imported; a count that the caller chose for himself would change what the tests see.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = str(DEVICES)
# Most programs are compiled to run once. Without LLVM's optimizations that takes half the time.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# JAX refuses to be told the number in two ways.
os.environ["XLA_FLAGS"] = re.sub(
    r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
)
if "jax" in sys.modules:  # a plugin was earlier; the variable has been read, but no device made yet
    sys.modules["jax"].config.update("jax_num_cpu_devices", DEVICES)


# FCN of 30 and 10 units on the digits; `best` differs by its learning rate.
TINY = """
from ssm_jax import config as base

VARIANTS = {
    "dense": {"mask.rule": "dense", "init.kernel": "elu", "optimizer.learning_rate": 0.01},
    "binary": {"mask.rule": "binary"},
    "best": {"optimizer.learning_rate": 0.1},
    "diverging": {"mask.rule": "dense", "optimizer.learning_rate": 1e30},
}


def get_config(variants=""):
    config = base.default()
    config.data.name = "digits"
    config.model.width = 0.1
    config.training.epochs = 2
    config.training.batch_size = 64
    return base.with_variant(config, variants, VARIANTS)
"""


@pytest.fixture(scope="session")
def configs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of config files that holds `tiny`."""
    folder = tmp_path_factory.mktemp("tiny") / "configs"
    folder.mkdir()
    (folder / "tiny.py").write_text(TINY)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache, nor does a process that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        yield


@pytest.fixture(autouse=True)
def quiet() -> None:
    """A program that ran in this process, in a test before or a fixture, may have set up logging."""
    logging.getLogger("ssm_jax").setLevel(logging.NOTSET)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs() -> Iterator[None]:
    """They are kept from file to file until they are many: Linux lets a process map 65,530 pieces of memory,
    and each compiled program takes several. Beyond that, XLA ends the process.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        import jax

        jax.clear_caches()


@pytest.fixture(scope="module")
def strict_arithmetic() -> Iterator[None]:
    """No dtype is promoted and no rank is added unasked. Not for optax, whose schedules do both."""
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def optimized() -> Iterator[None]:
    """CompiledSteps are compiled as they are for users, with LLVM's optimizations."""
    import jax

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
