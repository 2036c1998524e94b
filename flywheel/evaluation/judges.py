"""The judges of a configuration: loaded, checked, and refused where one took part in selecting.

A judge is a Python function, a sequence classification model, or a language model that compares outputs in pairs.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, repeat
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, assert_never

from flywheel.config import Config, DataConfig, EngineConfig, JudgeConfig, PricesConfig
from flywheel.core.files import digest_files, digest_model
from flywheel.core.functions import load_function, reason_of
from flywheel.core.model_folders import local_folder
from flywheel.core.seeds import derive
from flywheel.engines.contract import Engine, Sampling
from flywheel.errors import ConfigError, DataError, FlywheelError, ModelError, first_line
from flywheel.instructions.prompts import Prompts, template_file
from flywheel.records import Judge, Model, ModelKind, Task
from flywheel.reward.reading import read_set
from flywheel.reward.recipe import read_sets
from flywheel.reward.sources import Split, find_source, read_source
from flywheel.reward.text import Answer

if TYPE_CHECKING:
    from flywheel.engines.openai_engine import OpenAIEngine

EVEN = 0.5
_PREFERENCE = re.compile(r"^\W*better\W+(a|b|neither|tie|both)\b", re.IGNORECASE | re.MULTILINE)


def judge_models(config: Config) -> list[Model]:
    """Every judge as it is recorded, the deciding one first. Raises ModelError for one whose folder is not found."""
    return [_recorded(config, name, judge) for name, judge in config.evaluation.all_judges.items()]


def _recorded(config: Config, name: str, judge: JudgeConfig) -> Model:
    if judge.kind == "model":
        folder = _folder(config, name, judge)
        return Model(kind=ModelKind.JUDGE, name=name, path=str(folder.resolve()), digest=digest_model(folder))
    path = text = str(judge.function)
    if judge.kind == "llm":
        path = f"endpoint:{judge.model}"
        # What decides its scores; where it is served may change.
        settings = judge.model_dump(mode="json", include={"model", "temperature", "max_tokens", "args"})
        template = digest_files(template_file(config.path(config.prompts), "judge.jinja"))
        text = json.dumps([settings, judge.endpoint.seeded, template], sort_keys=True)
    return Model(kind=ModelKind.JUDGE, name=name, path=path, digest=hashlib.sha256(text.encode()).hexdigest())


def check_judges(config: Config, tasks: Sequence[Task], *, reach: bool) -> None:
    """Raise where a judge does not work, before a round is paid for: each is loaded, and asked where that is free.

    Without ``reach`` servers are left alone, and need no key yet.
    """
    for name, judge in config.evaluation.all_judges.items():
        if judge.is_free:
            ask(load_judge_of(config, name, judge, {}), judge.function or name, [(task, "nothing") for task in tasks])
        elif reach:
            with closing(_endpoint(name, judge)) as engine:
                engine.check_connection()


def load_judge_of(
    config: Config,
    name: str,
    judge: JudgeConfig,
    opponents: Mapping[str, Sequence[str]],
    metered: Callable[[Engine, PricesConfig], Engine] = lambda engine, prices: engine,
) -> Judge:
    """A judge that is ready to be asked; ``opponents`` are the untouched generator's held-out outputs by task id.

    ``metered`` counts what an engine spends against the budget.
    """
    match judge.kind:
        case "verifier":
            key = f"evaluation.judges.{name}.function" if name in config.evaluation.judges else "evaluation.judge"
            return load_function(str(judge.function), key)
        case "model":
            return _model_judge(config, name, _folder(config, name, judge))
        case "llm":
            sampling = Sampling(temperature=judge.temperature, top_p=1.0, max_tokens=judge.max_tokens)
            engine, prompts = metered(_endpoint(name, judge), judge.prices), Prompts(config.path(config.prompts))
            return PairwiseJudge(engine, prompts, opponents, sampling=sampling, seed=config.seed)
    assert_never(judge.kind)


def _endpoint(name: str, judge: JudgeConfig) -> OpenAIEngine:
    from flywheel.engines.openai_engine import OpenAIEngine

    settings = EngineConfig(name="openai", endpoint=judge.endpoint, args=judge.args)
    return OpenAIEngine(str(judge.model), settings, chat=True, section=f"evaluation.judges.{name}")


def _folder(config: Config, name: str, judge: JudgeConfig) -> Path:
    try:
        return local_folder(config.model(str(judge.model)))
    except ModelError as error:
        raise ModelError(f"evaluation.judges.{name}: {error.message}", error.hint) from None


def ask(judge: Judge, name: str, rows: Sequence[tuple[Task, str]]) -> list[float | None]:
    """The judge's score of each output; raises DataError where it fails or returns something else."""
    try:
        scores = judge(rows)
        if isinstance(scores, (str, bytes, Mapping, Set)):
            raise TypeError(f"expected a list of numbers, got a {type(scores).__name__}")
        numbers = [None if score is None else float(score) for score in scores]
    except FlywheelError:  # ours: it has its own hint
        raise
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        hint = "Fix the judge, then run the same command to resume."
        raise DataError(f"judge {name!r} failed with {reason_of(error)}", hint) from None
    if len(numbers) != len(rows):
        counts = f"{len(numbers)} scores for {len(rows)} outputs"
        raise DataError(f"judge {name!r} returned {counts}", "Return a number or None for each output.")
    for (_, output), number in zip(rows, numbers, strict=True):
        if number is not None and not math.isfinite(number):
            raise DataError(f"judge {name!r} scored {output[:40]!r} as {number}", "Return a finite number, or None.")
    return numbers


