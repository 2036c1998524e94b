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

from flywheel.config import Config, EvaluationConfig
from flywheel.core.files import digest_files
from flywheel.core.functions import load_function, source_file
from flywheel.core.model_folders import check_model, local_folder
from flywheel.engines.generator import chosen_engine, configured_generator, configured_student, generator_folder
from flywheel.errors import ConfigError, DataError, StoreError
from flywheel.evaluation.judges import check_judges, judge_models
from flywheel.instructions.demos import Demos
from flywheel.instructions.filters import Filters, protected_of
from flywheel.instructions.prompt_style import load_prompts, prompts_of
from flywheel.instructions.tasks import DEMOS, REWORDED_DEMOS, read_held_out, read_reworded, read_seeds, read_tasks
from flywheel.records import HeldOutTask, Model, ModelKind, Policy, Round, SeedTask, Task
from flywheel.training import check_training
from flywheel.workspace import Workspace

LIBRARIES = ("flywheel", "torch", "transformers", "trl", "datasets", "mergekit", "ctranslate2", "duckdb")


def check_inputs(config: Config, *, reach: bool = True) -> None:
    """Raise for what a round would stumble over late, before minutes are spent on it; ``reach`` as in `check_judges`."""
    instructions = config.instructions
    seeds = read_seeds(config.path(instructions.seeds))
    Demos(instructions, seeds, names=())
    held_out = [one.task for one in read_held_out(config.path(config.evaluation.tasks))]
    _refuse_held_out_seeds(config, seeds, held_out)
    tasks = held_out[:3]
    for path in instructions.filters.decontaminate:
        read_tasks(config.path(path))
    Filters(instructions.filters, protected=[], known=[]).check_text(tasks[0])
    check_training(config, local_folder(config.model(config.training.student or config.generator)))
    prompts = prompts_of(config, generator_folder(config))
    prompts.propose([seed.task for seed in seeds[:DEMOS]])
    prompts.answer(tasks[0])
    if instructions.paraphrases.per_winner:
        prompts.paraphrase(tasks[0], read_reworded(config.path(instructions.paraphrases.demos))[:REWORDED_DEMOS])
    check_judges(config, tasks, reach=reach)


def _refuse_held_out_seeds(config: Config, seeds: Sequence[SeedTask], held_out: Sequence[Task]) -> None:
    """Raise DataError for a seed that is a held-out task: the generator would be shown what it is measured on."""
    protected = protected_of(config.instructions.filters, held_out)
    for place, seed in enumerate(seeds):
        if protected.overlap(seed.task).reason is not None:
            raise DataError(
                f"seed {place + 1} of {config.instructions.seeds} ({seed.task.instruction[:60]!r}) overlaps with a held-out "
                f"task of {config.evaluation.tasks}; take one of them out"
            )


def no_verdict_ahead(workspace: Workspace, config: Config) -> str | None:
    """Why the next round could not be compared with the last one, where that is to be seen before it is run."""
    rounds = workspace.store.rounds() if workspace.store.path.exists() else []
    if not rounds:
        return None
    last, held_out = rounds[-1], read_held_out(config.path(config.evaluation.tasks))
    changed = [
        key
        for key, before, now in (
            ("evaluation.tasks", last.identity["digest.heldout"], _digest_of_held_out(held_out)),
            ("evaluation.judge", last.judge, judge_models(config)[0].model_id),
            ("evaluation.samples", last.config["evaluation"]["samples"], config.evaluation.samples),
        )
        if before != now
    ]
    if not changed:
        return None
    return f"the next round will have no verdict: {', '.join(changed)} is not what {last.round} was evaluated with"


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
    _follow_moved(workspace, config)
    generator, trained = _models_after(parent, workspace, config)
    engine = chosen_engine(config)
    held_out = read_held_out(config.path(config.evaluation.tasks))
    seeds = read_seeds(config.path(config.instructions.seeds))
    identity = _identity(config, load_prompts(config, workspace, generator).digest, trained, reward, held_out, seeds)
    store.set_seeds(identity["digest.seeds"], seeds)
    if unfinished:
        return _go_on_with(unfinished, workspace, identity, reward)
    judges = judge_models(config)
    for judge in judges:
        store.record_model(judge)
    for model in {generator.model_id: generator, trained.model_id: trained}.values():
        store.record_model(model)
    store.set_heldout(identity["digest.heldout"], held_out)
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
        generator_out=trained.model_id if number == 0 else None,
        reward_model=reward.model_id if reward else None,
        judge=judges[0].model_id,
        versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        engine={"name": engine.name, "why": engine.why},
    )
    store.open_round(opened)
    return opened


