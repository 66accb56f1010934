"""What each experiment trains, as literals."""

import pytest

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.experiments import plans


def told(settings):
    return [(one.name, one.config, one.overrides) for one in settings]


def test_rows_have_their_variant_and_width():
    assert told(plans.rows(["fcn", "resnet20-x2", "fcn"], {"fcn": "best"}, dense=True)) == [
        ("fcn-best", "fcn.py:best", {}),
        ("fcn-best,twin", "fcn.py:best,twin", {}),
        ("resnet20-x2", "resnet20.py", {"model.width": "2"}),
        ("resnet20-x2-dense", "resnet20.py:dense", {"model.width": "2"}),
    ]


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(errors.InputError, match="unknown row 'conv9'; did you mean 'conv"):
        plans.rows(["conv9"], {})


def test_a_frontier_goes_through_densities_for_every_rule():
    settings = plans.frontier("fcn", "best", [0.005, 0.1, 0.1], ["signed", "edge_popup"])
    assert told(settings) == [
        ("signed-0.005", "fcn.py:best", {"mask.density": "0.005"}),
        ("signed-0.1", "fcn.py:best", {"mask.density": "0.1"}),
        ("edge_popup-0.005", "fcn.py:best,edge_popup", {"mask.density": "0.005"}),
        ("edge_popup-0.1", "fcn.py:best,edge_popup", {"mask.density": "0.1"}),
    ]
    assert settings[0].labels == {"rule": "signed", "density": "0.005"}


def test_densities_that_are_close_are_two():
    settings = plans.frontier("fcn", "", [0.12345678, 0.1234568, 0.1])
    assert [one.name for one in settings] == ["signed-0.12345678", "signed-0.1234568", "signed-0.1"]
    assert [float(one.overrides["mask.density"]) for one in settings] == [0.12345678, 0.1234568, 0.1]


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan")])
def test_a_density_out_of_range_is_refused(density):
    with pytest.raises(errors.InputError, match="allowed is above 0 and at most 1"):
        plans.frontier("fcn", "", [0.1, density])
    with pytest.raises(errors.InputError, match="allowed is above 0 and at most 1"):
        plans.rivals("fcn", "", density=density)


@pytest.mark.parametrize(
    ("rule", "message"),
    [("edge-popup", "did you mean 'edge_popup'?"), ("dense", "dense holds no density")],
)
def test_a_rule_without_a_frontier_is_refused(rule, message):
    with pytest.raises(errors.InputError, match=message):
        plans.frontier("fcn", "", [0.1], [rule])


def test_rivals_have_one_density_where_they_hold_one():
    assert told(plans.rivals("conv2", "best", ["biprop", "dense"], density=0.1)) == [
        ("biprop-0.1", "conv2.py:best,biprop", {"mask.density": "0.1"}),
        ("dense", "conv2.py:best,dense", {}),
    ]


def test_rates_go_through_every_rule():
    settings = plans.rates("fcn", "fast", ["tiles", "signed"], [0.05, 0.2, 0.2])
    assert told(settings) == [
        ("tiles-0.05", "fcn.py:fast,tiles", {"optimizer.learning_rate": "0.05"}),
        ("tiles-0.2", "fcn.py:fast,tiles", {"optimizer.learning_rate": "0.2"}),
        ("signed-0.05", "fcn.py:fast", {"optimizer.learning_rate": "0.05"}),
        ("signed-0.2", "fcn.py:fast", {"optimizer.learning_rate": "0.2"}),
    ]
    assert settings[0].labels == {"rule": "tiles", "rate": "0.05"}
    with pytest.raises(errors.InputError, match="unknown rule 'tile'; did you mean 'tiles'"):
        plans.rates("fcn", "", ["tile"], [0.1])


def test_an_ablation_changes_one_thing_at_a_time():
    assert told(plans.ablation("fcn", "best", configuration.default())) == [
        ("base", "fcn.py:best", {}),
        *(
            (f"{kernel}-{score}", "fcn.py:best", {"init.kernel": kernel, "init.score": score})
            for kernel in ("elus", "he_constant", "xavier_constant", "he_uniform")
            for score in ("xavier_uniform", "he_uniform", "elus_uniform")
            if (kernel, score) != ("elus", "xavier_uniform")
        ),
        ("threshold-0.1", "fcn.py:best", {"mask.threshold": "0.1"}),
        ("threshold-0.15", "fcn.py:best", {"mask.threshold": "0.15"}),
        ("threshold-0.25", "fcn.py:best", {"mask.threshold": "0.25"}),
        ("threshold-0.6", "fcn.py:best", {"mask.threshold": "0.6"}),
        ("binary", "fcn.py:best,binary", {}),
        ("binary_absolute", "fcn.py:best,binary_absolute", {}),
        ("signed_topk", "fcn.py:best,signed_topk", {}),
        ("dense-elu", "fcn.py:dense", {"init.kernel": "elu"}),
        ("dense-he_uniform", "fcn.py:dense", {"init.kernel": "he_uniform"}),
        ("dense-xavier_uniform", "fcn.py:dense", {"init.kernel": "xavier_uniform"}),
    ]


def test_the_ablation_of_a_resnet_has_batch_norm_and_widths():
    base = configuration.override(
        configuration.default(), {"model.name": "resnet20", "model.normalization": "paper"}
    )
    found = told(plans.ablation("resnet20", "", base))[-6:]
    assert found == [
        ("batch-norm", "resnet20.py:batch_norm", {}),
        *((f"width-{w}", "resnet20.py", {"model.width": w}) for w in ("1.5", "2", "2.5", "3", "3.5")),
    ]
