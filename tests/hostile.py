"""JAX as a caller may have set it: everything that could change a result, or end a program."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

HOSTILE = {
    "jax_default_prng_impl": (jax.default_prng_impl, "rbg"),
    "jax_threefry_partitionable": (jax.threefry_partitionable, False),
    "jax_enable_x64": (jax.enable_x64, True),
    "jax_numpy_dtype_promotion": (jax.numpy_dtype_promotion, "strict"),
    "jax_numpy_rank_promotion": (jax.numpy_rank_promotion, "raise"),
    "jax_disable_jit": (jax.disable_jit, True),
    "jax_debug_nans": (jax.debug_nans, True),
    "jax_debug_infs": (jax.debug_infs, True),
    "jax_transfer_guard_host_to_device": (jax.transfer_guard_host_to_device, "disallow"),
    "jax_transfer_guard_device_to_host": (jax.transfer_guard_device_to_host, "disallow"),
    "jax_transfer_guard_device_to_device": (jax.transfer_guard_device_to_device, "disallow"),
}


@contextlib.contextmanager
def seed_offset(value: int) -> Iterator[None]:
    """Every seed of JAX is another one."""
    jax.config.update("jax_random_seed_offset", value)
    try:
        yield
    finally:
        jax.config.update("jax_random_seed_offset", 0)


@contextlib.contextmanager
def hostile() -> Iterator[None]:
    """Everything at once, inside a mesh."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(jax.make_mesh((jax.device_count(),), ("x",))))
        stack.enter_context(seed_offset(3))
        for setting, value in HOSTILE.values():
            stack.enter_context(setting(value))
        yield
