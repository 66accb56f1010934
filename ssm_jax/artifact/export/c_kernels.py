"""How the C export writes kernels: what a convolution reads, and lists of what to add and to subtract."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssm_jax import graph
from ssm_jax.artifact.export.c_plan import Layout, Place, Plan, Table, Value


@dataclasses.dataclass(frozen=True)
class Windows:
    """What a convolution reads: of every tap of its kernel the pixel for the first pixel of the result.

    One whose sides have different strides is one of stride 1, of whose result some pixels are taken.
    """

    stride: int
    taps: list[tuple[int, int]]

    @classmethod
    def of(cls, node: graph.Conv | graph.Convolution, image: graph.Shape) -> Windows:
        """Those of a node that takes an image `(H, W, C)`."""
        whole = node.general(image)
        strides = {*whole.stride} if len({*whole.stride}) == 1 else {1}
        tops, lefts = (
            [i * apart - before for i in range(side)]
            for side, apart, before in zip(node.kernel.shape, whole.dilation, whole.low)
        )
        return cls(strides.pop(), [(top, left) for top in tops for left in lefts])

    @property
    def reach(self) -> int:
        """How many pixels beyond an image it reads, in pixels of its result."""
        sides = [side // self.stride for tap in self.taps for side in tap]
        return max(-min(sides), max(sides), 0)


def as_images(network: graph.Network) -> graph.Network:
    """Write convolutions over one axis as those over an image of one column."""
    shapes, nodes, values = network.shapes(), list[graph.Node](), [0]
    for number, node in enumerate(network.nodes):
        node = dataclasses.replace(node, inputs=tuple(values[i] for i in node.inputs))
        if isinstance(node, graph.Convolution) and len(node.stride) == 1:
            (length, channels), (places, units) = (
                shapes[i] for i in (network.nodes[number].inputs[0], number + 1)
            )
            kernel = dataclasses.replace(node.kernel, values=node.kernel.values[:, None])
            wide: dict[str, Any] = {
                name: (*getattr(node, name), 1) for name in ("stride", "dilation", "spread")
            }
            sides: dict[str, Any] = {name: (*getattr(node, name), 0) for name in ("low", "high")}
            nodes.append(graph.Reshape(inputs=node.inputs, sizes=(length, 1, channels)))
            nodes.append(dataclasses.replace(node, inputs=(len(nodes),), kernel=kernel, **wide, **sides))
            node = graph.Reshape(inputs=(len(nodes),), sizes=(places, units))
        nodes.append(node)
        values.append(len(nodes))
    return dataclasses.replace(network, nodes=tuple(nodes))


def ungrouped(node: graph.Linear) -> np.ndarray:
    """The weights of every input and output; of different groups they are 0."""
    values = node.kernel.values
    if not isinstance(node, graph.Convolution) or node.groups == 1:
        return values
    *window, inner, units = values.shape
    whole = np.zeros((*window, node.groups, inner, node.groups, units // node.groups), values.dtype)
    for group in range(node.groups):
        whole[..., group, :, group, :] = values.reshape(*window, inner, node.groups, -1)[..., group, :]
    return whole.reshape(*window, node.groups * inner, units)


def kernel_lists(values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write a kernel as lists of places.

    Args:
      values: The kernel `[I, O]`, int8 or float32.
      places: Where every input lies, whole numbers `[I]`.

    Returns:
      For every output, and of an int8 kernel for every absolute value, places to add and places to subtract;
      of a float32 kernel places: their number, then the distance of each from the one before. And of an int8
      kernel the absolute values, of a float32 kernel the weights in the lists' order.

    Examples:
      >>> kernel_lists(np.int8([[1], [-1], [1]]), np.array([10, 20, 40]))[0].tolist()
      [2, 10, 30, 1, 20]
    """
    units, inputs = np.nonzero(values.T)
    places, weights = places[inputs], values[inputs, units]
    levels = sizes(values)
    if values.dtype == np.int8:
        lists = 2 * (len(levels) * units + np.searchsorted(levels, np.abs(weights))) + (weights < 0)
        count = 2 * len(levels) * values.shape[1]
    else:
        lists, count = units, values.shape[1]
    order = np.lexsort((places, lists))
    lists, places, weights = lists[order], places[order], weights[order]
    lengths = np.bincount(lists, minlength=count)
    starts = np.cumsum(lengths) - lengths
    distances = np.diff(places, prepend=0)
    heads = starts[lengths > 0]
    distances[heads] = places[heads]
    numbers = weights if weights.size else np.zeros(1, np.float32)
    return np.insert(distances, starts, lengths), levels if values.dtype == np.int8 else numbers


