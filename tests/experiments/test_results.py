"""The seeds of a setting taken together, and the order of the settings."""

import pytest

from ssm_jax.experiments.results import results


def test_runs_of_a_setting_are_one_result(planned, summarized):
    runs = [(planned("a"), summarized([97.0, 98.0], [0.1, 0.1])), (planned("a"), summarized([99.0], [0.1]))]
    (result,) = results(runs)
    assert result.accuracy.values == (97.0, 98.0, 99.0)


@pytest.mark.parametrize(
    ("label", "begun", "shown"),
    [
        ("row", ["resnet20", "conv4", "fcn"], ["fcn", "conv4", "resnet20"]),
        ("rule", ["dense", "biprop", "binary"], ["binary", "biprop", "dense"]),
        ("density", ["0.05", "0.5", "0.1"], ["0.05", "0.1", "0.5"]),
        ("setting", ["b", "a", "c"], ["b", "a", "c"]),
    ],
)
def test_settings_are_shown_in_an_order_of_their_own(label, begun, shown, planned, summarized):
    runs = [(planned(name, **{label: name}), summarized([97.0], [0.1])) for name in begun]
    assert [result.setting.labels[label] for result in results(runs)] == shown
