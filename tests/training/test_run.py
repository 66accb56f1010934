import json
import os
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from flax import nnx
from hostile import hostile

import ssm_jax
from ssm_jax import config as configuration
from ssm_jax.nn.products import library
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.metrics import read_metrics
from ssm_jax.runs.summary import Failure
from ssm_jax.training import run as training
from ssm_jax.training.programs import CompiledSteps


def small(**overrides):
    """FCN of 30 and 10 units on digits, two epochs of 23 steps."""
    config = configuration.default()
    values = {
        "data.name": "digits",
        "model.width": 0.1,
        "training.epochs": 2,
        "training.batch_size": 64,
        "compilation_cache": "",
    }
    config.update_from_flattened_dict(values | overrides)
    return config


class Recorder:
    """What takes metrics for another program, as Weights & Biases or MLflow."""

    def __init__(self):
        self.lines = []

    def write(self, lines):
        self.lines += lines


RECORDER = Recorder()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, ssm_jax.train_and_evaluate(small(), workdir, writers=[RECORDER])


def test_other_programs_are_given_what_the_file_holds(finished):
    workdir, _ = finished
    assert RECORDER.lines == read_metrics(workdir / "metrics.jsonl")


def test_a_run_leaves_a_complete_summary(finished):
    workdir, summary = finished
    assert summary == RunFolder(workdir).read_summary()
    assert summary.network == "fcn" and summary.dataset == "digits" and summary.method == "signed"
    assert summary.weights == 64 * 30 + 30 * 10 + 10 * 10
    assert summary.seeds == (0,) and summary.epochs == 2 and summary.steps == 46
    assert summary.failed_seeds == summary.emptied_layers == ()
    for numbers in (summary.test_accuracy, summary.remaining_weights):
        assert len(numbers.values) == 1
    assert 10 < summary.test_accuracy.mean <= 100
    assert 0 < summary.remaining_weights.mean < 1
    assert summary.train_seconds > 0 and summary.compile_seconds > 0
    assert summary.images_per_second == pytest.approx(46 * 64 / summary.train_seconds)
    assert summary.device == jax.devices()[0].device_kind
    assert summary.device_count == jax.device_count()
    assert {"python", "jax", "jaxlib", "flax", "optax", "ssm_jax"} <= set(summary.versions)
    assert summary.config == small()
    for layer in summary.layers:
        assert layer.inverted + layer.hidden + layer.kept == pytest.approx(1)


def test_the_summary_is_of_the_last_step(finished):
    workdir, summary = finished
    lines = read_metrics(workdir / "metrics.jsonl")
    assert [(line["epoch"], line["seed"], line["step"]) for line in lines] == [(1, 0, 23), (2, 0, 46)]
    assert summary.test_accuracy.values == (lines[-1]["test_accuracy"],)
    assert summary.remaining_weights.values == (lines[-1]["remaining_weights"],)


def test_the_summary_agrees_with_the_restored_network(finished):
    workdir, summary = finished
    masks = ssm_jax.restore(workdir).masks
    hidden = sum((mask == 0).sum() for mask in masks.values()) / sum(mask.size for mask in masks.values())
    assert summary.remaining_weights.mean == pytest.approx(1 - hidden)


@pytest.mark.slow
def test_the_settings_of_jax_change_nothing(finished, tmp_path):
    with hostile():
        summary = ssm_jax.train_and_evaluate(small(), tmp_path / "run")
        masks = ssm_jax.restore(tmp_path / "run").masks
    assert summary.test_accuracy == finished[1].test_accuracy
    for path, mask in ssm_jax.restore(finished[0]).masks.items():
        np.testing.assert_array_equal(masks[path], mask)


