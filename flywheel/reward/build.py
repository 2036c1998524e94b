"""Build the reward model of a configuration: slice, members, merge, each recorded as it is finished.

What a model is made from is its *recipe*; a model whose recipe is recorded already is not built again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flywheel.config import Config, MemberConfig
from flywheel.errors import DataError
from flywheel.files import digest_files, digest_model, publish
from flywheel.instructions.text import Prompts
from flywheel.models import local_folder
from flywheel.progress import Progress
from flywheel.quiet import silence
from flywheel.records import Model, ModelKind
from flywheel.reward.accuracy import Preferences, accuracies
from flywheel.reward.data import Pair, Split, Thumb, read_preferences
from flywheel.reward.members import train_member
from flywheel.reward.mergekit import copy_tokenizer, merge_recipe, run_mergekit
from flywheel.reward.model import RewardModel, write_scale
from flywheel.reward.slice import build_base
from flywheel.reward.text import Answer
from flywheel.seeds import derive
from flywheel.workspace import Workspace

REFERENCE_TEXTS = 1024
"""Size of the set that scores are standardised on."""


def recipe_of(config: Config) -> dict[str, Any]:
    """All that the reward model of a configuration is made from, with digests instead of paths."""
    reward = config.reward
    base = {
        "source": digest_model(local_folder(config.model(reward.base))),
        "layers": reward.layers,
        "seed": reward.seed,
    }
    members = {
        name: {
            "base": base,
            "kind": member.kind,
            "data": digest_files(_data_file(config, member)),
            "prompt": digest_files(config.path(config.prompts) / "answer.jinja"),
            "epochs": member.epochs or reward.epochs,
            "learning_rate": reward.learning_rate,
            "batch_size": reward.batch_size,
            "max_length": reward.max_length,
            "seed": reward.seed,
        }
        for name, member in reward.members.items()
    }
    weights = {name: member.weight for name, member in reward.members.items()}
    return {"base": base, "members": members, "weights": weights, "merge": reward.merge.model_dump()}


def _data_file(config: Config, member: MemberConfig) -> Path:
    path = config.path(member.data)
    if not path.is_file():
        raise DataError(f"no file {path}; mend its path in the config")
    return path


def build_reward_model(config: Config, workspace: Workspace, progress: Progress) -> Model:
    """Build what is missing of the reward model and return it; a killed build goes on."""
    recipe = recipe_of(config)
    found = _recorded(workspace, ModelKind.REWARD, recipe)
    if found:
        return found
    silence()
    prompts = Prompts(config.path(config.prompts))
    sets = {name: read_preferences(_data_file(config, member), member.kind) for name, member in config.reward.members.items()}
    lab = _Lab(config, workspace, prompts, sets, progress)
    base = lab.base(recipe["base"])
    members = {name: lab.member(name, member, base) for name, member in recipe["members"].items()}
    return lab.merge(recipe, base, members)


class _Lab:
    """One build: the same configuration, data and folder for every step."""

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        prompts: Prompts,
        sets: Mapping[str, Preferences],
        progress: Progress,
    ) -> None:
        self._config, self._reward, self._workspace = config, config.reward, workspace
        self._folder = workspace.models
        self._prompts, self._sets, self._progress = prompts, sets, progress
        self._reference = _reference(sets)

    def base(self, recipe: Mapping[str, Any]) -> Model:
        found = _recorded(self._workspace, ModelKind.BASE, recipe)
        if found:
            return found
        source = str(local_folder(self._config.model(self._reward.base)))
        folder = self._folder / f"base-{_key(recipe)[:12]}"
        with self._progress.work("slice", total=1, unit="models") as counter:
            parameters = build_base(source, folder, layers=self._reward.layers, seed=self._reward.seed)
            counter.to(1)
        return self._record(ModelKind.BASE, f"{self._reward.layers}-layers", folder, None, recipe, {"parameters": parameters})

    def member(self, name: str, recipe: Mapping[str, Any], base: Model) -> Model:
        found = _recorded(self._workspace, ModelKind.MEMBER, recipe)
        if found:
            return found
        folder = self._folder / f"member-{name}-{_key(recipe)[:12]}"
        rows = self._sets[name]
        train = [row for row in rows if row.split == Split.TRAIN]
        started = time.monotonic()
        with publish(folder) as unfinished, self._progress.work(f"member {name}", total=None, unit="steps") as counter:
            numbers = train_member(
                self._workspace.locate(base), unfinished, train, self._reward.members[name], self._reward, self._prompts,
                seed=derive(self._reward.seed, name), advance=counter.to,
            )  # fmt: skip
            self._write_scale(unfinished)
        numbers |= {"seconds": round(time.monotonic() - started, 1), "accuracy": self._accuracies(folder)}
        return self._record(ModelKind.MEMBER, name, folder, base.model_id, recipe, numbers)

    def merge(self, recipe: Mapping[str, Any], base: Model, members: Mapping[str, Model]) -> Model:
        folder = self._folder / f"reward-{_key(recipe)[:12]}"
        weights = {self._workspace.locate(model): self._reward.members[name].weight for name, model in members.items()}
        with publish(folder) as unfinished, self._progress.work("merge", total=1, unit="models") as counter:
            run_mergekit(merge_recipe(self._workspace.locate(base), weights, self._reward.merge), unfinished)
            copy_tokenizer(self._workspace.locate(base), unfinished)
            self._write_scale(unfinished)
            counter.to(1)
        numbers = {"accuracy": self._accuracies(folder), "members": [model.model_id for model in members.values()]}
        return self._record(ModelKind.REWARD, "merged", folder, base.model_id, recipe, numbers)

    def _record(
        self,
        kind: ModelKind,
        name: str,
        folder: Path,
        parent: str | None,
        recipe: Mapping[str, Any],
        numbers: Mapping[str, Any],
    ) -> Model:
        model = Model(
            kind=kind, name=name, path=self._workspace.inside(folder), digest=digest_model(folder), parent=parent,
            recipe={"key": _key(recipe)} | dict(recipe), numbers=numbers,
        )  # fmt: skip
        self._workspace.store.record_model(model)
        return model

    def _write_scale(self, folder: Path) -> None:
        write_scale(
            folder, self._prompts, self._reference,
            max_length=self._reward.max_length, batch_tokens=self._reward.batch_tokens,
        )  # fmt: skip

    def _accuracies(self, folder: Path) -> dict[str, float]:
        return accuracies(load_scorer(folder, self._config), self._sets)


def load_scorer(folder: Path, config: Config) -> RewardModel:
    """A reward model or member, ready to score."""
    return RewardModel(
        folder,
        Prompts(config.path(config.prompts)),
        max_length=config.reward.max_length,
        batch_tokens=config.reward.batch_tokens,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def _reference(sets: Mapping[str, Preferences]) -> list[Answer]:
    """Validation outputs of all sets in turn: what every model's scores are standardised on."""
    answers = [[answer for row in rows if row.split == Split.VALIDATION for answer in _answers(row)] for rows in sets.values()]
    mixed = [answer for group in itertools.zip_longest(*answers) for answer in group if answer is not None]
    return mixed[:REFERENCE_TEXTS]


def _answers(row: Thumb | Pair) -> Sequence[Answer]:
    return [row.answer] if isinstance(row, Thumb) else [row.chosen, row.rejected]


def _key(recipe: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _recorded(workspace: Workspace, kind: ModelKind, recipe: Mapping[str, Any]) -> Model | None:
    found = [model for model in workspace.store.models(kind) if model.recipe.get("key") == _key(recipe)]
    return next((model for model in reversed(found) if workspace.locate(model).is_dir()), None)
