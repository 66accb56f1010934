"""Programs as text: arrays, instructions, nested computations and the loop over steps."""

import pytest

from benchmarks.compiled import hlo

TEXT = """HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused (p.0: f32[4], p.1: f32[4]) -> f32[4] {
  %p.0 = f32[4]{0} parameter(0)
  %p.1 = f32[4]{0} parameter(1)
  ROOT %add.0 = f32[4]{0} add(%p.0, %p.1), metadata={op_name="jit(f)/while/body/add"}
}

%body (arg: (s32[], f32[4])) -> (s32[], f32[4]) {
  %arg = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %x = f32[4]{0:T(128)S(1)} get-tuple-element(%arg), index=1
  %sum = f32[4]{0} fusion(%x, %x), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/while/body/mask/add"}
  ROOT %both = (s32[], /*index=1*/f32[4]{0}) tuple(%i, %sum)
}

%small (arg.2: (s32[])) -> (s32[]) {
  ROOT %arg.2 = (s32[]) parameter(0)
}

ENTRY %main (x.0: f32[4]) -> f32[4] {
  %x.0 = f32[4]{0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4]{0}) tuple(%zero, %x.0)
  %other = (s32[]) while(%start), condition=%c, body=%small
  %loop = (s32[], f32[4]{0}) while(%start), condition=%c, body=%body
  ROOT %out = f32[4]{0} get-tuple-element(%loop), index=1
}
"""


@pytest.fixture(scope="module")
def module():
    return hlo.parse(TEXT)


def test_computations_and_the_entry_are_found(module):
    assert set(module.computations) == {"fused", "body", "small", "main"}
    assert module.entry is module.computations["main"]


def test_the_step_is_the_longest_loop(module):
    assert module.step() is module.computations["body"]
    assert hlo.parse(TEXT.replace(" while(", " call(")).step().keys() == module.entry.keys()


def test_an_instruction_has_a_shape_an_opcode_operands_and_attributes(module):
    total = module.step()["sum"]
    assert (total.shape, total.opcode, total.operands) == ("f32[4]{0}", "fusion", ["x", "x"])
    assert total.op_name == "jit(f)/while/body/mask/add" and not total.root
    assert module.step()["both"].root and module.step()["both"].operands == ["i", "sum"]


def test_what_a_fusion_holds_is_found_however_deep(module):
    total = module.step()["sum"]
    assert [part.name for _, part in module.within(total)] == ["p.0", "p.1", "add.0"]
    assert module.inner(module.step()["x"]) == {}


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ("f32[2,3]{1,0}", [24]),
        ("bf16[128,10]{0,1:T(8,128)(2,1)}", [2560]),
        ("pred[5]{0}", [5]),
        ("s4[6]{0}", [3]),
        ("f8e4m3fn[7]{0}", [7]),
        ("u32[]", [4]),
        ("(f32[2]{0}, /*index=1*/u8[3]{0}, token[])", [8, 3, 0]),
    ],
)
def test_bytes_of_a_shape(shape, sizes):
    instruction = hlo.Instruction("x", shape, "parameter", [], "", False)
    assert [array.bytes for array in instruction.arrays] == sizes
    assert instruction.hbm_bytes == sum(sizes)


def test_what_lies_on_the_chip_has_no_bytes_in_the_main_memory(module):
    (array,) = module.step()["x"].arrays
    assert (array.dims, array.bytes, array.hbm_bytes) == ((4,), 16, 0)


def test_attributes_that_are_lists_of_numbers():
    dot = hlo.parse("ENTRY %m (a: f32[2]) -> f32[2] {\n  %d = f32[2]{0} dot(%a, %b), lhs_batch_dims={0,2}\n}")
    assert dot.entry["d"].dims("lhs_batch_dims") == (0, 2)
    assert dot.entry["d"].dims("lhs_contracting_dims") == ()
