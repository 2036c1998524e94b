"""Which round is next, and whether it is still the one that was begun."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from flywheel.config import Config
from flywheel.errors import ConfigError, ModelError
from flywheel.evaluation.judge import ask, load_judge
from flywheel.files import digest_files, digest_model
from flywheel.functions import load_function, source_file
from flywheel.generator import load_prompts
from flywheel.instructions.demos import Demos
from flywheel.instructions.filters import Filters
from flywheel.instructions.tasks import DEMOS, REWORDED_DEMOS, read_reworded, read_seeds, read_tasks
from flywheel.models import local_folder
from flywheel.records import Model, ModelKind, Round, SeedTask, Task
from flywheel.workspace import Workspace

LIBRARIES = ("flywheel", "torch", "transformers", "trl", "datasets", "mergekit", "ctranslate2", "duckdb")


def check_inputs(config: Config) -> None:
    """Raise for what a round would stumble over late, before minutes are spent on it."""
    instructions = config.instructions
    seeds = read_seeds(config.path(instructions.seeds))
    Demos(instructions, seeds, names=())
    tasks = read_tasks(config.path(config.evaluation.tasks))[:3]
    for path in instructions.filters.protected:
        read_tasks(config.path(path))
    Filters(instructions.filters, protected=[], known=[]).check_text(tasks[0])
    prompts = load_prompts(config, local_folder(config.model(config.generator)))
    prompts.propose([seed.task for seed in seeds[:DEMOS]])
    prompts.answer(tasks[0])
    if instructions.paraphrases.per_winner:
        prompts.paraphrase(tasks[0], read_reworded(config.path(instructions.paraphrases.demos))[:REWORDED_DEMOS])
    ask(load_judge(config.evaluation.judge), config.evaluation.judge, [(task, "nothing") for task in tasks])


def open_round(workspace: Workspace, config: Config, reward: Model | None, *, proposing: bool = False) -> Round:
    """The unfinished round, or a new one after the last; raises where its identity has changed.

    ``proposing`` opens the next turn of the wheel though r0 may not be evaluated yet. A round can be opened without a
    reward model and gets one when it is gone on with.
    """
    store = workspace.store
    rounds = store.rounds()
    if proposing and not rounds:
        rounds = [open_round(workspace, config, reward)]
    unfinished = next((one for one in rounds if one.status != "done" and (one.number > 0 or not proposing)), None)
    if unfinished:
        parent = next((one for one in rounds if one.round == unfinished.parent), None)
    else:
        parent = rounds[-1] if rounds else None
    generator = _generator_after(parent, workspace, config)
    tasks = read_tasks(config.path(config.evaluation.tasks))
    seeds = read_seeds(config.path(config.instructions.seeds))
    identity = _identity(config, generator, reward, tasks, seeds)
    store.set_seeds(identity["digest.seeds"], seeds)
    if unfinished:
        return _go_on_with(unfinished, workspace, identity, reward)
    judge = Model(
        kind=ModelKind.JUDGE, name=config.evaluation.judge.partition(":")[0].rpartition(".")[2], path=config.evaluation.judge,
        digest=hashlib.sha256(config.evaluation.judge.encode()).hexdigest(),
    )  # fmt: skip
    store.record_model(judge)
    store.record_model(generator)
    store.set_heldout(identity["digest.heldout"], tasks)
    number = parent.number + 1 if parent else 0
    opened = Round(
        round=f"r{number}",
        number=number,
        parent=parent.round if parent else None,
        status="running",
        seed=config.seed,
        fingerprint=_fingerprint(identity),
        identity=identity,
        config=config.model_dump(mode="json"),
        generator_in=generator.model_id,
        generator_out=generator.model_id if number == 0 else None,
        reward_model=reward.model_id if reward else None,
        judge=judge.model_id,
        versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    )
    store.open_round(opened)
    return opened


def _go_on_with(unfinished: Round, workspace: Workspace, identity: Mapping[str, Any], reward: Model | None) -> Round:
    refuse_changes([unfinished], identity)
    workspace.store.set_status(unfinished.round, "running")
    if unfinished.reward_model is None and reward is not None:
        unfinished = replace(unfinished, reward_model=reward.model_id, identity=identity, fingerprint=_fingerprint(identity))
        workspace.store.set_reward_model(unfinished)
    return unfinished


def _identity(
    config: Config, generator: Model, reward: Model | None, held_out: Sequence[Task], seeds: Sequence[SeedTask]
) -> dict[str, Any]:
    """All that can change the rows of a round."""
    instructions = config.instructions
    found = config.identity() | {
        "digest.generator": generator.digest,
        "digest.prompts": load_prompts(config, local_folder(config.model(config.generator))).digest,
        "digest.seeds": _digest_of([[seed.set_name, seed.task.task_id] for seed in seeds]),
        "digest.heldout": _digest_of([["", [task.task_id for task in held_out]]]),
    }
    if reward:
        found["digest.reward"] = reward.digest
    own = [source_file(load_function(name, "instructions.filters.custom")) for name in instructions.filters.custom]
    files = [config.path(path) for path in instructions.filters.protected] + [path for path in own if path]
    if instructions.paraphrases.per_winner:
        files.append(config.path(instructions.paraphrases.demos))
    if files:
        found["digest.instructions"] = digest_files(*files)
    return found


def _generator_after(parent: Round | None, workspace: Workspace, config: Config) -> Model:
    """The generator that the parent trained, or the configured one; raises ModelError where it has changed on disk."""
    if parent is None:
        folder = local_folder(config.model(config.generator))
        return Model(kind=ModelKind.GENERATOR, name="r0", path=workspace.inside(folder.resolve()), digest=digest_model(folder))
    assert parent.generator_out is not None
    model = workspace.store.model(parent.generator_out)
    folder = local_folder(str(workspace.locate(model)))
    if digest_model(folder) != model.digest:
        raise ModelError(
            f"{folder} is not what {parent.round} recorded (its digest has changed); put the folder back as it was"
        )
    return model


def _digest_of(values: Sequence[Any]) -> str:
    """Digest of tasks themselves, so that a file may be moved or reformatted."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _fingerprint(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def refuse_changes(rounds: Sequence[Round], identity: Mapping[str, Any]) -> None:
    """Raise ConfigError where an unfinished round was begun with another value of any of these keys."""
    now = json.loads(json.dumps(identity))
    for unfinished in (one for one in reversed(rounds) if one.status != "done"):
        begun = unfinished.identity
        changed = [key for key, value in now.items() if key in begun and begun[key] != value]
        if not changed:
            continue
        differences = ", ".join(f"{key} = {begun[key]!r} (now {now[key]!r})" for key in changed)
        settings = [
            f"--set {shlex.quote(f'{key}={json.dumps(begun[key])}')}" for key in changed if not key.startswith("digest.")
        ]
        back = f"add {' '.join(settings)} to go on with it" if settings else "put the file back to go on with it"
        raise ConfigError(f"{unfinished.round} was begun with {differences}; {back}, or add --restart to begin it anew")