def _model_judge(config: Config, name: str, folder: Path) -> Judge:
    """A classifier as the judge: asked in its chat template where it has one, else as the reward model is."""
    from flywheel.reward.model import RewardModel

    prompts = Prompts(config.path(config.prompts))
    try:
        # One label, or two: bad and good.
        scorer = RewardModel.load(folder, prompts, max_length=config.reward.max_length, device="cpu", most_labels=2)
    except (ModelError, ValueError, OSError) as error:  # the latter two where transformers cannot read a tokenizer
        raise ModelError(
            f"evaluation.judges.{name}: {folder} cannot be used as a judge: {first_line(error)}",
            f"Set `evaluation.judges.{name}.model` to a classifier with a tokenizer and one or two labels.",
        ) from None
    if not getattr(scorer.tokenizer, "chat_template", None):
        return lambda rows: list(scorer.score_answers([Answer(task=task, output=output) for task, output in rows]))
    chat = Prompts(config.path(config.prompts), chat=str)

    def conversation(task: Task, output: str) -> str:
        messages = [{"role": "user", "content": chat.answer(task)}, {"role": "assistant", "content": output}]
        return str(scorer.tokenizer.apply_chat_template(messages, tokenize=False))

    return lambda rows: list(scorer.score_texts([conversation(task, output) for task, output in rows]))


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """A language model as the judge: shown two outputs for one task, it says which is better.

    Such a judge prefers what it sees first (Zheng et al., arXiv 2306.05685, section 3.3), so each pair is shown in both orders.
    The other output is always the untouched generator's, so that all rounds are measured against one baseline (as in
    AlpacaEval, Dubois et al., arXiv 2404.04475): 1 where a round's output wins in both orders, 0 where it loses in both, 0.5
    for the untouched generator against itself. The k-th output for a task meets the k-th one there.
    """

    engine: Engine
    prompts: Prompts
    opponents: Mapping[str, Sequence[str]]
    """Outputs by task id; a task without any scores even: it is the untouched generator itself."""
    sampling: Sampling
    seed: int

    def __call__(self, rows: Sequence[tuple[Task, str]]) -> list[float | None]:
        """A score for each output, None where the judge's preference cannot be read."""
        others = {task_id: cycle(outputs) for task_id, outputs in self.opponents.items()}
        pairs = [(task, output, next(others.get(task.task_id, repeat(output)))) for task, output in rows]
        asked = list(dict.fromkeys(pair for pair in pairs if pair[1].strip() != pair[2].strip()))
        if not asked:
            return [EVEN] * len(pairs)
        prompts = [self.prompts.judge(task, *pair) for task, *outputs in asked for pair in (outputs, outputs[::-1])]
        judgements = self.engine.generate(prompts, n=1, sampling=self.sampling, seed=derive(self.seed, "judge"))
        preferences = [preference(judgement.text) for (judgement,) in judgements]
        scores: dict[tuple[Task, str, str], float | None] = {}
        for pair, forth, back in zip(asked, preferences[::2], preferences[1::2], strict=True):
            readable = [score for score in (forth, None if back is None else 1 - back) if score is not None]
            scores[pair] = fmean(readable) if readable else None
        return [scores.get(pair, EVEN) for pair in pairs]

    def close(self) -> None:
        """Close the connection."""
        self.engine.close()


def preference(text: str) -> float | None:
    """What a judgement says of the first output: 1 better, 0 worse, 0.5 neither; None where it does not say.

    The last statement counts: a judge may reason before it decides.
    """
    answers = _PREFERENCE.findall(text)
    return {"a": 1.0, "b": 0.0}.get(answers[-1].lower(), EVEN) if answers else None


def refuse_partial_judges(config: Config, reward_digests: Mapping[str, str]) -> None:
    """Raise ConfigError for a judge model that selects, or that was trained on rows that a member was trained on.

    ``reward_digests`` are the digests of the models of the reward lab, by their ids.
    """
    for model, (name, judge) in zip(judge_models(config), config.evaluation.all_judges.items(), strict=True):
        if judge.kind != "model":
            continue
        if selecting := next((model_id for model_id, digest in reward_digests.items() if digest == model.digest), None):
            raise ConfigError(
                f"evaluation.judges.{name}.model = {judge.model!r} is {selecting}, a part of the reward model",
                f"Set `evaluation.judges.{name}.model` to a model that takes no part in selecting.",
            )
        if judge.trained_on is not None:
            _refuse_shared_rows(config, name, judge.trained_on)


def _refuse_shared_rows(config: Config, name: str, source: DataConfig) -> None:
    """A judge that learned from the same rows makes the same mistakes."""
    rows = read_set(read_source(find_source(source.data, config.path(source.data))), source).of(Split.TRAIN)
    seen = {(answer.task, answer.output) for row in rows for answer in row.answers}
    for member, preferences in read_sets(config).items():
        shared = sum(any((answer.task, answer.output) in seen for answer in row.answers) for row in preferences.of(Split.TRAIN))
        if shared:
            raise ConfigError(
                f"evaluation.judges.{name}.trained_on ({source.data}) shares {shared:,} rows with reward.members.{member}",
                f"Use a judge that was trained on other data: set `model` and `trained_on` of `evaluation.judges.{name}`.",
            )
