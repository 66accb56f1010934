"""A network in whole numbers: int8 values, int32 sums, and not one floating point number on the way.

A value's scale is what one unit of its int8 means. `quantize` finds the scales from images; `logits` is the
reference that `ssm_jax.artifact.export.c_integer` writes as C, equal in every bit.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ssm_jax import errors, graph

# Bits behind the point of a standardized pixel's factor.
PIXEL_SHIFT = 40
# Pixels and channels of an image, so that the sum of their squares fits into 64 bits.
MOST_PIXELS = 2**20
# Beyond it ELU is -1 as good as int8 can tell; an activation's scale reaches so far at least.
_ELU_REACH = 4.0
# Shares of the largest value that a scale is tried for.
_SHARES = np.linspace(0.3, 1, 29)
_BATCH = 250


@dataclasses.dataclass(frozen=True)
class Rescale:
    """From sums to int8: times a whole number, divided by a power of two, to nearest, halves away from 0.

    Attributes:
      factors: One for every input, each below 2^31.
      shift: The power, 1 to 62.
    """

    factors: tuple[int, ...]
    shift: int

    @classmethod
    def of(cls, *ratios: float) -> Rescale:
        """Find the factors of positive ratios.

        Examples:
          >>> Rescale.of(0.75)
          Rescale(factors=(1610612736,), shift=31)
        """
        shift = min(31 - math.frexp(max(ratios))[1], 62)
        if shift < 1:
            raise errors.InputError(f"a value of the network grows {max(ratios):.3g}-fold, too much for int8")
        return cls(tuple(min(round(math.ldexp(ratio, shift)), 2**31 - 1) for ratio in ratios), shift)

    def __call__(self, *sums: np.ndarray) -> np.ndarray:
        """Return int8 of whole numbers, one array for every factor."""
        total = sum(each.astype(np.int64) * factor for each, factor in zip(sums, self.factors, strict=True))
        return _rounded(np.asarray(total), self.shift)


def _rounded(values: np.ndarray, shift: int) -> np.ndarray:
    nearest = (np.abs(values) + (1 << (shift - 1))) >> shift
    return np.clip(np.where(values < 0, -nearest, nearest), -128, 127).astype(np.int8)


@dataclasses.dataclass(frozen=True, eq=False)
class Integer:
    """A network in whole numbers.

    Attributes:
      network: Its operations; kernels are int8 of scale 1.
      scales: What one unit of every value means, a float each; of the logits one unit of an int32.
      constants: What every operation needs besides. Of `Standardize` the factor of a pixel, an int; of
        `Conv`, `Dense`, `Mean` and `Add` a `Rescale`, None for the layer that makes the logits; of `Elu` a
        table, uint8, of what -1, -2, ... become with the sign turned, whose last entry goes on.
    """

    network: graph.Network
    scales: tuple[float, ...]
    constants: tuple[Any, ...]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute logits.

        Args:
          images: uint8 `[B, H, W, C]`.

        Returns:
          int32 `[B, classes]`, in units of the last scale.
        """
        parts = [self._logits(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.network.classes), np.int32)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        values = [images]
        for node, constant in zip(self.network.nodes, self.constants, strict=True):
            values.append(_COMPUTE[type(node)](node, constant, *(values[i] for i in node.inputs)))
        return values[-1].astype(np.int32)


