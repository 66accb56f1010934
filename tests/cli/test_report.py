"""A page about runs."""

import re

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def test_a_run_becomes_one_page_in_its_folder(ssm, run_folder):
    status, out, err = ssm("report", run_folder)
    path = run_folder / "report.html"
    text = path.read_text()
    assert status == 0 and out == f"wrote {path}, {path.stat().st_size:,} bytes: open it in a browser\n"
    assert str(run_folder) in err.splitlines()[0] and "drawing" in err
    assert text.startswith("<!DOCTYPE html>") and not re.search(r'(?:src|href)="http', text)


def test_the_page_of_several_runs_lies_beside_them(ssm, run_folder, trained, tmp_path):
    other = tmp_path / "other"
    other.symlink_to(trained)
    status, out, _ = ssm("report", run_folder, other, "--seed=1")
    assert status == 0 and out.startswith(f"wrote {tmp_path / 'report.html'}, ")


def test_what_is_there_is_kept_without_force(ssm, refused, run_folder):
    path = run_folder / "report.html"
    path.write_text("before")
    assert f"{path} is there already" in refused("report", run_folder)
    assert "there is no file or folder none" in refused("report", run_folder, "none")
    assert path.read_text() == "before"
    assert ssm("report", run_folder, "--force")[0] == 0 and path.read_text() != "before"


def test_what_is_no_run_is_refused_in_one_line(refused, tmp_path, run_folder):
    (tmp_path / "empty").mkdir()
    output = f"--output={tmp_path / 'report.html'}"
    for arguments, text in (
        ([tmp_path / "none"], f"there is no file or folder {tmp_path / 'none'}"),
        ([run_folder / "run.json"], f"cannot use {run_folder / 'run.json'}"),
        ([tmp_path / "empty"], "holds no run"),
        ([run_folder, "--seed=7"], "seed 7"),
    ):
        assert text in refused("report", *arguments, output)
    assert not (tmp_path / "report.html").exists()
