"""The accelerators that can be compiled for, and the figures by which times are estimated."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from ssm_jax import errors


@dataclasses.dataclass(frozen=True)
class Target:
    """A chip and its figures.

    Attributes:
      platform: `cuda` or `tpu`.
      description: What the compiler calls it: XLA's `device_description_str` of a GPU, the topology of a few
        chips of a TPU.
      devices: The most devices that can be compiled for.
      flops: Dense operations per second by compute dtype, from the datasheet (float32 is TF32 on NVIDIA and
        bfloat16 on TPUs, as JAX has it).
      bandwidth: Bytes per second of the memory, from the datasheet.
      link: Bytes per second that a device sends to its neighbors, from the datasheet.
      reached_bandwidth: The share of the memory's bandwidth that large kernels reach.
      launch: Seconds between two kernels.
      launch_in_graph: Seconds between two kernels of a CUDA graph.
      least: Seconds that the shortest kernel takes.
      units: Streaming multiprocessors, which share the tiles of a product.
      clock: Hz of a TPU's cycles, in which its compiler schedules.
    """

    platform: str
    description: str
    devices: int
    flops: Mapping[str, float]
    bandwidth: float
    link: float
    reached_bandwidth: float = 1.0
    launch: float = 0.0
    launch_in_graph: float = 0.0
    least: float = 0.0
    units: int = 1
    clock: float = 0.0


def _hopper(description: str, bandwidth: float) -> Target:
    return Target(
        platform="cuda",
        description=description,
        devices=8,
        flops={"bfloat16": 989e12, "float32": 495e12},
        bandwidth=bandwidth,
        link=450e9,
        reached_bandwidth=0.85,
        launch=2.5e-6,
        launch_in_graph=1.0e-6,
        least=1.5e-6,
        units=132,
    )


def _tpu(topology: str, flops: float, bandwidth: float, link: float, clock: float) -> Target:
    return Target(
        platform="tpu",
        description=topology,
        devices=4,
        flops={"bfloat16": flops, "float32": flops},
        bandwidth=bandwidth,
        link=link,
        clock=clock,
    )


TARGETS = {
    "h100": _hopper("NVIDIA H100 80GB HBM3", 3.35e12),
    "h200": _hopper("NVIDIA H200 141GB HBM3e", 4.8e12),
    "v5e": _tpu("v5e:2x2", 197e12, 0.82e12, 90e9, 1.5e9),
    "v5p": _tpu("v5p:2x2x1", 459e12, 2.765e12, 180e9, 1.75e9),
}

# By platform, the module whose library is the compiler.
_COMPILERS = {"cuda": "jax_plugins.xla_cuda13", "tpu": "libtpu"}


def check(name: str, count: int) -> Target:
    """Find a target by its name and check that so many of it can be compiled for here.

    Args:
      name: A name of `TARGETS`.
      count: The number of devices.

    Raises:
      InputError: The target is unknown, has fewer devices, or its compiler is not installed.
    """
    target = errors.choose("target", name, TARGETS)
    if not 1 <= count <= target.devices:
        raise errors.out_of_range("--devices", count, f"1 to {target.devices} on {name}")
    if not _installed(_COMPILERS[target.platform]):
        raise errors.InputError(
            f"compiling for {name} needs {_COMPILERS[target.platform]}, which is not installed: "
            "pip install -e '.[audit]'"
        )
    return target


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that would hold it
        return False


def devices(target: Target, count: int) -> list[Any]:
    """Make devices of a target that can be compiled for and nothing else.

    Args:
      target: An entry of `TARGETS`.
      count: How many.
    """
    from jax.experimental import topologies

    if target.platform == "cuda":
        described = topologies.get_topology_desc(
            platform="cuda",
            topology_name="gpu",
            target_config=_gpu_config(target.description),
            topology=f"1x1x{count}",
        )
    else:
        described = topologies.get_topology_desc(platform="tpu", topology_name=target.description)
    return list(described.devices)[:count]


def _gpu_config(description: str) -> str:
    """XLA's own description of a GPU, a `GpuTargetConfigProto` as text inside the plugin's library."""
    spec = importlib.util.find_spec(_COMPILERS["cuda"])
    assert spec and spec.origin
    library = (pathlib.Path(spec.origin).parent / "xla_cuda_plugin.so").read_bytes()
    end = library.index(f'device_description_str: "{description}"'.encode())
    start = library.rindex(b"gpu_device_info {", 0, end)
    return library[start : library.index(b"\n", end) + 1].decode("ascii")
