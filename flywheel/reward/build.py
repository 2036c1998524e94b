"""Build the reward model of a configuration: slice, members, merge, each recorded as it is finished.

What a model is made from is its *recipe*; a model whose recipe is recorded already is not built again.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.config import Config
from flywheel.core.files import digest_model, publish
from flywheel.core.model_folders import local_folder
from flywheel.core.progress import Progress
from flywheel.core.quiet import silence
from flywheel.core.seeds import derive
from flywheel.errors import DataError
from flywheel.instructions.filters import Protected
from flywheel.instructions.prompts import Prompts
from flywheel.instructions.tasks import read_tasks
from flywheel.records import CurvePoint, Facts, Model, ModelKind
from flywheel.reward.check import check_reward_model, refuse_failures
from flywheel.reward.data import PreferenceSet, pool
from flywheel.reward.measures import Scored, accuracy, rows_of, score_set
from flywheel.reward.members import Trained
from flywheel.reward.mergekit import merge_models
from flywheel.reward.model import RewardModel, load_scorer, write_scale
from flywheel.reward.recipe import (
    Recipe,
    TrainingSettings,
    base_recipe,
    digest_records,
    joint_settings,
    key_of,
    member_settings,
    read_sets,
    recipe_of,
    training_recipe,
)
from flywheel.reward.search import Found, Plan, search_merge
from flywheel.reward.side_by_side import train_side_by_side
from flywheel.reward.slice import build_base
from flywheel.reward.sources import Split
from flywheel.reward.text import Answer
from flywheel.reward.worker import Job
from flywheel.workspace import Workspace

REFERENCE_TEXTS = 1024
"""Size of the set that scores are standardised on."""
_Written = tuple[Facts, Sequence[CurvePoint]]
"""What is recorded of a model that was written: its facts and its learning curve."""


def build_reward_model(config: Config, workspace: Workspace, progress: Progress) -> Model:
    """Build what is missing of the reward model and return it; a killed build goes on."""
    found = configured_reward_model(config, workspace)
    if found and not _lost_members(found, workspace):
        return found
    return Lab(config, workspace, progress).reward_model()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A member, and what it is made from."""

    name: str
    start: Model
    settings: TrainingSettings
    recipe: Recipe
    folder: Path
    recorded: Model | None
    """It is there already."""