def quantize(network: graph.Network, images: np.ndarray) -> Integer:
    """Turn a network into whole numbers.

    Weights stay what they are where they are whole numbers times one constant, as a signed supermask's are;
    others are rounded to 255 levels. Scales are those with the least squared error on the images.

    Args:
      network: The network; the first operation standardizes the image, and none normalizes by channel.
      images: uint8 `[B, H, W, C]` like those that it will see; a hundred are enough.

    Raises:
      InputError: An operation has no form in whole numbers, or the images are none of this network.
    """
    _check(network, images)
    kernels = {
        i: _whole(node.kernel)
        for i, node in enumerate(network.nodes)
        if isinstance(node, (graph.Conv, graph.Dense))
    }
    scales = _scales(network, images, kernels)
    nodes: list[graph.Node] = []
    constants: list[Any] = []
    for i, node in enumerate(network.nodes):
        before, after = [scales[j] for j in node.inputs], scales[i + 1]
        constant: Any = None
        match node:
            case graph.Conv() | graph.Dense():
                whole = kernels[i]
                node = dataclasses.replace(node, kernel=graph.Kernel(whole.values))
                if i + 1 < len(network.nodes):
                    constant = Rescale.of(before[0] * float(whole.scale) / after)
            case graph.Standardize():
                constant = round(2**PIXEL_SHIFT / after)
            case graph.Mean():
                places = math.prod(network.shapes()[node.inputs[0]][:2])
                constant = Rescale.of(before[0] / after / places)
            case graph.Add():
                constant = Rescale.of(*(scale / after for scale in before))
            case graph.Elu():
                constant = elu_table(after)
        nodes.append(node)
        constants.append(constant)
    whole_network = dataclasses.replace(network, nodes=tuple(nodes), dtype="float32")
    return Integer(whole_network, tuple(scales), tuple(constants))


def elu_table(scale: float) -> np.ndarray:
    """What ELU makes of -1, -2, ... units, the sign turned; the last entry goes on to -128.

    Args:
      scale: Of both the input and the result.

    Examples:
      >>> elu_table(0.5).tolist()
      [1, 1, 2]
    """
    table = np.rint(-np.expm1(-scale * np.arange(1, 129)) / scale).astype(np.uint8)
    return table[: int(np.argmax(table == table[-1])) + 1]


def _check(network: graph.Network, images: np.ndarray) -> None:
    pixels = math.prod(network.image_shape)
    if pixels > MOST_PIXELS:
        raise errors.out_of_range("an image's size", pixels, f"at most {MOST_PIXELS:,} for whole numbers")
    for number, node in enumerate(network.nodes):
        first = isinstance(node, graph.Standardize)
        if type(node) not in _COMPUTE or first != (number == 0) or first == (0 not in node.inputs):
            name = getattr(node, "name", f"operation {number}")
            raise errors.InputError(
                f"{name} ({graph.operation(node)}) has no form in whole numbers; allowed is an image that is "
                "standardized first, then "
                + ", ".join(name for name, kind in graph.OPERATIONS.items() if kind in _COMPUTE)
            )
    dataclasses.replace(network, image_dtype="uint8").check(images)
    if not len(images):
        raise errors.InputError("there are no images to find scales with")


def _whole(kernel: graph.Kernel) -> graph.Kernel:
    if not kernel.whole:
        scale = np.float32(max(float(np.abs(kernel.values).max()), 1e-30) / 127)
        kernel = graph.Kernel(np.rint(kernel.values / scale).astype(np.int8), scale)
    most = 128 * int(np.abs(kernel.values.astype(np.int64)).reshape(-1, kernel.shape[-1]).sum(0).max())
    if most >= 2**31:
        raise errors.InputError(f"a sum of {most:,} does not fit into 32 bits")
    return kernel


def _scales(network: graph.Network, images: np.ndarray, kernels: dict[int, graph.Kernel]) -> list[float]:
    """The scale of every value; those between two sums share one."""
    import jax

    from ssm_jax.artifact import run  # JAX takes a second to import

    compute = jax.jit(functools.partial(run.values, network))
    values = [np.asarray(value, np.float32) for value in compute(run.parameters(network), images)]
    group = [0]
    for i, node in enumerate(network.nodes):
        group.append(group[node.inputs[0]] if isinstance(node, _SAME_SCALE) else i + 1)
    reach = {group[i + 1]: _ELU_REACH for i, node in enumerate(network.nodes) if isinstance(node, graph.Elu)}
    # What an ELU still changes need not be represented, but for its own reach.
    passing = {
        i
        for i in range(len(values))
        if all(isinstance(node, _SAME_SCALE) for node in network.nodes if i in node.inputs)
        and i + 1 < len(values)
    }
    by_group = {}
    for first in set(group) - {0}:
        members = [values[i].ravel() for i, of in enumerate(group) if of == first and i not in passing]
        by_group[first] = max(_least_error(np.concatenate(members)), reach.get(first, 0) / 128)
    scales = [1.0, *(by_group[first] for first in group[1:])]
    last = network.nodes[-1]
    if len(network.nodes) - 1 in kernels:
        scales[-1] = scales[last.inputs[0]] * float(kernels[len(network.nodes) - 1].scale)
    return scales


