"""Build, merge, measure and check reward models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flywheel.cli.options import AsJson, Constraints, Input, Overrides, named_workspace, opened
from flywheel.cli.stopping import finishing
from flywheel.errors import ConfigError

if TYPE_CHECKING:
    from flywheel.config import Config
    from flywheel.core.progress import Progress
    from flywheel.workspace import Workspace

app = typer.Typer(help="Build, merge, measure and check reward models.", no_args_is_help=True)

To = Annotated[Path, typer.Option("--to", help="The folder to create.")]


@app.command()
def build(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Build the missing parts of the reward model (slice, members, merge), self-test it, and print held-out accuracies."""
    from flywheel.report import reward as report
    from flywheel.reward.build import build_reward_model

    with _at_work(overrides) as (config, workspace, progress):
        merged = build_reward_model(config, workspace, progress)
        members = map(workspace.store.model, merged.facts.members)
    report.print_models([*members, merged], as_json=as_json)


@app.command("slice")
def slice_command(
    source: Annotated[str, typer.Argument(help="Folder or hub id of a language model.")],
    to: To,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Number of first layers to keep.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of the head's initial weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Cut a language model to its first layers and add the scoring head that all members share."""
    from flywheel.report import reward as report

    _refuse_existing(to)
    from flywheel.core.model_folders import local_folder
    from flywheel.core.quiet import silence
    from flywheel.reward.slice import build_base

    silence()
    sliced = build_base(str(local_folder(source)), to, layers=layers, seed=seed)
    report.print_sliced(sliced, to, as_json=as_json)


@app.command()
def train(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MEMBER]...", help="Members to train; default: all.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train members without merging them."""
    from flywheel.report import reward as report
    from flywheel.reward.build import Lab

    with _at_work(overrides) as (config, workspace, progress):
        for name in names or ():
            if name not in config.reward.members:
                raise ConfigError(f"no member {name!r} in the config", f"Name one of {', '.join(config.reward.members)}.")
        trained = Lab(config, workspace, progress).members(names or ())
    report.print_models(list(trained.values()), as_json=as_json)


@app.command()
def merge(
    members: Annotated[list[str], typer.Argument(metavar="FOLDER=WEIGHT...", help="Members and their weights.")],
    base: Annotated[Path, typer.Option("--base", help="Base that the members were trained from.")],
    to: To,
    method: Annotated[str, typer.Option("--method", help="ties, linear, dare_ties, della, or slerp for two.")] = "ties",
    density: Annotated[float, typer.Option("--density", help="Share of each member's changes to keep.")] = 1.0,
    normalize: Annotated[bool, typer.Option(help="Divide the weights by their sum.")] = True,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, float16 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option("--seed", help="Seed of methods that drop changes at random.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Merge the reward models of some folders, and print mergekit's YAML, which is saved with the result."""
    from flywheel.config import MergeConfig, parse
    from flywheel.report import reward as report

    _refuse_existing(to)
    weights: dict[Path, float] = {}
    for folder, weight in map(_weighted, members):
        if folder in weights:
            raise ConfigError(f"duplicate member {folder}", "Name it once, with the sum of its weights.")
        weights[folder] = weight
    checked = parse(MergeConfig, {"method": method, "density": density, "normalize": normalize, "dtype": dtype})
    from flywheel.core.quiet import silence
    from flywheel.reward.merge import merge_folders

    silence()
    recipe = merge_folders(base, weights, checked, to, seed=seed)
    report.print_recipe(recipe, to, as_json=as_json)


@app.command()
def search(
    trials: Annotated[int, typer.Option("--trials", min=3, help="Merges to try.")] = 16,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for the merge that keeps most of every member, and print the settings that use it.

    Merges are compared on the validation splits; the test splits are not read.
    """
    from flywheel.report import reward as report
    from flywheel.reward.build import Lab

    with _at_work([*(overrides or []), f"reward.search.trials={trials}"]) as work:
        lab = Lab(*work)
        search = lab.search(lab.members())
    report.print_search(search, as_json=as_json)


@app.command("eval")
def eval_command(
    split: Annotated[Literal["test", "validation"], typer.Option("--split", help="Split to measure on.")] = "test",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare the members, their merge, ensembles and a length baseline on every dataset."""
    from flywheel.report.reward import print_reward_report
    from flywheel.reward.report import evaluate_reward_model
    from flywheel.reward.sources import Split

    with _at_work(overrides) as (config, workspace, progress):
        report = evaluate_reward_model(config, workspace, progress, split=Split(split))
    print_reward_report(report, as_json=as_json)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="merged, a member's name, a model id, or a folder.")] = "merged",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Self-test a reward model: batch, padding, eval mode, dtype, head, label order, end of text, reload."""
    from flywheel.report import reward as report
    from flywheel.reward.score import examine

    findings = examine(named_workspace(), model, overrides or [])
    report.print_checks(findings, as_json=as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="merged, a member's name, a model id, or a folder.")],
    texts: Annotated[list[str], typer.Argument(help="Outputs for --instruction, or whole texts without it.")],
    instruction: Annotated[str | None, typer.Option("--instruction", help="The instruction that the outputs answer.")] = None,
    text: Input = "None",
    constraints: Constraints = "None",
    as_json: AsJson = False,
) -> None:
    """Score texts with a reward model, best first."""
    from flywheel.records import Task
    from flywheel.report import tables
    from flywheel.report.rounds import scores_table
    from flywheel.reward.score import score_texts

    task = Task(instruction=instruction, input=text, constraints=constraints) if instruction is not None else None
    table = scores_table(texts, score_texts(named_workspace(), model, texts, task))
    tables.print_json(table.as_dicts()) if as_json else tables.print_table(table)


@app.command()
def pairs(
    data: Annotated[str, typer.Argument(help="Thumbs: a file, a folder or a hub id.")],
    group_by: Annotated[str, typer.Option("--group-by", help="Column whose value the outputs of a pair share.")],
    to: Annotated[Path, typer.Option("--to", help="The jsonl file to write.")],
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="KEY=NAME", help="Column of a field, such as text=input_text.")
    ] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Labels of at least this value are likes.")] = None,
    liked: Annotated[list[str] | None, typer.Option("--liked", help="Text label that counts as a like.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the pairing within a group.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make pairs from thumbs: a liked and a disliked output of the same group."""
    from flywheel.config import DataConfig, parse
    from flywheel.report import reward as report

    named = dict(map(_column, columns or []))
    values = {"kind": "thumbs", "data": data, "columns": named, "threshold": threshold, "liked": liked or ()}
    checked = parse(DataConfig, values)
    _refuse_existing(to)
    from flywheel.reward.pairs import write_pairs

    report.print_pairs(write_pairs(checked, group_by, to, seed=seed), to, as_json=as_json)


