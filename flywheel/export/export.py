"""A round as a folder that `datasets.load_dataset` reads: its rows, and a card that states their provenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import Config, parse
from flywheel.core.files import expanded, publish
from flywheel.engines.generator import training_start
from flywheel.errors import ConfigError, StoreError
from flywheel.export.card import card
from flywheel.export.files import write_rows
from flywheel.export.hub import Pushed, check_push, push
from flywheel.export.shapes import ExportOptions, Shape, as_row
from flywheel.instructions.prompts import Prompts, load_prompts
from flywheel.records import Policy, Round
from flywheel.store import exporting
from flywheel.store.store import BULK
from flywheel.workspace import Workspace

OURS = {"README.md", "data", "train.parquet", "train.jsonl", ".cache"}
"""Files of an export, which ``overwrite`` may remove; `.cache` is the hub's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A finished export."""

    folder: Path
    rows: dict[str, int]
    """By round."""
    files: list[str]
    unfinished: list[str]
    """Rounds on which no generator is trained and evaluated yet; the card says so."""
    changed: list[str]
    """Rounds whose templates have changed since; the card says so."""
    pushed: Pushed | None


def export(workspace: Workspace, options: ExportOptions) -> Exported:
    """Write an export, whole or not at all, then push it if asked to; raises FlywheelError.

    A push that fails keeps the folder.
    """
    if options.public and options.push_to is None:
        raise ConfigError("--public requires --push", "Add `--push OWNER/NAME`, or remove --public.")
    if options.pairs and options.shape == Shape.COLUMNS:
        raise ConfigError("--pairs does not support --shape columns", "Set --shape to prompt-completion or messages.")
    folder = expanded(options.to).resolve()
    _check_folder(folder, overwrite=options.overwrite)
    rounds = _rounds(workspace, options)
    if options.push_to is not None:
        check_push(options.push_to)
    changed = [row.round for row in rounds if _has_changed(workspace, row, options.row_shape)]
    try:
        with publish(folder) as unfinished:
            counts = _write(unfinished, workspace, options, rounds)
            text = card(workspace.store, options, rounds, rows=counts, changed=changed)
            (unfinished / "README.md").write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"cannot write {folder}: {error.strerror or error}"
        raise StoreError(message, "Free some space, or choose another folder with --to.") from None
    return Exported(
        folder=folder,
        rows=counts,
        files=sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        unfinished=[row.round for row in rounds if row.status != "done"],
        changed=changed,
        pushed=push(folder, options.push_to, public=options.public) if options.push_to is not None else None,
    )


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise StoreError unless a folder is free, or holds an earlier export that may go."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file", "Choose a folder with --to.")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if foreign := [name for name in names if name not in OURS]:
        raise StoreError(f"{folder} contains {foreign[0]}, which is not part of an export", "Choose another folder with --to.")
    if names and not overwrite:
        raise StoreError(f"{folder} is not empty ({len(names)} entries)", "Choose another folder, or add --overwrite.")


def _rounds(workspace: Workspace, options: ExportOptions) -> list[Round]:
    """The rounds to export, oldest first; raises StoreError for one that does not exist or has no winners yet."""
    rounds = workspace.store.rounds(controls=True)
    last = next((row for row in rounds if row.round == options.name), None)
    if last is None:
        names = ", ".join(row.round for row in rounds if row.number > 0)
        raise StoreError(f"no round {options.name!r}", f"Choose one of {names}." if names else "Run `flywheel round` first.")
    if last.number == 0:
        raise StoreError("r0 has no winners: it is the evaluation of the untouched generator", "Choose a later round.")
    if options.pairs and last.policy != Policy.BEST:
        message = f"--pairs does not support {last.round}, which selects by the policy {last.policy}"
        raise ConfigError(message, f"Choose {last.tasks_of}.")
    if not exporting.selected(workspace.store.path, last.tasks_of):
        raise StoreError(f"{last.round} has not selected its winners yet", "Run `flywheel round` to finish it.")
    earlier = [row for row in rounds if row.policy == Policy.BEST and row.status == "done" and 0 < row.number < last.number]
    return [*(earlier if options.everything else []), last]


def _write(folder: Path, workspace: Workspace, options: ExportOptions, rounds: Sequence[Round]) -> dict[str, int]:
    """Write the rows, and return their number by round; raises StoreError where there are none."""
    path, policy = workspace.store.path, str(rounds[-1].policy)
    counts = dict.fromkeys((row.round for row in rounds), 0)

    def records(name: str, attempts: range) -> Sequence[exporting.Pick | exporting.Pair]:
        return exporting.pairs(path, name, attempts) if options.pairs else exporting.picks(path, name, policy, attempts)

    def blocks() -> Iterator[list[dict[str, Any]]]:
        for row in rounds:
            prompts = _prompts(workspace, row, options.row_shape)
            for attempts in workspace.store.spans(row.tasks_of, BULK):
                block = [as_row(record, options, prompts) for record in records(row.tasks_of, attempts)]
                counts[row.round] += len(block)
                if block:
                    yield block

    write_rows(folder, options.form, options.columns, blocks())
    if any(counts.values()):
        return counts
    if options.pairs:
        message = f"{options.name} has no pairs: no task has two finished candidates with different rewards"
        raise StoreError(message, "Raise `sampling.n` for the next round.")
    hint = "Raise `sampling.max_tokens` for the next round if outputs were cut off; lower it if prompts were too long."
    raise StoreError(f"{options.name} has no winners: no candidate is finished", hint)


def _prompts(workspace: Workspace, row: Round, shape: Shape) -> Prompts | None:
    """The prompts of a round's tasks, from today's templates."""
    if shape == Shape.COLUMNS:
        return None
    config = parse(Config, row.config)
    if shape == Shape.MESSAGES:
        return Prompts(config.path(config.prompts), meta_prompt=config.instructions.meta_prompt, chat=str)
    return load_prompts(config, workspace, training_start(row, config, workspace))


def _has_changed(workspace: Workspace, row: Round, shape: Shape) -> bool:
    """Whether the templates, and so perhaps the prompts, are different from those of the round."""
    config = parse(Config, row.config)
    if shape == Shape.COLUMNS or (shape == Shape.MESSAGES and config.prompt_style != "chat"):
        return False
    prompts = load_prompts(config, workspace, workspace.store.model(row.generator_in))
    return bool(prompts.digest != row.identity["digest.prompts"])