def _least_error(values: np.ndarray) -> float:
    """The scale whose int8 are closest to values."""
    most = float(np.abs(values).max())
    if not most > 0:
        return 1.0
    sample = values[:: max(1, values.size // 100_000)]
    tried = most / 127 * _SHARES
    spread = [
        np.square(np.clip(np.rint(sample / scale), -128, 127) * scale - sample).mean() for scale in tried
    ]
    return float(tried[int(np.argmin(spread))])


def _standardize(node: graph.Standardize, factor: int, images: np.ndarray) -> np.ndarray:
    pixels, count = images.astype(np.int64), math.prod(images.shape[1:])
    totals, squares = pixels.sum((1, 2, 3)), np.square(pixels).sum((1, 2, 3))
    # Deviations times the count, with the floor of 1/sqrt(count) that standardization has.
    deviations = [max(math.isqrt(int(v)), math.isqrt(count)) for v in count * squares - totals**2]
    factors = np.array([factor // deviation for deviation in deviations])
    centered = count * pixels - totals[:, None, None, None]
    return _rounded(centered * factors[:, None, None, None], PIXEL_SHIFT)


def _conv(node: graph.Conv, rescale: Rescale | None, values: np.ndarray) -> np.ndarray:
    image, kernel = values.shape[1:], node.kernel.values
    sums, whole = np.zeros((len(values), *node.shape(image))), node.general(image)
    padded = np.pad(values, [(0, 0), *zip(whole.low, whole.high), (0, 0)]).astype(np.float64)
    for tap, met in graph.taps(padded, kernel.shape[:2], whole.stride, whole.dilation, sums.shape[1:3]):
        sums += met @ kernel[tap]
    return _finished(sums, rescale)


def _dense(node: graph.Dense, rescale: Rescale | None, values: np.ndarray) -> np.ndarray:
    return _finished(values.astype(np.float64) @ node.kernel.values, rescale)


def _finished(sums: np.ndarray, rescale: Rescale | None) -> np.ndarray:
    """Sums of whole numbers, exact in float64, in which matrix products are quick."""
    whole = sums.astype(np.int64)
    return whole if rescale is None else rescale(whole)


def _elu(node: graph.Elu, table: np.ndarray, values: np.ndarray) -> np.ndarray:
    below = np.clip(-1 - values.astype(np.int64), 0, len(table) - 1)
    return np.where(values < 0, -table[below].astype(np.int64), values).astype(np.int8)


def _max_pool(node: graph.MaxPool, constant: None, values: np.ndarray) -> np.ndarray:
    pool, sizes = node.general(), node.shape(values.shape[1:])[:2]
    padded = np.pad(values, [(0, 0), *zip(pool.low, pool.high)], constant_values=-128)
    met = graph.taps(padded, pool.window[:2], pool.stride[:2], (1, 1), sizes)
    return np.max([part for _, part in met], 0)


_SAME_SCALE = (graph.Elu, graph.MaxPool, graph.Flatten)

_COMPUTE: dict[type[graph.Node], Callable[..., np.ndarray]] = {
    graph.Standardize: _standardize,
    graph.Conv: _conv,
    graph.Dense: _dense,
    graph.Elu: _elu,
    graph.MaxPool: _max_pool,
    graph.Flatten: lambda node, constant, values: values.reshape(len(values), -1),
    graph.Mean: lambda node, rescale, values: rescale(values.astype(np.int64).sum((1, 2))),
    graph.Add: lambda node, rescale, left, right: rescale(left, right),
}
