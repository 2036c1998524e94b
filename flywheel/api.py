"""The Python API: what every command does, as functions and objects. `flywheel` exports it; the CLI is a skin over it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from flywheel.config import Config, as_text, find, load
from flywheel.core.html import html_table
from flywheel.core.progress import Progress
from flywheel.errors import ConfigError, DataError, ModelError, StoreError
from flywheel.records import Policy, Task
from flywheel.store import reading
from flywheel.workspace import Workspace

if TYPE_CHECKING:
    import datasets

    from flywheel.evaluation.trend import Trend
    from flywheel.evaluation.verdict import Comparison
    from flywheel.reward.model import RewardModel
    from flywheel.round.best_of_n import BestOfN

Overrides = Mapping[str, Any] | Sequence[str]
"""Config keys with their values: ``{"sampling.n": 8}``, or as the command line takes them: ``["sampling.n=8"]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round, as `flywheel rounds` lists it."""

    name: str
    status: str
    """running, done or failed."""
    verdict: str | None
    """Against its parent: improved, flat, worse, proxy-only, collapsing or inconclusive; None where there is none."""
    judge: float | None
    """Mean over the held-out tasks."""
    reward: float | None
    """Mean over the held-out tasks, in standard deviations over the reward model's reference set."""
    summary: Mapping[str, Any]
    """What `flywheel show ROUND --json` prints."""

    def _repr_html_(self) -> str:
        columns = ("round", "status", "verdict", "judge", "reward", "winners")
        row = (self.name, self.status, self.verdict, self.judge, self.reward, self.summary["winners"])
        return html_table(f"Round {self.name}", columns, [row])


