"""Bytes moved: operands and results once, and of what is sliced only the slice."""

from benchmarks.compiled import hlo, traffic


def moved(text, **options):
    """The bytes that the entry's last instruction moves."""
    module = hlo.parse(text)
    return traffic.traffic(module, module.entry, list(module.entry.values())[-1], **options)


def entry(*lines):
    return "ENTRY %main (a: f32[1]) -> f32[1] {\n" + "\n".join(f"  {line}" for line in lines) + "\n}\n"


def test_operands_and_results_count_once():
    lines = "%a = f32[10]{0} parameter(0)", "%b = bf16[10]{0} parameter(1)", "%c = f32[10]{0} add(%a, %b)"
    assert moved(entry(*lines)) == 40 + 20 + 40


def test_what_stays_on_the_chip_does_not_count_unless_asked():
    text = entry("%a = f32[10]{0} parameter(0)", "%b = f32[10]{0:S(1)} negate(%a)")
    assert moved(text) == 40
    assert moved(text, everywhere=True) == 80


def test_of_a_slice_its_own_size_counts():
    lines = "%a = f32[100]{0} parameter(0)", "%i = s32[] parameter(1)"
    assert moved(entry(*lines, "%b = f32[10]{0} dynamic-slice(%a, %i), dynamic_slice_sizes={10}")) == 80


def test_of_a_result_with_a_part_replaced_the_part_counts():
    lines = "%a = f32[100]{0} parameter(0)", "%b = f32[10]{0} parameter(1)", "%i = s32[] parameter(2)"
    assert moved(entry(*lines, "%c = f32[100]{0} dynamic-update-slice(%a, %b, %i)")) == 80


def test_a_prefetch_moves_what_it_brings():
    start = "%s = ((f32[50]{0}), f32[13]{0:S(1)}, s32[]{:S(2)}) slice-start(%a)"
    assert moved(entry("%a = f32[50]{0} parameter(0)", start)) == 4 * 13
    start = "%s = (f32[50]{0}, f32[50]{0}, u32[]{:S(2)}) copy-start(%a)"
    assert moved(entry("%a = f32[50]{0} parameter(0)", start)) == 2 * 200


FUSED = """%fused (p.0: f32[100], p.1: s32[], p.2: f32[10]) -> f32[10] {
  %p.0 = f32[100]{0} parameter(0)
  %p.1 = s32[] parameter(1)
  %p.2 = f32[10]{0} parameter(2)
  %taken = f32[10]{0} dynamic-slice(%p.0, %p.1), dynamic_slice_sizes={10}
  ROOT %sum = f32[10]{0} add(%taken, %p.2)
}
"""
OPERANDS = "%a = f32[100]{0} parameter(0)", "%i = s32[] parameter(1)", "%b = f32[10]{0} parameter(2)"


def test_a_fusion_reads_what_it_takes_of_its_operands():
    call = "%f = f32[10]{0} fusion(%a, %i, %b), kind=kLoop, calls=%fused"
    assert moved(FUSED + entry(*OPERANDS, call)) == 40 + 4 + 40 + 40
    also_whole = FUSED.replace("add(%taken, %p.2)", "scatter(%taken, %p.2, %p.0)")
    assert moved(also_whole + entry(*OPERANDS, call)) == 400 + 4 + 40 + 40


def test_a_fusion_writes_the_part_that_it_replaces():
    fused = """%fused (p.0: f32[100], p.1: s32[], p.2: f32[10]) -> (f32[100], f32[10]) {
  %p.0 = f32[100]{0} parameter(0)
  %p.1 = s32[] parameter(1)
  %p.2 = f32[10]{0} parameter(2)
  %whole = f32[100]{0} dynamic-update-slice(%p.0, %p.2, %p.1)
  %view = f32[100]{0} bitcast(%whole)
  ROOT %both = (f32[100]{0}, f32[10]{0}) tuple(%view, %p.2)
}
"""
    call = "%f = (f32[100]{0}, f32[10]{0}) fusion(%a, %i, %b), kind=kLoop, calls=%fused"
    assert moved(fused + entry(*OPERANDS, call)) == (0 + 4 + 40) + (40 + 40)
