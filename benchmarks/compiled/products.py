"""The matrix products and convolutions of a program: their sizes and operations."""

from __future__ import annotations

import dataclasses
import math
import re

from benchmarks.compiled.hlo import Array, Computation, Instruction, Module


@dataclasses.dataclass(frozen=True)
class Product:
    """A product of matrices `[rows, depth] @ [depth, columns]`, several beside each other.

    A convolution is one too: of its windows with the flattened kernel.

    Attributes:
      rows: Of the result.
      columns: Of the result.
      depth: The length of the sums.
      groups: The number of products.
      flops: Two operations for every multiplication by what is neither padding nor dilation.
      windowed: Whether it is a convolution of more than one place at a time.
    """

    rows: int
    columns: int
    depth: int
    groups: int
    flops: int
    windowed: bool = False


def products(module: Module, within: Computation, instruction: Instruction) -> list[Product]:
    """Find the products that an instruction computes, itself or in its fusion.

    Args:
      module: The program.
      within: The computation that holds the instruction.
      instruction: Any instruction.
    """
    found = [_product(within, instruction)]
    found += [_product(body, part) for body, part in module.within(instruction)]
    return [product for product in found if product]


def _product(within: Computation, instruction: Instruction) -> Product | None:
    opcode, target = instruction.opcode, instruction.target
    if opcode not in ("dot", "convolution") and not re.match(r"__cudnn\$conv|__cublas", target):
        return None
    left, right = (within[name].arrays[0] for name in instruction.operands[:2])
    result = instruction.arrays[0]
    if opcode == "dot":
        contracted, batch = (instruction.dims(f"lhs_{name}_dims") for name in ("contracting", "batch"))
        return _matrices(left, result, contracted, batch)
    if target.startswith("__cublas"):
        contracted, batch = (
            tuple(map(int, re.findall(r"\d+", instruction.find(rf'"lhs_{name}_dimensions":\[([^\]]*)\]'))))
            for name in ("contracting", "batch")
        )
        return _matrices(left, result, contracted, batch)
    if "BackwardFilter" in target:
        work = _Convolution(instruction, image=left, kernel=result, out=right)
        return work.product(work.window, work.columns, work.positions)
    if "BackwardInput" in target:
        work = _Convolution(instruction, image=result, kernel=right, out=left)
        ins = result.dims[work.labels[0].index("f")]
        places = result.size // ins
        columns = ins // work.groups
        return work.product(places, columns, work.positions * work.columns * work.window // places // columns)
    work = _Convolution(instruction, image=left, kernel=right, out=result)
    return work.product(work.positions, work.columns, work.window // work.dilation)


def _matrices(left: Array, result: Array, contracted: tuple[int, ...], batch: tuple[int, ...]) -> Product:
    depth, groups = (math.prod(left.dims[i] for i in dims) for dims in (contracted, batch))
    columns = result.dims[-1]
    return Product(result.size // columns // groups, columns, depth, groups, 2 * result.size * depth)


class _Convolution:
    """The sizes of a convolution of an image by a kernel, whichever of the three is the result.

    Attributes:
      labels: The letters of the dimensions of image, kernel and result.
      groups: As many kernels are applied to a share of the channels each.
      positions: The result's places, over the batch.
      columns: The result's channels of a group.
      window: The kernel's elements for one channel of the result.
      dilation: As many places of the image stand for one, zeros between them.
    """

    def __init__(self, instruction: Instruction, image: Array, kernel: Array, out: Array) -> None:
        found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
        assert found, instruction.rest
        self.labels = ins, kernels, outs = found[1], found[2], found[3]
        self.groups = int(instruction.find(r"feature_group_count=(\d+)") or 1)
        features = out.dims[outs.index("f")]
        self.positions = out.size // features
        self.columns = features // self.groups
        self.window = kernel.size // features
        fields = dict(part.split("=") for part in instruction.find(r"window=\{([^}]*)\}").split())
        axes = range(len(ins) - 2)

        def each(name: str, default: str) -> list[str]:
            return fields[name].split("x") if name in fields else [default] * len(axes)

        self.dilation = math.prod(map(int, each("lhs_dilate", "1")))
        self.pairs, self.places = 1, 1  # of a place of the image with one of the window; of the result
        for axis in axes:
            length, places = image.dims[ins.index(str(axis))], out.dims[outs.index(str(axis))]
            size, stride, of_image, of_kernel = (
                int(each(name, "1")[axis]) for name in ("size", "stride", "lhs_dilate", "rhs_dilate")
            )
            low = int(each("pad", "0_0")[axis].split("_")[0])
            met = (i * stride + j * of_kernel - low for i in range(places) for j in range(size))
            self.pairs *= sum(0 <= at <= (length - 1) * of_image and at % of_image == 0 for at in met)
            self.places *= places
        self.each_pair = 2 * out.dims[outs.index("b")] * features * kernel.dims[kernels.index("i")]

    def product(self, rows: int, columns: int, depth: int) -> Product:
        """The same as a product of matrices."""
        flops = self.pairs * self.each_pair
        return Product(rows, columns, depth, self.groups, flops, windowed=self.pairs > self.places)
