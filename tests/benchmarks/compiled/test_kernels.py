"""What sort of kernel an instruction is, where it belongs and what the compiler says of its time."""

import pytest

from benchmarks.compiled import hlo, kernels

TEXT = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %xy = f32[] add(%x, %y)
}

%summed (p: f32[8,4]) -> f32[4] {
  %p = f32[8,4]{1,0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %r = f32[4]{0} reduce(%p, %zero), dimensions={0}, to_apply=%add
}

%moved (q: f32[8,4]) -> f32[4,8] {
  %q = f32[8,4]{1,0} parameter(0)
  ROOT %t = f32[4,8]{1,0} transpose(%q), dimensions={1,0}
}

%step (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %negated = f32[8,4]{1,0} negate(%a), metadata={op_name="jit(f)/jvp(conv)/mask/neg"}
  %scalar = f32[] add(%s, %s)
  %sum = f32[4]{0} fusion(%a), kind=kInput, calls=%summed, metadata={op_name="jit(f)/batch/reduce_sum"}
  %turned = f32[4,8]{1,0} fusion(%a), kind=kLoop, calls=%moved, metadata={op_name="transpose(jvp(conv))/t"}
  %dot = f32[8,8]{1,0} dot(%a, %turned), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %conv = (f32[1,8,8,1]{3,2,1,0}, u8[0]{0}) custom-call(%image, %window), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %image = f32[1,8,8,1]{3,2,1,0} parameter(1)
  %window = f32[1,3,3,1]{3,2,1,0} parameter(2)
  %shared = f32[8,4]{1,0:S(1)} all-reduce(%negated), to_apply=%add, metadata={op_name="jit(f)/optimizer/psum"}
  %fetched = (f32[8,4]{1,0:S(1)}, f32[8,4]{1,0}, u32[]) copy-start(%a)
  %loop = (f32[4]{0}) while(%init), condition=%c, body=%inner
  %cases = f32[4]{0} conditional(%i, %a, %a), branch_computations={%x, %y}
  %other = f32[4]{0} custom-call(%a), custom_call_target="SomethingElse"
  ROOT %done = f32[8,4]{1,0:S(1)} copy-done(%fetched)
}

ENTRY %main (b: f32[8,4]) -> f32[8,4] {
  %b = f32[8,4]{1,0} parameter(0)
  ROOT %steps = f32[8,4]{1,0} while(%b), condition=%c, body=%step
}
"""


@pytest.fixture(scope="module")
def found():
    return {kernel.name: kernel for kernel in kernels.kernels(hlo.parse(TEXT), {"dot": True})}


def test_every_kernel_has_a_kind(found):
    assert {name: kernel.kind for name, kernel in found.items()} == {
        "negated": "elementwise",
        "sum": "reduction",
        "turned": "copy",
        "dot": "product",
        "conv": "convolution",
        "shared": "collective",
        "fetched": "prefetch",
        "loop": "loop",
        "cases": "branch",
        "other": "call",
    }


def test_a_kernel_belongs_where_its_name_says(found):
    scopes = {name: kernel.scope for name, kernel in found.items()}
    assert (scopes["negated"], scopes["sum"], scopes["turned"]) == ("mask", "batch", "backward")
    assert (scopes["shared"], scopes["other"]) == ("optimizer", "other")


def test_calls_of_libraries_and_kernels_in_graphs_are_marked(found):
    assert [name for name, kernel in found.items() if kernel.library] == ["conv"]
    assert [name for name, kernel in found.items() if kernel.graph] == ["dot"]


def test_a_collective_sends_what_it_holds_wherever_that_lies(found):
    assert found["shared"].bytes == 8 * 4 * 4


def test_operations_are_those_of_products(found):
    assert found["dot"].flops == 2 * 8 * 8 * 4 and found["sum"].flops == 0


@pytest.mark.parametrize(
    ("config", "clock", "seconds"),
    [
        ('"reification_cost":[{"exec_time_us":2.5}]', 0.0, 2.5e-6),
        ('"estimated_cycles":"3000"', 1.5e9, 2e-6),
        ('"estimated_cycles":"9223372036854775807"', 1.5e9, None),
        ('"reification_cost":[]', 0.0, None),
    ],
)
def test_the_compilers_own_estimate(config, clock, seconds):
    module = hlo.parse(
        f"ENTRY %m (a: f32[2]) -> f32[2] {{\n  %n = f32[2]{{0}} negate(%a), backend_config={{{config}}}\n}}"
    )
    (kernel,) = kernels.kernels(module, {}, clock)
    assert kernel.known == (seconds and pytest.approx(seconds))