def open_control(workspace: Workspace, policy: Policy, of: str) -> Round:
    """The control of a round: recorded already, or opened now."""
    store = workspace.store
    rounds = {one.round: one for one in store.rounds(controls=True)}
    made, name = rounds.get(of), f"{of}-{policy}"
    if made is None or made.status != "done" or made.number == 0:
        raise StoreError(f"{of} has no candidates to pick from yet; finish it with `flywheel round`")
    if name in rounds:
        if rounds[name].status != "done":
            store.set_status(name, "running")
        return rounds[name]
    if not any(True for _ in store.winners([of], policy=policy)):
        raise StoreError(f"the policy {policy} picked nothing in {of}; take another --control")
    identity = {**made.identity, "policy": str(policy)}
    opened = replace(
        made,
        round=name,
        policy=policy,
        status="running",
        generator_out=None,
        identity=identity,
        fingerprint=_fingerprint(identity),
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
    config: Config,
    prompts: str,
    trained: Model,
    reward: Model | None,
    held_out: Sequence[HeldOutTask],
    seeds: Sequence[SeedTask],
) -> dict[str, Any]:
    """All that can change the rows of a round; ``prompts`` is their digest."""
    instructions = config.instructions
    found = identity_of(config) | {
        "digest.generator": trained.digest,
        "digest.prompts": prompts,
        "digest.seeds": _digest_of([[seed.set_name, seed.task.task_id] for seed in seeds]),
        "digest.heldout": _digest_of_held_out(held_out),
    }
    if reward:
        found["digest.reward"] = reward.digest
    own = [source_file(load_function(name, "instructions.filters.custom")) for name in instructions.filters.custom]
    files = [config.path(path) for path in instructions.filters.decontaminate] + [path for path in own if path]
    if instructions.paraphrases.per_winner:
        files.append(config.path(instructions.paraphrases.demos))
    if files:
        found["digest.instructions"] = digest_files(*files)
    if config.training.accelerate_config is not None:
        found["digest.accelerate"] = digest_files(config.path(config.training.accelerate_config))
    return found


def identity_of(config: Config) -> dict[str, Any]:
    """The fields of a config that can change results, with the engine that ``auto`` stands for here."""
    return config.identity() | {"engine.name": chosen_engine(config).name}


def _follow_moved(workspace: Workspace, config: Config) -> None:
    """Record where the configured generator or student is now, if it was elsewhere: in another checkout, on another machine."""
    recorded = {model.model_id: model for model in workspace.store.models(ModelKind.GENERATOR)}
    for model in (configured_generator(config, workspace), configured_student(config, workspace)):
        if model.model_id in recorded and recorded[model.model_id].path != model.path:
            workspace.store.record_model(model)


def _models_after(parent: Round | None, workspace: Workspace, config: Config) -> tuple[Model, Model]:
    """Who writes after a parent round, and what was trained so far: the same, unless a student is trained.

    Raises ModelError where what the parent trained has changed on disk.
    """
    trained = configured_student(config, workspace) if parent is None else _trained_by(parent, workspace)
    return (trained if config.training.student is None else configured_generator(config, workspace)), trained


def _trained_by(parent: Round, workspace: Workspace) -> Model:
    assert parent.generator_out is not None
    model = workspace.store.model(parent.generator_out)
    check_model(workspace.locate(model))
    workspace.refuse_altered([model])
    return model


def _digest_of_held_out(held_out: Sequence[HeldOutTask]) -> str:
    return _digest_of([["", [one.task.task_id for one in held_out]]])


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
        kept = {key: begun[key] for key in changed if not key.startswith(("digest.", "evaluation.judges."))}
        if any(key.startswith("evaluation.judge") for key in changed):
            kept["evaluation.judges"] = _judges_of(unfinished)
        settings = [f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in kept.items()]
        back = f"add {' '.join(settings)} to go on with it" if settings else "put the file back to go on with it"
        raise ConfigError(f"{unfinished.round} was begun with {differences}; {back}, or add --restart to begin it anew")


def _judges_of(made: Round) -> dict[str, Any]:
    """The judges that a round was begun with, as its config says them."""
    named = EvaluationConfig.model_validate(made.config["evaluation"]).judges
    return {name: judge.model_dump(mode="json", exclude_defaults=True) for name, judge in named.items()}
