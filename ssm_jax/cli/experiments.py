"""The paper's experiments from the command line: `ssm-jax experiments`.

An experiment can be stopped at any moment, and goes on when the same command is given again; a finished
run is never repeated. More rows, densities, rules or seeds than before are added to what is there. Exit
status: 0 done, 1 some runs failed, 2 the input can't be run, 143 or 130 stopped by SIGTERM or Ctrl-C with
the state saved.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable, Sequence

from ssm_jax import errors, terminal
from ssm_jax.cli import configs, status
from ssm_jax.cli.parser import Parser
from ssm_jax.experiments import collect, paper, plans, readme, record, results, runner, tables
from ssm_jax.experiments.plans import Setting
from ssm_jax.experiments.record import Experiment
from ssm_jax.runs.folder import RunFolder

# The name by which `--variant` asks for a config without a variant.
MAIN = "main"
BEST = "best"
# The share of the training images by which learning rates are chosen.
HELD_OUT = "0.1"
PAGES = ["README.md", "docs/results.md"]


@status.program()
def main(argv: list[str]) -> None:
    """Do what the arguments say; returns the exit status."""
    argv = argv or ["--help"]
    if not argv[0].startswith("-"):
        errors.choose("verb", argv[0], _VERBS)
    overrides, rest = _overrides(argv)
    arguments = _parser().parse_args(rest)
    status.set_up_logging()
    _VERBS[arguments.verb](arguments, overrides)


def _overrides(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Part the values of config fields from the other arguments."""
    overrides, rest = {}, []
    for argument in argv:
        name, equals, value = argument.partition("=")
        if not name.startswith("--config."):
            rest.append(argument)
        elif not equals:
            raise errors.InputError(f"{name} lacks its value: {name}=<value>")
        else:
            overrides[name.removeprefix("--config.")] = value
    return overrides, rest