def test_a_finished_run_prints_its_table_again_and_trains_nothing(finished, capsys, monkeypatch):
    workdir, summary = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(training.datasets, "load", lambda *_, **__: pytest.fail("data loaded"))
    again = ssm_jax.train_and_evaluate(small(), workdir)
    assert again == summary
    said = capsys.readouterr().out
    assert (
        "denses/0" in said
        and f"ssm_jax.restore({str(workdir)!r}).logits(images)" in said
        and "tensorboard" in said
    )
    assert f"ssm-jax export {workdir}\n" in said and f"ssm-jax report {workdir}\n" in said
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_needs_no_folder_that_can_be_written_to(finished, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert ssm_jax.train_and_evaluate(small(), finished[0]) == finished[1]
    assert "test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("overrides", [{}, {"optimizer.learning_rate": 1e-4}], ids=["same", "other"])
def test_a_run_that_ended_while_another_loaded_its_data_stays(finished, tmp_path, monkeypatch, overrides):
    workdir, load = tmp_path / "run", training.datasets.load

    def slow(*arguments, **options):
        shutil.copytree(finished[0], workdir)
        return load(*arguments, **options)

    monkeypatch.setattr(training.datasets, "load", slow)
    with pytest.raises(ssm_jax.InputError, match="another run has used the workdir"):
        ssm_jax.train_and_evaluate(small(**overrides), workdir)
    for name in ("run.json", "summary.json", "metrics.jsonl"):
        assert (workdir / name).read_bytes() == (finished[0] / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("lock", [False, True], ids=["folder", "lock"])
def test_a_workdir_that_is_moved_while_it_runs_ends_the_run(tmp_path, monkeypatch, lock):
    workdir, train = tmp_path / "run", CompiledSteps.train

    def moving(self, *arguments):
        if lock:
            (workdir / ".lock").unlink(missing_ok=True)
        elif workdir.exists():
            workdir.rename(tmp_path / "moved")
        return train(self, *arguments)

    monkeypatch.setattr(CompiledSteps, "train", moving)
    with pytest.raises(ssm_jax.RunError, match="was deleted, moved or replaced"):
        ssm_jax.train_and_evaluate(small(), workdir)
    if lock:
        assert not (workdir / "metrics.jsonl").exists() and not (workdir / "summary.json").exists()
    else:
        assert not workdir.exists() and (tmp_path / "moved" / "run.json").exists()


def test_a_workdir_of_another_config_is_refused_by_the_fields_that_differ(finished):
    workdir, _ = finished
    with pytest.raises(ssm_jax.InputError, match=r"optimizer.learning_rate: 0.1 requested, 0.05 stored"):
        ssm_jax.train_and_evaluate(small(**{"optimizer.learning_rate": 0.1}), workdir)
    other = small(
        **{"logging.eval_every_epochs": 2, "checkpoint.save_every_seconds": 1.0, "training.steps_per_call": 1}
    )
    ssm_jax.train_and_evaluate(other, workdir)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.name": "conv9"}, "did you mean 'conv"),
        ({"model.name": "conv8"}, "8x8 are too small for conv8"),
        ({"data.name": "digit"}, "did you mean 'digits'"),
        ({"training.batch_size": 12, "parallel": "data"}, "12 does not divide by 8 devices"),
        ({"checkpoint.best": True}, "needs a validation split"),
        ({"training.batch_size": 1440}, "batch_size is 1440; allowed is at most 1437"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, overrides, message):
    with pytest.raises(ssm_jax.InputError, match=message):
        ssm_jax.train_and_evaluate(small(**overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_bucket_is_no_workdir():
    with pytest.raises(ssm_jax.InputError, match="'gs://bucket/run' is no path"):
        ssm_jax.train_and_evaluate(small(), "gs://bucket/run")


def test_seeds_are_trained_together_and_reported_one_by_one(tmp_path):
    summary = ssm_jax.train_and_evaluate(small(seed=3, seeds=3), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert summary.seeds == (3, 4, 5)
    assert sorted({line["seed"] for line in lines}) == [3, 4, 5] and len(lines) == 6
    assert len(set(summary.test_accuracy.values)) > 1
    assert summary.test_accuracy.std == pytest.approx(np.std(summary.test_accuracy.values, ddof=1))
    assert ssm_jax.restore(tmp_path, seed=5).seed == 5


@pytest.mark.slow
def test_seeds_in_several_groups_give_what_one_group_gives(tmp_path):
    beside = small(seeds=3, parallel="data", **{"training.seeds_per_device": 3})
    together = ssm_jax.train_and_evaluate(beside, tmp_path / "one")
    config = small(seeds=3, parallel="data", **{"training.seeds_per_device": 1})
    apart = ssm_jax.train_and_evaluate(config, tmp_path / "three")
    assert apart.seeds == together.seeds
    np.testing.assert_allclose(apart.remaining_weights.values, together.remaining_weights.values, atol=5e-3)
    assert sorted(path.name for path in (tmp_path / "three" / "checkpoints").iterdir()) == ["0", "1", "2"]


def test_a_loss_that_is_not_finite_names_step_and_metric(tmp_path):
    config = small(**{"optimizer.learning_rate": 1e30, "mask.rule": "dense"})
    with pytest.raises(ssm_jax.RunError, match=r"(loss|gradient norm) is not finite at step \d+ \(epoch 1\)"):
        ssm_jax.train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.slow
def test_a_failed_seed_is_listed_and_the_others_finish_as_they_would_have(tmp_path, monkeypatch):
    healthy = ssm_jax.train_and_evaluate(small(seeds=3), tmp_path / "healthy")
    initialize = CompiledSteps.initialize

    def poisoned(self, seeds):
        state, frozen = (self.layout.gather(tree) for tree in initialize(self, seeds))
        for kernel in jax.tree.leaves(frozen):
            kernel[1] = np.nan if kernel.dtype == np.float32 else kernel[1]
        return self.layout.place(state), self.layout.place(frozen)

    monkeypatch.setattr(CompiledSteps, "initialize", poisoned)
    summary = ssm_jax.train_and_evaluate(small(seeds=3), tmp_path / "poisoned")
    assert summary.failed_seeds == (Failure(seed=1, step=0, metric="loss"),)
    assert summary.seeds == (0, 2)
    values = healthy.test_accuracy.values
    assert summary.test_accuracy.values == (values[0], values[2])
    lines = read_metrics(tmp_path / "poisoned" / "metrics.jsonl")
    assert {line["seed"] for line in lines} == {0, 2}


def test_seeds_that_all_failed_are_not_trained_again(tmp_path, monkeypatch):
    config = small(seeds=2, **{"optimizer.learning_rate": 1e30, "mask.rule": "dense"})
    with pytest.raises(ssm_jax.RunError, match="every seed failed") as first:
        ssm_jax.train_and_evaluate(config, tmp_path)
    monkeypatch.setattr(CompiledSteps, "train", None)
    with pytest.raises(ssm_jax.RunError) as second:
        ssm_jax.train_and_evaluate(config, tmp_path)
    assert str(second.value) == str(first.value)


class Own(nnx.Module):
    """A network of a user: our layers beside Flax's."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = ssm_jax.Conv(1, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, axis_name=ssm_jax.BATCH_AXIS, rngs=rngs)
        self.dense = ssm_jax.Dense(4 * 16, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = ssm_jax.max_pool(nnx.elu(self.norm(self.conv(images))), 2, 2)
        return self.dense(hidden.reshape(len(images), -1))


def test_a_network_of_the_users_own_trains_and_comes_back(tmp_path, capsys):
    config = small(**{"training.epochs": 1, "logging.eval_every_epochs": 1})
    summary = ssm_jax.train_and_evaluate(config, tmp_path, model=Own)
    said = capsys.readouterr().out
    assert f"ssm_jax.restore({str(tmp_path)!r}, model=...).logits(images)" in said
    assert f"ssm-jax export {tmp_path} --model=FILE.py:Own" in said and "same scores" not in said
    assert summary.network == "Own" and summary.weights == 9 * 4 + 640
    with pytest.raises(ssm_jax.InputError, match="pass the same `model`"):
        ssm_jax.restore(tmp_path)
    trained = ssm_jax.restore(tmp_path, model=Own)
    assert set(trained.masks) == {"conv", "dense"}
    assert not np.array_equal(trained.model.norm.mean[...], jnp.zeros(4))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda rngs: ssm_jax.Dense(64, 5, rngs=rngs),
            r"can't take images \[B, 8, 8, 1\]|gives \[B, 8, 8, 5\]",
        ),
        (lambda rngs: Flat(64, 5, rngs), r"gives \[B, 5\]; the dataset needs logits \[B, 10\]"),
        (lambda rngs: Flat(60, 10, rngs), r"can't take images \[B, 8, 8, 1\]"),
        (lambda: None, "can't be built"),
        (nnx.Linear(64, 10, rngs=nnx.Rngs(0)), "model is a Linear; give the function that builds it"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(tmp_path, model, message):
    with pytest.raises(ssm_jax.InputError, match=message):
        ssm_jax.train_and_evaluate(small(), tmp_path / "run", model=model)
    assert not (tmp_path / "run").exists()


class Flat(nnx.Module):
    """One dense layer on the flattened image."""

    def __init__(self, features: int, classes: int, rngs: nnx.Rngs) -> None:
        self.dense = ssm_jax.Dense(features, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.dense(images.reshape(len(images), -1))


def test_a_finished_run_of_another_network_is_refused(finished):
    with pytest.raises(ssm_jax.InputError, match="model: Own requested, None stored"):
        ssm_jax.train_and_evaluate(small(), finished[0], model=Own)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    with pytest.raises(ssm_jax.InputError, match="holds tensorboard of something else"):
        ssm_jax.train_and_evaluate(small(), tmp_path)
    assert (tmp_path / "tensorboard").is_dir()


def test_a_full_device_is_a_run_error_that_says_what_to_lower(tmp_path, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr(CompiledSteps, "initialize", full)
    with pytest.raises(ssm_jax.RunError, match="seeds_per_device"):
        ssm_jax.train_and_evaluate(small(), tmp_path)


@pytest.mark.parametrize("own_draw", [True, False])
def test_a_model_whose_scores_no_seed_decides_is_told(tmp_path, capsys, own_draw):
    def build(rngs):
        net = nnx.Sequential(lambda images: images.reshape(len(images), -1), nnx.Linear(64, 10, rngs=rngs))
        return ssm_jax.supermask(net, rngs=rngs) if own_draw else ssm_jax.supermask(net)

    config = small()
    config.mask.density = 0.3
    ssm_jax.train_and_evaluate(config, tmp_path, model=build)
    said = capsys.readouterr().out
    assert ("all seeds begin with the same scores" in said) != own_draw
    assert re.search(r"warning: a model of your own does not take .*mask\.density", said)


def test_a_network_without_our_layers_is_refused(tmp_path):
    with pytest.raises(ssm_jax.InputError, match="nothing can be masked"):
        ssm_jax.train_and_evaluate(
            small(), tmp_path / "run", model=lambda rngs: nnx.Linear(64, 10, rngs=rngs)
        )


def test_the_best_validation_state_is_kept_beside_the_latest(tmp_path):
    config = small(**{"checkpoint.best": True, "data.validation": 0.2, "training.epochs": 4})
    ssm_jax.train_and_evaluate(config, tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    best = max(lines, key=lambda line: line["validation_accuracy"])
    assert ssm_jax.restore(tmp_path, best=True).step == best["step"]
    assert ssm_jax.restore(tmp_path).step == lines[-1]["step"]


@pytest.mark.slow
def test_a_profile_can_be_written(tmp_path):
    ssm_jax.train_and_evaluate(small(profile=True, **{"training.epochs": 1}), tmp_path)
    assert list((tmp_path / "profile").rglob("perfetto_trace.json.gz"))


@pytest.fixture
def copy(finished, tmp_path):
    """The finished run, to be damaged."""
    return pathlib.Path(shutil.copytree(finished[0], tmp_path / "run"))


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("text", ["{", None], ids=["torn", "of another format"])
def test_a_damaged_summary_is_made_again(copy, finished, capsys, text):
    path = copy / "summary.json"
    if text is None:
        change(path, format=0)
    else:
        path.write_text(text)
    metrics = (copy / "metrics.jsonl").read_bytes()
    summary = ssm_jax.train_and_evaluate(small(), copy)
    said = capsys.readouterr().out
    assert str(path) in said and "made again" in said and "epoch 1/2" not in said
    for name in ("test_accuracy", "remaining_weights", "layers", "seeds", "steps", "train_seconds"):
        assert getattr(summary, name) == getattr(finished[1], name)
    assert RunFolder(copy).read_summary() == summary
    assert (copy / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, "its format is 2, of a newer version of ssm_jax"),
        ({"dataset": "mnist"}, r"of another run than run\.json \(dataset\)"),
        ({"seeds": [7]}, r"of another run than run\.json \(seeds\)"),
        (
            {"config": small(**{"mask.threshold": 0.3}).to_dict()},
            r"of another run than run\.json \(mask\.threshold\)",
        ),
    ],
    ids=["newer", "dataset", "seeds", "config"],
)
def test_a_sound_summary_that_is_not_of_this_run_is_refused_and_stays(copy, values, message):
    path = copy / "summary.json"
    change(path, **values)
    before = path.read_bytes()
    with pytest.raises(ssm_jax.InputError, match=message) as caught:
        ssm_jax.train_and_evaluate(small(), copy)
    assert "\n" not in str(caught.value) and path.read_bytes() == before


def test_a_summary_of_other_neutral_settings_is_of_this_run(copy):
    change(copy / "summary.json", config=small(**{"logging.eval_every_epochs": 2}).to_dict())
    assert ssm_jax.train_and_evaluate(small(), copy).config.logging.eval_every_epochs == 2


def test_a_damaged_record_is_named_and_nothing_is_touched(copy):
    (copy / "run.json").write_text("{")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ssm_jax.InputError, match=r"run\.json is damaged") as caught:
        ssm_jax.train_and_evaluate(small(), copy)
    assert "delete" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_a_run_from_before_formats_were_numbered_is_refused(copy):
    values = json.loads((copy / "run.json").read_text())
    del values["format"]
    (copy / "run.json").write_text(json.dumps(values))
    with pytest.raises(ssm_jax.InputError, match="as in an early version of ssm_jax"):
        ssm_jax.train_and_evaluate(small(), copy)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": 9}, r"classes is 10, and 9 stored"),
        ({"image_shape": [8, 9, 1]}, r"image_shape is \(8, 8, 1\), and \(8, 9, 1\) stored"),
        ({"examples": 9}, r"examples is 1437, and 9 stored"),
        ({"dataset_version": "0.9"}, r"dataset_version is '1.0.0', and '0.9' stored"),
    ],
)
def test_data_that_contradict_the_record(copy, values, message):
    change(copy / "run.json", **values)
    (copy / "summary.json").unlink()
    with pytest.raises(ssm_jax.InputError, match=message):
        ssm_jax.train_and_evaluate(small(), copy)


def test_a_setting_of_jax_that_changes_rounding_is_that_of_the_run(copy):
    (copy / "summary.json").unlink()
    with (
        jax.default_matmul_precision("highest"),
        pytest.raises(ssm_jax.InputError, match="JAX_DEFAULT_MATMUL_PRECISION is highest, and was unset"),
    ):
        ssm_jax.train_and_evaluate(small(), copy)
    assert not (copy / "summary.json").exists()


def test_a_run_that_knew_fewer_settings_goes_on(copy):
    values = json.loads((copy / "run.json").read_text())["config"]
    del values["schedule"], values["mask"]["threshold"], values["profile"]
    record = json.loads((copy / "run.json").read_text()) | {"config": values}
    del record["jax_settings"]
    (copy / "run.json").write_text(json.dumps(record))
    (copy / "summary.json").unlink()
    ssm_jax.train_and_evaluate(small(), copy)
    with pytest.raises(ssm_jax.InputError, match=r"mask.threshold: 0.3 requested, 0.4 stored"):
        ssm_jax.train_and_evaluate(small(**{"mask.threshold": 0.3}), copy)


@pytest.mark.parametrize(
    "overrides",
    [
        {"training.epochs": 2**31 // 23 + 1},
        {"seeds": 10**5, "training.epochs": 10**3},
        {"training.epochs": 10**18},
    ],
)
def test_more_steps_than_can_be_counted_are_refused_before_anything_starts(tmp_path, overrides):
    config = small(**overrides)
    with pytest.raises(ssm_jax.InputError, match="allowed is at most 2,147,483,647"):
        ssm_jax.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_mask_that_hides_everything_is_said_in_the_table_and_the_summary(tmp_path, capsys):
    summary = ssm_jax.train_and_evaluate(small(**{"optimizer.weight_decay": 0.9}), tmp_path)
    assert "the mask hides every weight" in capsys.readouterr().out
    assert [emptied.seed for emptied in summary.emptied_layers] == [0]
    assert RunFolder(tmp_path).read_summary().emptied_layers == summary.emptied_layers


@pytest.mark.slow
def test_a_run_says_which_products_it_has_and_whether_they_change(tmp_path, capsys, monkeypatch):
    def fail() -> None:
        raise ssm_jax.errors.InputError("a C++ compiler is needed; there is none")

    monkeypatch.setattr(library, "register", fail)
    folder = RunFolder(tmp_path)
    ssm_jax.train_and_evaluate(small(), tmp_path)
    said = capsys.readouterr().out
    assert said.count("products are dense, XLA's: a C++ compiler is needed; there is none") == 1
    assert "float32, dense products, on 8 x cpu" in said
    record = json.loads(folder.record_path.read_text())
    assert record["products"] == "dense"
    # As an earlier version left it; and as it was where there are others.
    folder.record_path.write_text(json.dumps({k: v for k, v in record.items() if k != "products"}))
    assert folder.read_record().products == "dense"
    folder.record_path.write_text(json.dumps(record | {"products": "sparse"}))
    folder.summary_path.unlink()
    capsys.readouterr()
    ssm_jax.train_and_evaluate(small(), tmp_path)
    assert "products are dense, and were sparse when the run began" in capsys.readouterr().out


@pytest.mark.slow
def test_it_learns_the_digits_with_few_weights(tmp_path):
    # A third of the config's epochs, and more decay for that, which hides the weights.
    shorter = ["--config.training.epochs=12", "--config.optimizer.weight_decay=5e-3"]
    digits = ["--config=configs/digits.py", *shorter]
    processes.run(tmp_path / "run", tmp_path / "cache", config=digits, devices=1)
    summary = RunFolder(tmp_path / "run").read_summary()
    assert summary.test_accuracy.mean >= 93
    assert summary.remaining_weights.mean <= 0.04
