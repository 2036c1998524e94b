"""The models and prompts of a configuration. Of models that are not on this machine, only config.json is downloaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import Config, EngineConfig
from flywheel.core.functions import reason_of
from flywheel.core.model_folders import check_model, not_found
from flywheel.engines.factory import Choice, choose
from flywheel.engines.machine import workers
from flywheel.errors import ModelError
from flywheel.instructions.demos import Demos
from flywheel.instructions.prompts import prompts_of
from flywheel.instructions.tasks import REWORDED_DEMOS, read_reworded
from flywheel.records import SeedTask, Stage, Task

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
CHARACTERS = 4.0
"""Characters per token where there is no tokenizer (3.9 to 4.2 on prompts from data/seeds.jsonl with three tokenizers)."""
SAMPLED = 64
"""Prompts of each kind that are rendered and counted."""


def find_models(config: Config) -> dict[str, Path]:
    """The folder of each model by its config key; raises ModelError for one that is neither on this machine nor on the hub."""
    names = {
        "generator": config.generator if config.engine.name != "openai" else None,
        "training.student": config.training.student,
        "reward.base": config.reward.base,
    }
    return {key: _find_model(config.model(name)) for key, name in names.items() if name}


def _find_model(name: str) -> Path:
    if Path(name).exists():
        check_model(Path(name))
        return Path(name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(name, "config.json")).parent
    except (OSError, HFValidationError) as error:
        raise not_found(name, error) from None


def is_downloaded(folder: Path) -> bool:
    """Whether a model's weights are on this machine, not only its config.json."""
    return any(folder.glob("*.safetensors"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a model."""

    kind: str
    parameters: int
    layers: int
    vocabulary: int
    positions: int | None
    """Tokens of the longest prompt and output together, where the config has it."""


def shape_of(folder: Path, *, layers: int | None = None, trust_remote_code: bool = False) -> Shape:
    """The sizes of a language model, or of the reward model from its first ``layers``, without reading a weight."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    from flywheel.reward.slice import shortened

    auto: Any = AutoModelForCausalLM if layers is None else AutoModelForSequenceClassification
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        if layers is not None:
            if layers > config.num_hidden_layers:
                message = f"reward.layers = {layers} exceeds the {config.num_hidden_layers} layers of {folder}"
                raise ModelError(message, f"Set `reward.layers` to at most {config.num_hidden_layers}.")
            config = shortened(config, layers)
            config.num_labels = 1
        with torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, TypeError, OSError) as error:
        message = f"transformers cannot build a model from {folder / 'config.json'}: {reason_of(error)[:160]}"
        hint = "Use a model that transformers supports, or set `engine.trust_remote_code` to true for a generator with code."
        raise ModelError(message, hint) from None
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
    """Bytes of its weights; None behind an endpoint."""


def describe(
    config: Config, folder: Path | None, settings: EngineConfig, seeds: Sequence[SeedTask], held_out: Sequence[Task]
) -> TextModel:
    """Describe a model that generates; the prompts of one that is not downloaded are counted without its chat template."""
    downloaded, trust = folder if folder and is_downloaded(folder) else None, config.engine.trust_remote_code
    prompts, instructions, tasks = prompts_of(config, downloaded), config.instructions, _sample([seed.task for seed in seeds])
    demos = Demos(instructions, seeds, names=(config.seed, "dry-run"))
    texts = {
        Stage.PROPOSE: [prompts.propose(demos.choose(number)) for number in range(SAMPLED)],
        Stage.ANSWER: [prompts.answer(task) for task in tasks],
        Stage.EVALUATE: [prompts.answer(task) for task in _sample(held_out)],
    }
    if instructions.paraphrases.per_winner:
        pairs = read_reworded(config.path(instructions.paraphrases.demos))[:REWORDED_DEMOS]
        texts[Stage.PARAPHRASE] = [prompts.paraphrase(task, pairs) for task in tasks]
    engine = choose(settings, folder)
    shape = shape_of(folder, trust_remote_code=trust) if folder else None
    copies = workers(settings) if engine.name == "ctranslate2" else 1  # it loads the weights once per core
    return TextModel(
        engine=engine,
        shape=shape,
        prompts={stage: _count_tokens(rendered, downloaded, trust) for stage, rendered in texts.items()},
        memory=copies * shape.parameters * BYTES[settings.compute_type] if shape else None,
    )


def _sample(tasks: Sequence[Task]) -> Sequence[Task]:
    return tasks[:: max(1, len(tasks) // SAMPLED)]


def _count_tokens(texts: Sequence[str], folder: Path | None, trust_remote_code: bool) -> list[int]:
    """Tokens of each text by a model's tokenizer, or estimated from its characters if there is none."""
    if folder is None:
        return [round(len(text) / CHARACTERS) for text in texts]
    from transformers import AutoTokenizer

    return [len(ids) for ids in AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)(texts).input_ids]


def memory_of(device: str) -> int:
    """Bytes of memory of a GPU, or of this machine or its container."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return whole
