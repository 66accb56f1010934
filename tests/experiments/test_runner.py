"""Experiments run: resumed, never repeated, added to; on a network that trains in a moment."""

import dataclasses

import pytest

from ssm_jax import errors
from ssm_jax.cli import configs as files
from ssm_jax.experiments import estimate, record, results, runner
from ssm_jax.experiments.plans import Setting
from ssm_jax.experiments.record import Experiment
from ssm_jax.runs.folder import RunFolder

KIND = Experiment(kind="rivals", shared={"network": "tiny"}, runs=())


def setting(name, variant=""):
    config = f"tiny.py:{variant}" if variant else "tiny.py"
    return Setting(name=name, config=config, overrides={}, labels={"rule": name})


SIGNED, DENSE, DIVERGING = setting("signed"), setting("dense", "dense"), setting("diverging", "diverging")


@pytest.fixture(scope="module")
def prepare(configs):
    def prepare(workdir, settings, seeds=1, plan=False, **overrides):
        return runner.prepare(
            KIND,
            settings,
            seeds=seeds,
            overrides={name.replace("_", ".", 1): value for name, value in overrides.items()},
            workdir=workdir,
            load=lambda spec: files.load(str(configs / spec)),
            plan=plan,
        )

    return prepare


@pytest.fixture(scope="module")
def done(prepare, tmp_path_factory):
    """A folder in which `signed` has two seeds."""
    workdir = tmp_path_factory.mktemp("experiment") / "runs"
    runner.run(KIND, prepare(workdir, [SIGNED], seeds=2), workdir)
    return workdir


def test_a_run_has_a_folder_of_its_own(done):
    experiment, runs = results.finished(done)
    assert experiment == dataclasses.replace(KIND, runs=tuple(run for run, _ in runs))
    ((run, summary),) = runs
    assert (run.name, summary.seeds) == ("signed", (0, 1))
    assert summary == RunFolder(done / "signed").read_summary()
    assert summary.config.model.width == 0.1


def test_a_finished_run_is_never_repeated(done, prepare, capsys, monkeypatch):
    monkeypatch.setattr(runner, "train_and_evaluate", lambda *_: pytest.fail("it trains"))
    for seeds in (1, 2):
        jobs = prepare(done, [SIGNED], seeds=seeds)
        assert [job.summary is not None for job in jobs] == [True]
        runner.run(KIND, jobs, done)
    assert capsys.readouterr().out == ""


def test_settings_and_seeds_are_added_and_only_they_are_trained(done, prepare, capsys, monkeypatch):
    trained = []

    def train(config, folder):
        trained.append((folder.name, config.mask.rule, config.seed, config.seeds))
        raise errors.RunError("not now")

    monkeypatch.setattr(runner, "train_and_evaluate", train)
    jobs = prepare(done, [SIGNED, DENSE], seeds=3)
    before = record.read(done)
    with pytest.raises(errors.RunError, match="2 of 3 runs failed: signed-seeds-2-2, dense"):
        runner.run(KIND, jobs, done)
    assert trained == [("signed-seeds-2-2", "signed", 2, 1), ("dense", "dense", 0, 3)]
    said = capsys.readouterr()
    assert "run 2 of 3: signed, seed 2; about" in said.out
    assert "run 3 of 3: dense, seeds 0 to 2; about" in said.out
    assert "run 2 of 3, signed-seeds-2-2, failed: not now" in said.err
    assert [run.name for run in record.read(done).runs] == ["signed", "signed-seeds-2-2", "dense"]
    record.write(done, before)


def test_a_failed_run_does_not_stop_the_others(prepare, tmp_path, capsys):
    jobs = prepare(tmp_path, [DIVERGING, DENSE])
    with pytest.raises(errors.RunError, match="1 of 2 runs failed: diverging"):
        runner.run(KIND, jobs, tmp_path)
    assert "is not finite at step" in capsys.readouterr().err
    assert [run.name for run, _ in results.finished(tmp_path)[1]] == ["dense"]


def test_a_run_without_data_is_named_before_any_starts_and_the_others_run(prepare, tmp_path, capsys):
    absent = dataclasses.replace(setting("absent"), overrides={"data.name": str(tmp_path / "no.npz")})
    jobs = prepare(tmp_path / "runs", [absent, DENSE])
    said = capsys.readouterr().err
    assert "absent is left out: " in said and "no.npz" in said
    with pytest.raises(errors.RunError, match="1 of 2 runs failed: absent"):
        runner.run(KIND, jobs, tmp_path / "runs")
    assert [run.name for run, _ in results.finished(tmp_path / "runs")[1]] == ["dense"]
    with pytest.raises(errors.InputError, match=r"no\.npz"):  # nothing is left to run
        prepare(tmp_path / "runs", [absent, DENSE])