def _parser() -> argparse.ArgumentParser:
    examples = ["paper --rows fcn conv2 --seeds 20 --workdir=runs/paper", "paper --help"]
    parser = Parser(prog="ssm-jax experiments", description=__doc__, examples=examples)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")

    def verb(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text, examples=[example])

    sub = verb("paper", "Rows of the paper's main table.", "--rows fcn conv2 --seeds 20 --workdir=runs/paper")
    sub.add_argument("--rows", nargs="+", required=True, metavar="ROW", help=", ".join(paper.ROWS))
    sub.add_argument("--dense", action="store_true", help="also train each row dense, by the same recipe")
    _add_common(sub)

    sub = verb(
        "frontier",
        "Test accuracy against remaining weights.",
        "--network fcn --densities 0.005 0.01 0.02 0.05 0.1 0.25 0.5",
    )
    _add_network(sub)
    sub.add_argument("--densities", nargs="+", required=True, type=float, help="shares in (0, 1]")
    sub.add_argument("--rules", nargs="+", default=[plans.SIGNED], help="mask rules that can hold a density")
    _add_common(sub)

    sub = verb("rivals", "Mask rules side by side under the same training.", "--network conv2 --seeds 3")
    _add_network(sub)
    sub.add_argument("--rules", nargs="+", default=list(plans.RIVALS), help=", ".join(plans.RIVALS))
    sub.add_argument("--density", type=float, help="share in (0, 1], for the rules that can hold one")
    _add_common(sub)

    sub = verb(
        "ablation", "Kernels and scores, thresholds, mask rules, dense initializations.", "--network fcn"
    )
    _add_network(sub)
    _add_common(sub)

    sub = verb(
        "rates",
        "Learning rates of mask rules, told by held-out images.",
        "--network fcn --rules tiles --rates 0.05 0.2 0.8 --config.training.epochs=5",
    )
    _add_network(sub)
    sub.add_argument("--rules", nargs="+", required=True, help=", ".join(plans.RIVALS))
    sub.add_argument("--rates", nargs="+", required=True, type=float, help="learning rates")
    _add_common(sub)

    sub = verb(
        "collect",
        "Copy summaries and curves into a folder, with a table of them and figures.",
        "runs/paper --into=results/paper",
    )
    sub.add_argument("runs", help="folder of an experiment, finished or not")
    sub.add_argument("--into", required=True, help="folder of the results")

    sub = verb(
        "readme", "Make tables, figures and the results sections of pages anew, from the collected files.", ""
    )
    sub.add_argument(
        "--pages", nargs="+", default=PAGES, help=f"files in Markdown (default: {' '.join(PAGES)})"
    )
    sub.add_argument("--results", default="results", help="folder of the results (default: results)")
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", required=True, help="a file among the configs, for example conv2")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=1, help="networks per setting (default: 1)")
    parser.add_argument("--workdir", help="folder of the runs (default: runs/<verb>[-<network>])")
    parser.add_argument(
        "--variant",
        help=f"variant of the config; {MAIN} is none (default: {BEST} where the config has it, else {MAIN})",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its time, run nothing")
    parser.add_argument("--configs", default=configs.FOLDER, help="folder of config files (default: ours)")
    parser.add_argument_group(
        "settings of all runs", "--config.<field>=<value>, for example --config.training.epochs=3"
    )


def _paper(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    for name in arguments.rows:
        errors.choose("row", name, paper.ROWS)
    networks = dict.fromkeys(paper.ROWS[name].network for name in arguments.rows)
    variants = {network: _variant(arguments, network) for network in networks}
    settings = plans.rows(arguments.rows, variants, dense=arguments.dense)
    # A row's variant is in its name, so that rows of several may lie in one folder.
    _run(arguments, Experiment(kind="paper", shared={}, runs=()), settings, overrides)


# What is planned of one network: by verb, a function of the arguments and the config's variant.
_PLANS: dict[str, Callable[[argparse.Namespace, str], list[Setting]]] = {
    "frontier": lambda args, variant: plans.frontier(args.network, variant, args.densities, args.rules),
    "rivals": lambda args, variant: plans.rivals(args.network, variant, args.rules, args.density),
    "ablation": lambda args, variant: plans.ablation(
        args.network, variant, _load(args.configs)(plans.spec(args.network, variant))
    ),
    "rates": lambda args, variant: plans.rates(args.network, variant, args.rules, args.rates),
}


def _of_network(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    variant = _variant(arguments, arguments.network)
    settings = _PLANS[arguments.verb](arguments, variant)
    if arguments.verb == "rates":
        overrides = {"data.validation": HELD_OUT, **overrides}
    shared = {"network": arguments.network, "variant": variant or MAIN, **overrides}
    _run(arguments, Experiment(kind=arguments.verb, shared=shared, runs=()), settings, overrides)


def _collect(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    _check_none(overrides)
    experiment = collect.collect(arguments.runs, arguments.into)
    terminal.say(f"{len(experiment.runs)} runs, their table and figures are in {arguments.into}")


def _readme(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    _check_none(overrides)
    for path in sorted(pathlib.Path(arguments.results).glob(f"*/{record.FILE}")):
        experiment = record.read(path.parent)
        assert experiment is not None
        collect.sum_up(path.parent, experiment)
    for page in arguments.pages:
        changed = readme.update(page, arguments.results)
        terminal.say(f"the results in {page} are {'written anew' if changed else 'as before'}")


def _check_none(overrides: dict[str, str]) -> None:
    for name in overrides:
        raise errors.InputError(f"--config.{name}: nothing is trained here")


_VERBS: dict[str, Callable[[argparse.Namespace, dict[str, str]], None]] = {
    "paper": _paper,
    **dict.fromkeys(_PLANS, _of_network),
    "collect": _collect,
    "readme": _readme,
}


def _variant(arguments: argparse.Namespace, network: str) -> str:
    """The variant that is asked for, or the best there is; empty for the main row."""
    file = pathlib.Path(arguments.configs) / f"{network}.py"
    if not file.exists():
        raise errors.unknown("network", network, configs.names(pathlib.Path(arguments.configs)))
    if arguments.variant is None:
        return BEST if BEST in configs.variants(str(file)) else ""
    return "" if arguments.variant == MAIN else str(arguments.variant)


def _load(folder: str) -> runner.Load:
    return lambda spec: configs.load(str(pathlib.Path(folder) / spec))


def _run(
    arguments: argparse.Namespace,
    experiment: Experiment,
    settings: Sequence[Setting],
    overrides: dict[str, str],
) -> None:
    default = "-".join(filter(None, (arguments.verb, getattr(arguments, "network", None))))
    workdir = RunFolder(arguments.workdir or f"runs/{default}").path  # which a bucket is not
    jobs = runner.prepare(
        experiment,
        settings,
        seeds=arguments.seeds,
        overrides=overrides,
        workdir=workdir,
        load=_load(arguments.configs),
        plan=arguments.dry_run,
    )
    if arguments.dry_run:
        terminal.say(runner.describe(jobs))
        return
    try:
        runner.run(experiment, jobs, workdir)
    finally:
        _print_table(workdir)


def _print_table(workdir: pathlib.Path) -> None:
    try:
        runs = record.read(workdir) and results.finished(workdir)[1]
    except errors.InputError as error:  # which is not why the experiment ended
        terminal.complain(f"no table: {error}")
        return
    if runs:
        terminal.say(f"\n{tables.markdown(results.results(runs))}")
