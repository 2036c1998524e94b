"""What a configuration names, as far as it is on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import Config
from flywheel.errors import DataError
from flywheel.estimate.sizes import Found, find_model
from flywheel.reward.data import PreferenceSet, separate
from flywheel.reward.reading import read_set
from flywheel.reward.sources import SUFFIXES, find_source, read_source

STAND_IN = "asset:data/nano/generator"
NANO_JUDGE = "flywheel.nano.verifier:judge"
"""Takes the place of a model that is not on this machine while the other inputs are checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Models and data of a configuration."""

    config: Config
    """With the folders of those that are here in place of their names."""
    generator: Found | None
    """None behind an endpoint."""
    student: Found | None
    """What is trained in the generator's place."""
    base: Found
    """Of the reward model."""
    sets: Mapping[str, PreferenceSet]
    """The members' data that is here."""

    @property
    def whole(self) -> bool:
        """Whether nothing must be fetched to build the reward model."""
        return self.base.whole and len(self.sets) == len(self.config.reward.members)

    def checkable(self) -> Config:
        """The configuration with a stand-in for each model that is not here, to check everything else."""
        changed: dict[str, Any] = {}
        if self.generator and not self.generator.whole:
            changed |= {"generator": STAND_IN, "prompt_style": "completion"}
        trained, training = self.student or self.generator, self.config.training
        if trained and not trained.whole:
            # The stand-in's layers have other names than those that adapters are for.
            changed["training"] = training.model_copy(update={"student": STAND_IN if self.student else None, "lora": None})
        # A judge's model is not fetched for a plan; its time is not counted either.
        judges = self.config.evaluation.all_judges.values()
        if any(one.kind == "model" and not Path(self.config.model(one.model or "")).is_dir() for one in judges):
            here = self.config.evaluation.model_copy(update={"judge": NANO_JUDGE, "judges": {}})
            changed["evaluation"] = here
        return self.config.model_copy(update=changed)


def find_inputs(config: Config) -> Inputs:
    """Find and read; nothing is fetched but the config.json of models. Raises for what can neither be found nor fetched."""
    generator = find_model(config.model(config.generator)) if config.engine.name != "openai" else None
    student = find_model(config.model(config.training.student)) if config.training.student else None
    base = find_model(config.model(config.reward.base))
    places = {name: find_data(member.data, config.path(member.data)) for name, member in config.reward.members.items()}
    members = {
        name: member.model_copy(update={"data": str(places[name])}) if places[name] else member
        for name, member in config.reward.members.items()
    }
    reward = config.reward.model_copy(update={"base": _name(base), "members": members})
    sets = {
        name: read_set(read_source(find_source(member.data, place)), member)
        for (name, member), place in zip(config.reward.members.items(), places.values(), strict=True)
        if place
    }
    return Inputs(
        config=config.model_copy(
            update={
                "generator": _name(generator) if generator else config.generator,
                "reward": reward,
                "training": config.training.model_copy(update={"student": _name(student) if student else None}),
            }
        ),
        generator=generator,
        student=student,
        base=base,
        sets=separate(sets),
    )


def _name(found: Found) -> str:
    return str(found.folder.resolve()) if found.whole else found.source


def find_data(name: str, path: Path) -> Path | None:
    """Where a set of preferences lies on this machine; None for one that a round would fetch from the hub.

    Raises DataError where it can be neither.
    """
    if path.exists():
        return path
    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    if not repository or name.startswith((".", "/", "~")) or name.endswith(SUFFIXES):
        raise DataError(f"no file {path}; mend its path in the config")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        fetched = Path(snapshot_download(f"{owner}/{repository}", repo_type="dataset", local_files_only=True)) / inside
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        return None
    return fetched if fetched.is_dir() else None
