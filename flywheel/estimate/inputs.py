"""The models and data that a configuration names. Of what is not on this machine, only config.json files are fetched."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import Config, EngineConfig
from flywheel.core.functions import reason_of
from flywheel.core.model_folders import local_folder, not_found
from flywheel.engines.factory import Choice, choose
from flywheel.engines.machine import device, workers
from flywheel.errors import ModelError
from flywheel.instructions.demos import Demos
from flywheel.instructions.prompts import prompts_of
from flywheel.instructions.tasks import REWORDED_DEMOS, read_reworded
from flywheel.records import SeedTask, Stage, Task
from flywheel.reward.data import PreferenceSet, separate
from flywheel.reward.reading import read_set
from flywheel.reward.sources import SUFFIXES, find_source, read_source

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
CHARACTERS = 4.0
"""Characters per token where there is no tokenizer (3.9 to 4.2 on prompts from data/seeds.jsonl with three tokenizers)."""
SAMPLED = 64
"""Prompts of each kind that are rendered and counted."""
STAND_IN = "asset:data/nano/generator"
"""Replaces a model that is not on this machine while the other inputs are checked."""
STAND_IN_JUDGE = "flywheel.nano.verifier:judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model: its folder, or its hub id and a folder with its config.json."""

    name: str
    folder: Path
    complete: bool
    """Whether weights and tokenizer are on this machine too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Models and data of a configuration."""

    config: Config
    """The configuration, with folders instead of names where they are on this machine."""
    generator: Source | None
    """None behind an endpoint."""
    student: Source | None
    base: Source
    sets: Mapping[str, PreferenceSet]
    """Preference data by member, as far as it is on this machine."""

    def checkable(self) -> Config:
        """The configuration with a stand-in for every missing model, to check everything else."""
        config, trained = self.config, self.student or self.generator
        changes: dict[str, Any] = {}
        if self.generator and not self.generator.complete:
            changes |= {"generator": STAND_IN, "prompt_style": "completion"}
        if trained and not trained.complete:
            # Adapters may name modules that the stand-in does not have.
            update = {"student": STAND_IN if self.student else None, "lora": None}
            changes["training"] = config.training.model_copy(update=update)
        judges = [judge.model for judge in config.evaluation.all_judges.values() if judge.kind == "model"]
        if not all(Path(config.model(model or "")).is_dir() for model in judges):
            changes["evaluation"] = config.evaluation.model_copy(update={"judge": STAND_IN_JUDGE, "judges": {}})
        return config.model_copy(update=changes)


def find_inputs(config: Config) -> Inputs:
    """Find the inputs; raises for what is neither on this machine nor available from the hub."""
    training, reward = config.training, config.reward
    generator = _find_model(config, config.generator) if config.engine.name != "openai" else None
    student = _find_model(config, training.student) if training.student else None
    base = _find_model(config, reward.base)
    members, sets = dict(reward.members), {}
    for name, member in reward.members.items():
        if path := _find_data(member.data, config.path(member.data)):
            sets[name] = read_set(read_source(find_source(member.data, path)), member)
            members[name] = member.model_copy(update={"data": str(path)})
    changes = {
        "generator": generator.name if generator else config.generator,
        "reward": reward.model_copy(update={"base": base.name, "members": members}),
        "training": training.model_copy(update={"student": student.name if student else None}),
    }
    config = config.model_copy(update=changes)
    return Inputs(config=config, generator=generator, student=student, base=base, sets=separate(sets))


def _find_model(config: Config, key: str) -> Source:
    name = config.model(key)
    if Path(name).exists() or name.startswith(("/", ".", "~")) or name.count("/") > 1:
        folder = local_folder(name).resolve()
        return Source(name=str(folder), folder=folder, complete=True)
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    with suppress(OSError, HFValidationError):
        fetched = Path(snapshot_download(name, local_files_only=True))
        if next(fetched.glob("*.safetensors"), None):
            return Source(name=str(fetched), folder=local_folder(str(fetched)), complete=True)
    try:
        return Source(name=name, folder=Path(hf_hub_download(name, "config.json")).parent, complete=False)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise not_found(name, error) from None


