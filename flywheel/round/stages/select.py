"""Select: every policy's candidate for every task; then what each member of the reward model gives the winners."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing

from flywheel.records import Chunk, Policy, Score, Selection, Stage
from flywheel.round.context import RoundContext
from flywheel.round.selection import select_all
from flywheel.round.stage import open_stage
from flywheel.round.work import scores_of, scoring_work
from flywheel.store.store import BLOCK
from flywheel.workers.work import Step, Work, finished


def select(context: RoundContext) -> None:
    """Select winners and controls, a block of tasks at a time, then score the winners, one member in memory at a time."""
    store, tasks = context.store, context.config.instructions.tasks
    with open_stage(context, Stage.SELECT, total=tasks, unit="tasks") as stage:
        if stage is None:
            return
        blocks = store.spans(context.name, BLOCK)
        members = store.model(context.reward_model).facts.members
        last = len(blocks) * (1 + len(members)) - 1
        for index, rows in enumerate(_rows(context, blocks, members, stage.done), start=stage.done):
            stage.commit(Chunk(rows=rows, last=index == last))
            stage.progress.to(min((index + 1) * BLOCK, tasks))


def _rows(
    context: RoundContext, blocks: Sequence[range], members: Sequence[str], done: int
) -> Iterator[Sequence[Selection] | Sequence[Score]]:
    """The rows of every chunk after the first ``done``: the selections of each block, then each member's scores of it."""
    for attempts in blocks[done:]:
        scored = context.store.scored(context.name, context.reward_model, attempts)
        yield select_all(scored, context.config.seed, context.name)
    for number, member in enumerate(members, start=1):
        yield from _member_scores(context, member, blocks[max(0, done - number * len(blocks)) :])


def _member_scores(context: RoundContext, member: str, blocks: Sequence[range]) -> Iterator[list[Score]]:
    """What a member gives the winners, block by block."""
    asked: deque[list[tuple[str, int]]] = deque()

    def winners() -> Iterator[Work]:
        for attempts in blocks:
            selected = context.answered(attempts, policy=Policy.BEST)
            asked.append([(winner.task_id, winner.candidate) for _, winners in selected for winner in winners])
            yield scoring_work(selected)

    if not blocks:
        return
    generator = context.store.model(context.round.generator_in)
    with closing(context.workers_for(generator, scorer=member)) as workers:
        for work in map(finished, workers.run(winners(), Step.SCORE)):
            yield scores_of(asked.popleft(), member, work.scores)
