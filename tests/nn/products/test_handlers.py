"""Sparse products are those of XLA, at any density, and the same bits for any number of threads."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax import compilers, errors
from ssm_jax.nn.convolution import convolve, matmul
from ssm_jax.nn.pooling import max_pool
from ssm_jax.nn.products import handlers
from ssm_jax.nn.products.handlers import Products


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    try:
        compilers.find("C++")
    except errors.InputError as error:
        pytest.skip(str(error))


LISTS, BLOCKS = Products(1.0, False), Products(-1.0, False)

# B, H, W, I, O, kernel, stride.
SHAPES = [
    (1, 5, 4, 3, 5, (3, 3), 1),
    (7, 4, 4, 2, 7, (3, 3), 1),
    (16, 7, 6, 5, 3, (3, 3), 2),
    (100, 6, 5, 4, 9, (1, 1), 2),
    (128, 5, 5, 9, 17, (3, 3), 1),
    (130, 1, 1, 30, 13, (1, 1), 1),
    (20, 9, 8, 3, 4, (5, 2), 3),
    (33, 2, 3, 70, 66, (3, 3), 1),
    (16, 3, 3, 2, 2, (7, 7), 1),
]


def arrays(shape: tuple, density: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, a kernel of that density and a cotangent."""
    batch, height, width, inputs, outputs, window, stride = shape
    draw = np.random.default_rng(seed)
    kernel = draw.normal(size=(*window, inputs, outputs)).astype(np.float32)
    kernel *= draw.random(kernel.shape) < density
    made = (batch, -(-height // stride), -(-width // stride), outputs)
    images = draw.normal(size=(batch, height, width, inputs)).astype(np.float32)
    return images, kernel, draw.normal(size=made).astype(np.float32)


def xla(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        inputs, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def three(products: Products, inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array, stride: int):
    """The three products, whether they pay or not."""
    return (
        products.forward(inputs, kernel, stride),
        products.of_inputs(cotangent, kernel, inputs.shape, stride),
        products.of_kernel(inputs, cotangent, kernel.shape, stride),
    )


@functools.partial(jax.jit, static_argnums=3)
def expected(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array, stride: int):
    """The three products of XLA."""
    outputs, pull = jax.vjp(lambda inputs, kernel: xla(inputs, kernel, stride), inputs, kernel)
    return outputs, *pull(cotangent)


compiled = jax.jit(three, static_argnums=(0, 4))


def check(given: tuple, products: Products, stride: int) -> None:
    ours = compiled(products, *given, stride)
    # The sum of absolute values bounds what rounding does.
    sizes = expected(*map(np.abs, given), stride)
    for mine, theirs, size in zip(ours, expected(*given, stride), sizes, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == jnp.float32
        np.testing.assert_array_less(np.abs(mine - theirs), 2e-6 * size + 1e-30)


@pytest.mark.parametrize(
    "products",
    [pytest.param(LISTS, id="lists"), pytest.param(BLOCKS, id="blocks", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_three_products_are_those_of_xla(shape, products):
    for density in (0.0, 0.1, 1.0):
        check(arrays(shape, density), products, shape[-1])


@pytest.mark.slow
def test_so_they_are_at_random_shapes():
    draw = np.random.default_rng(3)
    for seed in range(12):
        window = tuple(map(int, draw.integers(1, 6, 2)))
        sizes = [int(draw.integers(1, most)) for most in (140, 9, 9, 40, 40)]
        shape = (*sizes, window, int(draw.integers(1, 4)))
        check(arrays(shape, float(draw.random()), seed), LISTS if seed % 2 else BLOCKS, shape[-1])


def test_weights_of_any_value_count_and_nothing_else_does():
    inputs, kernel, _ = arrays((16, 4, 4, 3, 4, (3, 3), 1), 0.3)
    kernel[0, 0, 0, 0] = -0.0
    kernel[1, 1, 2, 3] = 1e-38
    inputs[:, :, :, 1] = np.inf
    kernel[:, :, 1] = 0.0
    made = LISTS.forward(inputs, kernel, 1)
    finite = inputs.copy()
    finite[:, :, :, 1] = 0.0
    np.testing.assert_array_equal(made, LISTS.forward(finite, kernel, 1))
    kernel[1, 1, 0, 2] = np.nan
    assert np.isnan(LISTS.forward(finite, kernel, 1)[..., 2]).all()


@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[4], SHAPES[5]], ids=str)
def test_bfloat16_rounds_the_factors_of_the_kernel_s_gradient_alone(shape):
    inputs, kernel, cotangent = arrays(shape, 0.2)
    halves = Products(1.0, True)
    made = halves.of_kernel(inputs, cotangent, kernel.shape, shape[-1])
    rounded = [array.astype(jnp.bfloat16).astype(np.float32) for array in (inputs, cotangent)]
    exact = LISTS.of_kernel(rounded[0], rounded[1], kernel.shape, shape[-1])
    sizes = LISTS.of_kernel(*map(np.abs, rounded), kernel.shape, shape[-1])
    np.testing.assert_array_less(np.abs(made - exact), 2e-6 * np.asarray(sizes) + 1e-30)
    np.testing.assert_array_equal(
        halves.forward(inputs, kernel, shape[-1]), LISTS.forward(inputs, kernel, shape[-1])
    )
    cotangent[0, 0, 0, 0] = np.nan  # of all its bits set, which must not be rounded to a number
    cotangent.view(np.uint32)[0, 0, 0, 0] = 0x7FFFFFFF
    assert np.isnan(halves.of_kernel(inputs, cotangent, kernel.shape, shape[-1])).any()


@pytest.mark.parametrize("shape", [*SHAPES[2:6], (16, 2, 2, 600, 7, (3, 3), 1)], ids=str)
def test_lists_and_blocks_have_the_same_bits(shape):
    given = arrays(shape, 0.4)
    for one, other in zip(three(LISTS, *given, shape[-1]), three(BLOCKS, *given, shape[-1]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_lists_end_where_the_density_says():
    inputs, kernel, _ = arrays((16, 3, 3, 8, 8, (3, 3), 1), 1.0)
    kernel.reshape(-1)[:300] = 0.0  # of 576
    inputs[0, 0, 0, 0] = np.inf  # times 0 it is not a number, in a list it is not there
    left = [
        not np.isnan(Products(most, False).forward(inputs, kernel, 1)).any() for most in (0.0, 0.4, 0.5, 1.0)
    ]
    assert left == [False, False, True, True]


@pytest.fixture
def any_matrix(monkeypatch) -> None:
    """However small, products of matrices are sparse ones."""
    monkeypatch.setattr(handlers, "_LEAST_MATRIX", 0)


def loss(products: Products, inputs: jax.Array, kernel: jax.Array, matrix: jax.Array) -> jax.Array:
    hidden = max_pool(jax.nn.elu(convolve(inputs, kernel, 1, products)), 2, 2, products)
    return jnp.sum(matmul(hidden.reshape(len(hidden), -1), matrix, products) ** 2)


@pytest.mark.parametrize(
    ("window", "stride", "batch"), [(2, 2, 7), (2, 2, 100), (3, 1, 16), (2, 3, 16), (3, 2, 100)]
)
def test_the_gradient_of_a_pool_is_that_without_them(window, stride, batch):
    draw = np.random.default_rng(0)
    images = draw.integers(-1, 2, (batch, 7, 5, 3)).astype(np.float32)  # most windows tie
    images[0, 0, 0, 0] = np.nan
    outputs, pull = jax.vjp(lambda images: max_pool(images, window, stride), images)
    cotangent = draw.integers(1, 9, outputs.shape).astype(np.float32)
    made = jax.jit(LISTS.of_pool, static_argnums=(3, 4))(images, outputs, cotangent, window, stride)
    np.testing.assert_array_equal(made, pull(cotangent)[0])


def test_networks_side_by_side_are_those_alone(any_matrix):
    given = [arrays((16, 4, 4, 3, 5, (3, 3), 1), 0.3, seed)[:2] for seed in range(3)]
    matrices = np.random.default_rng(1).normal(size=(3, 20, 4)).astype(np.float32)
    gradient = jax.jit(jax.grad(functools.partial(loss, LISTS), argnums=(0, 1, 2)))
    together = jax.jit(jax.vmap(gradient))(*map(np.stack, zip(*given, strict=True)), matrices)
    for seed, (inputs, kernel) in enumerate(given):
        for all_, one in zip(together, gradient(inputs, kernel, matrices[seed]), strict=True):
            np.testing.assert_array_equal(all_[seed], one)


def test_gradients_are_those_of_the_function(any_matrix):
    inputs, kernel, _ = arrays((16, 4, 4, 3, 5, (3, 3), 1), 0.3)
    matrix = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    ours = jax.grad(functools.partial(loss, LISTS), argnums=(0, 1, 2))(inputs, kernel, matrix)
    theirs = jax.grad(functools.partial(loss, None), argnums=(0, 1, 2))(inputs, kernel, matrix)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_a_network_is_laid_out_once_and_nothing_is_transposed():
    def network(images: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        hidden = jax.nn.elu(convolve(images, first, 1, LISTS))
        return jnp.sum(jax.nn.elu(convolve(hidden, second, 1, LISTS)))

    images, first, _ = arrays((32, 8, 8, 3, 16, (3, 3), 1), 0.3)
    second = arrays((32, 8, 8, 16, 8, (3, 3), 1), 0.3)[1]
    compiled = jax.jit(jax.grad(network, argnums=(1, 2))).lower(images, first, second).compile().as_text()
    lines = [line for line in compiled.splitlines() if "f32[32,8,8,16]" in line.partition("=")[2][:40]]
    assert lines and all("f32[32,8,8,16]{0,3,2,1}" in line for line in lines)


def test_what_does_not_pay_or_fit_is_xla_s():
    image, kernel = jnp.ones((16, 4, 4, 3)), jnp.ones((3, 3, 3, 5))
    assert LISTS.fit(image, kernel)
    matrix = jax.ShapeDtypeStruct((128, 2048), jnp.float32)
    assert LISTS.fit(matrix, jax.ShapeDtypeStruct((2048, 256), jnp.float32))
    assert not LISTS.fit(matrix, jax.ShapeDtypeStruct((2048, 255), jnp.float32))
    assert not LISTS.fit(image[:7], kernel)
    assert not LISTS.fit(image.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert not LISTS.fit(image[..., :0], kernel[:, :, :0])
    assert not LISTS.fit(image, jnp.ones((9, 9, 3, 5)))
    huge = jax.ShapeDtypeStruct((2**15, 256, 256, 3), jnp.float32)
    assert not LISTS.fit(huge, kernel)


DIGEST = """
import hashlib, sys
import jax, numpy as np
from ssm_jax.core.selection import extremes
from ssm_jax.nn.products.handlers import Products
draw = np.random.default_rng(0)
inputs = draw.normal(size=(48, 9, 9, 20)).astype(np.float32)
kernel = draw.normal(size=(3, 3, 20, 40)).astype(np.float32) * (draw.random((3, 3, 20, 40)) < 0.2)
cotangent = draw.normal(size=(48, 9, 9, 40)).astype(np.float32)
digest = hashlib.sha256()
for products in (Products(1.0, True), Products(-1.0, False)):
    digest.update(np.asarray(products.forward(inputs, kernel, 1)))
    digest.update(np.asarray(products.of_inputs(cotangent, kernel, inputs.shape, 1)))
    digest.update(np.asarray(products.of_kernel(inputs, cotangent, kernel.shape, 1)))
    digest.update(np.asarray(products.of_pool(cotangent, cotangent[:, :4, :4], cotangent[:, :4, :4], 2, 2)))
scores = draw.normal(size=20_001).astype(np.float32)
for factor in (1.0, 1.001, -3.0):  # each begins where the one before has ended
    for chosen in extremes(factor * scores, [1, 2000, 20_001], [2000]):
        digest.update(np.asarray(chosen))
print(digest.hexdigest())
"""


def run(command: list[str], environment: dict[str, str]) -> str:
    """The output of a process of its own."""
    variables = os.environ | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def digest(cores: str, devices: str = "1") -> str:
    """What a process computes on so many cores."""
    return run(["taskset", "-c", cores, sys.executable, "-c", DIGEST], {"JAX_NUM_CPU_DEVICES": devices})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or (os.cpu_count() or 1) < 2, reason="needs taskset and 2 cores")
def test_one_thread_makes_the_same_bits_as_many():
    assert digest("0") == digest("0,1") == digest("0,1", devices="2")


def test_devices_compute_at_the_same_time():
    inputs, kernel, _ = arrays((16, 5, 5, 8, 8, (3, 3), 1), 0.3)
    devices = jax.local_device_count()
    forward = jax.pmap(lambda inputs: LISTS.forward(inputs, kernel, 1))
    made = forward(np.stack([inputs] * devices))
    alone = LISTS.forward(inputs, kernel, 1)
    for row in np.asarray(made):
        np.testing.assert_array_equal(row, alone)


SANITIZED = """
from ssm_jax.nn.products import library
library.FLAGS = [["-std=c++17", "-O1", "-w", "-march=native", "-fsanitize=address,undefined",
                  "-fno-sanitize-recover=all"]]
"""


@pytest.mark.slow
def test_handlers_are_clean_under_sanitizers(tmp_path):
    found = []
    for name in ("asan", "ubsan"):
        command = [*compilers.find("C++"), f"-print-file-name=lib{name}.so"]
        found.append(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
    if not all(map(os.path.isabs, found)):
        pytest.skip("the compiler has no sanitizers")
    environment = {
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",  # JAX has some
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_NUM_CPU_DEVICES": "1",
    }
    run([sys.executable, "-c", SANITIZED + DIGEST], environment)