def test_a_stop_ends_the_experiment_and_the_next_start_goes_on(prepare, tmp_path, monkeypatch):
    def stop(config, folder):
        raise errors.Preempted("stopped", 15)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "train_and_evaluate", stop)
        with pytest.raises(errors.Preempted):
            runner.run(KIND, prepare(tmp_path, [SIGNED, DENSE]), tmp_path)
    assert [run.name for run in record.read(tmp_path).runs] == ["signed"]
    runner.run(KIND, prepare(tmp_path, [SIGNED]), tmp_path)
    assert len(results.finished(tmp_path)[1]) == 1


@pytest.mark.parametrize(
    ("settings", "overrides", "message"),
    [
        ([setting("no", "no")], {}, "unknown variant 'no'"),
        ([SIGNED], {"training_epoch": "3"}, "did you mean 'training.epochs'?"),
        ([SIGNED], {"training_epochs": "many"}, "must be of type int"),
        ([SIGNED], {"training_epochs": "0"}, "signed: config.training.epochs is 0; allowed is at least 1"),
        ([SIGNED], {"mask_rule": "sined"}, "did you mean 'signed'?"),
        ([SIGNED], {"data_name": "digit"}, "did you mean 'digits'?"),
        ([SIGNED], {"seed": "3"}, "the seeds of an experiment are --seeds"),
        (
            [dataclasses.replace(SIGNED, overrides={"seed": "1"})],
            {"seed": "3"},
            "this experiment sets itself",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(prepare, tmp_path, settings, overrides, message):
    with pytest.raises(errors.InputError) as refused:
        prepare(tmp_path / "new", settings, **overrides)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_no_seeds_are_refused(prepare, tmp_path):
    with pytest.raises(errors.InputError, match="--seeds is 0; allowed is at least 1"):
        prepare(tmp_path, [SIGNED], seeds=0)


def test_a_run_of_another_config_is_refused(done, prepare):
    with pytest.raises(errors.InputError, match=r"training.epochs: 3 requested, nothing"):
        prepare(done, [SIGNED], training_epochs="3")
    # The same name and file, but the file has changed since.
    path = done / "signed" / "run.json"
    text = path.read_text()
    path.write_text(text.replace('"learning_rate": 0.05', '"learning_rate": 0.5'))
    try:
        with pytest.raises(errors.InputError, match=r"learning_rate: 0.05 requested, 0.5 stored"):
            prepare(done, [SIGNED])
    finally:
        path.write_text(text)


def test_a_plan_tells_its_time_by_finished_runs(done, prepare):
    first, second, total = runner.describe(prepare(done, [SIGNED, DENSE], seeds=2)).splitlines()
    assert first == "run 1 of 2: signed (tiny.py), 2 epochs, seeds 0 to 1: finished"
    assert second.startswith("run 2 of 2: dense (tiny.py:dense), 2 epochs, seeds 0 to 1: about ")
    assert second.endswith("by finished runs") and total.startswith("in all: about ")


def test_a_plan_without_finished_runs_times_steps_once_per_network(prepare, tmp_path, monkeypatch):
    timed = []

    def time(self, config):
        timed.append(config.mask.rule)
        self.measured[estimate.task_of(config)] = 1.0

    monkeypatch.setattr(estimate.Speeds, "time", time)
    jobs = prepare(tmp_path / "new", [SIGNED, DENSE, setting("best", "best")], training_epochs="100")
    *lines, total = runner.describe(jobs).splitlines()
    assert timed == ["signed", "dense"]
    assert all(line.endswith("by some steps, timed now") for line in lines)
    # 100 epochs of 23 steps of a second each, and after each an evaluation of 360 images.
    assert "training.epochs=100), 100 epochs, seed 0: about 41 min" in lines[0]
    assert total == "in all: about 2.1 h of training"
    assert not (tmp_path / "new").exists()


def test_what_is_trained_already_is_not_counted(prepare, tmp_path):
    (job,) = prepare(tmp_path, [SIGNED])
    speeds = estimate.Speeds({estimate.task_of(job.config): 1.0})
    whole = job.seconds(speeds)
    (tmp_path / "signed").mkdir()
    line = '{"epoch": 1, "step": 23, "seed": 0, "time": 1.0}\n'
    (tmp_path / "signed" / "metrics.jsonl").write_text(line)
    assert job.seconds(speeds) == pytest.approx(whole / 2)


def test_a_plan_needs_no_data(prepare, tmp_path):
    other = {"data_name": "mnist", "data_dir": str(tmp_path / "none")}
    jobs = prepare(tmp_path / "runs", [SIGNED], plan=True, **other)
    assert runner.describe(jobs).endswith("2 epochs, seed 0: no estimate, mnist is not at hand")
    assert not list(tmp_path.iterdir())
