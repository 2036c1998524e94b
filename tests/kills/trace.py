"""What a traced command tells through a pipe: which places it enters and leaves, and which chunks its engine begins.

A place is a stretch of work that is killed: a stage, a step of the reward model's build, a conversion, a migration, an export.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from flywheel.engines import ctranslate2_engine
from flywheel.export import export as exporting
from flywheel.reward.build import Lab
from flywheel.round import stage as stages
from flywheel.round.context import RoundContext
from flywheel.round.stages import answer as answering
from flywheel.store import database, migrating
from flywheel.store import store as storing

Entered = Callable[[str], None]


class Trace:
    """Tells events, one line of JSON each; ``entered`` is called with a place before its first entry is told."""

    def __init__(self, pipe: int, entered: Entered) -> None:
        self._pipe, self._entered = pipe, entered
        self._seen: set[str] = set()

    def tell(self, kind: str, what: str) -> None:
        os.write(self._pipe, json.dumps([kind, what, time.monotonic()]).encode() + b"\n")

    @contextmanager
    def place(self, name: str) -> Iterator[None]:
        """Tell a place for the length of the block; one that was entered before is finished and not told again."""
        if name in self._seen:
            yield
            return
        self._seen.add(name)
        self._entered(name)
        self.tell("enter", name)
        yield
        self.tell("leave", name)

    def install(self) -> None:
        """Patch this process, which runs one command and ends."""
        trace = self
        opened, generate = stages.open_stages, ctranslate2_engine.CTranslate2Engine.generate
        start, train, merge, base = Lab.start, Lab._trained, Lab._merge, Lab.base
        convert, migrate, export = ctranslate2_engine.convert, migrating.migrate, exporting.export

        @contextmanager
        def traced_stages(context: RoundContext, *names: Any, **options: Any) -> Iterator[Any]:
            with trace.place(f"{context.name} {names[0]}"), opened(context, *names, **options) as opening:
                yield opening

        def traced_generate(self: Any, prompts: Any, **options: Any) -> Any:
            key = json.dumps([self._folder.name, list(prompts), options["n"], options["seed"]])
            trace.tell("chunk", hashlib.sha256(key.encode()).hexdigest()[:16])
            return generate(self, prompts, **options)

        def traced_base(self: Lab) -> Any:
            with trace.place("slice"):
                return base(self)

        def traced_start(self: Lab) -> Any:
            self.base()
            with trace.place("joint"):
                return start(self)

        def traced_train(self: Lab, kind: Any, name: str, *arguments: Any) -> Any:
            with trace.place(f"member {name}") if kind == "member" else nullcontext():
                return train(self, kind, name, *arguments)

        def traced_merge(self: Lab, *arguments: Any) -> Any:
            with trace.place("merge"):
                return merge(self, *arguments)

        def traced_convert(model: Any, folder: Any, config: Any) -> Any:
            if folder.exists():
                return folder
            with trace.place(f"convert {folder.name}"):
                return convert(model, folder, config)

        stages.open_stages = answering.open_stages = traced_stages
        ctranslate2_engine.CTranslate2Engine.generate = traced_generate  # type: ignore[method-assign]
        Lab.base, Lab.start = traced_base, traced_start  # type: ignore[method-assign]
        Lab._trained, Lab._merge = traced_train, traced_merge  # type: ignore[method-assign]
        ctranslate2_engine.convert = traced_convert
        database.migrate = storing.migrate = self._traced("migrate", migrate)
        exporting.export = self._traced("export", export)

    def _traced(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def traced(*arguments: Any, **options: Any) -> Any:
            with self.place(name):
                return function(*arguments, **options)

        return traced
