"""The paper's numbers belong to the configs that reproduce them."""

import importlib

import pytest

from ssm_jax.experiments import paper

each_row = pytest.mark.parametrize("row", paper.ROWS.values(), ids=list(paper.ROWS))


@each_row
def test_a_row_is_of_its_configs_network_and_data(row):
    config = importlib.import_module(f"configs.{row.network}").get_config()
    assert (config.model.name, config.data.name) == (row.network, row.data)


@each_row
def test_a_number_lies_in_its_bracket(row):
    for number in (row.dense, row.accuracy, row.remaining):
        assert (number.low is None) == (number.high is None)
        assert number.low is None or number.low <= number.mean <= number.high
    assert 0 < row.remaining.mean < 1 < row.accuracy.mean < 100


def test_a_row_has_another_accuracy_for_its_dense_baseline():
    row = paper.ROWS["conv4"]
    assert (row.accuracy_of("dense").mean, row.remaining_of("dense")) == (74.50, None)
    assert (row.accuracy_of("signed").mean, row.remaining_of("signed").mean) == (77.40, 0.0291)


def test_only_rows_of_fifty_runs_say_so():
    assert {name for name, row in paper.ROWS.items() if row.runs != 50} == {"resnet56", "resnet110"}


def test_published_points_are_of_the_papers_networks():
    networks = {(row.network, row.data) for row in paper.ROWS.values()}
    for point in paper.POINTS:
        assert (point.network, point.data) in networks
        assert 0 < point.low <= point.high < 1 < point.accuracy < 100
