"""Config files and the folders of their runs."""

import pathlib
import sys

import pytest

from ssm_jax import errors
from ssm_jax.cli import configs


@pytest.mark.parametrize(
    ("config", "workdir"),
    [
        ("configs/conv8.py", "runs/conv8"),
        ("configs/conv8.py:dense", "runs/conv8-dense"),
        ("a/b/c.py", "runs/c"),
    ],
)
def test_the_default_workdir(config, workdir):
    assert configs.default_workdir(config) == workdir


def test_a_name_is_a_config_of_ours_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _, variant = configs.find("conv8:best").partition(":")
    assert variant == "best" and configs.load(configs.find("conv8:best")).model.name == "conv8"
    assert pathlib.Path(path).resolve().name == "conv8.py"
    with pytest.raises(errors.InputError, match="unknown config 'conv9'; did you mean 'conv"):
        configs.find("conv9")


def test_a_file_that_is_not_there_names_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text("def get_config(): ...")
    (tmp_path / "own" / "mole.py").write_text("")  # no config
    assert configs.find("own/mine.py:dense") == "own/mine.py:dense"
    for given, nearest in (("own/mime.py", "own/mine.py"), ("none/conv8.py", "allowed: conv2")):
        with pytest.raises(errors.InputError, match=nearest):
            configs.find(given)


def test_the_list_has_a_line_for_every_config(ssm):
    status, out, err = ssm("configs")
    assert status == 0 and err == ""
    assert [line.split()[0] for line in out.splitlines()] == configs.names(configs.FOLDER)
    assert "Conv8 on CIFAR-10" in out


def test_a_file_may_import_others_of_its_folder(tmp_path, monkeypatch):
    (tmp_path / "some_configs").mkdir()
    (tmp_path / "some_configs" / "shared.py").write_text("SEED = 3\n")
    (tmp_path / "some_configs" / "own.py").write_text(
        "from some_configs import shared\nfrom ssm_jax import config\n"
        "def get_config():\n    made = config.default()\n    made.seed = shared.SEED\n    return made\n"
    )
    before = list(sys.path)
    monkeypatch.chdir(tmp_path / "some_configs")
    assert configs.load("own.py").seed == configs.load(str(tmp_path / "some_configs" / "own.py")).seed == 3
    assert sys.path == before


def test_a_file_without_get_config_is_no_config_file(tmp_path):
    (tmp_path / "own.py").write_text("DENSE = {}\n")
    with pytest.raises(errors.InputError) as caught:
        configs.load(str(tmp_path / "own.py"))
    assert str(caught.value).startswith(f"{tmp_path / 'own.py'} has no get_config()")


def test_whatever_a_config_raises_is_one_line(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("class Stop(BaseException): ...\n\ndef get_config():\n    raise Stop('no\\nmore')\n")
    with pytest.raises(errors.InputError, match=r"own\.py, line 4: Stop: no$"):
        configs.load(str(path))


def test_a_config_knows_what_a_dense_network_gets_under_its_main_settings_alone():
    path = configs.find("digits")
    config = configs.load(path)
    config.seeds = 3
    assert "results/single/digits-dense.json" in configs.dense(path, config)
    config.training.epochs = 3
    assert configs.dense(path, config) is None
    assert configs.dense(f"{path}:dense", configs.load(path)) is None
    assert configs.dense(configs.find("conv2"), configs.load(configs.find("conv2"))) is None
