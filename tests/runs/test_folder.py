"""What a run's folder holds, where it lies, and who may use it."""

import dataclasses
import json
import os
import shutil

import pytest

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.runs.folder import Record, RunFolder


def record(seed=3, seeds=7, seeds_per_group=3):
    config = configuration.override(configuration.default(), {"seed": seed, "seeds": seeds})
    return Record(
        network="fcn",
        model=None,
        dataset="digits",
        dataset_version="1.0.0",
        image_shape=(8, 8, 1),
        classes=10,
        examples=1437,
        seeds_per_group=seeds_per_group,
        config=config,
    )


def test_groups_are_the_seeds_in_order():
    assert list(map(list, record().groups())) == [[3, 4, 5], [6, 7, 8], [9]]
    for seed in record().seeds:
        assert seed in record().group(seed) and record().group(seed) in record().groups()
    for seed in (2, 10):
        with pytest.raises(errors.InputError, match=f"there is no seed {seed}: it has 3 to 9"):
            record().group(seed)
    with pytest.raises(errors.InputError, match="there is no seed 4: it has 3 alone"):
        record(seeds=1, seeds_per_group=1).group(4)


def test_settings_of_our_networks_are_no_settings_of_a_model_of_ones_own():
    ours, own = record(), dataclasses.replace(record(), model="Own")
    dropped = ours.settings().keys() - own.settings().keys()
    assert {"mask.density", "model.width", "init.elu_factor"} <= dropped
    assert {name.split(".")[0] for name in dropped} == {"mask", "model", "init"}


def test_every_group_has_checkpoints_of_its_own(tmp_path):
    folder = RunFolder(tmp_path)
    paths = {folder.checkpoints(group, which) for group in record().groups() for which in ("latest", "best")}
    assert len(paths) == 6
    assert folder.checkpoints(record().group(8), "best") == tmp_path / "checkpoints" / "6" / "best"


def test_a_record_comes_back(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_record() is None
    folder.write_record(record())
    assert folder.read_record() == record()
    long = dataclasses.replace(record(), image_shape=(1, 70000, 1))
    folder.write_record(long)
    assert folder.read_record() == long


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds_per_group": 0}, "seeds_per_group is 0; allowed is 1 to"),
        ({"seeds_per_group": -1}, "seeds_per_group is -1; allowed is 1 to"),
        ({"seeds_per_group": 2.5}, "seeds_per_group is 2.5; it must be an integer"),
        ({"seeds_per_group": 10**9}, "seeds_per_group is 1000000000; allowed is 1 to 7"),
        ({"image_shape": [8, 8]}, "image_shape is [8, 8]; it must be a list of 3"),
        ({"image_shape": [8, 8, 0]}, "image_shape[2] is 0; allowed is 1 to 2147483647"),
        ({"classes": "ten"}, "classes is 'ten'; it must be an integer"),
        ({"config": {"seeds": 2}}, "seeds_per_group is 3; allowed is 1 to 2"),
    ],
)
def test_a_record_that_cannot_be(tmp_path, change, message):
    folder = RunFolder(tmp_path)
    folder.write_record(record())
    folder.record_path.write_text(json.dumps(json.loads(folder.record_path.read_text()) | change))
    with pytest.raises(errors.InputError) as caught:
        folder.read_record()
    assert message in str(caught.value) and "run.json" in str(caught.value)


