"""The config fingerprint: all that can change the rows of a round, and what a resumed round must share with its start."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.config import Config, EvaluationConfig
from flywheel.core.files import digest_files
from flywheel.core.functions import load_function, source_file
from flywheel.engines.generator import choose_engine
from flywheel.errors import ConfigError
from flywheel.records import HeldOutTask, Model, Round, SeedTask

FILES = {
    "digest.generator": "generator", "digest.prompts": "prompts", "digest.seeds": "instructions.seeds",
    "digest.heldout": "evaluation.tasks", "digest.reward": "reward", "digest.instructions": "instructions",
    "digest.accelerate": "training.accelerate_config",
}  # fmt: skip


def identity_of(config: Config) -> dict[str, Any]:
    """The config keys that can change results, with the engine that ``auto`` stands for here."""
    return config.identity() | {"engine.name": choose_engine(config).name}


def full_identity(
    config: Config, *, prompts: str, trained: Model, reward: Model | None, held_out: list[HeldOutTask], seeds: list[SeedTask]
) -> dict[str, Any]:
    """`identity_of` with the digests of models, prompts (``prompts``), tasks and the user's own files."""
    instructions = config.instructions
    identity = identity_of(config) | {
        "digest.generator": trained.digest,
        "digest.prompts": prompts,
        "digest.seeds": fingerprint([[seed.set_name, seed.task.task_id] for seed in seeds]),
        "digest.heldout": held_out_digest(held_out),
    }
    if reward:
        identity["digest.reward"] = reward.digest
    functions = [load_function(name, "instructions.filters.custom") for name in instructions.filters.custom]
    files = [config.path(path) for path in instructions.filters.decontaminate]
    files += [path for path in map(source_file, functions) if path]
    if instructions.paraphrases.per_winner:
        files.append(config.path(instructions.paraphrases.demos))
    if files:
        identity["digest.instructions"] = digest_files(*files)
    if config.training.accelerate_config is not None:
        identity["digest.accelerate"] = digest_files(config.path(config.training.accelerate_config))
    return identity


def held_out_digest(held_out: Sequence[HeldOutTask]) -> str:
    """Digest of the held-out tasks themselves, so that their file may be moved or reformatted."""
    return fingerprint([["", [row.task.task_id for row in held_out]]])


def fingerprint(identity: Mapping[str, Any] | Sequence[Any]) -> str:
    """SHA-256 of an identity, or of a part of it."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def refuse_changes(rounds: Sequence[Round], identity: Mapping[str, Any]) -> None:
    """Raise ConfigError where an unfinished round was started with another value of any of these keys."""
    now = json.loads(json.dumps(identity))
    for unfinished in (row for row in reversed(rounds) if row.status != "done"):
        before = unfinished.identity
        changed = [key for key, value in now.items() if key in before and before[key] != value]
        if changed:
            differences = ", ".join(
                f"other files ({FILES[key]})" if key in FILES else f"{key} = {before[key]!r} (now {now[key]!r})"
                for key in changed
            )
            raise ConfigError(f"{unfinished.round} was started with {differences}", _how_to_resume(unfinished, changed))


def _how_to_resume(unfinished: Round, changed: Sequence[str]) -> str:
    before = unfinished.identity
    settings = {key: before[key] for key in changed if not key.startswith(("digest.", "evaluation.judges."))}
    if any(key.startswith("evaluation.judge") for key in changed):
        judges = EvaluationConfig.model_validate(unfinished.config["evaluation"]).judges
        settings["evaluation.judges"] = {
            name: judge.model_dump(mode="json", exclude_defaults=True) for name, judge in judges.items()
        }
    options = " ".join(f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in settings.items())
    files = ", ".join(FILES[key] for key in changed if key in FILES)
    steps = " and ".join([f"add {options}"] * bool(options) + [f"restore the files of {files}"] * bool(files))
    return f"{steps[0].upper()}{steps[1:]} to resume {unfinished.round}, or add --restart to start it over."
