"""The work of a round done in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from flywheel.engines.contract import Engine
from flywheel.reward.text import Scorer
from flywheel.workers.work import Do, Work, score, write


class Here:
    """This process, one chunk after another; engine and reward model are loaded when they are first needed."""

    def __init__(self, engine: Callable[[], Engine], scorer: Callable[[], Scorer]) -> None:
        self._load_engine, self._load_scorer = engine, scorer
        self._engine: Engine | None = None
        self._scorer: Scorer | None = None

    def do(self, chunks: Iterable[Work], *steps: Do) -> Generator[Work]:
        for work in chunks:
            for step in steps:
                work = write(work, self.engine) if step == Do.WRITE else score(work, self.scorer)
            yield work

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = self._scorer = None

    @property
    def engine(self) -> Engine:
        """The engine at work; started where it is not."""
        if self._engine is None:
            self._engine = self._load_engine()
        return self._engine

    @property
    def scorer(self) -> Scorer:
        """The reward model at work; loaded where it is not."""
        if self._scorer is None:
            self._scorer = self._load_scorer()
        return self._scorer
