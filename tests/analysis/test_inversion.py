"""Which runs are compared, and what their difference is."""

import dataclasses

import pytest

from ssm_jax.analysis.findings import RunReport
from ssm_jax.analysis.inversion import differences
from ssm_jax.analysis.masks import ByLayer, Shares
from ssm_jax.runs.summary import Statistics


def run(name, rule, inverted, remaining, *accuracies, **changes):
    made = RunReport(
        name=name,
        network="fcn",
        dataset="mnist",
        rule=rule,
        settings={"mask.rule": rule, "seeds": len(accuracies), "logging.masks": rule == "signed"},
        seeds=tuple(range(len(accuracies))),
        steps=(1,) * len(accuracies),
        epochs=(1.0,) * len(accuracies),
        test_accuracy=Statistics.of(accuracies) if accuracies else None,
        remaining_weights=Statistics.of([remaining]),
        device=None,
        versions=None,
        shares=ByLayer(
            layers={}, all=Shares(inverted=inverted, hidden=1 - remaining, kept=remaining - inverted)
        ),
        units=None,
        connectivity=None,
        moments=(),
        since_start=None,
        transfer=None,
    )
    return dataclasses.replace(made, **changes)


SIGNED = run("a", "signed", 0.05, 0.1, 97.0, 99.0)


def test_the_difference_is_of_means_with_the_error_of_both():
    (found,) = differences([SIGNED, run("b", "binary", 0.0, 0.1, 96.0, 97.0)])
    assert (found.inverting, found.other, found.other_settings) == ("a", "b", ())
    assert found.accuracy == pytest.approx(98 - 96.5)
    # Variances 2 and 0.5 over two seeds each.
    assert found.standard_error == pytest.approx((2 / 2 + 0.5 / 2) ** 0.5)


def test_one_seed_has_no_error():
    (found,) = differences([SIGNED, run("b", "binary", 0.0, 0.1, 96.0)])
    assert found.accuracy == pytest.approx(2) and found.standard_error is None


@pytest.mark.parametrize(
    ("remaining", "equal"), [(0.104, True), (0.0960, True), (0.106, False), (0.094, False)]
)
def test_densities_may_differ_by_a_twentieth(remaining, equal):
    (found,) = differences([SIGNED, run("b", "binary", 0.0, remaining, 96.0)])
    assert (found.accuracy is not None) == equal
    assert found.density_ratio == pytest.approx(0.1 / remaining)


def test_an_unknown_accuracy_and_an_empty_mask_have_no_difference():
    (found,) = differences([SIGNED, run("b", "binary", 0.0, 0.1)])
    assert found.accuracy is found.standard_error is None
    (found,) = differences([SIGNED, run("b", "binary", 0.0, 0.0, 10.0)])
    assert found.accuracy is found.density_ratio is None


def test_other_settings_that_differ_are_named():
    other = run("b", "binary", 0.0, 0.1, 96.0)
    other = dataclasses.replace(other, settings=other.settings | {"training.epochs": 5})
    assert differences([other, SIGNED])[0].other_settings == ("training.epochs",)


def test_only_runs_of_one_network_on_one_dataset_are_compared():
    binary = run("b", "binary", 0.0, 0.1, 96.0)
    for others in (
        [dataclasses.replace(binary, network="conv2")],
        [dataclasses.replace(binary, dataset="digits")],
        [run("b", "dense", 0.0, 0.1, 96.0)],
        [dataclasses.replace(SIGNED, name="b")],
        [],
    ):
        assert differences([SIGNED, *others]) == ()
