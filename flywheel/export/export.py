"""A round as a folder that `datasets.load_dataset` reads: its rows, and a card that tells where they are from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import check
from flywheel.core.files import expanded, publish
from flywheel.engines.generator import trained_before
from flywheel.errors import ConfigError, StoreError
from flywheel.export.card import Contents, card
from flywheel.export.files import write_rows
from flywheel.export.hub import Pushed, check_push, push
from flywheel.export.shapes import Columns, Format, Shape, columns, pair_row, pick_row
from flywheel.instructions.prompt_style import load_prompts
from flywheel.instructions.prompts import Prompts
from flywheel.records import Policy, Round
from flywheel.store import exporting
from flywheel.store.store import BULK
from flywheel.workspace import Workspace

OURS = {"README.md", "data", "train.parquet", "train.jsonl", ".cache"}
"""What may lie in a folder that is thrown away for a new export; `.cache` is the hub's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be exported, and how."""

    name: str
    """A round or a control."""
    to: Path
    form: Format = Format.HF
    shape: Shape | None = None
    """None is columns, and prompt-completion for pairs."""
    pairs: bool = False
    everything: bool = False
    """The rounds before it, too."""
    overwrite: bool = False
    push_to: str | None = None
    public: bool = False

    @property
    def row_shape(self) -> Shape:
        return self.shape or (Shape.PROMPT_COMPLETION if self.pairs else Shape.COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    folder: Path
    rows: dict[str, int]
    """By round."""
    files: list[str]
    unfinished: list[str]
    """Rounds on which no generator is trained and evaluated yet; the card says so."""
    changed: list[str]
    """Rounds whose prompts are made with other templates than they had; the card says so."""
    pushed: Pushed | None


def export(workspace: Workspace, asked: Asked) -> Exported:
    """Write an export whole or not at all, then push it where that is asked for; raises FlywheelError in one line.

    A push that fails leaves the folder as it was written.
    """
    if asked.public and asked.push_to is None:
        raise ConfigError("--public is for --push OWNER/NAME; add it, or leave --public out")
    if asked.pairs and asked.shape == Shape.COLUMNS:
        raise ConfigError("--pairs has no shape columns; take --shape prompt-completion or messages")
    folder = expanded(asked.to).resolve()
    _refuse_taken(folder, overwrite=asked.overwrite)
    chosen = _chosen(workspace, asked)
    if asked.push_to is not None:
        check_push(asked.push_to)
    found = columns(asked.row_shape, pairs=asked.pairs)
    with publish(folder) as new, _in_one_line(folder):
        counts = _write(new, workspace, asked, chosen, found)
        changed = [one.round for one in chosen if _changed(workspace, one, asked.row_shape)]
        text = card(_contents(workspace, asked, chosen, counts, changed, found))
        (new / "README.md").write_text(text, encoding="utf-8")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    pushed = push(folder, asked.push_to, public=asked.public) if asked.push_to is not None else None
    unfinished = [one.round for one in chosen if one.status != "done"]
    return Exported(folder=folder, rows=counts, files=files, unfinished=unfinished, changed=changed, pushed=pushed)


def _refuse_taken(folder: Path, *, overwrite: bool) -> None:
    """Raise unless a folder is free, or holds an earlier export that may go."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; name a folder with --to")
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if there and not overwrite:
        raise StoreError(f"{folder} is not empty ({len(there)} entries); name another with --to, or add --overwrite")
    if strange := [name for name in there if name not in OURS]:
        raise StoreError(
            f"{folder} holds {strange[0]}, which is no part of an export; --overwrite keeps its hands off, name another"
        )


def _chosen(workspace: Workspace, asked: Asked) -> list[Round]:
    """The rounds that are exported, oldest first; raises StoreError where one is not there or has no winners yet."""
    rounds = workspace.store.rounds(controls=True)
    made = next((one for one in rounds if one.round == asked.name), None)
    if made is None:
        raise StoreError(f"no round {asked.name!r}; there are {', '.join(one.round for one in rounds) or 'none yet'}")
    if made.number == 0:
        raise StoreError("r0 is the untouched generator and has no winners; name a later round")
    if asked.pairs and made.policy != Policy.BEST:
        raise ConfigError(
            f"--pairs are of the best and the worst candidates, not of the policy {made.policy}; name {made.tasks_of}"
        )
    if not exporting.selected(workspace.store.path, made.tasks_of):
        raise StoreError(f"{asked.name} has not selected its winners yet; finish it with `flywheel round`")
    earlier = [one for one in rounds if one.policy == Policy.BEST and 0 < one.number < made.number and one.status == "done"]
    return [*(earlier if asked.everything else []), made]


def _write(folder: Path, workspace: Workspace, asked: Asked, chosen: Sequence[Round], found: Columns) -> dict[str, int]:
    counts = dict.fromkeys((one.round for one in chosen), 0)

    def blocks() -> Iterator[list[dict[str, Any]]]:
        for one in chosen:
            prompts = _prompts(workspace, one, asked.row_shape)
            for attempts in workspace.store.spans(one.tasks_of, BULK):
                rows = _block(workspace.store.path, asked, one, chosen[-1].policy, prompts, attempts)
                counts[one.round] += len(rows)
                if rows:
                    yield rows

    if write_rows(folder, asked.form, found, blocks()) == 0:
        why = (
            "no task has two finished candidates of different reward; sample more with sampling.n"
            if asked.pairs
            else "all its candidates were cut; raise sampling.max_tokens"
        )
        raise StoreError(f"{asked.name} has no {'pairs' if asked.pairs else 'winners'}: {why}")
    return counts


def _block(
    path: Path, asked: Asked, made: Round, policy: Policy, prompts: Prompts | None, attempts: range
) -> list[dict[str, Any]]:
    if asked.pairs:
        assert prompts is not None, "pairs have no shape columns"
        return [pair_row(one, asked.row_shape, prompts) for one in exporting.pairs(path, made.tasks_of, attempts)]
    return [pick_row(one, asked.row_shape, prompts) for one in exporting.picks(path, made.tasks_of, str(policy), attempts)]


def _prompts(workspace: Workspace, made: Round, shape: Shape) -> Prompts | None:
    """What a round's tasks are said with, from the templates as they are now."""
    if shape == Shape.COLUMNS:
        return None
    config = check(made.config)
    if shape == Shape.MESSAGES:
        return Prompts(config.path(config.prompts), meta_prompt=config.instructions.meta_prompt, chat=str)
    return load_prompts(config, workspace, trained_before(made, config, workspace))


def _changed(workspace: Workspace, made: Round, shape: Shape) -> bool:
    """Whether the templates are other ones than the round's, so that the prompts may be too."""
    config = check(made.config)
    if shape == Shape.COLUMNS or (shape == Shape.MESSAGES and config.prompt_style != "chat"):
        return False
    read = load_prompts(config, workspace, workspace.store.model(made.generator_in))
    return bool(read.digest != made.identity["digest.prompts"])


def _contents(
    workspace: Workspace,
    asked: Asked,
    chosen: Sequence[Round],
    counts: dict[str, int],
    changed: Sequence[str],
    found: Columns,
) -> Contents:
    store, made = workspace.store, chosen[-1]
    models = {}
    for model_id in (made.generator_in, made.generator_out, made.reward_model, made.judge):
        if model_id is not None:
            models[model_id] = store.model(model_id)
    reward = models.get(made.reward_model or "")
    for model_id in reward.facts.members if reward else ():
        models[model_id] = store.model(model_id)
    return Contents(
        round=made,
        rounds=[exporting.facts(store.path, one.round, one.tasks_of) for one in chosen],
        models=models,
        form=asked.form,
        shape=asked.row_shape,
        pairs=asked.pairs,
        rows=counts,
        columns=found,
        changed=changed,
    )


@contextmanager
def _in_one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}; free some space, or choose another --to") from None