class Lab:
    """One build: the same configuration, data and folder for every step.

    ``label`` is added to the names of its models: they are an experiment, and need not pass the self-test.
    """

    def __init__(self, config: Config, workspace: Workspace, progress: Progress, *, label: str = "") -> None:
        silence()
        self.config, self._reward, self._workspace, self._progress = config, config.reward, workspace, progress
        self._label = f"-{label}" if label else ""
        self._prompts = Prompts(config.path(config.prompts))
        self.sets = read_sets(config)
        _refuse_held_out_rows(config, self.sets)
        self._reference = _reference(self.sets)

    def reward_model(self) -> Model:
        """The merge of all members: as configured, or as a search finds it; built where it is missing."""
        recipe = recipe_of(self.config)
        recorded = _recorded(self._workspace, ModelKind.REWARD, recipe)
        if recorded and not _lost_members(recorded, self._workspace):
            return recorded
        members = self.members()
        if recorded and recorded.facts.members == tuple(member.model_id for member in members.values()):
            return recorded
        if not self._reward.search.trials:
            weights = {name: member.weight for name, member in self._reward.members.items()}
            return self._merge(recipe, members, Plan(weights=weights, merge=self._reward.merge), None)
        found = self.search(members)
        return self._merge(recipe, members, found.plan, found)

    def members(self, names: Iterable[str] = ()) -> dict[str, Model]:
        """The named members, or all; those that are missing are trained, as many at once as the config says."""
        plans = {name: self._plan(name) for name in names or self._reward.members}
        made = {name: plan.recorded for name, plan in plans.items() if plan.recorded}
        missing = [plan for plan in plans.values() if not plan.recorded and not self._twin(plan)]
        if self._reward.parallel > 1 and len(missing) > 1:
            made |= self._members_at_once(missing)
        return {name: made.get(name) or self._member(plan) for name, plan in plans.items()}

    def base(self) -> Model:
        """The sliced base with its head."""
        recipe = base_recipe(self.config)
        found = _recorded(self._workspace, ModelKind.BASE, recipe)
        if found:
            return found
        source = str(local_folder(self.config.model(self._reward.base)))
        folder = self._workspace.models / f"base-{key_of(recipe)[:12]}"
        with self._progress.work("slice", total=1, unit="models") as counter:
            sliced = build_base(source, folder, layers=self._reward.layers, seed=self._reward.seed)
            # Recorded before it is told: who tells may be stopped, and the model is kept.
            made = self._record(ModelKind.BASE, f"{self._reward.layers}-layers", folder, None, recipe, Facts(sliced=sliced))
            counter.to(1)
        return made

    def start(self) -> Model:
        """What the members start from: the base, trained on all sets together where the config says so."""
        base = self.base()
        if not self._reward.joint.epochs:
            return base
        pooled, settings = pool(self.sets, seed=self._reward.seed), joint_settings(self._reward)
        training = {"base": base.digest, "rows": digest_records(pooled.rows)} | training_recipe(self.config, settings)
        found = _recorded(self._workspace, ModelKind.BASE, training)
        if found:
            return found
        folder = self._workspace.models / f"joint-{key_of(training)[:12]}"
        with publish(folder) as unfinished:
            trained = self._train("joint", self._job("joint", base, pooled, settings, folder, unfinished))
            self._write_scale(unfinished)
            facts = replace(_facts(trained, pooled), accuracy=self._accuracies(unfinished))
        return self._record(ModelKind.BASE, f"joint{self._label}", folder, base.model_id, training, facts, trained.curve)

    def _plan(self, name: str) -> _Plan:
        start, data, settings = self.start(), self.sets[name], member_settings(self._reward, self._reward.members[name])
        training = {"base": start.digest, "rows": digest_records(data.rows)} | training_recipe(self.config, settings)
        recipe = {"training": training, "reference": digest_records(self._reference)}
        return _Plan(
            name=name, start=start, settings=settings, recipe=recipe,
            folder=self._workspace.models / f"member-{name}-{key_of(recipe)[:12]}",
            recorded=_recorded(self._workspace, ModelKind.MEMBER, recipe),
        )  # fmt: skip

    def _member(self, plan: _Plan) -> Model:
        """One member: trained, or with new reference texts only its scale measured anew."""
        twin = self._twin(plan)

        def write(folder: Path) -> _Written:
            if twin:
                shutil.copytree(self._workspace.locate(twin), folder, dirs_exist_ok=True)
                return twin.facts, self._workspace.store.learning_curve(twin.model_id)
            job = self._member_job(plan, folder)
            trained = self._train(f"member {plan.name}", job)
            return _facts(trained, job.data), trained.curve

        return self._publish(plan, write)

    def _members_at_once(self, plans: Sequence[_Plan]) -> dict[str, Model]:
        """Members, trained in processes of their own."""
        made = {}
        with tempfile.TemporaryDirectory(prefix="member-", suffix=".tmp", dir=self._workspace.models) as trainings:
            jobs = {plan.name: self._member_job(plan, Path(trainings) / plan.name) for plan in plans}
            by_name = {plan.name: plan for plan in plans}
            with (
                self._progress.work(f"{len(plans)} members", total=None, unit="steps") as counter,
                closing(train_side_by_side(jobs, self._reward.parallel, counter.to)) as coming,
            ):
                for name, trained in coming:
                    made[name] = self._publish(by_name[name], partial(self._moved, jobs[name], trained))
        return made

    def _moved(self, job: Job, trained: Trained, folder: Path) -> _Written:
        for path in job.folder.iterdir():
            path.rename(folder / path.name)
        return _facts(trained, job.data), trained.curve

    def _publish(self, plan: _Plan, write: Callable[[Path], _Written]) -> Model:
        """Have a member written, measure it, and record it."""
        with publish(plan.folder) as unfinished:
            facts, curve = write(unfinished)
            self._write_scale(unfinished)
            facts = replace(facts, accuracy=self._accuracies(unfinished))
        return self._record(
            ModelKind.MEMBER, plan.name + self._label, plan.folder, plan.start.model_id, plan.recipe, facts, curve
        )

    def _member_job(self, plan: _Plan, into: Path) -> Job:
        return self._job(plan.name, plan.start, self.sets[plan.name], plan.settings, plan.folder, into)

    def _job(self, name: str, start: Model, data: PreferenceSet, settings: TrainingSettings, folder: Path, into: Path) -> Job:
        """A training whose model is written ``into`` one folder, and then published as ``folder``."""
        return Job(
            base=self._workspace.locate(start).resolve(), folder=into.resolve(), data=data, settings=settings,
            prompts=self.config.path(self.config.prompts).resolve(), seed=derive(self._reward.seed, name),
            checkpoints=folder.with_name(f"{folder.name}.training").resolve(),
        )  # fmt: skip

    def _train(self, name: str, job: Job) -> Trained:
        with self._progress.work(name, total=None, unit="steps") as counter:
            return job.train(counter.to)

    def _twin(self, plan: _Plan) -> Model | None:
        """A recorded member that was trained in the same way, beside other sets."""
        trained = plan.recipe["training"]
        found = [one for one in self._workspace.store.models(ModelKind.MEMBER) if one.recipe.get("training") == trained]
        return next((one for one in reversed(found) if self._workspace.has(one)), None)

    def search(self, members: Mapping[str, Model]) -> Found:
        """Try merges on the validation splits."""
        base = self._workspace.locate(self.start())
        folders = {name: self._workspace.locate(model) for name, model in members.items()}
        rows = {name: rows_of(one, Split.VALIDATION) for name, one in self.sets.items()}
        return search_merge(
            base, folders, rows, partial(load_scorer, config=self.config), self._reward,
            progress=self._progress, record=self._workspace.store.record_merge_trials,
            key=digest_records([model.model_id for model in members.values()]),
        )  # fmt: skip

    def _merge(self, recipe: Mapping[str, Any], members: Mapping[str, Model], plan: Plan, found: Found | None) -> Model:
        base = self.start()
        folder = self._workspace.models / f"reward-{key_of(recipe)[:12]}"
        with self._progress.work("merge", total=1, unit="models") as counter:
            with publish(folder) as unfinished:
                weights = {self._workspace.locate(members[name]): weight for name, weight in plan.weights.items()}
                merge_models(self._workspace.locate(base), weights, plan.merge, unfinished, seed=self._reward.seed)
                self._write_scale(unfinished)
                if not self._label:  # an experiment, never selects
                    self.check(unfinished)
                facts = Facts(
                    members=tuple(model.model_id for model in members.values()), weights=dict(plan.weights),
                    merge=plan.merge.model_dump(), accuracy=self._accuracies(unfinished),
                    search=found.summary() if found else None,
                )  # fmt: skip
            made = self._record(ModelKind.REWARD, "merged" + self._label, folder, base.model_id, recipe, facts)
            counter.to(1)
        return made

    def check(self, folder: Path) -> None:
        """Raise ModelError unless the reward model in a folder passes its self-test on the validation splits."""
        rows = [
            row for group in itertools.zip_longest(*(one.of(Split.VALIDATION) for one in self.sets.values())) for row in group
        ]
        findings = check_reward_model(
            lambda: load_scorer(folder, self.config), self._reference, [row for row in rows if row is not None]
        )
        refuse_failures(folder, findings)

    def _record(
        self,
        kind: ModelKind,
        name: str,
        folder: Path,
        parent: str | None,
        recipe: Mapping[str, Any],
        facts: Facts,
        curve: Sequence[CurvePoint] = (),
    ) -> Model:
        model = Model(
            kind=kind, name=name, path=self._workspace.inside(folder), digest=digest_model(folder), parent=parent,
            recipe={"key": key_of(recipe)} | dict(recipe), facts=facts,
        )  # fmt: skip
        self._workspace.store.record_model(model, curve)
        return model

    def _write_scale(self, folder: Path) -> None:
        write_scale(
            folder, self._prompts, self._reference,
            max_length=self._reward.max_length, batch_tokens=self._reward.batch_tokens,
        )  # fmt: skip

    def _accuracies(self, folder: Path) -> dict[str, float]:
        scorer = load_scorer(folder, self.config)
        return {name: accuracy(self._scored(scorer, name), Split.TEST) for name in self.sets}

    def _scored(self, scorer: RewardModel, name: str) -> Scored:
        return score_set(scorer, rows_of(self.sets[name], Split.VALIDATION, Split.TEST))


