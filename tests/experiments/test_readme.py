"""The results sections of pages, of made-up results."""

import pytest

from ssm_jax import errors
from ssm_jax.experiments import readme, record
from ssm_jax.experiments.record import Experiment
from ssm_jax.runs import schema

BEGIN, END = "<!-- results: paper rivals -->\n", "<!-- end of results -->"
TEXT = f"# Title\n\n{BEGIN}old\n{END}\n\nThe rest.\n"


@pytest.fixture
def folder(tmp_path, planned, summarized):
    """Two collected experiments below `results/`."""
    for kind, name in (("rivals", "a"), ("paper", "b")):
        path = tmp_path / "results" / name
        path.mkdir(parents=True)
        shared = {"network": "fcn"} if kind == "rivals" else {}
        run = planned(kind, rule="signed")
        record.write(path, Experiment(kind=kind, shared=shared, runs=(run,)))
        schema.write(path / f"{kind}.json", summarized([97.0], [0.03]))
    (tmp_path / "results" / "a" / "frontier.png").write_text("")
    (tmp_path / "README.md").write_text(TEXT)
    return tmp_path


def test_the_section_holds_tables_and_figures_in_the_order_of_its_kinds(folder):
    assert readme.update(folder / "README.md", folder / "results")
    text = (folder / "README.md").read_text()
    assert text.startswith(
        f"# Title\n\n{BEGIN}**The paper's rows, every setting** ([files](results/b))\n\n| rule |"
    )
    assert "**Mask rules side by side: network fcn** ([files](results/a))\n\n| rule | epochs |" in text
    assert "![Mask rules side by side: network fcn](results/a/frontier.png)" in text
    assert "results/b/frontier.png" not in text and "old" not in text
    assert text.endswith(f"frontier.png)\n{END}\n\nThe rest.\n")
    assert not readme.update(folder / "README.md", folder / "results")


def test_a_page_has_the_kinds_that_it_names_and_links_from_where_it_is(folder):
    page = folder / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text(f"<!-- results: rivals -->\n{END}")
    assert readme.update(page, folder / "results")
    text = page.read_text()
    assert "(../results/a)" in text and "(../results/a/frontier.png)" in text and "paper" not in text


def test_a_page_without_the_section_is_refused(folder):
    (folder / "README.md").write_text("# Title\n")
    with pytest.raises(errors.InputError, match="has no section between <!-- results: <kinds> -->"):
        readme.update(folder / "README.md", folder / "results")


def test_a_page_that_is_no_text_is_refused(folder):
    (folder / "README.md").write_bytes(b"\xff" + TEXT.encode())
    with pytest.raises(errors.InputError, match=r"README\.md: it is no text in UTF-8"):
        readme.update(folder / "README.md", folder / "results")


def test_an_unknown_kind_is_refused(folder):
    (folder / "README.md").write_text(TEXT.replace("paper", "papers"))
    with pytest.raises(errors.InputError, match="unknown kind of experiment 'papers'; did you mean 'paper'"):
        readme.update(folder / "README.md", folder / "results")


def test_a_folder_without_experiments_is_refused(folder):
    with pytest.raises(errors.InputError, match="holds no collected experiment of paper or rivals"):
        readme.update(folder / "README.md", folder)
    assert (folder / "README.md").read_text() == TEXT


def test_the_overview_is_a_table_of_the_papers_rows(folder, planned, summarized):
    path = folder / "results" / "b"
    run = planned("best", row="fcn", config="fcn.py:best")
    record.write(path, Experiment(kind="paper", shared={}, runs=(run,)))
    schema.write(path / "best.json", summarized([97.0], [0.03]))
    text = readme.section(folder / "results", folder, ["overview"])
    assert (
        text.startswith("| network |") and "| `best`, 100 | 1 | **97.00** |" in text and "files" not in text
    )
