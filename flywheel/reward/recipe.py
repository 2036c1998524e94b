"""What a reward model is made from: its data, and its recipe, with digests in place of paths.

Two models of the same recipe are the same model, so one that is recorded is not built again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flywheel.config import Config, JointConfig, LoraConfig, MemberConfig, RewardConfig
from flywheel.core.files import digest_files, digest_model
from flywheel.core.model_folders import local_folder
from flywheel.errors import DataError
from flywheel.instructions.filters import Protected
from flywheel.instructions.prompts import template_file
from flywheel.instructions.tasks import read_tasks
from flywheel.reward.data import PreferenceSet, separate
from flywheel.reward.reading import read_set
from flywheel.reward.sources import Split, find_source, read_source

Recipe = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How a reward model is trained."""

    epochs: float
    learning_rate: float
    batch_size: int
    max_length: int
    """Rows with a text of more tokens are dropped."""
    lora: LoraConfig | None
    args: Mapping[str, Any]
    """Arguments of trl's RewardConfig for all members; thumbs take those that their trainer knows."""
    own_args: Mapping[str, Any]
    """Arguments of this member's trainer."""
    checkpoint_minutes: float


def training_settings(reward: RewardConfig, stage: MemberConfig | JointConfig) -> TrainingSettings:
    """How a member, or the base on all sets together, is trained."""
    return TrainingSettings(
        epochs=stage.epochs or reward.epochs, learning_rate=stage.learning_rate or reward.learning_rate,
        batch_size=reward.batch_size, max_length=reward.max_length, lora=reward.lora, args=reward.args,
        own_args=stage.args if isinstance(stage, MemberConfig) else {}, checkpoint_minutes=reward.checkpoint_minutes,
    )  # fmt: skip


def recipe_of(config: Config) -> Recipe:
    """All that the reward model of a configuration is made from."""
    reward = config.reward
    members = {
        name: training_recipe(config, training_settings(reward, member))
        | {
            "data": digest_files(*_source(config, member)),
            "reading": member.model_dump(mode="json", include={"kind", "columns", "threshold", "liked", "margin"}),
        }
        for name, member in reward.members.items()
    }
    joint = training_recipe(config, training_settings(reward, reward.joint)) if reward.joint.epochs else None
    recipe: Recipe = {"base": base_recipe(config), "joint": joint, "members": members}
    if reward.search.trials:
        return recipe | {"search": reward.search.model_dump(mode="json"), "dtype": reward.merge.dtype}
    weights = {name: member.weight for name, member in reward.members.items()}
    return recipe | {"weights": weights, "merge": reward.merge.model_dump()}


def base_recipe(config: Config) -> Recipe:
    """What the sliced base is made from."""
    reward = config.reward
    source = digest_model(local_folder(config.model(reward.base)))
    return {"source": source, "layers": reward.layers, "seed": reward.seed}


def training_recipe(config: Config, settings: TrainingSettings) -> dict[str, Any]:
    """The settings of a training that change its outcome."""
    values = {name: value for name, value in asdict(settings).items() if name != "checkpoint_minutes"}
    prompt = digest_files(template_file(config.path(config.prompts), "answer.jinja"))
    lora = settings.lora.model_dump(mode="json") if settings.lora else None
    return values | {"lora": lora, "prompt": prompt, "seed": config.reward.seed}


def key_of(recipe: Recipe) -> str:
    """Digest of a recipe."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def digest_records(records: Sequence[object]) -> str:
    """Digest of records, such as the rows of a set."""
    return hashlib.sha256("\x1e".join(map(repr, records)).encode()).hexdigest()


def read_sets(config: Config) -> dict[str, PreferenceSet]:
    """The preference data of every member, with no prompt of one set's test rows in another's training.

    Raises DataError for data that cannot be used.
    """
    return separate(
        {name: read_set(read_source(_source(config, member)), member) for name, member in config.reward.members.items()}
    )


def refuse_held_out_rows(config: Config, sets: Mapping[str, PreferenceSet]) -> None:
    """Raise DataError where a member would learn from tasks that generators are evaluated on.

    Such a reward model knows the answers, and what it selects would look better on the held-out tasks than it is.
    """
    tasks = read_tasks(config.path(config.evaluation.tasks))
    protected = Protected(tasks, config.instructions.filters.model_copy(update={"held_out_similarity": None}))
    for name, data in sets.items():
        asked = (row.answers[0].task for row in data.of(Split.TRAIN))
        shared = [task for task in asked if task is not None and protected.overlap(task).reason is not None]
        if shared:
            raise DataError(
                f"{len(shared):,} training rows of member {name!r} overlap with held-out tasks of {config.evaluation.tasks}, "
                f"such as {shared[0].instruction[:60]!r}",
                f"Remove these rows from {data.source}, or the tasks from {config.evaluation.tasks}.",
            )


def _source(config: Config, member: MemberConfig) -> list[Path]:
    return find_source(member.data, config.path(member.data))
