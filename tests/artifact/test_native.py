"""A network compiled by the system's C compiler computes what JAX computes."""

from __future__ import annotations

import concurrent.futures
import pathlib
import tempfile

import jax
import numpy as np
import pytest
from artifact.compiled import compiler
from artifact.small import images_of, network_of

from ssm_jax import compilers, errors
from ssm_jax.artifact import native, run


@pytest.fixture(scope="module")
def compiled():
    compiler()
    return native.compile(network_of("conv4"))


def test_logits_of_batches_are_those_of_jax(compiled):
    network, images = network_of("conv4"), images_of("conv4", batch=5)
    theirs = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    ours = compiled(images)
    assert ours.dtype == np.float32 and ours.shape == (5, 5)
    np.testing.assert_allclose(ours, theirs(run.parameters(network), images), atol=1e-4, rtol=0)
    np.testing.assert_array_equal(compiled(images[3:4]), ours[3:4])
    np.testing.assert_array_equal(compiled(images[:, ::-1]), compiled(images[:, ::-1].copy()))
    assert compiled(images[:0]).shape == (0, 5)


def test_threads_may_call_it_at_the_same_time(compiled):
    images = images_of("conv4", batch=64)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(compiled, [images] * 16))
    for result in results:
        np.testing.assert_array_equal(result, compiled(images))


@pytest.mark.parametrize("images", [np.zeros((1, 8, 8, 1), np.uint8), np.zeros((1, 8, 8, 3), np.float32)])
def test_other_images_are_refused(compiled, images):
    with pytest.raises(errors.InputError, match=r"images are .* allowed is uint8 \[B, 8, 8, 3\]"):
        compiled(images)


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(errors.InputError, match="CC is 'no-such-compiler', which is not found"):
        native.compile(network_of("fcn"))
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(errors.InputError, match="a C compiler is needed; there is no cc, gcc or clang"):
        native.compile(network_of("fcn"))


def script(folder: pathlib.Path, text: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_compiler_that_fails_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", script(tmp_path, "echo first >&2; echo the disk is full >&2; exit 3"))
    with pytest.raises(errors.RunError, match=r"compiler can't compile the network: the disk is full$"):
        native.compile(network_of("fcn"))


def test_a_compiler_that_knows_no_processor_will_do(monkeypatch, tmp_path):
    words = " ".join(compiler())
    monkeypatch.setenv("CC", script(tmp_path, f'case "$*" in *native*) exit 1;; esac; exec {words} "$@"'))
    images = images_of("fcn")
    assert np.isfinite(native.compile(network_of("fcn"))(images)).all()


@pytest.mark.parametrize(
    "program", ["#!/no/such/interpreter", "#!/bin/sh\nwhile [ $1 != -o ]; do shift; done; touch $2"]
)
def test_a_compiler_that_does_not_run_or_makes_nothing_is_one_line(monkeypatch, tmp_path, program):
    path = pathlib.Path(script(tmp_path, ""))
    path.write_text(program)
    monkeypatch.setenv("CC", str(path))
    with pytest.raises(
        errors.RunError, match=r"compiler (can't compile the network: .+|compiled the network .+)$"
    ):
        native.compile(network_of("fcn"))


def test_no_place_for_its_files_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(errors.RunError, match=r"can't compile the network: .*No such file"):
        native.compile(network_of("fcn"))


def test_a_command_that_does_not_end_is_one_line(monkeypatch):
    monkeypatch.setenv("CC", 'gcc "-O2')
    with pytest.raises(errors.InputError, match="No closing quotation"):
        compilers.find("C")
