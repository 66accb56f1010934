"""The README's snippet runs; its tables and those of `docs/` are what the files of results say."""

import csv
import itertools
import json
import math
import pathlib
import re
import statistics

import pytest

from benchmarks import inference
from examples import record
from ssm_jax.artifact import format
from ssm_jax.artifact.export import c
from ssm_jax.cli import configs
from ssm_jax.cli.experiments import PAGES
from ssm_jax.experiments import paper, readme, tables
from ssm_jax.experiments.record import FILE
from ssm_jax.experiments.results import read_collected

ROOT = pathlib.Path(__file__).parents[1]
PATHS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README, DOCS = PATHS[0].read_text(), {path.stem: path.read_text() for path in PATHS[1:]}
INFERENCE = set((ROOT / "benchmarks" / "results").glob("inference-*.json"))
MODELS = sorted((ROOT / "examples" / "models").glob("*.ssm"))
SPARSE = sorted((ROOT / "benchmarks" / "results" / "sparse").glob("*.json"))
MEASURED = set((ROOT / "benchmarks" / "results").glob("*.json")) - INFERENCE


def speed_row(name, path):
    report = json.loads(path.read_text())
    unit = report["networks"][name]["steps"]["float32"]
    times = {contender: values["median"] for contender, values in unit["contenders"].items()}

    def digits(value):
        return f"{value:.2g}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"

    torch = f"{digits(times['torch'])} ({unit['torch_over_signed']:.2f})" if "torch" in times else ""
    device = report["device"]
    cells = [
        name,
        f"{device['cores']} CPU cores" if device["platform"] == "cpu" else device["kind"],
        report["versions"]["jax"],
        digits(times["signed"]),
        f"{unit['signed_over_dense']:.2f}",
        torch,
        f"{unit['images_per_second']['signed']:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def speed_table():
    head = "| network | device | jax | ms a step | over dense | PyTorch ms (ratio) | images/s |"
    rows = []
    for path in sorted(MEASURED):
        networks = json.loads(path.read_text())["networks"]
        rows += [speed_row(name, path) for name in paper.ROWS if networks.get(name, {}).get("steps")]
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def test_the_speed_table_is_what_the_files_say():
    found = re.search(r"<!-- speed -->\n(.*?)\n<!-- end of speed -->", DOCS["speed"], re.S)
    assert found and found[1] == speed_table()


def sparse_units(name):
    """What was measured of a network, from the highest density to the paper's."""
    reports = [json.loads(path.read_text()) for path in SPARSE]
    return [unit for report in reports for unit in report["networks"].get(name, {}).get("sparse", [])]


def sparse_table():
    head = "| network | density % | dense ms | sparse ms (share) | bfloat16 ms (share) "
    head += "| PyTorch ms | compiled ms | compiled / sparse | compiled / bfloat16 |"
    rows = []
    for name, unit in ((row, unit) for row in paper.ROWS for unit in sparse_units(row)):
        if "torch" not in unit["contenders"]:
            continue
        times = {way: f"{timed['median']:.3g}" for way, timed in unit["contenders"].items()}
        ours = [f"{times[way]} ({unit[f'{way}_over_dense']:.2f})" for way in ("sparse", "bfloat16")]
        theirs = [times[way] for way in ("torch", "torch_compiled")]
        ratios = [f"{unit[f'torch_compiled_over_{way}']:.2f}" for way in ("sparse", "bfloat16")]
        cells = [name, f"{100 * unit['density']:.3g}", times["dense"], *ours, *theirs, *ratios]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def density_table():
    columns = {"start": math.inf, "25 %": 0.25, "10 %": 0.1, "3 %": 0.03, "the paper's": math.inf}
    head = f"| network | {' | '.join(columns)} |"
    rows = []
    for name in paper.ROWS:
        cells = dict.fromkeys(columns, "")
        for unit in sparse_units(name):
            near = [column for column, density in columns.items() if abs(unit["density"] / density - 1) < 0.1]
            column = "the paper's" if "torch" in unit["contenders"] else (*near, "start")[0]
            cells[column] = f"{unit['sparse_over_dense']:.2f}, {unit['bfloat16_over_dense']:.2f}"
        rows += [f"| {name} | {' | '.join(cells.values())} |"] * any(cells.values())
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def whole_runs_table():
    """Of whole runs the epochs but the first, which compiles; dense runs were stopped after two or three."""
    head = "| run, seed 0 | CPU cores | products | seconds an epoch, epochs | minutes of epochs 2 to 16 "
    head += "| share | test accuracy % |"
    runs = {}
    path = ROOT / "benchmarks" / "results" / "sparse" / "whole-runs.csv"
    for row in csv.DictReader(path.read_text().splitlines()):
        products = "bfloat16" if row["gradient"] == "bfloat16" else row["products"]
        runs.setdefault((f"`{row['network']}.py:{row['variant']}`", row["cores"], products), []).append(row)
    rows, dense = [], math.nan
    for name, epochs in runs.items():
        seconds = [float(row["seconds"]) for row in epochs if row["seconds"]]
        minutes = 15 * statistics.mean(seconds) / 60
        dense = minutes if name[-1] == "dense" else dense  # the first of its run
        cells = [*name, f"{statistics.mean(seconds):.0f}, {len(seconds)}", f"{minutes:.1f}"]
        cells += [f"{minutes / dense:.2f}", epochs[-1]["test_accuracy"] if len(epochs) == 16 else ""]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def pages_table():
    """Medians of the steps of three processes, with small and with large pages of memory."""
    runs = {}
    path = ROOT / "benchmarks" / "results" / "sparse" / "pages-intel-2-cores.csv"
    for row in csv.DictReader(path.read_text().splitlines()):
        milliseconds = runs.setdefault((row["network"], row["pages"]), {})
        milliseconds.setdefault(row["products"], []).append(float(row["ms"]))
    rows = ["| network | pages | dense | sparse | bfloat16 |", "|---|---|---|---|---|"]
    for name, products in runs.items():
        medians = (statistics.median(products[way]) for way in ("dense", "sparse", "bfloat16"))
        rows.append(f"| {' | '.join([*name, *(f'{median:,.0f}' for median in medians)])} |")
    return "\n".join(rows)


TABLES = [
    ("sparse", sparse_table),
    ("densities", density_table),
    ("whole runs", whole_runs_table),
    ("pages", pages_table),
]


@pytest.mark.parametrize(("marker", "table"), TABLES)
def test_the_tables_of_sparse_products_are_what_the_files_say(marker, table):
    found = re.search(rf"<!-- {marker} -->\n(.*?)\n<!-- end of {marker} -->", DOCS["speed"], re.S)
    assert found and found[1] == table()


def test_the_inference_table_is_what_the_files_say():
    found = re.search(r"<!-- inference -->\n(.*?)\n<!-- end of inference -->", DOCS["speed"], re.S)
    reports = [json.loads(path.read_text()) for path in sorted(INFERENCE)]
    assert found and found[1] == inference.markdown(reports)


@pytest.mark.parametrize("page", PAGES)
def test_the_results_are_what_the_files_say(page):
    path = ROOT / page
    found = readme.SECTION.search(path.read_text())
    assert found and found["body"] == readme.section(ROOT / "results", path.parent, found["kinds"].split())


def test_every_collected_experiment_is_on_a_page():
    text = "".join((ROOT / page).read_text() for page in PAGES)
    for path in (ROOT / "results").glob(f"*/{FILE}"):
        assert f"results/{path.parent.name})" in text


def models_table():
    head = "| file | network | test accuracy % | weights that remain | bytes | bytes as float32 |"
    head += " C: flash, RAM | integer C: flash, RAM |"
    measured = json.loads((ROOT / "benchmarks/results/microcontroller/cortex-m.json").read_text())["files"]
    rows = []
    for path in MODELS:
        artifact = format.read(path)
        flash, ram = c.memory(artifact.network)
        facts, whole = artifact.record, measured.get(path.name, {})
        weights = sum(node.kernel.values.size for node in artifact.network.nodes if hasattr(node, "kernel"))
        cells = [
            f"`examples/models/{path.name}`",
            f"{facts['network']} on {facts['dataset']}",
            f"{facts['test_accuracy']:.2f}",
            f"{round(facts['remaining_weights'] * weights):,} of {weights:,}",
            f"{path.stat().st_size:,}",
            f"{4 * weights:,}",
            f"{flash:,}, {ram:,}",
            f"{whole['tables_bytes']:,}, {whole['scratch_bytes']:,}" if "tables_bytes" in whole else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def test_the_models_are_what_their_files_say():
    found = re.search(r"<!-- models -->\n(.*?)\n<!-- end of models -->", README, re.S)
    assert found and found[1] == models_table()


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_is_of_a_run_whose_results_are_here(path):
    facts = format.read(path).record
    names = "epochs", "test_accuracy", "remaining_weights"
    found = []
    folders = (ROOT / "results" / name for name in ("paper", "mcu"))
    for file in itertools.chain(*(folder.glob(f"{facts['network']}-*.json") for folder in folders)):
        summary = json.loads(file.read_text())
        if facts["seed"] not in summary["seeds"]:
            continue
        place = summary["seeds"].index(facts["seed"])
        values = (summary[name] for name in names)
        found.append([value["values"][place] if isinstance(value, dict) else value for value in values])
    assert [facts[name] for name in names] in found


def test_the_analysis_is_what_its_file_says():
    found = re.search(r"<!-- analysis -->\n(.*?)\n<!-- end of analysis -->", DOCS["results"], re.S)
    assert found
    report = json.loads((ROOT / "results" / "analysis" / "fcn.json").read_text())
    (signed, binary), (difference,) = report["runs"], report["differences"]
    transfer = {name: numbers["mean"] for name, numbers in signed["transfer"]["accuracy"].items()}
    assert transfer["drawn_effective_signs"] == pytest.approx(transfer["trained"])
    within = report["overlaps"][0]["masks"]["all"]
    assert re.findall(r"\d+\.\d+", found[1]) == [
        f"{number:.2f}"
        for number in (
            *(transfer[name] for name in ("trained", "drawn_mask", "without_signs")),
            100 * within["jaccard"],
            100 * within["jaccard_by_chance"],
            100 * signed["connectivity"]["connected"]["all"],
            signed["test_accuracy"]["mean"],
            binary["test_accuracy"]["mean"],
            difference["standard_error"],
        )
    ]
    assert [(run["seeds"], run["epochs"]) for run in report["runs"]] == [([0, 1], [20.0, 20.0])] * 2
    assert {(run["versions"]["python"], run["versions"]["jax"]) for run in report["runs"]} == {
        ("3.13.0", "0.12.0.1")
    }


def test_the_examples_are_what_the_files_say():
    found = re.search(r"<!-- examples -->\n(.*?)\n<!-- end of examples -->(.*?)\n## ", DOCS["results"], re.S)
    assert found and found[1] == record.table(ROOT / "results" / "examples")
    records = [record.read(path) for path in (ROOT / "results" / "examples").glob("*.json")]
    for one in records:
        assert (ROOT / "examples" / f"{one.example}.py").exists()
        for value in one.baselines.values():
            assert f"{value:.2f} bits" in found[2]
        assert f"Python {one.versions['python']}, jax {one.versions['jax']}" in found[2]
        assert f"{one.device_count} x {one.device}" in found[2]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results").glob("*/table.*")), ids=lambda path: path.parent.name
)
def test_the_tables_beside_the_results_are_what_the_files_say(path):
    results = read_collected(path.parent)
    made = {".md": f"{tables.markdown(results)}\n", ".csv": tables.to_csv(results)}
    assert path.read_text() == made[path.suffix]


def test_the_snippet_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"<!-- snippet -->\n```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    *table, last = capsys.readouterr().out.splitlines()
    assert table[-1].startswith("all ") and "95.00" in table[-1]
    assert float(last.removeprefix("test accuracy ")) > 0.8


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_links_lead_to_files(path):
    for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_what_the_screen_says_of_a_dense_network_is_what_the_file_says():
    text = configs.dense(
        str(ROOT / "configs" / "digits.py"), configs.load(str(ROOT / "configs" / "digits.py"))
    )
    path = re.search(r"\((results/.*\.json)\)", text)[1]
    found = json.loads((ROOT / path).read_text())["test_accuracy"]
    assert f"gets {found['mean']:.2f} ± {found['std']:.2f} %, {len(found['values'])} seeds" in text
