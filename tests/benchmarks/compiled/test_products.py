"""Operations of products and convolutions against what their shapes say."""

import pytest

from benchmarks.compiled import hlo, products


def product(lines):
    """The one product of a computation that is given as lines, the last of them the product."""
    text = "ENTRY %main (a: f32[1]) -> f32[1] {\n" + "\n".join(f"  {line}" for line in lines) + "\n}"
    module = hlo.parse(text)
    (found,) = products.products(module, module.entry, list(module.entry.values())[-1])
    return found


def test_a_matrix_product():
    found = product(
        [
            "%a = f32[128,784]{1,0} parameter(0)",
            "%b = f32[784,300]{1,0} parameter(1)",
            "%d = f32[128,300]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
        ]
    )
    assert found == products.Product(128, 300, 784, 1, 2 * 128 * 300 * 784)


def test_products_beside_each_other():
    found = product(
        [
            "%a = f32[50,128,784]{2,1,0} parameter(0)",
            "%b = f32[50,784,300]{2,1,0} parameter(1)",
            "%d = f32[50,128,300]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2}",
        ]
    )
    assert found == products.Product(128, 300, 784, 50, 50 * 2 * 128 * 300 * 784)


def test_a_product_that_cublas_computes():
    found = product(
        [
            "%a = bf16[8,16,32]{2,1,0} parameter(0)",
            "%b = bf16[8,32,4]{2,1,0} parameter(1)",
            '%d = (bf16[8,16,4]{2,1,0}, s8[64]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", '
            'backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["2"],'
            '"rhs_contracting_dimensions":["1"],"lhs_batch_dimensions":["0"],"rhs_batch_dimensions":["0"]}}}',
        ]
    )
    assert found == products.Product(16, 4, 32, 8, 8 * 2 * 16 * 4 * 32)


# Of a 3x3 window over 32 places with a margin of one, the first and the last place meet two of three.
MET = 3 * 32 - 2
OPERATIONS = 2 * 128 * MET**2 * 3 * 64
WINDOW = "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f"
IMAGE, KERNEL, OUT = "bf16[128,32,32,3]{3,2,1,0}", "bf16[64,3,3,3]{3,2,1,0}", "bf16[128,32,32,64]{3,2,1,0}"
PLACES = 128 * 32 * 32


@pytest.mark.parametrize(
    ("left", "right", "result", "target", "sides"),
    [
        (IMAGE, KERNEL, OUT, "Forward", (PLACES, 64, 27)),
        (IMAGE, OUT, KERNEL, "BackwardFilter", (27, 64, PLACES)),
        (OUT, KERNEL, IMAGE, "BackwardInput", (PLACES, 3, 9 * 64)),
    ],
)
def test_a_convolution_of_cudnn_and_its_gradients(left, right, result, target, sides):
    found = product(
        [
            f"%a = {left} parameter(0)",
            f"%b = {right} parameter(1)",
            f"%c = ({result}, u8[0]{{0}}) custom-call(%a, %b), {WINDOW}, "
            f'custom_call_target="__cudnn$conv{target}"',
        ]
    )
    assert found == products.Product(*sides, groups=1, flops=OPERATIONS, windowed=True)


def test_a_convolution_of_xla():
    found = product(
        [
            "%a = bf16[128,32,32,3]{3,2,1,0} parameter(0)",
            "%b = bf16[3,3,3,64]{3,2,1,0} parameter(1)",
            "%c = bf16[128,32,32,64]{0,3,2,1:T(8,128)(2,1)S(1)} convolution(%a, %b), "
            "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
        ]
    )
    assert found == products.Product(PLACES, 64, 27, 1, OPERATIONS, windowed=True)


def test_the_gradient_of_a_strided_convolution_does_not_count_its_zeros():
    found = product(
        [
            "%a = bf16[128,16,16,32]{3,2,1,0} parameter(0)",
            "%b = bf16[32,1,1,16]{3,2,1,0} parameter(1)",
            "%c = bf16[128,32,32,16]{3,2,1,0} convolution(%a, %b), "
            "window={size=1x1 pad=0_1x0_1 lhs_dilate=2x2}, dim_labels=b01f_i01o->b01f",
        ]
    )
    assert found.flops == 2 * 128 * 16 * 16 * 32 * 16


def test_a_tpu_convolves_to_multiply_matrices_beside_each_other():
    found = product(
        [
            "%a = bf16[50,128,784]{2,1,0} parameter(0)",
            "%b = bf16[50,784,300]{2,1,0} parameter(1)",
            "%c = bf16[50,128,300]{2,1,0} convolution(%a, %b), "
            "window={size=50 stride=49 lhs_dilate=50}, dim_labels=0bf_0io->0bf",
        ]
    )
    assert found.flops == 50 * 2 * 128 * 784 * 300 and not found.windowed


def test_what_is_no_product_has_none():
    module = hlo.parse("ENTRY %m (a: f32[2]) -> f32[2] {\n  %a = f32[2]{0} parameter(0)\n}")
    assert products.products(module, module.entry, module.entry["a"]) == []
