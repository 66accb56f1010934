"""Networks drawn at random, of every operation, in shapes that no network of the library has."""

from __future__ import annotations

import numpy as np

from ssm_jax import graph

CLASSES = 4


def drawn_network(seed: int) -> graph.Network:
    """A network of all operations in an order of its own, on images of 7x6x3."""
    rng = np.random.default_rng(seed)
    drawn = _Drawn((7, 6, 3), rng)
    value = drawn.add(graph.Standardize, 0)
    operations = [
        "conv",
        "conv",
        "conv",
        "normalize",
        "offset",
        "offset_each",
        "elu",
        "max_pool",
        "shortcut",
        "twice",
    ]
    for operation in rng.permutation(operations).tolist():
        value = getattr(drawn, operation)(value)
    mean = drawn.elu(drawn.add(graph.Mean, value))
    flat = drawn.add(graph.Flatten, value)
    # A dense layer takes an image where it lies; the other operations need a vector.
    dense = drawn.add(graph.Elu, drawn.dense(flat, 5))
    flat = drawn.normalize(drawn.add(graph.Flatten, value))
    dense = drawn.add(graph.Add, drawn.dense(flat, 5), drawn.offset(dense))
    value = drawn.add(graph.Add, drawn.dense(mean, CLASSES), drawn.dense(dense, CLASSES))
    return graph.Network(image_shape=(7, 6, 3), classes=CLASSES, nodes=tuple(drawn.nodes))


class _Drawn:
    """Nodes and their shapes; every method adds one or more and returns the number of the last's value."""

    def __init__(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[graph.Node] = []
        self.shapes: list[tuple[int, ...]] = [image_shape]

    def add(self, kind: type[graph.Node], *inputs: int, **fields: object) -> int:
        node = kind(inputs=inputs, **fields)
        self.nodes.append(node)
        self.shapes.append(node.shape(*(self.shapes[i] for i in inputs)))
        return len(self.nodes)

    def kernel(self, *shape: int) -> graph.Kernel:
        kind = self.rng.integers(3)
        if kind == 2:
            return graph.Kernel(self.rng.normal(0, 0.3, shape).astype(np.float32))
        most = 1 + 2 * kind
        return graph.Kernel(self.rng.integers(-most, most + 1, shape).astype(np.int8), np.float32(0.2))

    def conv(self, value: int) -> int:
        side, stride, units = self.rng.integers(1, 6), self.rng.integers(1, 4), self.rng.integers(1, 5)
        if min(self.shapes[value][:2]) < 4:
            stride = 1
        kernel = self.kernel(side, side, self.shapes[value][2], units)
        return self.add(graph.Conv, value, name="conv", kernel=kernel, stride=int(stride))

    def dense(self, value: int, units: int) -> int:
        return self.add(graph.Dense, value, name="dense", kernel=self.kernel(*self.shapes[value], units))

    def vector(self, value: int) -> np.ndarray:
        return self.rng.uniform(0.5, 1.5, self.shapes[value][-1]).astype(np.float32)

    def normalize(self, value: int) -> int:
        statistics = {"mean": self.vector(value), "variance": self.vector(value), "epsilon": 1e-3}
        others = {"scale": self.vector(value)} if self.rng.integers(2) else {"offset": self.vector(value)}
        return self.add(graph.Normalize, value, name="norm", **statistics, **others)

    def offset(self, value: int) -> int:
        return self.add(graph.Offset, value, values=self.vector(value))

    def offset_each(self, value: int) -> int:
        values = self.rng.normal(0, 1, self.shapes[value]).astype(np.float32)
        return self.add(graph.Offset, value, values=values)

    def elu(self, value: int) -> int:
        return self.add(graph.Elu, value)

    def max_pool(self, value: int) -> int:
        window = int(self.rng.integers(1, min(3, *self.shapes[value][:2]) + 1))
        return self.add(
            graph.MaxPool,
            value,
            window=window,
            stride=int(self.rng.integers(1, 3)),
            padding=int(self.rng.integers(window)),
        )

    def twice(self, value: int) -> int:
        return self.add(graph.Add, value, value)

    def shortcut(self, value: int) -> int:
        inner = self.elu(self.offset(value))
        return self.add(graph.Add, inner, value)
