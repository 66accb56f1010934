"""What verbs are given: runs of one's own model and files of `ssm_jax.save` as well."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
from cli.own import Own
from flax import nnx

import ssm_jax
from ssm_jax import errors
from ssm_jax.artifact import format
from ssm_jax.cli import sources
from ssm_jax.data import datasets

FILE = pathlib.Path(__file__).with_name("own.py")
MODEL = f"--model={FILE}:Own"


@pytest.fixture(scope="module")
def trained_own(tmp_path_factory):
    """A finished run of a model of the user's own; nobody writes into it."""
    pytest.importorskip("sklearn")
    config = ssm_jax.default_config()
    config.data.name = "digits"
    config.training.epochs = 1
    workdir = tmp_path_factory.mktemp("own") / "run"
    ssm_jax.train_and_evaluate(config, workdir, model=Own)
    return workdir


@pytest.fixture
def own(trained_own, tmp_path):
    """A copy of the run, to write into."""
    return pathlib.Path(shutil.copytree(trained_own, tmp_path / "own"))


@pytest.fixture
def saved(tmp_path):
    """A file of `save`, and its model."""
    model = Own(nnx.Rngs(3))
    ssm_jax.save(model, tmp_path / "saved.npz")
    return tmp_path / "saved.npz", model


def images():
    return datasets.load("digits").test_images[:5]


def test_a_run_of_ones_own_model_is_exported_predicted_and_inspected(ssm, own, tmp_path):
    np.save(tmp_path / "images.npy", images())
    logits = np.asarray(ssm_jax.restore(own, model=Own).logits(images()))
    status, said, _ = ssm("predict", own, tmp_path / "images.npy", "--json", MODEL)
    labels = [json.loads(line)["label"] for line in said.splitlines()]
    assert status == 0 and labels == [str(label) for label in logits.argmax(1)]
    status, said, _ = ssm("inspect", own, "--json", MODEL)
    assert status == 0 and [layer["name"] for layer in json.loads(said)["layers"]] == ["conv", "head"]
    assert ssm("export", own, MODEL)[0] == 0
    np.testing.assert_allclose(ssm_jax.load(own / "model.ssm")(images()), logits, rtol=1e-5, atol=1e-5)


def test_without_its_code_a_run_is_what_was_exported_of_it(ssm, refused, own):
    assert "trained Own: pass the same `model`, Own (--model=FILE.py:Own)" in refused("export", own)
    assert ssm("export", own, MODEL)[0] == 0
    assert ssm("export", own, "--format=npz")[0] == 0 and (own / "model.npz").exists()
    assert ssm("inspect", own)[0] == 0
    assert "pass the same `model`" in refused("export", own, "--seed=0", "--format=c")


