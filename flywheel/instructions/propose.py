"""Propose: new tasks from three demos without outputs and an open fourth (Unnatural Instructions, section 2.1)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

from flywheel.config import InstructionsConfig
from flywheel.core.seeds import derive
from flywheel.engines.contract import Generate, Request, Sampling, prompt_tokens
from flywheel.errors import DataError
from flywheel.instructions.demos import Demos
from flywheel.instructions.filters import KEPT, Decision, Dropped, Filters, key_of
from flywheel.instructions.kinds import kind_of
from flywheel.instructions.parse import parse_task
from flywheel.instructions.prompts import Prompts
from flywheel.records import Chunk, Completion, FinishReason, Proposal, ProposalProgress, Task

STOP = ("\nExample ",)
"""The start of a further example."""


def propose(
    write: Generate,
    prompts: Prompts,
    config: InstructionsConfig,
    *,
    demos: Demos,
    filters: Filters,
    best: Callable[[Sequence[Task]], list[float]],
    names: tuple[object, ...],
    chunk: int,
    done: ProposalProgress,
) -> Iterator[Chunk[Proposal]]:
    """Generate tasks until ``config.tasks`` are kept; the dropped ones have their reason.

    ``write`` is the generator, ``filters`` knows the tasks kept before, ``best`` rates tasks of one prompt (the highest is
    kept), ``done`` says how far an interrupted stage came. Raises DataError when ``config.max_attempts`` for each task, or
    ``config.max_total_tokens``, are spent.
    """
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens, stop=STOP)
    dropped: Counter[str] = Counter()

    def request(first: int, count: int) -> Request:
        """The prompts from one attempt on."""
        start = first // config.best_of
        return Request(
            prompts=[prompts.propose(demos.choose(number)) for number in range(start, start + count)],
            n=config.best_of, sampling=sampling, seed=derive(*names, first),
        )  # fmt: skip

    while done.kept < config.tasks:
        with closing(write(request(first, count) for first, count in _chunks(config, done, chunk))) as results:
            for expected in _chunks(config, done, chunk):
                # What is kept decides how much more is requested: what was started on another guess is not used.
                if expected != next(_chunks(config, done, chunk), None):
                    break
                _refuse_beyond_caps(config, done, dropped)
                groups, kept = next(results), done.kept
                rows: list[Proposal] = []
                for number, group in enumerate(groups, start=done.attempts // config.best_of):
                    full, first = kept == config.tasks, done.attempts + len(rows)
                    attempts = _decide(group, demos.choose(number), prompts, filters, best, first=first, full=full)
                    kept += sum(row.reason is None for row in attempts)
                    rows += attempts
                dropped.update(row.reason for row in rows if row.reason)
                tokens = sum(row.tokens for row in rows)
                done = ProposalProgress(attempts=done.attempts + len(rows), kept=kept, tokens=done.tokens + tokens)
                yield Chunk(rows=rows, last=kept == config.tasks, tokens=tokens, prompt_tokens=prompt_tokens(groups))


def _max_attempts(config: InstructionsConfig) -> int:
    return config.max_attempts * config.best_of * config.tasks


def _refuse_beyond_caps(config: InstructionsConfig, done: ProposalProgress, dropped: Counter[str]) -> None:
    """Raise DataError where a cap is met, with the drop reasons of this call."""
    if done.attempts >= _max_attempts(config):
        spent, key = f"{done.attempts:,} attempts", f"instructions.max_attempts = {config.max_attempts}"
    elif config.max_total_tokens is not None and done.tokens >= config.max_total_tokens:
        spent, key = f"{done.tokens:,} tokens", f"instructions.max_total_tokens = {config.max_total_tokens:,}"
    else:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.most_common()) or "none in this call"
    raise DataError(
        f"only {done.kept} of {config.tasks} tasks kept after {spent} ({key}); dropped: {reasons}",
        f"Raise `{key.partition(' ')[0]}` and run the same command to resume. "
        """`flywheel sql "SELECT reason, raw FROM tasks WHERE NOT kept"` shows the dropped tasks.""",
    )


def _chunks(config: InstructionsConfig, done: ProposalProgress, chunk: int) -> Iterator[tuple[int, int]]:
    """The first attempt and the number of prompts of the chunks that are expected; only the first of them is certain.

    There are as many prompts as the keep rate so far demands; after those that a cap admits comes one chunk beyond it.
    """
    missing, asked = config.tasks - done.kept, done.attempts // config.best_of
    wanted = math.ceil(missing * asked / done.kept) if done.kept else missing
    left = min(wanted, max(1, math.ceil((_max_attempts(config) - done.attempts) / config.best_of)))
    for start in range(0, left if missing else 0, chunk):
        yield done.attempts + start * config.best_of, min(chunk, left - start)


def _decide(
    completions: Sequence[Completion],
    demos: Sequence[Task],
    prompts: Prompts,
    filters: Filters,
    best: Callable[[Sequence[Task]], list[float]],
    *,
    first: int,
    full: bool,
) -> list[Proposal]:
    """The attempts of one prompt; at most one is kept, none where there are enough."""
    parsed = [parse_task(completion.text, chat=prompts.chat) for completion in completions]
    keys = {key_of(demo) for demo in demos}
    decisions = [
        filters.check(task, attempt.text, ended=FinishReason.STOP if ended else attempt.finish_reason, demos=keys)
        for (task, ended), attempt in zip(parsed, completions, strict=True)
    ]
    passed = [(place, task) for place, (task, _) in enumerate(parsed) if decisions[place] == KEPT and task]
    keep = None
    if passed and not full:
        values = best([task for _, task in passed]) if len(passed) > 1 else [0.0]
        keep, task = passed[values.index(max(values))]
        filters.keep(task)
    other = Decision(reason=Dropped.SURPLUS if full else Dropped.NOT_BEST)
    ids = tuple(demo.task_id for demo in demos)
    return [
        proposal(first + place, completion, task, other if decision == KEPT and place != keep else decision, demos=ids)
        for place, (completion, (task, _), decision) in enumerate(zip(completions, parsed, decisions, strict=True))
    ]


def proposal(
    attempt: int, completion: Completion, task: Task | None, decision: Decision, *, demos: tuple[str, ...] = (), **more: Any
) -> Proposal:
    """An attempt as it is recorded."""
    kind = kind_of(task.instruction) if task else None
    text, tokens = completion.text, completion.tokens
    return Proposal(attempt=attempt, raw=text, demos=demos, tokens=tokens, task=task, kind=kind, **asdict(decision), **more)
