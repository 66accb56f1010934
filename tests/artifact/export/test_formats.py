"""Formats are chosen by name; what one needs is said before it is imported."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
import tomllib

import pytest

from ssm_jax import errors, graph
from ssm_jax.artifact import export

NEEDY = [name for name, chosen in export.FORMATS.items() if chosen.needs]


def test_an_unknown_format_names_the_nearest(tmp_path, fcn):
    with pytest.raises(errors.InputError, match="unknown format 'onxx'; did you mean 'onnx'"):
        export.write(fcn.artifact, tmp_path / "model", "onxx")


@pytest.mark.parametrize("name", NEEDY)
def test_a_missing_package_is_one_line_that_installs_it(name, tmp_path, fcn, monkeypatch):
    monkeypatch.setitem(sys.modules, export.FORMATS[name].needs[0], None)
    with pytest.raises(errors.InputError) as caught:
        export.write(fcn.artifact, tmp_path / "model", name)
    assert str(caught.value) == f'--format {name} needs: pip install "ssm_jax[{name}]"'
    assert list(tmp_path.iterdir()) == []


def test_every_format_that_needs_a_package_has_an_extra_of_its_name():
    project = tomllib.loads((pathlib.Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    for name in NEEDY:
        required = [line.partition(">=")[0] for line in project["optional-dependencies"][name]]
        assert required == list(export.FORMATS[name].needs)


def test_the_names_of_the_formats_are_known_without_what_they_need():
    program = """if True:
        import sys
        sys.modules |= dict.fromkeys(["flatbuffers", "onnx", "safetensors"])
        from ssm_jax.artifact import export
        print(*(chosen.file for chosen in export.FORMATS.values()))
    """
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == [
        "model.ssm",
        "model.c",
        "model.stablehlo",
        "model.onnx",
        "model.safetensors",
        "model.npz",
    ]


@pytest.mark.parametrize("name", export.FORMATS)
def test_a_format_replaces_what_was_there_and_leaves_nothing_else(name, tmp_path, fcn):
    path = tmp_path / export.FORMATS[name].file
    path.write_bytes(b"before")
    export.write(fcn.artifact, str(path), name)
    assert len(path.read_bytes()) > 500
    assert {left.stem for left in tmp_path.iterdir()} == {"model"}


def test_what_does_not_fit_leaves_the_file_that_was_there(tmp_path, fcn):
    path = tmp_path / "model.npz"
    path.write_bytes(b"before")
    network = fcn.artifact.network
    nodes = [
        dataclasses.replace(node, name="one") if isinstance(node, graph.Dense) else node
        for node in network.nodes
    ]
    artifact = dataclasses.replace(fcn.artifact, network=dataclasses.replace(network, nodes=tuple(nodes)))
    with pytest.raises(errors.InputError, match=r"two arrays of the network are named 'one\.values'"):
        export.write(artifact, path, "npz")
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_an_export_is_checked_before_there_is_a_network(tmp_path):
    assert export.check("npz", tmp_path / "any") is export.FORMATS["npz"]
    with pytest.raises(errors.InputError, match="unknown format 'onxx'"):
        export.check("onxx", tmp_path / "model.onnx")
    with pytest.raises(errors.InputError, match=r"model must end in \.c for --format c; \.h goes beside it"):
        export.check("c", tmp_path / "model")


def test_c_is_two_files(tmp_path, fcn):
    path = tmp_path / "model.c"
    export.write(fcn.artifact, path, "c")
    assert set(tmp_path.iterdir()) == set(export.FORMATS["c"].files(path)) == {path, tmp_path / "model.h"}