def test_a_full_disk_leaves_the_record_that_was_there(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_record(record())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(errors.RunError, match=r"cannot write .*run\.json: No space left on device"):
        folder.write_record(dataclasses.replace(record(), classes=9))
    assert folder.read_record() == record()
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_bucket_is_no_folder():
    with pytest.raises(errors.InputError, match="'gs://bucket/run' is no path"):
        RunFolder("gs://bucket/run")


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a\x1b[2Jb", os.fsdecode(b"a\xffb")])
def test_a_path_with_which_checkpoints_would_land_elsewhere_is_refused(tmp_path, monkeypatch, name):
    with pytest.raises(errors.InputError, match="choose another --workdir") as caught:
        RunFolder(tmp_path / name)
    assert str(caught.value).isprintable()
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(errors.InputError, match="choose another --workdir"):
        RunFolder("run")


def test_home_is_expanded_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder("~/run").path == tmp_path / "run"
    assert str(RunFolder("~nobody-of-this-name/run").path) == "~nobody-of-this-name/run"


def test_checking_makes_nothing(tmp_path):
    RunFolder(tmp_path / "a" / "b").check()
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    folder = RunFolder(tmp_path / "a" / "b")
    with pytest.raises(errors.InputError, match="a is not a writable folder"):
        folder.check()
    with pytest.raises(errors.InputError, match="cannot make the workdir"):
        folder.make()


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "tensorboard", "checkpoints", "masks"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(errors.InputError, match=f"holds {name} of something else"):
        RunFolder(tmp_path).check()


def test_a_folder_has_one_run_at_a_time(tmp_path):
    folder = RunFolder(tmp_path)
    with (
        folder.locked(),
        pytest.raises(errors.InputError, match="another run is using"),
        RunFolder(tmp_path).locked(),
    ):
        pass
    with folder.locked():
        pass


def test_a_lock_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with (
        pytest.raises(errors.InputError, match=r"cannot lock .*\.lock: not a regular file"),
        RunFolder(tmp_path).locked(),
    ):
        pass


def test_a_link_for_a_lock_leaves_what_it_points_to(tmp_path):
    (tmp_path / "precious").write_text("text")
    (tmp_path / ".lock").symlink_to("precious")
    with (
        pytest.raises(errors.InputError, match=r"cannot lock .*: it is a symbolic link"),
        RunFolder(tmp_path).locked(),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "text"


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "checkpoints/0/best", "masks/0"])
def test_a_link_through_which_a_run_would_write_is_refused(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    folder.make()
    folder.write_record(record())
    folder.check()
    link = folder.path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path)
    with pytest.raises(errors.InputError, match=f"{link} is a symbolic link"):
        folder.check()


def test_a_folder_that_is_moved_or_replaced_is_not_held_any_more(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.is_held()
    folder.make()
    with folder.locked():
        folder.write_record(record())
        folder.check_held()
        folder.path.rename(tmp_path / "moved")
        assert not folder.is_held()
        shutil.copytree(tmp_path / "moved", folder.path)
        with pytest.raises(errors.RunError, match="was deleted, moved or replaced"):
            folder.check_held()
        shutil.rmtree(folder.path)
        (tmp_path / "moved").rename(folder.path)
        folder.check_held()


def test_a_lock_that_is_deleted_is_noticed_by_whoever_holds_it(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    with first.locked():
        (tmp_path / ".lock").unlink()
        with second.locked():
            assert second.is_held() and not first.is_held()


def test_the_contents_tell_what_a_run_would_find(tmp_path):
    folder = RunFolder(tmp_path)
    seen = [folder.contents()]
    folder.write_record(record())
    seen.append(folder.contents())
    folder.checkpoints([0], "latest").joinpath("5").mkdir(parents=True)
    seen.append(folder.contents())
    folder.summary_path.write_text("{}")
    seen.append(folder.contents())
    assert len(set(seen)) == 4
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert RunFolder(tmp_path / "copy").contents() == seen[-1]


def test_what_a_killed_write_has_left_goes_and_nothing_else(tmp_path):
    kept = {".run.json.swp", f".model.ssm.{16 * 'a'}"}
    for name in (f".run.json.{16 * '0'}", f".metrics.jsonl.{16 * 'f'}", *kept):
        (tmp_path / name).write_text("")
    with RunFolder(tmp_path).locked():
        assert {path.name for path in tmp_path.iterdir()} == {".lock", *kept}


def test_a_finished_run_is_read_or_refused_in_one_line(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(errors.InputError, match=f"{tmp_path} holds no run: it has no run.json"):
        folder.read_finished()
    folder.write_record(record())
    assert folder.require_record().seeds == record().seeds
    with pytest.raises(errors.InputError, match=f"the run in {tmp_path} is not finished: give its command"):
        folder.read_finished()
    with pytest.raises(errors.InputError, match=r"run.json is a file; a run is given by its folder"):
        RunFolder(folder.record_path).require_record()
