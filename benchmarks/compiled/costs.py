"""A model of how long kernels take. No device is asked: every time here is an estimate.

On a GPU a kernel takes the longer of its bytes at the bandwidth that is reached and its arithmetic: of a
product by a model of its tiles (there is no autotuning without a device, and of cuDNN's and cuBLAS's calls
the compiler knows nothing), of anything else by the compiler's own estimate; and no kernel takes less than
the shortest one does. They run one after another with a launch before each.

On a TPU the cycles are taken that the compiler itself expects of a kernel; where it gives none, as of
select-and-scatter, bytes at the main memory's bandwidth, wherever they lie. Of elementwise kernels it expects
the same whether their arrays stay on the chip or not, so that small programs are faster than they look here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from benchmarks.compiled.kernels import Kernel
from benchmarks.compiled.products import Product
from benchmarks.compiled.targets import Target

# A tile of a product's result on one multiprocessor: rows, columns, the share of the multiprocessor's rate
# that it reaches (as CUTLASS's do on Hopper), and how many of them fit on it, so that one's beginning and end
# hide behind the others' middles.
_TILES = (
    (128, 256, 0.80, 1),
    (128, 128, 0.70, 2),
    (128, 64, 0.55, 3),
    (64, 64, 0.40, 5),
    (128, 32, 0.30, 5),
    (128, 16, 0.17, 5),
)
# Seconds that a tile takes besides: filling the pipeline, writing the result.
_TILE = 1.0e-6
# Into how many parts the sums of a product may be split, each with tiles of its own.
_SPLITS = (1, 2, 4, 8, 16, 32, 64)
_SHORTEST_SUM = 128


def product_seconds(product: Product, target: Target, precision: str) -> float:
    """Estimate the best GPU kernel of a product: tiles, in waves over the multiprocessors, of split sums.

    Args:
      product: What is computed.
      target: On what.
      precision: `float32` or `bfloat16`.
    """
    rate = target.flops[precision] / target.units
    best = math.inf
    for (rows, columns, reached, held), split in itertools.product(_TILES, _SPLITS):
        if split > 1 and product.depth < _SHORTEST_SUM * split:
            continue
        tiles = product.groups * -(-product.rows // rows) * -(-product.columns // columns) * split
        work = 2 * rows * columns * -(-product.depth // split) / (rate * reached)
        rounds, last = divmod(-(-tiles // target.units), held)  # of the busiest multiprocessor
        seconds = rounds * max(held * work, work + _TILE) + (max(last * work, work + _TILE) if last else 0.0)
        if split > 1:  # the parts are written in float32 and summed
            parts = split * product.groups * product.rows * product.columns
            seconds += target.least + 2 * 4 * parts / target.bandwidth
        best = min(best, seconds)
    return best


def kernel_seconds(kernel: Kernel, target: Target, precision: str, devices: int = 1) -> float:
    """Estimate how long a kernel takes, without its launch.

    Args:
      kernel: Of a step.
      target: On what.
      precision: Of the products, `float32` or `bfloat16`.
      devices: Between how many a collective moves its bytes, in a ring.
    """
    if kernel.kind == "collective":
        return target.least + 2 * (devices - 1) / devices * kernel.bytes / target.link
    memory = kernel.bytes / (target.bandwidth * target.reached_bandwidth)
    if target.platform == "tpu":
        if kernel.kind == "prefetch":
            return 0.0
        return kernel.touched / target.bandwidth if kernel.known is None else kernel.known
    product = kernel.product
    compute = product_seconds(product, target, precision) if product else kernel.known or 0.0
    return max(memory, compute, target.least)


def estimate(kernels: Sequence[Kernel], target: Target, precision: str, devices: int = 1) -> dict[str, float]:
    """Estimate a step.

    Returns:
      Seconds: `total` is the sum of `products` (convolutions too), `collectives`, `other` kernels and
      `launches`; `compute_bound` is what the products take at the datasheet's rate and `memory_bound`
      what all bytes take at the datasheet's bandwidth.
    """
    parts = {"products": 0.0, "collectives": 0.0, "other": 0.0, "launches": 0.0}
    for kernel in kernels:
        part = "products" if kernel.product else "collectives" if kernel.kind == "collective" else "other"
        parts[part] += kernel_seconds(kernel, target, precision, devices)
        parts["launches"] += target.launch_in_graph if kernel.graph else target.launch
    return {
        "total": sum(parts.values()),
        **parts,
        "compute_bound": sum(kernel.flops for kernel in kernels) / target.flops[precision],
        "memory_bound": sum(k.bytes for k in kernels if k.kind != "collective") / target.bandwidth,
    }
