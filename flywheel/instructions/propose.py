"""Propose: new tasks from three demos without outputs and an open fourth (Unnatural Instructions, section 2.1)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

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
"""What begins a further example."""
SEE_WHY = """see what was written with `flywheel sql "SELECT reason, raw FROM tasks WHERE NOT kept"`"""


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
    """Write tasks until ``config.tasks`` are kept, the dropped ones with their reason.

    ``write`` is the generator at work, ``filters`` knows the tasks kept before, ``best`` tells which of some tasks for one
    prompt is kept (the highest), ``done`` says how far an interrupted stage came. Raises DataError when
    ``config.max_attempts`` for each task asked for, or ``config.max_total_tokens``, are spent.
    """
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens, stop=STOP)
    dropped: Counter[str] = Counter()

    def ask(first: int, count: int) -> Request:
        """What is asked for from one attempt on."""
        number = first // config.best_of
        return Request(
            prompts=[prompts.propose(demos.choose(one)) for one in range(number, number + count)],
            n=config.best_of, sampling=sampling, seed=derive(*names, first),
        )  # fmt: skip

    while done.kept < config.tasks:
        with closing(write(ask(first, count) for first, count in _chunks(config, done, chunk))) as coming:
            for expected in _chunks(config, done, chunk):
                # What is kept decides how much more is asked for: what was begun on another guess is not taken.
                if expected != next(_chunks(config, done, chunk), None):
                    break
                _refuse_beyond_caps(config, done, dropped)
                written = next(coming)
                rows: list[Proposal] = []
                for number, group in enumerate(written, start=done.attempts // config.best_of):
                    full = done.kept + sum(row.reason is None for row in rows) == config.tasks
                    first = done.attempts + len(rows)
                    rows += _decide(group, demos.choose(number), prompts, filters, best, first=first, full=full)
                dropped.update(row.reason for row in rows if row.reason)
                tokens = sum(row.tokens for row in rows)
                kept = sum(row.reason is None for row in rows)
                done = ProposalProgress(attempts=done.attempts + len(rows), kept=done.kept + kept, tokens=done.tokens + tokens)
                yield Chunk(rows=rows, last=done.kept == config.tasks, tokens=tokens, prompt_tokens=prompt_tokens(written))


def _most_attempts(config: InstructionsConfig) -> int:
    return config.max_attempts * config.best_of * config.tasks


def _refuse_beyond_caps(config: InstructionsConfig, done: ProposalProgress, dropped: Counter[str]) -> None:
    """Raise DataError where a cap is met, with what the attempts of this call were dropped for."""
    if done.attempts >= _most_attempts(config):
        spent = f"{done.attempts:,} attempts (instructions.max_attempts = {config.max_attempts} for each task)"
    elif config.max_total_tokens is not None and done.tokens >= config.max_total_tokens:
        spent = f"{done.tokens:,} tokens (instructions.max_total_tokens = {config.max_total_tokens:,})"
    else:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.most_common())
    raise DataError(
        f"{spent} gave {done.kept} of the {config.tasks} tasks asked for{f' ({reasons})' if reasons else ''}; "
        f"{SEE_WHY}, then mend the cause, or raise that limit and go on"
    )


def _chunks(config: InstructionsConfig, done: ProposalProgress, chunk: int) -> Iterator[tuple[int, int]]:
    """The first attempt and the number of prompts of the chunks that will probably be asked for, the first of them surely.

    There are as many prompts as will probably give what is still wanted, judged by what the earlier ones gave; after those
    that a cap admits comes one chunk that is beyond it.
    """
    missing, asked = config.tasks - done.kept, done.attempts // config.best_of
    wanted = math.ceil(missing * asked / done.kept) if done.kept else missing
    left = min(wanted, max(1, math.ceil((_most_attempts(config) - done.attempts) / config.best_of)))
    for start in range(0, left if missing else 0, chunk):
        yield done.attempts + start * config.best_of, min(chunk, left - start)


def _decide(
    written: Sequence[Completion],
    demos: Sequence[Task],
    prompts: Prompts,
    filters: Filters,
    best: Callable[[Sequence[Task]], list[float]],
    *,
    first: int,
    full: bool,
) -> list[Proposal]:
    """The attempts of one prompt and what became of them; at most one is kept, none where there are enough."""
    parsed = [parse_task(one.text, chat=prompts.chat) for one in written]
    keys = {key_of(demo) for demo in demos}
    decisions = [
        filters.check(read.task, one.text, ended=FinishReason.STOP if read.ended else one.finish_reason, demos=keys)
        for read, one in zip(parsed, written, strict=True)
    ]
    passed = [(place, read.task) for place, read in enumerate(parsed) if decisions[place] == KEPT and read.task]
    if full:
        decisions = [Decision(reason=Dropped.SURPLUS) if one == KEPT else one for one in decisions]
    elif passed:
        values = best([task for _, task in passed]) if len(passed) > 1 else [0.0]
        kept, task = passed[values.index(max(values))]
        decisions = [
            Decision(reason=Dropped.NOT_BEST) if one == KEPT and place != kept else one for place, one in enumerate(decisions)
        ]
        filters.keep(task)
    return [
        Proposal(
            attempt=first + place,
            raw=one.text,
            demos=tuple(demo.task_id for demo in demos),
            tokens=one.tokens,
            task=read.task,
            reason=decision.reason,
            kind=kind_of(read.task.instruction) if read.task else None,
            nearest=decision.nearest,
            similarity=decision.similarity,
        )
        for place, (one, read, decision) in enumerate(zip(written, parsed, decisions, strict=True))
    ]