def _refuse_held_out_rows(config: Config, sets: Mapping[str, PreferenceSet]) -> None:
    """Raise DataError where a member would learn from tasks that generators are evaluated on.

    Such a reward model knows the answers, and what it picks would look better on the held-out tasks than it is.
    """
    tasks = read_tasks(config.path(config.evaluation.tasks))
    protected = Protected(tasks, words_in_a_row=config.instructions.filters.held_out_words, similarity=None)
    for name, one in sets.items():
        shared = [
            answer.task
            for row in one.of(Split.TRAIN)
            for answer in row.answers[:1]
            if answer.task is not None and protected.overlap(answer.task).reason is not None
        ]
        if shared:
            raise DataError(
                f"{len(shared):,} training rows of the member {name} are on held-out tasks ({config.evaluation.tasks}), such "
                f"as {shared[0].instruction[:60]!r}; take them out of {one.source}, or out of the held-out tasks"
            )


def configured_reward_model(config: Config, workspace: Workspace) -> Model | None:
    """The reward model of this configuration, where it is built."""
    return _recorded(workspace, ModelKind.REWARD, recipe_of(config))


def _lost_members(reward: Model, workspace: Workspace) -> list[str]:
    """Members whose folders are gone: a round asks them what they think of its winners."""
    return [member for member in reward.facts.members if not workspace.has(workspace.store.model(member))]


def _facts(trained: Trained, data: PreferenceSet) -> Facts:
    too_long = {"too long": trained.too_long} if trained.too_long else {}
    return Facts(rows=trained.rows, dropped={**data.dropped, **too_long}, loss=trained.loss, seconds=round(trained.seconds, 1))


def _reference(sets: Mapping[str, PreferenceSet]) -> list[Answer]:
    """Validation outputs of all sets in turn: what every model's scores are standardised on."""
    answers = [[answer for row in one.of(Split.VALIDATION) for answer in row.answers] for one in sets.values()]
    mixed = [answer for group in itertools.zip_longest(*answers) for answer in group if answer is not None]
    return mixed[:REFERENCE_TEXTS]


def _recorded(workspace: Workspace, kind: ModelKind, recipe: Recipe) -> Model | None:
    found = [model for model in workspace.store.models(kind) if model.recipe.get("key") == key_of(recipe)]
    return next((model for model in reversed(found) if workspace.has(model)), None)
