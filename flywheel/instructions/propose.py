"""Propose: new tasks from three demos without outputs and an open fourth (Unnatural Instructions, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flywheel.config import InstructionsConfig
from flywheel.engines.engine import Engine, Sampling
from flywheel.errors import DataError
from flywheel.instructions.parse import drop_reason, parse_task
from flywheel.instructions.text import Prompts
from flywheel.records import Chunk, Proposal, Task
from flywheel.seeds import derive, generator

DEMOS = 3
STOP = ("\nExample ",)


def choose_demos(sets: Mapping[str, Sequence[Task]], *names: object) -> list[Task]:
    """Three demos of one seed set, in random order; the same names choose the same demos."""
    rng = generator("demos", *names)
    return rng.sample(list(sets[rng.choice(sorted(sets))]), DEMOS)


def propose(
    engine: Engine,
    prompts: Prompts,
    config: InstructionsConfig,
    *,
    sets: Mapping[str, Sequence[Task]],
    held_out: Sequence[Task],
    known: set[tuple[str, str]],
    names: tuple[object, ...],
    chunk: int,
    attempts: int,
    kept: int,
) -> Iterator[Chunk[Proposal]]:
    """Write tasks until ``config.tasks`` are kept, the dropped ones with their reason.

    ``attempts`` and ``kept`` say how far an interrupted stage came, ``known`` holds (instruction, input) of
    every task kept before. Raises DataError when ``config.max_attempts`` for each task asked for are spent.
    """
    held = {(task.instruction, task.input) for task in held_out}
    known = set(known)
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens, stop=STOP)
    most = config.max_attempts * config.tasks
    while kept < config.tasks:
        if attempts >= most:
            raise DataError(
                f"{attempts} attempts gave {kept} of the {config.tasks} tasks asked for; see why with "
                "`flywheel sql 'SELECT reason, count(*) FROM tasks GROUP BY ALL'`, then raise instructions.max_attempts "
                "and go on"
            )
        # Never more than are still wanted, so that none is written in vain.
        wanted = min(chunk, config.tasks - kept, most - attempts)
        demos = [choose_demos(sets, *names, attempt) for attempt in range(attempts, attempts + wanted)]
        written = engine.generate(
            [prompts.propose(shown) for shown in demos], n=1, sampling=sampling, seed=derive(*names, attempts)
        )
        rows = []
        for shown, (completion,) in zip(demos, written, strict=True):
            task = parse_task(completion.text)
            reason = drop_reason(
                task,
                completion.finish_reason,
                demos={(demo.instruction, demo.input) for demo in shown},
                held_out=held,
                known=known,
            )
            if reason is None and task:
                known.add((task.instruction, task.input))
                kept += 1
            rows.append(
                Proposal(
                    attempt=attempts,
                    raw=completion.text,
                    demos=tuple(demo.task_id for demo in shown),
                    tokens=completion.tokens,
                    task=task,
                    reason=reason,
                )
            )
            attempts += 1
        yield Chunk(rows=rows, last=kept == config.tasks, tokens=sum(row.tokens for row in rows))
