"""Two real processes of two devices each, as two hosts."""

import time

import numpy as np
import processes
import pytest

from ssm_jax import errors
from ssm_jax.training import hosts

# 1,437 scans in batches of 72: 20 steps an epoch.
SETTINGS = ["--config.training.batch_size=72", "--config.training.steps_per_call=5"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def start_pair(workdir, cache, *flags):
    port = processes.free_port()
    return [
        processes.start(
            workdir,
            cache,
            *SETTINGS,
            *flags,
            f"--coordinator=127.0.0.1:{port}",
            "--processes=2",
            f"--process={i}",
        )
        for i in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--config.seeds=3",)], ids=["one batch for all", "seeds of its own"])
def test_two_hosts_train_what_one_host_trains_and_the_first_reports_it(tmp_path, cache, flags):
    flags = ("--config.training.epochs=1", *flags)
    processes.run(tmp_path / "one", cache, *SETTINGS, *flags, devices=4)
    ends = processes.finish(*start_pair(tmp_path / "two", cache, *flags))
    for status, _, error in ends:
        assert status == 0, error
    assert "test accuracy" in ends[0][1] and "epoch" not in ends[1][1]
    metrics = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert len(metrics[0]) == len(metrics[1])
    one, two = processes.arrays(tmp_path / "one"), processes.arrays(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_hosts_with_different_settings_say_so_and_leave_nothing(tmp_path, cache):
    workdir, port = tmp_path / "run", processes.free_port()
    pair = [
        processes.start(
            workdir,
            cache,
            f"--config.training.epochs={i + 1}",
            f"--coordinator=127.0.0.1:{port}",
            "--processes=2",
            f"--process={i}",
        )
        for i in range(2)
    ]
    for status, _, error in processes.finish(*pair):
        assert status == 2 and "not given the same config" in error
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        pytest.param("another", "is not shared by all hosts", marks=pytest.mark.slow),
        ("file/run", "another host could not start the run"),
    ],
)
def test_a_workdir_that_one_host_cannot_share_is_one_line_on_each(tmp_path, cache, second, message):
    (tmp_path / "file").write_text("")
    port = processes.free_port()
    pair = [
        processes.start(
            tmp_path / name, cache, f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={i}"
        )
        for i, name in enumerate(("one", second))
    ]
    ends = processes.finish(*pair)
    for status, _, error in ends:
        assert status == 2 and "Traceback" not in error and "error: " in error.splitlines()[-1]
    assert message in ends[0][2].splitlines()[-1]
    assert not list(tmp_path.glob("*/*.json*"))


def test_alone_an_error_is_what_it_was():
    with pytest.raises(KeyError), hosts.together():
        raise KeyError("a")


@pytest.mark.slow
def test_a_lost_host_ends_the_run_and_both_go_on_from_the_last_checkpoint(tmp_path, cache):
    flags = ("--config.training.epochs=10", "--config.checkpoint.save_every_seconds=0.3")
    workdir = tmp_path / "run"
    first, second = start_pair(workdir, cache, *flags, "--heartbeat=10")
    processes.wait_until(lambda: processes.latest(workdir) > 0, first)
    second.kill()
    lost = time.monotonic()
    (status, _, error), _ = processes.finish(first, second)
    assert "process 0 of 2: waiting for the others" in error
    assert status != 0 and time.monotonic() - lost < 200
    assert 0 < processes.latest(workdir) < 200
    for status, _, error in processes.finish(*start_pair(workdir, cache, *flags)):
        assert status == 0, error
    assert processes.latest(workdir) == 200


def test_the_three_settings_of_a_host_belong_together():
    with pytest.raises(errors.InputError, match="without --processes, --process"):
        hosts.join(coordinator="127.0.0.1:1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("127.0.0.1", 2, 0), "must be host:port"),
        (("127.0.0.1:65536", 2, 0), "must be host:port"),
        (("127.0.0.1:1", 2, 2), "it is 0 to 1"),
    ],
)
def test_settings_that_cannot_be_right(settings, message):
    with pytest.raises(errors.InputError, match=message):
        hosts.join(*settings)


SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_NODELIST": "node[01-04,07],other",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    "nodes", ["node1", "node1,node2", "node[01-04,07],other", "node[1]", "a-b.c[3-5]x", "10.0.0.1"]
)
def test_what_slurm_says_is_taken(nodes):
    hosts._check_slurm(SLURM | {"SLURM_STEP_NODELIST": nodes})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SLURM_JOB_ID", "x", "SLURM_JOB_ID is 'x'; allowed is a number"),
        ("SLURM_NTASKS", "", "SLURM_NTASKS is ''; allowed is a number"),
        ("SLURM_NTASKS", "2.5", "SLURM_NTASKS is '2.5'; allowed is a number"),
        ("SLURM_PROCID", "-1", "SLURM_PROCID is '-1'; allowed is a number"),
        ("SLURM_PROCID", "2", "SLURM_PROCID is 2 and SLURM_NTASKS 2"),
        ("SLURM_LOCALID", "one", "SLURM_LOCALID is 'one'; allowed is a number"),
        ("SLURM_STEP_NODELIST", "", "SLURM_STEP_NODELIST is ''; allowed is a list of nodes"),
        ("SLURM_STEP_NODELIST", "node[x", r"SLURM_STEP_NODELIST is 'node\[x'; allowed is a list of nodes"),
        ("SLURM_STEP_NODELIST", "(null)", r"SLURM_STEP_NODELIST is '\(null\)'; allowed is a list of nodes"),
    ],
)
def test_what_slurm_says_and_cannot_be_right(monkeypatch, name, value, message):
    for variable, text in (SLURM | {name: value}).items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(errors.InputError, match=message):
        hosts.join()


def test_one_host_decides_alone():
    assert hosts.any_host(True, False) == (True, False)
