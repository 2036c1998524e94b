"""Best-of-N for one task, right now: the latest generator's candidates, ranked by the reward model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from flywheel.config import Config
from flywheel.core.quiet import silence
from flywheel.engines.contract import Sampling
from flywheel.engines.generator import load_engine
from flywheel.errors import StoreError
from flywheel.instructions.prompt_style import load_prompts
from flywheel.records import Completion, FinishReason, Task
from flywheel.reward.model import load_scorer
from flywheel.reward.text import Answer
from flywheel.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate with its reward."""

    completion: Completion
    reward: float


def best_of(workspace: Workspace, config: Config, task: Task, *, n: int) -> list[Ranked]:
    """N candidates for a task, best first; those cut at the token limit last."""
    silence()
    done = [one for one in workspace.store.rounds() if one.status == "done"]
    if not done:
        raise StoreError("there is no finished round yet, so no generator and no reward model; run `flywheel round` first")
    latest = done[-1]
    assert latest.generator_out is not None
    generator = workspace.store.model(latest.generator_out)
    assert latest.reward_model is not None
    reward = workspace.store.model(latest.reward_model)
    workspace.refuse_altered([generator, reward])
    engine = load_engine(config, workspace, generator)
    sampling = Sampling(
        temperature=config.sampling.temperature, top_p=config.sampling.top_p, max_tokens=config.sampling.max_tokens
    )
    prompt = load_prompts(config, workspace, generator).answer(task)
    with closing(engine):
        (written,) = engine.generate([prompt], n=n, sampling=sampling, seed=config.seed)
    scorer = load_scorer(workspace.locate(reward), config)
    finished = [one.finish_reason == FinishReason.STOP for one in written]
    rewards = scorer.score(
        [Answer(task=task, output=one.text, finished=end) for one, end in zip(written, finished, strict=True)]
    )
    ranked = [Ranked(completion=one, reward=reward) for one, reward in zip(written, rewards, strict=True)]
    return sorted(ranked, key=lambda one: (one.completion.finish_reason == FinishReason.STOP, one.reward), reverse=True)