def sizes(values: np.ndarray) -> np.ndarray:
    """The absolute values of an int8 kernel that are not 0, at least one."""
    magnitudes = np.unique(np.abs(values)) if values.dtype == np.int8 else np.empty(0)
    return magnitudes[magnitudes > 0] if magnitudes.any() else np.array([1])


def conv(plan: Plan, node: graph.Conv | graph.Convolution, number: int) -> Value:
    """Add a convolution of an image."""
    image, shape = plan.shapes[node.inputs[0]], plan.shapes[number]
    whole, windows = node.general(image), Windows.of(node, image)
    value = _spread(plan, whole, plan.take(node))
    wanted = plan.layout(shape)
    channels, stride, taps = value.layout.channels, windows.stride, windows.taps
    # One result for every place that the strides come to, and more where the network wants more of them.
    apart = whole.stride if len({*whole.stride}) > 1 else (1, 1)
    layout = dataclasses.replace(
        wanted,
        height=max((shape[0] - 1) * apart[0] + 1, -(-value.layout.height // stride)),
        width=max((shape[1] - 1) * apart[1] + 1, -(-value.layout.width // stride)),
    )
    phases = sorted({(top % stride, left % stride) for top, left in taps})
    same = (layout.height, layout.width) == (value.layout.height, value.layout.width)
    source = value if stride == 1 and same else _phases(plan, value, layout, stride, phases)
    number_of = {phase: i for i, phase in enumerate(phases)}
    planes = [number_of[top % stride, left % stride] * channels for top, left in taps]
    shifts = [top // stride * layout.row + left // stride for top, left in taps]
    first = layout.first + np.array(planes) * layout.plane + shifts
    places = first[:, None] + np.arange(channels) * layout.plane
    full = plan.new(shape, number if layout == wanted else None, layout)
    where = Place(source.buffer), full.first
    lists(plan, "conv", node, [where], places.ravel(), layout.positions, layout.plane)
    plan.border(full)
    if layout == wanted:
        return full
    top_left, (row, column, plane) = full.strides
    get = top_left, (row * apart[0], column * apart[1], plane)
    return plan.moved(full, plan.new(shape, number), shape, get=get)


def _spread(plan: Plan, node: graph.Convolution, value: Value) -> Value:
    """Put zeros between the pixels of an image, as a transposed convolution does."""
    if {*node.spread} == {1}:
        return value
    height, width = ((size - 1) * apart + 1 for size, apart in zip(value.shape, node.spread))
    out = plan.new((height, width, value.shape[2]))
    plan.call("fill", Place(out.buffer), out.layout.count, "0.0f")
    first, (row, column, plane) = out.strides
    put = first, (row * node.spread[0], column * node.spread[1], plane)
    plan.move(value, out, value.shape, put=put)
    return out


def _phases(plan: Plan, value: Value, layout: Layout, stride: int, phases: list[tuple[int, int]]) -> Value:
    """Spread an image over several of the result's size, one a phase: a stride becomes none."""
    channels = value.layout.channels
    layout = dataclasses.replace(layout, channels=channels * len(phases))
    images = plan.new((layout.height, layout.width, layout.channels), layout=layout)
    for i, phase in enumerate(phases):
        place = Place(images.buffer, i * channels * layout.plane + layout.first)
        geometry = *value.layout.geometry, *layout.geometry[1:]
        plan.call("every", value.first, place, *geometry, stride, *phase)
    return plan.border(images)


def lists(
    plan: Plan,
    function: str,
    node: graph.Linear,
    where: Sequence[tuple[Place, Place]],
    places: np.ndarray,
    *rest: Any,
) -> None:
    """Call a function with a kernel, once for every pair of places."""
    units, values = node.kernel.shape[-1], ungrouped(node)
    plan.count_numbers(node.kernel.remaining + 2 * len(sizes(values)) * units)
    list_, numbers = kernel_lists(values.reshape(-1, units), places)
    bits = next(bits for bits in (8, 16, 32) if list_.max() < 2**bits)
    table = Table(f"{node.name}_list", list_.astype(f"uint{bits}"))
    if node.kernel.whole:
        factors = numbers.astype(np.float32) * np.float32(node.kernel.scale)
        rest = (Table(f"{node.name}_factors", factors), len(factors), units, *rest)
    else:
        function += "_weights"
        rest = (Table(f"{node.name}_weights", numbers), units, *rest)
    for source, target in where:
        plan.call(f"{function}_uint{bits}", source, target, table, *rest)
