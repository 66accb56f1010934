"""The paper's numbers belong to the configs that reproduce them."""

import importlib

from ssm_jax.experiments import paper


def test_a_row_is_of_its_configs_network_and_data():
    for row in paper.ROWS.values():
        config = importlib.import_module(f"configs.{row.network}").get_config()
        assert (config.model.name, config.data.name) == (row.network, row.data)


def test_a_number_lies_in_its_bracket():
    for row in paper.ROWS.values():
        for number in (row.dense, row.accuracy, row.remaining):
            assert (number.low is None) == (number.high is None)
            assert number.low is None or number.low <= number.mean <= number.high
        assert 0 < row.remaining.mean < 1 < row.accuracy.mean < 100


def test_published_points_are_of_the_papers_networks():
    networks = {(row.network, row.data) for row in paper.ROWS.values()}
    for point in paper.POINTS:
        assert (point.network, point.data) in networks
        assert 0 < point.low <= point.high < 1 < point.accuracy < 100