def _find_data(name: str, path: Path) -> Path | None:
    """Where preference data is or should be on this machine; None for data that a round would fetch from the hub."""
    if path.exists() or "/" not in name or name.startswith((".", "/", "~")) or name.endswith(SUFFIXES) or ".." in name:
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    owner, repository, *inside = name.split("/")
    with suppress(OSError, HFValidationError):
        fetched = Path(snapshot_download(f"{owner}/{repository}", repo_type="dataset", local_files_only=True), *inside)
        return fetched if fetched.is_dir() else None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a model."""

    kind: str
    parameters: int
    layers: int
    vocabulary: int
    positions: int | None
    """Tokens of the longest prompt and output together, where the config has it."""


def shape_of(source: Source, *, layers: int | None = None, trust_remote_code: bool = False) -> Shape:
    """The sizes of a language model, or of the reward model from its first ``layers``, without reading a weight."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    from flywheel.reward.slice import shortened

    auto: Any = AutoModelForCausalLM if layers is None else AutoModelForSequenceClassification
    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
        if layers is not None:
            if layers > config.num_hidden_layers:
                raise ModelError(f"reward.layers = {layers}, but {source.name} has {config.num_hidden_layers}", "Lower it.")
            config = shortened(config, layers)
            config.num_labels = 1
        with torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, TypeError, OSError) as error:
        message = f"transformers cannot build {source.name} from its config.json: {reason_of(error)[:160]}"
        raise ModelError(message, "Use a model that transformers supports.") from None
    text = config.get_text_config()
    return Shape(
        kind=config.model_type,
        parameters=model.num_parameters(),
        layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
        positions=getattr(text, "max_position_embeddings", None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A model that generates."""

    engine: Choice
    shape: Shape | None
    """None behind an endpoint."""
    prompts: Mapping[Stage, Sequence[int]]
    """Tokens of sampled prompts, by stage."""
    memory: int | None
    """Bytes of its weights, and ``available`` the bytes of its device; None on another machine."""
    available: int | None


def describe(
    config: Config, source: Source | None, settings: EngineConfig, seeds: Sequence[SeedTask], held_out: Sequence[Task]
) -> TextModel:
    """Describe a model that generates; the prompts of one that is not on this machine are counted without chat template."""
    folder, trust = source.folder if source and source.complete else None, config.engine.trust_remote_code
    prompts, instructions, tasks = prompts_of(config, folder), config.instructions, _sample([seed.task for seed in seeds])
    demos = Demos(instructions, seeds, names=(config.seed, "dry-run"))
    texts = {
        Stage.PROPOSE: [prompts.propose(demos.choose(number)) for number in range(SAMPLED)],
        Stage.ANSWER: [prompts.answer(task) for task in tasks],
        Stage.EVALUATE: [prompts.answer(task) for task in _sample(held_out)],
    }
    if instructions.paraphrases.per_winner:
        pairs = read_reworded(config.path(instructions.paraphrases.demos))[:REWORDED_DEMOS]
        texts[Stage.PARAPHRASE] = [prompts.paraphrase(task, pairs) for task in tasks]
    engine = choose(settings, source.folder if source else None)
    shape = shape_of(source, trust_remote_code=trust) if source else None
    # CTranslate2 loads the weights once per core.
    on_cores = engine.name == "ctranslate2"
    copies = workers(settings) if on_cores else 1
    return TextModel(
        engine=engine,
        shape=shape,
        prompts={stage: _count_tokens(rendered, folder, trust) for stage, rendered in texts.items()},
        memory=copies * shape.parameters * BYTES[settings.compute_type] if shape else None,
        available=device_memory("cpu" if on_cores else device(settings)) if shape else None,
    )


def _sample(tasks: Sequence[Task]) -> Sequence[Task]:
    return tasks[:: max(1, len(tasks) // SAMPLED)]


def _count_tokens(texts: Sequence[str], folder: Path | None, trust_remote_code: bool) -> list[int]:
    """Tokens of each text by a model's tokenizer, or estimated from its characters if there is none."""
    if folder is None:
        return [round(len(text) / CHARACTERS) for text in texts]
    from transformers import AutoTokenizer

    return [len(ids) for ids in AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)(texts).input_ids]


def device_memory(device: str) -> int:
    """Bytes of memory of a GPU, or of this machine or its container."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return whole
