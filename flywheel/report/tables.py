"""Tables and summaries as text; `--json` prints the same values plainly."""

from __future__ import annotations

import csv
import datetime
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from flywheel.core.safe_text import visible, visible_json
from flywheel.errors import ConfigError, StoreError
from flywheel.records import Policy
from flywheel.store import reading
from flywheel.store.reading import Table
from flywheel.store.store import Store

if TYPE_CHECKING:
    from flywheel.core.statistics import Estimate
    from flywheel.evaluation.best_of_n import Curve, PolicyFigures
    from flywheel.evaluation.compare import Comparison
    from flywheel.evaluation.trend import Trend
    from flywheel.evaluation.verdict import Difference
    from flywheel.round.best_of_n import Ranked

CELL = 200
"""Longest text of a cell on a terminal, in characters."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet takes for a formula."""
NUMBER = re.compile(r"[+-]\d+([.,]\d+)?")


def print_table(table: Table, *, title: str | None = None) -> None:
    """A table on stdout, as wide as its texts where stdout is not a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    shown = RichTable(title=title and Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(table.columns):
        numeric = any(isinstance(row[place], int | float) and not isinstance(row[place], bool) for row in table.rows)
        shown.add_column(Text(visible(name)), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(_cell(value)) for value in row))
    with console.capture() as capture:
        console.print(shown)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    typer.echo(text)


def print_json(value: Any) -> None:
    """A value as JSON on stdout."""
    typer.echo(as_json(value))


def as_json(value: Any) -> str:
    """JSON as its standard has it: a number that is none becomes null."""
    return visible_json(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=_plain, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def print_line(text: str = "") -> None:
    """A line, or some, on stdout."""
    typer.echo(visible(text, keep="\n"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value) if not isinstance(value, list | dict) else json.dumps(_finite(value), default=_plain)
    # What a model wrote may hold line ends and terminal codes; a table shows them and does not obey them.
    text = visible(text[: CELL + 1])
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def summary(path: Path, name: str) -> dict[str, Any]:
    """What a round did, as plain values: counts, drop reasons, policies, stages, held-out figures, verdict."""
    rounds = {row["round"]: row for row in reading.rounds_summary(path).as_dicts()}
    if name not in rounds:
        raise StoreError(f"no round {name!r}; there are {', '.join(rounds) or 'none yet'}")
    from flywheel.evaluation.compare import why_no_verdict

    line = rounds[name]
    verdict = reading.query(path, "SELECT evidence FROM verdicts WHERE round = ? AND base = ?", [name, line["parent"]]).rows
    return line | {
        "dropped": _dropped(path, name, "proposed"),
        "paraphrases": reading.paraphrases(path, name) | {"dropped": _dropped(path, name, "paraphrased")},
        "diversity": next(iter(reading.diversity(path, name).as_dicts()), None),
        "policies": reading.policies(path, name).as_dicts(),
        "stages": reading.stages(path, name).as_dicts(),
        "failed_chunks": reading.failed_chunks(path, name).as_dicts(),
        "evidence": json.loads(verdict[0][0]) if verdict else None,
        "no_verdict": None if verdict or line["status"] != "done" else why_no_verdict(Store(path), name),
    }


def _judged(row: Mapping[str, Any]) -> str:
    return f" (judge {row['judge']:.3f})" if row["judge"] is not None else ""


def _dropped(path: Path, name: str, origin: str) -> dict[str, int]:
    return {row["reason"]: row["attempts"] for row in reading.drop_reasons(path, name).as_dicts() if row["origin"] == origin}


def print_summary(told: Mapping[str, Any], *, goes_on: str = "flywheel round") -> None:
    """A round's summary for a person; ``goes_on`` is the command that goes on with an unfinished one."""
    name = told["round"]
    if told["parent"] is None:
        print_line(f"{name}: the untouched generator: judge {_figure(told['judge'])}, reward {_figure(told['reward'])}")
        return
    if told["policy"] == Policy.BEST:
        print_line(f"{name}: {told['proposed']:,} tasks proposed, {told['kept']:,} kept ({_reasons(told['dropped'])})")
    else:
        print_line(f"{name}: trained on the {told['policy']} picks of the same candidates")
    if found := told["diversity"]:
        print_line(
            f"{name}: of {found['sample']:.0f} tasks: distinct-2 {found['distinct_2']:.2f}, "
            f"compression {found['compression_ratio']:.1f}, self-BLEU {found['self_bleu']:.2f}, {found['kinds']:.0f} kinds; "
            f"{100 * found['novel']:.0f} % of the instructions novel"
        )
    if told["candidates"]:
        print_line(f"{name}: {told['candidates']:,} candidates, {told['winners']:,} winners in {told['seconds']:.1f} s of work")
    for row in told["failed_chunks"]:
        print_line(f"{name}: {row['stage']} set aside {row['chunks']:,} of its chunks, their rows are lacking: {row['error']}")
    if told["policies"]:
        picks = ", ".join(f"{row['policy']} {row['reward']:+.2f}{_judged(row)}" for row in told["policies"])
        print_line(f"{name}: mean reward of what each policy picked: {picks}")
    if (reworded := told["paraphrases"])["written"]:
        reasons = _reasons(reworded["dropped"])
        print_line(f"{name}: {reworded['written']:,} paraphrases written, {reworded['kept']:,} kept ({reasons})")
    if told["evidence"]:
        print_line(told["evidence"]["sentence"])
    elif told["status"] == "done":
        print_line(f"{name} has no verdict: {told['no_verdict']}")
    else:
        print_line(f"{name} is not finished; `{goes_on}` goes on with it")


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped.items()) or "none dropped"


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def print_as(table: Table, form: str, out: Path | None) -> None:
    """A table as text, csv, json or parquet, on stdout or in a file; parquet needs the file."""
    if form == "table" and out is None:
        print_table(table)
        return
    if form == "parquet" and out is None:
        raise ConfigError("--format parquet needs a file; add --out rows.parquet")
    try:
        if form == "parquet":
            _write_parquet(table, out)
        elif out is not None:
            out.write_text(_as_text(table, form), encoding="utf-8")
        else:
            text = _as_text(table, form)
            typer.echo(visible(text, keep="\n") if sys.stdout.isatty() else text, nl=False)
    except OSError as error:
        where = "standard output" if out is None else out
        remedy = "free some space there, or name a file with --out" if out is None else "choose another --out"
        raise StoreError(f"cannot write {where}: {error.strerror or error}; {remedy}") from None


