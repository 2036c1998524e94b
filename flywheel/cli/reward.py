"""Build, merge, measure and check reward models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from flywheel.cli.options import AsJson, Constraints, Input, Overrides, named_workspace, opened
from flywheel.cli.stopping import finishing
from flywheel.errors import ConfigError, DataError

if TYPE_CHECKING:
    from flywheel.config import Config
    from flywheel.core.progress import Progress
    from flywheel.workspace import Workspace

app = typer.Typer(help="Build, merge, measure and check reward models.", no_args_is_help=True)

To = Annotated[Path, typer.Option("--to", help="The folder to create.")]


class Part(StrEnum):
    """The splits that can be reported on."""

    TEST = "test"
    VALIDATION = "validation"


@app.command()
def build(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Build whatever the reward model is missing: slice, members, merge, self-test; print its held-out accuracies."""
    from flywheel.report import reward as report
    from flywheel.reward.build import build_reward_model

    with _at_work(overrides) as lab:
        merged = build_reward_model(*lab)
        members = [lab.workspace.store.model(member) for member in merged.facts.members]
    report.print_built(members, merged, as_json=as_json)


@app.command("slice")
def slice_command(
    source: Annotated[str, typer.Argument(help="Folder or hub id of a language model.")],
    to: To,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Layers to keep, from the first.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of the head's initial weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Cut a language model to its first layers and attach the one head that all members share."""
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
    names: Annotated[list[str] | None, typer.Argument(metavar="[MEMBER]...", help="Default: all members.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train members of the config, without merging them."""
    from flywheel.report import reward as report
    from flywheel.reward.build import Lab

    with _at_work(overrides) as lab:
        members = lab.config.reward.members
        for name in names or ():
            if name not in members:
                raise ConfigError(f"no member {name!r}", f"The config has {', '.join(members)}.")
        trained = list(Lab(*lab).members(names or list(members)).values())
    report.print_members(trained, as_json=as_json)


@app.command()
def merge(
    members: Annotated[list[str], typer.Argument(metavar="FOLDER=WEIGHT...", help="Members and their weights.")],
    base: Annotated[Path, typer.Option("--base", help="The sliced base that they were trained from.")],
    to: To,
    method: Annotated[str, typer.Option("--method", help="ties, linear, dare_ties, della, or slerp for two.")] = "ties",
    density: Annotated[float, typer.Option("--density", help="Share of each member's changes to keep.")] = 1.0,
    normalize: Annotated[bool, typer.Option(help="Divide the weights by their sum.")] = True,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, float16 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option("--seed", help="Seed of methods that drop changes at random.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Merge reward models in folders; print mergekit's YAML, which is kept with the result."""
    from flywheel.config import MergeConfig, parse
    from flywheel.report import reward as report

    _refuse_existing(to)
    weights: dict[Path, float] = {}
    for folder, weight in map(_weighted, members):
        if folder in weights:
            raise ConfigError(f"{folder} is named twice", "Name it once, with the sum of its weights.")
        weights[folder] = weight
    checked = parse(MergeConfig, {"method": method, "density": density, "normalize": normalize, "dtype": dtype}, "merge")
    from flywheel.core.quiet import silence
    from flywheel.reward.merge import merge_folders

    silence()
    recipe = merge_folders(base, weights, checked, to, seed=seed)
    report.print_recipe(recipe, to, as_json=as_json)


@app.command()
def search(
    trials: Annotated[int | None, typer.Option("--trials", min=3, help="Merges to try; default: the config's, or 48.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for the merge that keeps most of every member, on the validation splits; the test splits are not read.

    Prints the best and what to write into the config to use it.
    """
    from flywheel.report import reward as report
    from flywheel.reward.build import Lab

    tried = [f"reward.search.trials={trials}"] if trials else []
    with _at_work([*(overrides or []), *tried]) as lab:
        if not lab.config.reward.search.trials:
            lab = lab._replace(config=lab.workspace.config([*(overrides or []), "reward.search.trials=48"]))
        search = Lab(*lab)
        found = search.search(search.members())
    report.print_search(found, as_json=as_json)


@app.command("eval")
def eval_command(
    split: Annotated[Part, typer.Option("--split", help="Which held-out rows.")] = Part.TEST,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Report on the reward model: members, merge, ensembles and the length baseline on every set, and more."""
    from flywheel.report.reward import print_reward_report
    from flywheel.reward.report import evaluate_reward_model
    from flywheel.reward.sources import Split

    with _at_work(overrides) as lab:
        report = evaluate_reward_model(*lab, split=Split(split.value))
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
    texts: Annotated[list[str], typer.Argument(help="Outputs to score; whole texts without --instruction.")],
    instruction: Annotated[str | None, typer.Option("--instruction", help="The instruction they answer.")] = None,
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
    group_by: Annotated[str, typer.Option("--group-by", help="Outputs that share this column's value are paired.")],
    to: Annotated[Path, typer.Option("--to", help="The jsonl file to write.")],
    columns: Annotated[list[str] | None, typer.Option("--column", metavar="WHAT=NAME", help="Such as text=input_text.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Labels from this value on count as liked.")] = None,
    liked: Annotated[list[str] | None, typer.Option("--liked", help="A label, if it is a word, that counts as liked.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the pairing within a group.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make pairs from thumbs: within each group, a liked output and a disliked one."""
    from flywheel.config import DataConfig, parse
    from flywheel.report import reward as report

    named = dict(_split_once(column, "--column takes WHAT=NAME, such as text=input_text.") for column in columns or [])
    values = {"kind": "thumbs", "data": data, "columns": named, "threshold": threshold, "liked": liked or ()}
    checked = parse(DataConfig, values, "pairs")
    if to.exists():
        raise DataError(f"{to} already exists", "Remove it, or choose another --to.")
    from flywheel.reward.pairs import write_pairs

    made = write_pairs(checked, group_by, to, seed=seed)
    report.print_pairs(made, to, as_json=as_json)


class Opened(NamedTuple):
    """What the lab works with."""

    config: Config
    workspace: Workspace
    progress: Progress


@contextmanager
def _at_work(overrides: list[str] | None) -> Iterator[Opened]:
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
            yield Opened(config, wheel.workspace, Budget(config.budget, config.prices).watch(Terminal()))


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise ConfigError(f"{folder} already exists", "Remove it, or choose another --to.")


def _split_once(text: str, wanted: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ConfigError(f"cannot read {text!r}", wanted)
    return name, value


def _weighted(text: str) -> tuple[Path, float]:
    import math

    folder, _, weight = text.rpartition("=")
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not folder or not number > 0 or math.isinf(number):
        raise ConfigError(
            f"cannot read the member {text!r}", "Write FOLDER=WEIGHT with a weight above 0, such as members/thumbs=0.5."
        )
    return Path(folder), number
