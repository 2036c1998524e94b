"""The judges of a configuration: found, refused where one has had a hand in selecting, and made ready to be asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.config import Config, EngineConfig, JudgeConfig, PricesConfig
from flywheel.core.files import digest_files, digest_model
from flywheel.core.functions import load_function
from flywheel.core.model_folders import local_folder
from flywheel.engines.contract import Engine, Sampling
from flywheel.errors import ConfigError, ModelError
from flywheel.evaluation.function_judge import ask
from flywheel.evaluation.pairwise import PairwiseJudge
from flywheel.instructions.prompts import Prompts, template_file
from flywheel.records import Judge, Model, ModelKind, Task
from flywheel.reward.reading import read_set
from flywheel.reward.recipe import read_sets
from flywheel.reward.sources import Split, find_source, read_source
from flywheel.reward.text import Answer

if TYPE_CHECKING:
    from flywheel.engines.openai_engine import OpenAIEngine

BOTH_LABELS = 2

Metered = Callable[[Engine, PricesConfig], Engine]
"""Counts what an engine spends at these prices against the budget."""


def judge_models(config: Config) -> list[Model]:
    """Every judge as it is recorded, the deciding one first. Raises ModelError for one whose folder is not to be had."""
    return [_recorded(config, name, judge) for name, judge in config.evaluation.all_judges.items()]


def _recorded(config: Config, name: str, judge: JudgeConfig) -> Model:
    if judge.kind == "verifier":
        assert judge.function is not None
        digest = hashlib.sha256(judge.function.encode()).hexdigest()
        return Model(kind=ModelKind.JUDGE, name=name, path=judge.function, digest=digest)
    assert judge.model is not None
    if judge.kind == "model":
        folder = _folder(config, name, judge.model)
        return Model(kind=ModelKind.JUDGE, name=name, path=str(folder.resolve()), digest=digest_model(folder))
    # What decides what it says; where it is served may change.
    says = judge.model_dump(mode="json", include={"model", "temperature", "max_tokens", "args"})
    asked = digest_files(template_file(config.path(config.prompts), "judge.jinja"))
    digest = hashlib.sha256(json.dumps([says, judge.endpoint.seeded, asked], sort_keys=True).encode()).hexdigest()
    return Model(kind=ModelKind.JUDGE, name=name, path=f"endpoint:{judge.model}", digest=digest)


def check_judges(config: Config, tasks: Sequence[Task], *, reach: bool) -> None:
    """Raise where a judge could not be asked, before a round is paid for: each is loaded, and asked where that is free.

    Without ``reach`` servers are left alone, and need no key yet.
    """
    judge_models(config)
    for name, judge in config.evaluation.all_judges.items():
        if judge.kind != "llm":
            loaded = load_judge_of(config, name, judge, {}, lambda engine, _: engine)
            ask(loaded, judge.function or name, [(task, "nothing") for task in tasks])
        elif reach:
            with closing(_endpoint(name, judge)) as engine:
                engine.reach()


def load_judge_of(
    config: Config, name: str, judge: JudgeConfig, opponents: Mapping[str, Sequence[str]], metered: Metered
) -> Judge:
    """A judge ready to be asked; ``opponents`` are the untouched generator's held-out outputs by task id."""
    if judge.kind == "verifier":
        assert judge.function is not None
        return load_function(judge.function, "evaluation.judge")
    assert judge.model is not None
    if judge.kind == "model":
        return _model_judge(config, name, _folder(config, name, judge.model))
    prompts, engine = Prompts(config.path(config.prompts)), _endpoint(name, judge)
    sampling = Sampling(temperature=judge.temperature, top_p=1.0, max_tokens=judge.max_tokens)
    return PairwiseJudge(metered(engine, judge.prices), prompts, opponents, sampling=sampling, seed=config.seed)


def _endpoint(name: str, judge: JudgeConfig) -> OpenAIEngine:
    from flywheel.engines.openai_engine import OpenAIEngine

    assert judge.model is not None
    settings = EngineConfig(name="openai", endpoint=judge.endpoint, args=judge.args)
    return OpenAIEngine(judge.model, settings, chat=True, section=f"evaluation.judges.{name}")


def _folder(config: Config, name: str, source: str) -> Path:
    try:
        return local_folder(config.model(source))
    except ModelError as error:
        raise ModelError(f"evaluation.judges.{name}: {error}") from None


def _model_judge(config: Config, name: str, folder: Path) -> Judge:
    """A classifier as the judge: asked in its chat template where it has one, else as the reward model is."""
    from flywheel.reward.model import RewardModel

    try:
        scorer = RewardModel.load(
            folder,
            Prompts(config.path(config.prompts)),
            max_length=config.reward.max_length,
            device="cpu",
            most_labels=BOTH_LABELS,
        )
    except (ModelError, ValueError, OSError) as error:  # the latter two where transformers cannot read a tokenizer
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"evaluation.judges.{name}: {folder} cannot judge ({reason}); name a classifier of one label or two that has its "
            "tokenizer"
        ) from None
    if not getattr(scorer.network.tokenizer, "chat_template", None):
        return lambda rows: list(scorer.score_answers([Answer(task=task, output=output) for task, output in rows]))
    said = Prompts(config.path(config.prompts), chat=str)

    def judge(rows: Sequence[tuple[Task, str]]) -> list[float | None]:
        talks = (
            [{"role": "user", "content": said.answer(task)}, {"role": "assistant", "content": output}] for task, output in rows
        )
        return list(
            scorer.score_texts([str(scorer.network.tokenizer.apply_chat_template(one, tokenize=False)) for one in talks])
        )

    return judge


def refuse_partial_judges(config: Config, reward_digests: Mapping[str, str]) -> None:
    """Raise ConfigError for a judge model that selects, or that was trained on what a member was trained on.

    ``reward_digests`` are the digests of the models of the reward lab, by their ids.
    """
    for model, (name, judge) in zip(judge_models(config), config.evaluation.all_judges.items(), strict=True):
        if judge.kind != "model":
            continue
        for model_id, digest in reward_digests.items():
            if digest == model.digest:
                raise ConfigError(
                    f"evaluation.judges.{name}: {model.path} is {model_id}, which has a part in selecting; "
                    "a judge must not, take another model"
                )
        if judge.trained_on is not None:
            _refuse_shared_rows(config, name, judge)


def _refuse_shared_rows(config: Config, name: str, judge: JudgeConfig) -> None:
    assert judge.trained_on is not None
    source = judge.trained_on
    rows = read_set(read_source(find_source(source.data, config.path(source.data))), source).of(Split.TRAIN)
    seen = {_text(answer) for row in rows for answer in row.answers}
    for member, preferences in read_sets(config).items():
        shared = sum(any(_text(answer) in seen for answer in row.answers) for row in preferences.of(Split.TRAIN))
        if shared:
            raise ConfigError(
                f"evaluation.judges.{name}: {shared:,} training rows of the member {member} are in its own training data "
                f"({source.data}); a judge that learned from the same rows makes the same mistakes, take another"
            )


def _text(answer: Answer) -> tuple[Task | None, str]:
    return answer.task, answer.output