@contextmanager
def _at_work(overrides: list[str] | None) -> Iterator[tuple[Config, Workspace, Progress]]:
    """Open and lock the workspace, created with the nano preset where it is missing; the budget and signals stop the work."""
    with finishing():
        from flywheel.report.progress import Terminal
        from flywheel.round.budget import Budget

        wheel = opened(overrides)
        config = wheel.configured()
        if not wheel.workspace.exists:
            opened().create()
        with wheel.workspace.at_work():
            wheel.workspace.store.migrate()
            yield config, wheel.workspace, Budget(config.budget, config.prices).watch(Terminal())


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path} already exists", "Remove it, or choose another --to.")


def _column(text: str) -> tuple[str, str]:
    key, _, name = text.partition("=")
    if not key or not name:
        raise ConfigError(f"--column {text!r} is not KEY=NAME", "Use KEY=NAME, such as `--column text=input_text`.")
    return key, name


def _weighted(text: str) -> tuple[Path, float]:
    folder, _, weight = text.rpartition("=")
    with suppress(ValueError):
        if folder and 0 < float(weight) < math.inf:
            return Path(folder), float(weight)
    raise ConfigError(f"{text!r} is not FOLDER=WEIGHT with a weight above 0", "Use FOLDER=WEIGHT, such as members/thumbs=0.5.")
