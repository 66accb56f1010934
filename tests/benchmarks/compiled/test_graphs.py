"""Which kernels of XLA's dump lie in CUDA graphs."""

from benchmarks.compiled import graphs

METADATA = "".join(
    f'thunk_metadata {{\n  thunk_info {{\n    profile_annotation: "{name}"\n    thunk_id: {i}\n  }}\n}}\n'
    for i, name in enumerate(["before", "loop", "compare", "first", "second", "library", "last"], 1)
)
SEQUENCE = """001: kCopy         [source] kCopy
002: kWhile        [prev=001 (1)]
condition:
    003: kCustomKernel [source | sink] compare
  body:
    000: kCommandBuffer [source]
        004: kCustomKernel [source] first
        005: kCustomKernel [prev=004] second
    006: kConvolution  [prev=005] library
    000: kCommandBuffer [sink]
        007: kCustomKernel [source] last
008: kCustomKernel [prev=002] after
"""


def test_kernels_of_the_loop_are_in_and_out_of_graphs():
    found = graphs.parse(SEQUENCE, METADATA)
    assert found.count == 2
    assert found.inside == {"first": True, "second": True, "library": False, "last": True}


def test_without_a_loop_everything_counts():
    found = graphs.parse("000: kCommandBuffer [x]\n    001: kCopy [x] a\n002: kCopy [x] b\n", METADATA)
    assert (found.count, found.inside) == (1, {"before": True, "loop": False})


def test_a_graph_around_the_loop_holds_all_of_it():
    indented = "\n".join(f"    {line}" for line in SEQUENCE.replace("kCommandBuffer", "kWhat").splitlines())
    found = graphs.parse(f"000: kCommandBuffer [x]\n{indented}\n", METADATA)
    assert found.count == 1 and all(found.inside.values())


def test_the_largest_programs_files_are_read(tmp_path):
    (tmp_path / "module_1.thunk_sequence_after_thunk_passes.txt").write_text("001: kCopy [x] a\n")
    (tmp_path / "module_2.thunk_sequence_after_thunk_passes.txt").write_text(SEQUENCE)
    (tmp_path / "module_2.thunk_metadata.txt").write_text(METADATA)
    assert graphs.read(tmp_path) == graphs.parse(SEQUENCE, METADATA)
    assert graphs.read(tmp_path / "nothing") == graphs.Graphs(0, {})
