"""The model of times: bounds that every estimate keeps, and its parts."""

import dataclasses

import pytest

from benchmarks.compiled import costs
from benchmarks.compiled.kernels import Kernel
from benchmarks.compiled.products import Product
from benchmarks.compiled.targets import TARGETS

H100, V5E = TARGETS["h100"], TARGETS["v5e"]
NOTHING = Kernel("k", "elementwise", "other", False, 0, 0, None, False, None)


def product(rows, columns, depth):
    return Product(rows, columns, depth, 1, 2 * rows * columns * depth)


def kernel(**changes):
    return dataclasses.replace(NOTHING, **changes)


@pytest.mark.parametrize("sides", [(8192, 8192, 8192), (131072, 64, 576), (576, 64, 131072), (128, 300, 784)])
def test_no_product_is_faster_than_the_datasheet_allows(sides):
    found = product(*sides)
    assert costs.product_seconds(found, H100, "bfloat16") > found.flops / H100.flops["bfloat16"]


def test_a_large_product_reaches_most_of_the_rate_and_a_small_one_little():
    share = {
        sides: product(*sides).flops / 989e12 / costs.product_seconds(product(*sides), H100, "bfloat16")
        for sides in ((8192, 8192, 8192), (128, 300, 784))
    }
    assert share[8192, 8192, 8192] > 0.7 and share[128, 300, 784] < 0.1


def test_long_sums_of_few_results_are_split():
    whole = 2 * 128 * 64 * 131072 * 5 / (989e12 / 132 * 0.55)  # five tiles' rows on one multiprocessor each
    assert costs.product_seconds(product(576, 64, 131072), H100, "bfloat16") < whole


def test_a_gpu_kernel_takes_the_longest_of_bytes_arithmetic_and_the_least():
    assert costs.kernel_seconds(NOTHING, H100, "bfloat16") == H100.least
    large = kernel(bytes=10**9)
    assert costs.kernel_seconds(large, H100, "bfloat16") == pytest.approx(1e9 / (0.85 * 3.35e12))
    assert costs.kernel_seconds(dataclasses.replace(large, known=1.0), H100, "bfloat16") == 1.0
    multiplies = kernel(product=product(8192, 8192, 8192), known=9.0)
    modelled = costs.product_seconds(product(8192, 8192, 8192), H100, "bfloat16")
    assert costs.kernel_seconds(multiplies, H100, "bfloat16") == modelled


def test_a_tpu_kernel_takes_the_compilers_cycles():
    assert costs.kernel_seconds(kernel(known=2e-6, bytes=10**9), V5E, "bfloat16") == 2e-6
    unknown = kernel(touched=820_000)  # on the chip or not
    assert costs.kernel_seconds(unknown, V5E, "bfloat16") == pytest.approx(1e-6)
    assert costs.kernel_seconds(kernel(kind="prefetch", bytes=10**9), V5E, "bfloat16") == 0.0


def test_a_collective_goes_around_a_ring():
    shared = kernel(kind="collective", bytes=90_000_000)
    assert costs.kernel_seconds(shared, V5E, "bfloat16", devices=4) == pytest.approx(2 * 3 / 4 * 1e-3)


def test_an_estimate_is_the_sum_of_its_parts():
    found = [
        kernel(product=product(128, 300, 784), flops=2 * 128 * 300 * 784, bytes=1000, graph=True),
        kernel(bytes=335_000_000),
        kernel(kind="collective", bytes=1_000_000),
    ]
    parts = costs.estimate(found, H100, "bfloat16", devices=2)
    total = sum(parts[name] for name in ("products", "collectives", "other", "launches"))
    assert parts["total"] == pytest.approx(total)
    assert parts["launches"] == pytest.approx(H100.launch_in_graph + 2 * H100.launch)
    assert parts["memory_bound"] == pytest.approx(1e-4, rel=1e-3)
    assert parts["compute_bound"] == pytest.approx(2 * 128 * 300 * 784 / 989e12)
