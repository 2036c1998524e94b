"""What a round did, as plain values and as text; one of its tasks as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import StoreError
from flywheel.records import Origin, Policy
from flywheel.report.tables import cell, counts, print_line, print_rows
from flywheel.store import reading
from flywheel.store.reading import Table
from flywheel.store.store import Store

if TYPE_CHECKING:
    from flywheel.round.best_of_n import Ranked


def summary(path: Path, name: str) -> dict[str, Any]:
    """Counts, policies, stages, held-out figures and verdict of a round; raises StoreError where it does not exist."""
    rounds = {row["round"]: row for row in reading.rounds_summary(path).as_dicts()}
    if name not in rounds:
        raise StoreError(f"round {name!r} not found", f"Available rounds: {', '.join(rounds) or 'none yet'}.")
    from flywheel.evaluation.compare import why_no_verdict

    row, attempts = rounds[name], reading.drop_reasons(path, name).as_dicts()
    parent, done = row["parent"], row["status"] == "done"
    proposed, paraphrased = (
        {attempt["reason"]: attempt["attempts"] for attempt in attempts if attempt["origin"] == origin} for origin in Origin
    )
    verdict = reading.query(path, "SELECT evidence FROM verdicts WHERE round = ? AND base = ?", [name, parent]).rows
    return row | {
        "dropped": proposed,
        "paraphrases": reading.paraphrases(path, name) | {"dropped": paraphrased},
        "diversity": next(iter(reading.diversity(path, name).as_dicts()), None),
        "policies": reading.policies(path, name).as_dicts(),
        "stages": reading.stages(path, name).as_dicts(),
        "failed_chunks": reading.failed_chunks(path, name).as_dicts(),
        "evidence": json.loads(verdict[0][0]) if verdict else None,
        "no_verdict": why_no_verdict(Store(path), parent, name) if parent and done and not verdict else None,
    }


def print_summary(round_: Mapping[str, Any], *, resume: str = "flywheel round") -> None:
    """A round's summary in a few lines; ``resume`` is the command that resumes an unfinished round."""
    name = round_["round"]
    if round_["parent"] is None:
        judge, reward = (cell(round_[measure]) or "not measured" for measure in ("judge", "reward"))
        print_line(f"{name}: the untouched generator: judge {judge}, reward {reward}")
        return
    if round_["policy"] == Policy.BEST:
        dropped = counts(round_["dropped"]) or "none dropped"
        print_line(f"{name}: {round_['proposed']:,} tasks proposed, {round_['kept']:,} kept ({dropped})")
    else:
        print_line(f"{name}: trained on the candidates that the policy {round_['policy']} selects")
    if diversity := round_["diversity"]:
        print_line(
            f"{name}: diversity of {diversity['sample']:.0f} tasks: distinct-2 {diversity['distinct_2']:.2f}, "
            f"compression ratio {diversity['compression_ratio']:.1f}, self-BLEU {diversity['self_bleu']:.2f}, "
            f"{diversity['kinds']:.0f} instruction kinds, {100 * diversity['novel']:.0f} % novel instructions"
        )
    if round_["candidates"]:
        total = f"{round_['candidates']:,} candidates, {round_['winners']:,} winners"
        print_line(f"{name}: {total} in {round_['seconds']:.1f} s of compute time")
    for row in round_["failed_chunks"]:
        print_line(f"{name}: {row['chunks']:,} failed chunks in {row['stage']}; their rows are missing: {row['error']}")
    if round_["policies"]:
        rewards = ", ".join(
            f"{row['policy']} {row['reward']:+.2f}" + ("" if row["judge"] is None else f" (judge {row['judge']:.3f})")
            for row in round_["policies"]
        )
        print_line(f"{name}: mean reward by selection policy: {rewards}")
    if (paraphrases := round_["paraphrases"])["written"]:
        total = f"{paraphrases['written']:,} paraphrases generated, {paraphrases['kept']:,} kept"
        print_line(f"{name}: {total} ({counts(paraphrases['dropped']) or 'none dropped'})")
    if round_["evidence"]:
        print_line(round_["evidence"]["sentence"])
    elif round_["status"] == "done":
        print_line(f"{name} has no verdict: {round_['no_verdict']}")
    else:
        print_line(f"{name} is not finished. Run `{resume}` to resume it.")


def print_round(round_: Mapping[str, Any]) -> None:
    """A round's summary, then its stages."""
    print_summary(round_)
    print_line()
    print_rows(list(round_["stages"][0]), [list(stage.values()) for stage in round_["stages"]])


def print_task(task: Table) -> None:
    """A task and its candidates, best first, with the members' scores of the winner."""
    rows = task.as_dicts()
    for name in ("task_id", "instruction", "input", "constraints"):
        print_line(f"{name}: {cell(rows[0][name])}")
    print_line()
    candidates = [
        (
            row["candidate"], "winner" if row["won"] else "", row["reward"],
            ", ".join(f"{member['model']} {member['score']:+.2f}" for member in row["members"] or []),
            row["finish_reason"], row["tokens"], row["logprob"], row["output"],
        )
        for row in rows
    ]  # fmt: skip
    print_rows(("candidate", "", "reward", "members", "finish reason", "tokens", "logprob", "output"), candidates)


def ranked_table(ranked: Sequence[Ranked]) -> Table:
    """Candidates of one task, best first."""
    rows = [
        (rank, row.reward, str(row.completion.finish_reason), row.completion.tokens, row.completion.text.strip())
        for rank, row in enumerate(ranked, start=1)
    ]
    return Table(columns=("rank", "reward", "finish", "tokens", "output"), rows=rows)


def scores_table(texts: Sequence[str], scores: Sequence[float]) -> Table:
    """Texts with their scores, best first."""
    rows = sorted(zip(scores, texts, strict=True), key=lambda row: -row[0])
    return Table(columns=("score", "text"), rows=list(rows))
