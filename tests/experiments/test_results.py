"""The seeds of a setting taken together, and the order of the settings."""

from ssm_jax.experiments.results import results


def test_runs_of_a_setting_are_one_result(planned, summarized):
    runs = [(planned("a"), summarized([97.0, 98.0], [0.1, 0.1])), (planned("a"), summarized([99.0], [0.1]))]
    (result,) = results(runs)
    assert result.accuracy.values == (97.0, 98.0, 99.0)


def test_the_papers_rows_are_in_its_order_others_as_they_come(planned, summarized):
    def names(*labels):
        runs = [(planned(f"{i}", **label), summarized([97.0], [0.1])) for i, label in enumerate(labels)]
        return [next(iter(result.setting.labels.values())) for result in results(runs)]

    assert names({"row": "resnet20"}, {"row": "conv4"}, {"row": "fcn"}) == ["fcn", "conv4", "resnet20"]
    assert names({"rule": "signed"}, {"rule": "biprop"}) == ["signed", "biprop"]