def _as_text(table: Table, form: str) -> str:
    if form == "json":
        return as_json(table.as_dicts()) + "\n"
    lines, given = _Lines(), [table.columns, *table.rows]
    rows = [[_inert(value) for value in row] for row in given]
    csv.writer(lines).writerows(rows)
    if changed := sum(
        one is not other for row, old in zip(rows, given, strict=True) for one, other in zip(row, old, strict=True)
    ):
        typer.echo(
            f"{changed:,} texts begin as formulas do, and have a ' in front; --format json has them as they are", err=True
        )
    return "".join(lines)


class _Lines(list[str]):
    """Takes lines of csv, which quotes a carriage return only where lines end in one, and ends them as files here do."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _inert(value: Any) -> Any:
    """A cell that a spreadsheet does not run: a text that it would take for a formula has a ' in front."""
    formula = isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value)
    return f"'{value}" if formula else value


def _write_parquet(table: Table, out: Path | None) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def column(values: Sequence[Any]) -> pa.Array:
        try:
            found = pa.array(values)
            return pa.array(list(map(str, values))) if found.type == pa.struct([]) else found  # parquet has no empty struct
        except (pa.ArrowException, OverflowError, TypeError, ValueError):  # numbers of 128 bits, values of several types
            return pa.array([None if value is None else str(value) for value in values])

    columns = [column(values) for values in zip(*table.rows, strict=True)] or [pa.array([])] * len(table.columns)
    parquet.write_table(pa.table(dict(zip(table.columns, columns, strict=True))), out)


def print_comparison(comparison: Comparison, policies: Sequence[PolicyFigures], curve: Curve | None) -> None:
    """A verdict with its evidence: the sentence, what speaks against it, the figures, and what selecting was worth."""
    evidence = comparison.evidence
    print_line(comparison.sentence)
    for doubt in comparison.doubts:
        print_line(f"but {doubt}")
    percent = f"{100 * evidence.confidence:.0f} % interval"
    figures = {"judge": evidence.judge, "reward": evidence.reward}
    figures |= {f"judge {name}": one for name, one in evidence.others.items()}
    figures |= {"tokens": evidence.tokens, "ends by itself": evidence.stop, "words of its own": evidence.diversity}
    rows: list[tuple[Any, ...]] = [(what, one.before, one.after, one.value, _interval(one)) for what, one in figures.items()]
    if controlled := evidence.length_controlled:
        rows.insert(1, ("  at equal length", None, None, controlled.value, _interval(controlled)))
    print_line()
    print_table(Table(columns=("held-out", evidence.base, evidence.round, "difference", percent), rows=rows))
    print_line()
    outcomes = evidence.outcomes
    print_line(
        f"{evidence.round} does better on {100 * outcomes.wins:.0f} % of the tasks, as well on {100 * outcomes.ties:.0f} %, "
        f"worse on {100 * outcomes.losses:.0f} %: {100 * outcomes.net.value:+.0f} points ({100 * outcomes.net.low:+.0f} to "
        f"{100 * outcomes.net.high:+.0f})"
    )
    print_line(f"no difference of the judge at all: p = {evidence.p:.2g} (paired t-test over tasks)")
    print_policies(evidence.round, policies)
    print_curve(evidence.round, curve)


def print_policies(name: str, policies: Sequence[PolicyFigures]) -> None:
    """What the judge says of each policy's picks among the same candidates."""
    if not policies:
        return
    print_line()
    rows = [
        (
            one.policy, one.judge, one.reward, one.tokens,
            None if one.best_less_this is None else one.best_less_this.value,
            None if one.best_less_this is None else _interval(one.best_less_this),
        )
        for one in policies
    ]  # fmt: skip
    columns = (
        f"picks of {name}, {policies[0].tasks:,} judged tasks",
        "judge",
        "reward",
        "tokens",
        "best less this",
        "interval",
    )
    print_table(Table(columns=columns, rows=list(rows)))


