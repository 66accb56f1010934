"""Figures of made-up results are drawn; what they show is looked at by eye."""

import dataclasses
import importlib.util
import re
import xml.etree.ElementTree

import pytest

from ssm_jax.experiments import figures, plans
from ssm_jax.experiments.record import Experiment
from ssm_jax.experiments.results import Result

drawn = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="the extra `report` is not installed"
)
CURVE = [
    {"epoch": epoch, "n": 2, "test_accuracy": 90.0 + epoch, "remaining_weights": 0.5 / epoch}
    for epoch in (1.0, 2.0, 3.0)
]


def made(planned, summarized, labels, methods):
    return [
        Result(
            planned(f"{i}", **label).setting,
            (summarized([90.0 + i, 91.0 + i], [0.02 * (i + 1)] * 2, method=method),),
            CURVE,
        )
        for i, (label, method) in enumerate(zip(labels, methods, strict=True))
    ]


def draw(kind, results, folder):
    experiment = Experiment(kind=kind, shared={}, runs=())
    return {path.name for path in figures.draw(experiment, results, folder)}


def texts(path):
    """What an SVG's comments say: matplotlib writes every text there, before it draws its glyphs."""
    parser = xml.etree.ElementTree.XMLParser(target=xml.etree.ElementTree.TreeBuilder(insert_comments=True))
    tree = xml.etree.ElementTree.parse(path, parser)
    return {str(node.text).strip() for node in tree.iter() if node.tag is xml.etree.ElementTree.Comment}


@drawn
@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("frontier", [{"rule": "signed"}, {"rule": "signed"}, {"rule": "edge_popup"}]),
        ("rivals", [{"rule": "signed"}, {"rule": "binary"}, {"rule": "dense"}]),
        ("paper", [{"row": "fcn"}, {"row": "fcn"}, {"row": "conv2"}]),
    ],
)
def test_every_kind_has_its_figures(kind, labels, planned, summarized, tmp_path):
    methods = ["dense" if "dense" in label.values() else "signed" for label in labels]
    written = draw(kind, made(planned, summarized, labels, methods), tmp_path)
    assert written == {"frontier.png", "frontier.svg", "curves.png", "curves.svg"}
    for name in written:
        content = (tmp_path / name).read_bytes()
        assert len(content) > 5000
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


@drawn
def test_published_results_of_the_network_are_marked(planned, summarized, tmp_path):
    draw("rivals", made(planned, summarized, [{"rule": "signed"}], ["signed"]), tmp_path)
    said = texts(tmp_path / "frontier.svg")
    assert {"signed", "Koster et al. 2022", "Zhou et al. 2019, a range"} <= said
    assert not any("biprop" in text for text in said)  # which has no result for FCN
    assert "fcn on mnist: 100 epochs, n = 2, 95 % intervals of means" in said


@drawn
def test_an_interval_beyond_all_accuracies_leaves_the_picture(planned, summarized, tmp_path):
    result = Result(planned("0", rule="signed").setting, (summarized([60.0, 89.0, 99.0], [0.02] * 3),), CURVE)
    draw("rivals", [result], tmp_path)
    ticks = [text.replace("\N{MINUS SIGN}", "-") for text in texts(tmp_path / "frontier.svg")]
    assert "100" in ticks
    assert not {"-50", "-20", "120", "150", "200", "-200"} & set(ticks)


@drawn
def test_an_ablation_shows_its_settings_row_by_row(planned, summarized, tmp_path):
    labels = [
        {"part": "base", "setting": "base"},
        {"part": "mask rule", "setting": "binary"},
        {"part": "dense", "setting": "dense elu"},
    ]
    results = made(planned, summarized, labels, ["signed", "binary", "dense"])
    assert draw("ablation", results, tmp_path) == {"settings.png", "settings.svg", "curves.png", "curves.svg"}
    said = texts(tmp_path / "settings.svg")
    assert {"base", "binary, 4.00 % remain", "dense elu, 6.00 % remain", "mask rule"} <= said


@drawn
def test_many_curves_are_drawn_part_by_part(planned, summarized, tmp_path):
    labels = [{"part": part, "setting": f"{i}"} for part in ("kernels", "mask rule") for i in range(10)]
    written = draw("ablation", made(planned, summarized, labels, ["signed"] * 20), tmp_path)
    assert {"curves-kernels.svg", "curves-mask-rule.svg"} <= written and "curves.svg" not in written


@drawn
def test_every_curve_has_a_look_of_its_own(planned, summarized, tmp_path):
    labels = [{"rule": rule} for rule in plans.RIVALS]
    draw("rivals", made(planned, summarized, labels, ["signed"] * len(labels)), tmp_path)
    styles = re.findall(r'style="([^"]*stroke-width: 1.3[^"]*)"', (tmp_path / "curves.svg").read_text())
    assert len(set(styles)) == len(labels)


@drawn
def test_a_dense_network_alone_has_no_frontier(planned, summarized, tmp_path):
    written = draw("rivals", made(planned, summarized, [{"rule": "dense"}], ["dense"]), tmp_path)
    assert written == {"curves.png", "curves.svg"}


@drawn
def test_the_same_results_give_the_same_file(planned, summarized, tmp_path):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        draw("rivals", made(planned, summarized, [{"rule": "signed"}], ["signed"]), tmp_path / name)
        contents.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert contents[0] == contents[1]


@drawn
def test_a_label_decides_no_folder_and_an_incomplete_curve_is_left_out(planned, summarized, tmp_path):
    labels = [{"rule": "../../out"}] * 20
    results = made(planned, summarized, labels, ["signed"] * 20)
    results.append(dataclasses.replace(results[0], curve=[{"epoch": 1.0, "n": 1}]))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert draw("frontier", results, folder) > {"curves--out.png", "curves--out.svg"}
    assert {path.parent for path in tmp_path.rglob("*.*")} == {folder}