class Flywheel:
    """A workspace: rounds, comparisons and datasets. `flywheel.open` opens or creates one."""

    def __init__(self, folder: str | Path, *, overrides: Overrides = (), progress: Progress | None = None) -> None:
        self._workspace: Workspace | None = Workspace(Path(folder))
        self._overrides, self._progress = _as_settings(overrides), progress

    def __enter__(self) -> Flywheel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Flywheel({str(self._workspace.folder)!r})" if self._workspace else "Flywheel(closed)"

    def close(self) -> None:
        """Close it; every later call raises StoreError. Nothing is held open between calls."""
        self._workspace = None

    @property
    def workspace(self) -> Workspace:
        """The folder on disk; raises StoreError where it was closed."""
        if self._workspace is None:
            raise StoreError("the workspace is closed", "Open it again with flywheel.open().")
        return self._workspace

    def config(self, overrides: Overrides = ()) -> Config:
        """The configuration with all overrides applied; raises ConfigError where it is invalid."""
        return self.workspace.config([*self._overrides, *_as_settings(overrides)])

    def create(self, config: str | Path = "nano") -> None:
        """Create the folder, with a copy of the preset or YAML file ``config`` to edit; raises StoreError where it exists."""
        self.workspace.init(find(str(config)), self._overrides)

    def ensure(self, config: str | Path | None = None) -> Config:
        """Create the folder if it is missing, and return its configuration.

        Raises ConfigError where it exists with another configuration than ``config``.
        """
        checked = self.configured(config)
        if not self.workspace.exists:
            from flywheel.round.checks import check_inputs

            check_inputs(checked)
            self.workspace.init(find(str(config or "nano")))
        return self.config()

    def configured(self, config: str | Path | None = None) -> Config:
        """The configuration that the workspace has, or would get; nothing is written. Raises as `ensure`."""
        workspace = self.workspace
        workspace.refuse_incomplete()
        if not workspace.exists:
            return load(find(str(config or "nano")), self._overrides)
        if config is not None and as_text(find(str(config))) != workspace.config_file.read_text(encoding="utf-8-sig"):
            raise ConfigError(
                f"{workspace.config_file} differs from the configuration {str(config)!r}",
                "Omit --config (in Python: config) to use the workspace's configuration, or choose another workspace.",
            )
        return self.config()

    def round(
        self,
        n: int | None = None,
        *,
        repeat: int = 1,
        until: str | None = None,
        control: str | None = None,
        restart: bool = False,
        overrides: Overrides = (),
        on_round: Callable[[Round], None] = lambda finished: None,
    ) -> list[Round]:
        """Run or resume the next round, or several; whatever is missing is built first. Returns what was finished.

        ``until="flat"`` stops after ``evaluation.patience`` rounds without gain. ``control`` names a selection policy
        (random, max-logprob, longest, first) whose generator is trained and evaluated beside each round. ``on_round`` gets
        each round and control as it is done. Raises BudgetSpent or Interrupted where it stops early: call it again to resume.
        """
        from flywheel.round.repeat import run_rounds

        check_until(until, repeat)
        controls = [policy for policy in Policy if policy != Policy.BEST]
        if control not in (None, *controls):
            raise ConfigError(f"unsupported control {control!r}", f"Choose from {', '.join(controls)}.")
        finished: list[Round] = []
        settings = [*_as_settings(overrides), *([f"sampling.n={n}"] if n is not None else [])]
        for turn in run_rounds(
            self.workspace, self.config(settings), self.progress, repeat=repeat, until_flat=until is not None,
            control=Policy(control) if control is not None else None, restart=restart,
        ):  # fmt: skip
            for name in ("r0", turn) if turn == "r1" else (turn,):
                finished.append(self[name])
                on_round(finished[-1])
        return finished

    def propose(self, tasks: int | None = None, *, restart: bool = False, overrides: Overrides = ()) -> Round:
        """Propose the next round's tasks and stop; `round` resumes with them, given the same settings."""
        from flywheel.round.loop import propose_only

        settings = [*_as_settings(overrides), *([f"instructions.tasks={tasks}"] if tasks is not None else [])]
        return self[propose_only(self.workspace, self.config(settings), self.progress, restart=restart)]

    def rounds(self) -> list[Round]:
        """All rounds and controls, in order."""
        return [self[row["round"]] for row in reading.rounds_summary(self.workspace.store.path).as_dicts()]

    def __getitem__(self, name: str) -> Round:
        """A round by name; raises StoreError where there is none."""
        from flywheel.report.rounds import summary

        row = summary(self.workspace.store.path, name)
        return Round(name=name, summary=row, **{field: row[field] for field in ("status", "verdict", "judge", "reward")})

    def compare(self, base: str, name: str) -> Comparison:
        """The verdict on a round against another; raises StoreError where they do not exist or cannot be compared."""
        from flywheel.evaluation.compare import compare

        return compare(self.workspace.store, base, name)

    def trend(self) -> Trend:
        """Every round against its parent and against r0, corrected for the number of comparisons."""
        from flywheel.evaluation.trend import trend

        return trend(self.workspace.store)

    def sql(self, statement: str) -> duckdb.DuckDBPyRelation:
        """The rows of a SQL statement that reads, as a DuckDB relation in memory; the database is closed again."""
        from flywheel.report.tables import as_arrow

        return duckdb.connect().from_arrow(as_arrow(reading.query(self.workspace.store.path, statement)))

    def dataset(self, name: str, *, pairs: bool = False) -> datasets.Dataset:
        """The winners of a round, or its preference pairs, as a `datasets.Dataset`; a copy in memory."""
        import datasets

        from flywheel.export.export import export
        from flywheel.export.shapes import ExportOptions, Format

        with tempfile.TemporaryDirectory() as folder:
            options = ExportOptions(name=name, to=Path(folder) / "dataset", form=Format.PARQUET, pairs=pairs)
            file = export(self.workspace, options).folder / "train.parquet"
            return datasets.Dataset.from_parquet(str(file), keep_in_memory=True, cache_dir=folder)

    def reward_model(self) -> RewardModel:
        """The merged reward model of the configuration; raises ModelError where it is not built yet."""
        from flywheel.reward.build import configured_reward_model
        from flywheel.reward.model import load_scorer

        config = self.config()
        model = configured_reward_model(config, self.workspace)
        if model is None:
            raise ModelError("the reward model is not built yet", "Run `flywheel reward build` or `flywheel round`.")
        return load_scorer(self.workspace.locate(model), config)

    def sample(self, tasks: Sequence[Task], *, overrides: Overrides = ()) -> list[BestOfN]:
        """Best-of-N for your own tasks: the latest generator's outputs, ranked by the reward model that selected for it."""
        if isinstance(tasks, Task) or not all(isinstance(task, Task) for task in tasks):
            raise DataError("tasks must be a list of Task", "Put a single task into a list.")
        from flywheel.reward.answers import refuse_unreadable
        from flywheel.reward.text import Answer
        from flywheel.round.best_of_n import sample

        refuse_unreadable([Answer(task=task, output="") for task in tasks])
        return sample(self.workspace, self.config(overrides), tasks)

    def report(self, out: str | Path = "report.html") -> Path:
        """Write the HTML report, which needs no network; returns its path."""
        from flywheel.report.page.write import write_report

        return write_report(self.workspace.store, Path(out)).out

    @property
    def progress(self) -> Progress:
        """What shows the progress: as given, or a bar on a terminal and in a notebook."""
        if self._progress is None:
            from flywheel.report.progress import default_progress

            self._progress = default_progress()
        return self._progress


def open(
    folder: str | Path = "workspace",
    config: str | Path | None = None,
    *,
    overrides: Overrides = (),
    progress: Progress | None = None,
) -> Flywheel:
    """Open a workspace, created from a preset or YAML file (default nano) where it is missing.

    ``overrides`` hold for all calls. Raises ConfigError or StoreError where the configuration is invalid or another one.
    """
    wheel = Flywheel(folder, overrides=overrides, progress=progress)
    wheel.ensure(config)
    return wheel


def check_until(until: str | None, repeat: int) -> None:
    """Raise ConfigError where `Flywheel.round` would not know how long to go on."""
    if repeat < 1:
        raise ConfigError(f"repeat = {repeat} must be at least 1", "Pass the number of rounds to run.")
    if until not in (None, "flat"):
        raise ConfigError(f"until must be 'flat', got {until!r}", "Pass until='flat', or omit it.")
    if until is not None and repeat == 1:
        hint = "Add --repeat with the maximum number of rounds, such as --repeat 10 (in Python: repeat=10)."
        raise ConfigError("until requires repeat above 1", hint)


def _as_settings(overrides: Overrides) -> list[str]:
    if isinstance(overrides, str):
        raise ConfigError(f"overrides must be a mapping, got {overrides!r}", 'Pass a mapping, such as {"sampling.n": 8}.')
    if isinstance(overrides, Mapping):
        try:
            return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
        except TypeError as error:
            hint = "Use strings, numbers, booleans, None, lists and dicts."
            raise DataError(f"an override cannot be stored as JSON: {error}", hint) from None
    return list(overrides)