def print_curve(name: str, curve: Curve | None) -> None:
    """What best-of-n gives as n grows, in a line, and where the judge turns."""
    if curve is None:
        return
    few = [one for one in curve.steps if one.n == curve.steps[-1].n or (one.n & (one.n - 1)) == 0]
    shown = ", ".join(f"n = {one.n}: {one.judge.value:.3f} ({one.reward.value:+.2f})" for one in few)
    print_line(f"{name}: judge (reward) of the best of n, {curve.tasks} tasks: {shown}")
    if curve.turns_at is not None:
        print_line(
            f"{name}: the judge turns down after n = {curve.turns_at} while the reward rises: more candidates find what only "
            "the reward model likes"
        )


def print_trend(found: Trend) -> None:
    """The chain of verdicts, and the controls."""
    if not found.rounds:
        print_line("no round is done yet; run `flywheel round`")
        return
    print_line(f"rounds: {', '.join(found.rounds)}" + (f"; best turn of the wheel: {found.best}" if found.best else ""))
    for title, steps in (
        ("against the round before", found.against_parent),
        ("against the first", found.against_first),
        ("against the same round trained on other picks", found.against_control),
    ):
        if not steps:
            continue
        print_line()
        rows = [
            (
                f"{step.round} against {step.base}", str(step.comparison.verdict), judge.before, judge.after, judge.value,
                _interval(judge), f"{step.comparison.evidence.reward.value:+.3f}", f"{step.p:.2g}",
            )
            for step in steps
            for judge in (step.comparison.evidence.judge,)
        ]  # fmt: skip
        columns = (title, "verdict", "judge before", "after", "difference", "interval", "reward difference", "p")
        print_table(Table(columns=columns, rows=list(rows)))
    for step in (*found.against_parent, *found.against_first):
        for doubt in step.comparison.doubts:
            print_line(f"{step.round} against {step.base}: {doubt}")
    for reason in found.skipped:
        print_line(reason)
    if any(len(steps) > 1 for steps in (found.against_parent, found.against_first, found.against_control)):
        print_line(
            "intervals and p are corrected for the number of comparisons in each table (Holm), so they are wider than "
            "those of `flywheel compare`, which looks at one pair"
        )


def _interval(one: Estimate | Difference) -> str:
    return f"{one.low:+.3f} to {one.high:+.3f}"


def print_round(told: Mapping[str, Any]) -> None:
    """A round: its summary, then its stages."""
    print_summary(told)
    print_line()
    stages = told["stages"]
    print_table(Table(columns=tuple(stages[0]), rows=[tuple(stage.values()) for stage in stages]))


def print_task(found: Table) -> None:
    """A task and its candidates, best first, with what each member gave the winner."""
    rows = found.as_dicts()
    for name in ("task_id", "instruction", "input", "constraints"):
        print_line(f"{name}: {_cell(rows[0][name])}")
    print_line()
    print_table(
        Table(
            columns=("candidate", "won", "reward", "members", "finish", "tokens", "logprob", "output"),
            rows=[
                (
                    row["candidate"], "won" if row["won"] else "", row["reward"],
                    ", ".join(f"{one['model']} {one['score']:+.2f}" for one in row["members"] or []),
                    row["finish_reason"], row["tokens"], row["logprob"], row["output"],
                )
                for row in rows
            ],
        )
    )  # fmt: skip


def print_schema(table: Table) -> None:
    """The tables one after another, each with its meaning and its columns."""
    rows = table.as_dicts()
    for name in dict.fromkeys(row["table"] for row in rows):
        columns = [row for row in rows if row["table"] == name]
        print_line(f"{name}: {columns[0]['meaning'] or ''}")
        print_table(
            Table(columns=("", "", ""), rows=[(f"  {row['column']}", row["type"], row["about"] or "") for row in columns])
        )
        print_line()


def print_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """What `flywheel doctor` found, the remedy where something is amiss."""
    width = max(len(one["what"]) for one in findings)
    for one in findings:
        print_line(f"{'ok' if one['ok'] else '!!'}  {one['what']:<{width}}  {one['found']}".rstrip())
        if not one["ok"]:
            print_line(f"{'':<{width + 6}}{one['remedy']}")


def ranked_table(ranked: Sequence[Ranked]) -> Table:
    """Candidates of one task, best first."""
    return Table(
        columns=("rank", "reward", "finish", "tokens", "output"),
        rows=[
            (place, one.reward, str(one.completion.finish_reason), one.completion.tokens, one.completion.text.strip())
            for place, one in enumerate(ranked, start=1)
        ],
    )


def scores_table(texts: Sequence[str], scores: Sequence[float]) -> Table:
    """Texts with their scores, best first."""
    rows = sorted(zip(scores, texts, strict=True), key=lambda row: -row[0])
    return Table(columns=("score", "text"), rows=list(rows))