@pytest.mark.slow
def test_a_run_of_ones_own_model_has_a_report_and_an_analysis_beside_others(ssm, own, trained, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    status, _, said = ssm("report", own, trained, MODEL, f"--output={page}")
    assert status == 0, said
    assert "Own on digits" in page.read_text() and "fcn on digits" in page.read_text()
    status, said, _ = ssm("analysis", own, MODEL, "--draws=1", "--json")
    (run,) = json.loads(said)["runs"]
    assert (
        status == 0
        and run["network"] == "Own"
        and run["connectivity"]["units"]["layers"].keys()
        == {
            "conv",
            "head",
        }
    )


def test_a_report_needs_the_code_of_ones_own_model(refused, own, trained):
    for verb in ("report", "analysis"):
        assert "pass the same `model`, Own" in refused(verb, own)
        assert "leave `model` out" in refused(
            verb, trained, MODEL, "--seeds=0" if verb == "analysis" else "--force"
        )


def test_a_saved_model_is_exported_and_inspected(ssm, saved, tmp_path):
    path, model = saved
    assert ssm("export", path, MODEL, "--input=8x8x1", f"--output={tmp_path / 'net.ssm'}")[0] == 0
    expected = np.asarray(model(ssm_jax.standardize(images())))
    np.testing.assert_allclose(ssm_jax.load(tmp_path / "net.ssm")(images()), expected, rtol=1e-5, atol=1e-5)
    status, said, _ = ssm("inspect", path, MODEL, "--input=8x8x1:float32")
    assert status == 0 and "conv" in said
    assert ssm("export", path, MODEL, "--input=8x8x1:float32")[0] == 0
    network = format.read(path.with_suffix(".ssm")).network
    assert network.image_dtype == "float32"


def test_a_saved_model_has_a_report_and_an_analysis(ssm, saved, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    path, _ = saved
    status, said, _ = ssm("analysis", path, MODEL, "--input=8x8x1", "--json")
    (run,) = json.loads(said)["runs"]
    assert status == 0 and (run["name"], run["network"]) == ("saved.npz", "Own")
    assert run["connectivity"]["units"]["layers"].keys() == {"conv", "head"}
    assert ssm("report", path, MODEL, "--input=8x8x1")[0] == 0
    assert "<h1>saved.npz</h1>" in (tmp_path / "report.html").read_text()


def test_what_a_saved_model_lacks_is_told(refused, saved, network, own):
    path, _ = saved
    for arguments, text in (
        ([path], "of a file of ssm_jax.save give --model too"),
        ([path, MODEL], "of a file of ssm_jax.save give --input too"),
        ([path, MODEL, "--input=8by8"], "--input is '8by8'; allowed is a shape without its batch"),
        ([path, MODEL, "--input=8x8"], "--input is '8x8'; allowed is HxWxC of images"),
        ([path, MODEL, "--input=8x8:int64"], "allowed is a shape without its batch"),
        ([path, f"--model={FILE}:fails", "--input=8x8x1"], "fails(rngs) fails: ValueError: no such layer"),
        ([path, f"--model={FILE}:images", "--input=8x8x1"], "unknown function of"),
        ([network, MODEL], "leave --model out"),
        ([network, "--input=8x8x1"], "leave --input out"),
        ([own, MODEL, "--input=8x8x1"], "leave --input out"),
    ):
        for verb in ("export", "inspect", "report", "analysis"):
            assert text in refused(verb, *arguments, *(["--force"] if verb == "export" else [])), arguments


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("own.py", "allowed is a function of a file or module: own.py:build"),
        ("none.py:build", "there is no file none.py, which --model names"),
        (f"{FILE}:own", r"unknown function of .*own.py 'own'; did you mean 'Own'\?"),
        ("no_such_module:build", "no_such_module: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_function_that_is_not_there_is_told(text, said):
    with pytest.raises(errors.InputError, match=said):
        sources.function(text)


def test_a_file_imports_what_lies_beside_it_and_its_fault_is_told_with_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = [*sys.path]
    (tmp_path / "beside_it.py").write_text("def build(rngs):\n    return 3\n")
    (tmp_path / "own.py").write_text("from beside_it import build\n")
    (tmp_path / "broken.py").write_text("\nimport json\n1 / 0\n")
    assert sources.function("own.py:build")(None) == 3
    assert sources.function("beside_it:build")(None) == 3
    with pytest.raises(errors.InputError, match=r"broken\.py, line 3: ZeroDivisionError: division by zero"):
        sources.function("broken.py:build")
    assert sys.path == before


def test_a_rule_of_ones_own_is_added_by_its_file(ssm, refused, tmp_path, monkeypatch):
    from ssm_jax import core

    monkeypatch.setattr(core, "RULES", dict(core.RULES))  # what a file adds is gone afterwards
    (tmp_path / "rules.py").write_text("from ssm_jax import core\ncore.RULES['mine'] = core.Signed\n")
    assert "there is no file none.py, which --rules names" in refused("inspect", tmp_path, "--rules=none.py")
    assert "holds no run" in refused("inspect", tmp_path, f"--rules={tmp_path / 'rules.py'}")
    assert core.RULES["mine"] is core.Signed
