"""Build the reward model of a configuration: slice, members, merge, each recorded as it is finished."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from flywheel.config import Config, JointConfig, MemberConfig
from flywheel.core.files import digest_model, publish
from flywheel.core.model_folders import local_folder
from flywheel.core.progress import Progress
from flywheel.core.quiet import silence
from flywheel.core.seeds import derive
from flywheel.records import CurvePoint, Facts, Model, ModelKind
from flywheel.reward.check import check_reward_model, refuse_failures
from flywheel.reward.data import PreferenceSet, pool
from flywheel.reward.measures import accuracy, rows_of, score_set
from flywheel.reward.members import Job, Trained, train_member
from flywheel.reward.merge import merge_models
from flywheel.reward.model import load_scorer, write_scale
from flywheel.reward.recipe import (
    Recipe,
    base_recipe,
    digest_records,
    key_of,
    read_sets,
    recipe_of,
    refuse_held_out_rows,
    training_recipe,
    training_settings,
)
from flywheel.reward.search import Plan, Search, search_merge
from flywheel.reward.slice import build_base
from flywheel.reward.sources import Split
from flywheel.workspace import Workspace

Item = TypeVar("Item")
REFERENCE_TEXTS = 1024
"""Size of the set that scores are standardised on."""


def build_reward_model(config: Config, workspace: Workspace, progress: Progress) -> Model:
    """Build what is missing of the reward model and return it; a killed build resumes."""
    recorded = configured_reward_model(config, workspace)
    if recorded and _has_members(recorded, workspace):
        return recorded
    return Lab(config, workspace, progress).reward_model()


def configured_reward_model(config: Config, workspace: Workspace) -> Model | None:
    """The reward model of this configuration, if it is built."""
    return _recorded(workspace, ModelKind.REWARD, recipe_of(config))


class Lab:
    """One build: the same configuration, data and folder for every step."""

    def __init__(self, config: Config, workspace: Workspace, progress: Progress) -> None:
        silence()
        self.config, self._reward, self._workspace, self._progress = config, config.reward, workspace, progress
        self.sets = read_sets(config)
        refuse_held_out_rows(config, self.sets)
        answers = [[answer for row in data.of(Split.VALIDATION) for answer in row.answers] for data in self.sets.values()]
        self._reference = _in_turn(answers)[:REFERENCE_TEXTS]

    def reward_model(self) -> Model:
        """The merge of all members, as configured or as a search finds it; built if missing."""
        recipe, members = recipe_of(self.config), self.members()
        recorded = _recorded(self._workspace, ModelKind.REWARD, recipe)
        if recorded and recorded.facts.members == tuple(member.model_id for member in members.values()):
            return recorded
        if self._reward.search.trials:
            search = self.search(members)
            return self._merge(recipe, members, search.plan, search)
        weights = {name: member.weight for name, member in self._reward.members.items()}
        return self._merge(recipe, members, Plan(weights=weights, merge=self._reward.merge), None)

    def members(self, names: Iterable[str] = ()) -> dict[str, Model]:
        """The named members, or all; those that are missing are trained."""
        start, configs = self.start(), self._reward.members
        return {name: self._trained(ModelKind.MEMBER, name, start, self.sets[name], configs[name]) for name in names or configs}

    def base(self) -> Model:
        """The sliced base with its head."""
        recipe = base_recipe(self.config)
        if recorded := _recorded(self._workspace, ModelKind.BASE, recipe):
            return recorded
        source = str(local_folder(self.config.model(self._reward.base)))
        folder = self._workspace.models / f"base-{key_of(recipe)[:12]}"
        with self._progress.work("slice", total=1, unit="models") as counter:
            sliced = build_base(source, folder, layers=self._reward.layers, seed=self._reward.seed)
            # Recorded before progress is reported, which may stop the build: the model is kept.
            model = self._record(ModelKind.BASE, f"{self._reward.layers}-layers", folder, None, recipe, Facts(sliced=sliced))
            counter.to(1)
        return model

    def start(self) -> Model:
        """The start of the members: the base, trained on all sets together where the config says so."""
        base = self.base()
        if not self._reward.joint.epochs:
            return base
        pooled = pool(self.sets, seed=self._reward.seed)
        return self._trained(ModelKind.BASE, "joint", base, pooled, self._reward.joint)

    def search(self, members: Mapping[str, Model]) -> Search:
        """Try merges on the validation splits."""
        search = search_merge(
            self._workspace.locate(self.start()),
            {name: self._workspace.locate(model) for name, model in members.items()},
            {name: rows_of(data, Split.VALIDATION) for name, data in self.sets.items()},
            partial(load_scorer, config=self.config), self._reward, progress=self._progress,
        )  # fmt: skip
        key = digest_records([model.model_id for model in members.values()])
        self._workspace.store.record_merge_trials(key, search.trials)
        return search

    def check(self, folder: Path) -> None:
        """Raise ModelError unless the reward model in a folder passes its self-test on the validation splits."""
        rows = _in_turn([data.of(Split.VALIDATION) for data in self.sets.values()])
        findings = check_reward_model(lambda: load_scorer(folder, self.config), self._reference, rows)
        refuse_failures(folder, findings)

    def _trained(
        self, kind: ModelKind, name: str, start: Model, data: PreferenceSet, stage: MemberConfig | JointConfig
    ) -> Model:
        """A member, or the joint base, trained from ``start`` unless it is recorded."""
        settings = training_settings(self._reward, stage)
        recipe: Recipe = {"base": start.digest, "rows": digest_records(data.rows)} | training_recipe(self.config, settings)
        label, prefix, twin = name, "", None
        if kind is ModelKind.MEMBER:
            twin = self._twin(recipe)
            recipe = {"training": recipe, "reference": digest_records(self._reference)}
            label, prefix = f"member {name}", "member-"
        if recorded := _recorded(self._workspace, kind, recipe):
            return recorded
        folder = self._workspace.models / f"{prefix}{name}-{key_of(recipe)[:12]}"
        with publish(folder) as unfinished:
            if twin:
                shutil.copytree(self._workspace.locate(twin), unfinished, dirs_exist_ok=True)
                trained = Trained(facts=twin.facts, curve=tuple(self._workspace.store.learning_curve(twin.model_id)))
            else:
                job = Job(
                    base=self._workspace.locate(start), folder=unfinished, data=data, settings=settings,
                    prompts=self.config.path(self.config.prompts), seed=derive(self._reward.seed, name),
                    checkpoints=folder.with_name(f"{folder.name}.training"),
                )  # fmt: skip
                with self._progress.work(label, total=None, unit="steps") as counter:
                    trained = train_member(job, counter.to)
            facts = self._measured(unfinished, trained.facts)
        return self._record(kind, name, folder, start, recipe, facts, *trained.curve)

    def _twin(self, training: Recipe) -> Model | None:
        """A recorded member of the same training, beside other sets: only its scale and its accuracies differ."""
        models = reversed(self._workspace.store.models(ModelKind.MEMBER))
        twins = (model for model in models if model.recipe.get("training") == training)
        return next(filter(self._workspace.has, twins), None)

    def _merge(self, recipe: Recipe, members: Mapping[str, Model], plan: Plan, search: Search | None) -> Model:
        base, folder = self.start(), self._workspace.models / f"reward-{key_of(recipe)[:12]}"
        weights = {self._workspace.locate(members[name]): weight for name, weight in plan.weights.items()}
        facts = Facts(
            members=tuple(model.model_id for model in members.values()), weights=dict(plan.weights),
            merge=plan.merge.model_dump(), search=search.result if search else None,
        )  # fmt: skip
        with self._progress.work("merge", total=1, unit="models") as counter:
            with publish(folder) as unfinished:
                merge_models(self._workspace.locate(base), weights, plan.merge, unfinished, seed=self._reward.seed)
                facts = self._measured(unfinished, facts)
                self.check(unfinished)
            model = self._record(ModelKind.REWARD, "merged", folder, base, recipe, facts)
            counter.to(1)
        return model

    def _measured(self, folder: Path, facts: Facts) -> Facts:
        """Write the scale of a model's scores, and measure its accuracy on the test splits."""
        write_scale(folder, self.config, self._reference)
        scorer = load_scorer(folder, self.config)
        scores = {name: score_set(scorer, rows_of(data, Split.VALIDATION, Split.TEST)) for name, data in self.sets.items()}
        return replace(facts, accuracy={name: accuracy(scored, Split.TEST) for name, scored in scores.items()})

    def _record(
        self, kind: ModelKind, name: str, folder: Path, parent: Model | None, recipe: Recipe, facts: Facts, *curve: CurvePoint
    ) -> Model:
        model = Model(
            kind=kind, name=name, path=self._workspace.inside(folder), digest=digest_model(folder),
            parent=parent.model_id if parent else None, recipe={"key": key_of(recipe)} | recipe, facts=facts,
        )  # fmt: skip
        self._workspace.store.record_model(model, curve)
        return model


def _has_members(reward: Model, workspace: Workspace) -> bool:
    """Whether the folders of all members exist: a round scores its winners with each of them."""
    return all(workspace.has(workspace.store.model(member)) for member in reward.facts.members)


def _in_turn(groups: Sequence[Sequence[Item]]) -> list[Item]:
    """The first item of each group, then the second of each, and so on."""
    return [item for items in itertools.zip_longest(*groups) for item in items if item is not None]


def _recorded(workspace: Workspace, kind: ModelKind, recipe: Recipe) -> Model | None:
    models = reversed(workspace.store.models(kind))
    return next((model for model in models if model.recipe.get("key") == key_of(recipe) and workspace.has(model)), None)
