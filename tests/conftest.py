"""What every test shares: eight CPU devices, a cache of their own, strict arithmetic on demand."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

import pytest

DEVICES = 8

# Before JAX is imported; a count that the caller chose for himself would change what the tests see.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = str(DEVICES)
# JAX refuses to be told the number in two ways.
os.environ["XLA_FLAGS"] = re.sub(
    r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
)
if "jax" in sys.modules:  # a plugin was earlier; the variable has been read, but no device made yet
    sys.modules["jax"].config.update("jax_num_cpu_devices", DEVICES)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache, nor does a process that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        yield


@pytest.fixture(scope="module")
def strict_arithmetic() -> Iterator[None]:
    """No dtype is promoted and no rank is added unasked. Not for optax, whose schedules do both."""
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
