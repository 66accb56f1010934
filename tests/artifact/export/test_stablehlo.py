"""JAX runs the program from its bytes alone, for any number of images."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from artifact.exported import case_of
from artifact.small import images_of, network_of

pytest.importorskip("flatbuffers")

from ssm_jax.artifact.export import stablehlo


def test_jax_computes_the_logits_as_the_docstring_says(tmp_path, case, agree, snippet, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stablehlo.write(case.artifact, tmp_path / "model.stablehlo")
    for batch in (1, 5):
        part = dataclasses.replace(case, images=case.images[:batch], logits=case.logits[:batch])
        names = {"jax": jax, "pathlib": pathlib, "images": part.images}
        exec(snippet(stablehlo), names)
        agree(np.asarray(names["logits"]), part)


def test_every_operation_is_translated(every_operation, agree):
    agree(
        np.asarray(stablehlo.program(every_operation.artifact.network).call(every_operation.images)),
        every_operation,
    )


def test_a_bfloat16_network_computes_in_bfloat16():
    case = case_of(dataclasses.replace(network_of("conv2"), dtype="bfloat16"), images_of("conv2"))
    program = stablehlo.program(case.artifact.network)
    assert "tensor<3x3x3x6xbf16>" in program.mlir_module()
    # A compiler may keep more of a result than bfloat16 holds where it becomes float32 next.
    np.testing.assert_allclose(
        program.call(case.images), case.logits, rtol=0, atol=0.01 * np.abs(case.logits).max()
    )


def test_the_file_tells_no_path_of_the_machine_that_made_it(tmp_path, fcn):
    stablehlo.write(fcn.artifact, tmp_path / "model.stablehlo")
    content = (tmp_path / "model.stablehlo").read_bytes()
    assert b"standardize" not in content and b".py" not in content
    assert str(pathlib.Path(stablehlo.__file__).parent).encode() not in content


def test_the_program_is_for_three_platforms_and_holds_a_byte_a_weight(fcn):
    network = fcn.artifact.network
    program = stablehlo.program(network)
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert str(program.in_avals[0]) == "uint8[b,8,8,1]" and str(program.out_avals[0]) == "float32[b,10]"
    text = program.mlir_module()
    for layer in network.layers():
        rows, columns = layer.kernel.shape
        assert f"tensor<{rows}x{columns}xi8>" in text
