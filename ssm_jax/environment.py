"""Settings of JAX that come from outside, by which results would differ: pinned, recorded or refused.

A seed decides a network, whatever `JAX_...` variables are set and whatever the caller's program has chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ssm_jax import errors

_GENERATOR = "threefry2x32"

# What this library's programs are written for, and how JAX is told so.
_PINNED: dict[str, tuple[Any, Any]] = {
    "jax_default_prng_impl": (jax.default_prng_impl, _GENERATOR),
    "jax_threefry_partitionable": (jax.threefry_partitionable, True),
    "jax_enable_x64": (jax.enable_x64, False),
    "jax_numpy_dtype_promotion": (jax.numpy_dtype_promotion, "standard"),
    "jax_numpy_rank_promotion": (jax.numpy_rank_promotion, "allow"),
    "jax_disable_jit": (jax.disable_jit, False),
    "jax_debug_nans": (jax.debug_nans, False),  # a loss that is not finite is told by its step
    "jax_debug_infs": (jax.debug_infs, False),
}
_GUARDS = {
    "jax_transfer_guard_host_to_device": jax.transfer_guard_host_to_device,
    "jax_transfer_guard_device_to_device": jax.transfer_guard_device_to_device,
    "jax_transfer_guard_device_to_host": jax.transfer_guard_device_to_host,
}

# What a caller may choose with good reason, such as the precision of products on a GPU; with JAX's defaults.
_RECORDED = {
    "jax_default_matmul_precision": None,
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
}

# Under what else no program can run.
_NEEDED: dict[str, Any] = {
    "jax_no_tracing": False,
    "jax_no_execution": False,
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
}


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Compute as by JAX's defaults, whatever the process has set; also a decorator of functions."""
    with contextlib.ExitStack() as stack:
        # Only what differs: a setting that is made again would make JAX compile again.
        for name, (setting, value) in _PINNED.items():
            if getattr(jax.config, name) != value:
                stack.enter_context(setting(value))
        for name, guard in _GUARDS.items():
            if getattr(jax.config, name) not in (None, "allow"):
                stack.enter_context(guard("allow"))
        yield


@contextlib.contextmanager
def own_program() -> Iterator[None]:
    """Compute as in a program of our own, on devices that we lay out: `pinned`, and outside of any mesh."""
    with pinned(), contextlib.ExitStack() as stack:
        if not jax.sharding.get_abstract_mesh().empty:
            stack.enter_context(jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ())))
        yield


def key(seed: ArrayLike) -> jax.Array:
    """Make the key of a seed, of our generator.

    Args:
      seed: A scalar, 0 to 2^31 - 1.

    Examples:
      >>> bool(key(7) == jax.random.key(7, impl="threefry2x32"))
      True
    """
    # As `jax.random.key` does, but for JAX_RANDOM_SEED_OFFSET.
    words = jnp.stack([jnp.uint32(0), jnp.asarray(seed).astype(jnp.uint32)])
    return jax.random.wrap_key_data(words, impl=_GENERATOR)


def recorded() -> dict[str, str]:
    """Tell the settings that change rounding and are the caller's to choose, where not the default."""
    values = {name: jax.config.values.get(name, default) for name, default in _RECORDED.items()}
    return {name.upper(): str(value) for name, value in values.items() if value != _RECORDED[name]}


def check() -> None:
    """Check that JAX can compute here.

    Raises:
      InputError: There is no such device, or a setting forbids it; names the setting.
    """
    for name, needed in _NEEDED.items():
        if (value := jax.config.values.get(name, needed)) != needed:
            raise errors.InputError(f"{name.upper()} is {value!r}; training needs {needed!r}")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = jax.config.values["jax_platforms"]
        raise errors.InputError(
            f"JAX finds no device, JAX_PLATFORMS is {platforms!r}: {errors.one_line(error)}"
        ) from error
