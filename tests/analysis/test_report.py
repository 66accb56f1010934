"""A report is one page that needs nothing else, and says what it can't be made of before it begins."""

import dataclasses
import importlib.util
import re
import shutil

import pytest

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
pytest.importorskip("jinja2", reason="the extra `report` is not installed")

from analysis.pages import Page

from ssm_jax import errors
from ssm_jax.analysis import read_runs, report, style
from ssm_jax.analysis.sections import sections


def text_of(*pairs):
    runs, networks = zip(*pairs, strict=True)
    return report.page(runs, networks, list(sections(runs, networks)))


@pytest.fixture(scope="module")
def text(shown):
    return text_of(shown["signed"])


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


@pytest.fixture(scope="module")
def several(shown):
    return Page(text_of(*shown.values()))


def test_every_row_has_a_cell_for_every_column(page, several):
    for one in (page, several):
        for name, (head, *rows) in one.tables.items():
            assert rows and {len(row) for row in rows} == {len(head)}, name


def test_the_page_needs_nothing_else(page, several, text):
    for one in (page, several):
        assert not {"script", "link", "iframe", "object", "embed", "base"} & set(one.tags)
        for tag, name, value in one.attributes:
            if name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:80])
            assert not name.startswith("on"), (tag, name)
    assert not re.findall(r"@import|url\((?!#)", text)
    assert len(text.encode()) < 2e6


def test_names_in_the_page_are_unique_and_all_there(page, several):
    for one in (page, several):
        names = [value for _, name, value in one.attributes if name == "id"]
        assert len(names) == len(set(names))
        asked = [
            value[1:]
            for _, name, value in one.attributes
            if name in ("href", "xlink:href") and value[0] == "#"
        ]
        asked += [value for _, name, value in one.attributes if name == "aria-labelledby"]
        asked += [found for *_, value in one.attributes for found in re.findall(r"url\(#(.*?)\)", value)]
        assert asked and set(asked) <= set(names)


def test_every_figure_has_words_for_those_who_do_not_see_it(page, several):
    assert len(page.drawings) == 10
    for drawing in (*page.drawings, *several.drawings):
        assert drawing["role"] == "img" and len(drawing["aria-label"]) > 10 and "viewbox" in drawing


def test_figures_take_the_colors_of_the_page_light_or_dark(text):
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert style.INK not in drawings and drawings.count("currentColor") > 100
    assert "<style" not in drawings


@pytest.mark.slow
def test_a_hostile_name_is_a_name(shown):
    name = """<img src=x onerror=alert(1)> & "quoted" '$_{'</svg><script>alert(2)</script>"""
    run, network = shown["signed"]
    bad = dataclasses.replace(run, name=name)
    read = Page(text_of((bad, network), shown["binary"]))
    assert name in read.headings["h3"] and read.headings["h1"] == [f"2 runs: {name}, binary"]
    assert not {"img", "script", "b"} & set(read.tags)
    assert not [attribute for attribute in read.attributes if attribute[1].startswith("on")]


def test_a_report_is_written_whole(signed, tmp_path, monkeypatch):
    path = report.write([signed], tmp_path / "report.html", seed=6)
    assert path.read_text().endswith("</html>") and [path] == list(tmp_path.iterdir())
    assert "seed shown" in path.read_text()
    monkeypatch.setattr(report, "page", lambda *_: 1 / 0)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        report.write([signed], path)
    assert path.read_bytes() == before and [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("missing", "message"), [("matplotlib", "figures need"), ("jinja2", "a report needs")]
)
def test_a_missing_extra_is_said_before_a_run_is_read(missing, message, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(errors.InputError, match=f"{message} {missing}: pip install .*\\[report\\]"):
        report.write([tmp_path / "nothing"], tmp_path / "report.html")


def test_what_can_not_be_shown_is_said_before_anything_slow(signed, tmp_path, monkeypatch):
    monkeypatch.setattr(read_runs, "networks", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(errors.InputError, match=r"no-folder.*must exist"):
        report.write([signed], tmp_path / "no-folder" / "report.html")
    with pytest.raises(errors.InputError, match="must be a file"):
        report.write([signed], tmp_path)
    shutil.copy(signed / "run.json", tmp_path)
    with pytest.raises(errors.InputError, match="is not finished"):
        report.write([signed, tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
