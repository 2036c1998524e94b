"""Judges of every kind in a round, the control beside it, and judges that are refused."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.assets import asset
from flywheel.store import reading
from flywheel.workspace import Workspace
from tests.conftest import Cli, Outcome, copy
from tests.servers import Answer, Says, given, refusal

pytestmark = pytest.mark.slow


def refused(ran: Outcome, *quoted: str) -> None:
    """The command ended with an error that quotes these."""
    assert (ran.code, bool(ran.error)) == (1, True), ran
    assert "Traceback" not in ran.err
    for text in quoted:
        assert text in f"{ran.error} {ran.hint}", ran.err


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    return reading.query(folder / "flywheel.duckdb", sql).rows


def talk(answer: Callable[[str], str]) -> Callable[[dict[str, Any]], Answer]:
    """A server that answers a chat as a function of what the user says."""

    def reply(body: dict[str, Any]) -> Answer:
        said = answer(body["messages"][0]["content"])
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        return given({"id": "1", "object": "chat.completion", "model": "big", "choices": [choice], "usage": usage})

    return reply


def judges(**named: dict[str, Any]) -> str:
    return "--set=evaluation.judges=" + json.dumps(named)


VERIFIER = {"kind": "verifier", "function": "flywheel.nano.verifier:judge"}


def test_several_judges_are_asked_and_the_named_one_decides(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    workspace = Workspace(folder)
    member = next(one for one in (workspace.models).iterdir() if one.name.startswith("member-"))
    own = tmp_path / "own"
    # Another model than any of the lab's: its weights differ in one number.
    make_other(member, own)
    with Says(talk(lambda prompt: "Better: A")) as server:
        llm = {"kind": "llm", "model": "big", "endpoint": {"base_url": server.url}, "prices": {"million_tokens": 1000.0}}
        named = judges(truth=VERIFIER, other={"kind": "model", "model": str(own)}, llm=llm)
        ran = cli("-w", folder, "round", named, "--set=evaluation.judge=truth", "--repeat=2")
        assert ran.code == 0, ran.err
        asked = len(server.asked)
    counts = dict(
        rows(folder, "SELECT m.name, count(*) FROM evaluation_scores JOIN models AS m USING (model_id) "
                     "WHERE m.kind = 'judge' AND round = 'r1' GROUP BY ALL")
    )  # fmt: skip
    samples = rows(folder, "SELECT count(*) FROM evaluations WHERE round = 'r1'")[0][0]
    assert samples > 0
    assert counts == {"truth": samples, "other": samples, "llm": samples}
    # A judge that always prefers what it sees first is even on every pair; the same output is not asked about.
    assert rows(folder, "SELECT DISTINCT s.score FROM evaluation_scores AS s JOIN models AS m USING (model_id) "
                        "WHERE m.name = 'llm'") == [(0.5,)]  # fmt: skip
    assert 0 < asked <= 4 * samples
    ((cost,),) = rows(folder, "SELECT sum(cost) FROM stages WHERE stage = 'evaluate'")
    assert cost == pytest.approx(asked * 0.01)
    # The paid one is not asked about candidates.
    assert {name for (name,) in rows(folder, "SELECT DISTINCT m.name FROM scores JOIN models AS m USING (model_id) "
                                             "WHERE m.kind = 'judge'")} == {"truth", "other"}  # fmt: skip
    told = json.loads(cli("-w", folder, "compare", "r1", "r2", "--json").out)
    assert set(told["others"]) == {"other", "llm"}
    assert told["judge"]["before"] == pytest.approx(
        rows(folder, "SELECT value FROM metrics WHERE round = 'r1' AND name = 'heldout.judge'")[0][0]
    )
    assert told["policies"][0]["policy"] == "best"
    assert {one["policy"] for one in told["policies"]} == {"best", "random", "max-logprob", "longest", "first"}
    assert [one["n"] for one in told["curve"]["points"]] == [1, 2, 3, 4]
    shown = cli("-w", folder, "compare", "r1", "r2").out
    assert "judge other" in shown
    assert "best-of-N" in shown


def make_other(member: Path, folder: Path) -> None:
    """A copy of a reward model with one changed weight."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(member, folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["score.weight"] = weights["score.weight"] * 0.5
    save_file(weights, path, metadata={"format": "pt"})


def test_a_judge_that_selects_is_refused(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    # Those that the reward model was made from have a part in it, too.
    for name in ("member-", "reward-", "joint-", "base-"):
        model = next(one for one in Workspace(folder).models.iterdir() if one.name.startswith(name))
        ran = cli("-w", folder, "round", judges(own={"kind": "model", "model": str(model)}), "--set=evaluation.judge=own")
        refused(ran, "evaluation.judges.own.model", str(model))
    assert rows(folder, "SELECT max(number) FROM rounds") == [(0,)]


def test_a_judge_that_learned_from_a_members_rows_is_refused(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    make_other(next(one for one in Workspace(folder).models.iterdir() if one.name.startswith("member-")), tmp_path / "own")
    rows_of_its_own = {"kind": "pairs", "data": "asset:data/nano/pairs.jsonl"}
    own = {"kind": "model", "model": str(tmp_path / "own"), "trained_on": rows_of_its_own}
    ran = cli("-w", folder, "round", judges(own=own), "--set=evaluation.judge=own")
    refused(ran, "evaluation.judges.own", "48 rows", "members.thumbs", "asset:data/nano/pairs.jsonl")


@pytest.mark.parametrize(
    ("named", "decides", "said"),
    [
        ({"truth": VERIFIER}, "other", "judge = 'other'"),
        ({"own": {"kind": "model"}}, "own", "kind = 'model'"),
        ({"own": {"kind": "verifier"}}, "own", "kind = 'verifier'"),
        ({"own": {"kind": "model", "model": "/nope"}}, "own", "/nope"),
        ({"own": {"kind": "wise", "model": "x"}}, "own", "evaluation.judges.own.kind"),
    ],
)
def test_a_judge_that_cannot_be_is_told_before_anything_is_built(
    cli: Cli, tmp_path: Path, named: dict[str, Any], decides: str, said: str
) -> None:
    refused(cli("-w", tmp_path / "w", "round", judges(**named), f"--set=evaluation.judge={decides}"), said)
    assert not (tmp_path / "w" / "models").exists()


def test_a_classifier_of_many_labels_is_no_judge(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    own = tmp_path / "own"
    make_other(next(one for one in Workspace(folder).models.iterdir() if one.name.startswith("member-")), own)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"id2label": {str(one): str(one) for one in range(3)}}))
    ran = cli("-w", folder, "round", judges(own={"kind": "model", "model": str(own)}), "--set=evaluation.judge=own")
    refused(ran, "has 3 labels")


@pytest.mark.parametrize("lost", ["tokenizer", "head", "server", "key"])
def test_a_judge_that_could_not_be_asked_is_told_before_a_round_is_begun(
    cli: Cli, built: Path, tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(built, tmp_path)
    judge: dict[str, Any] = {"kind": "model", "model": str(tmp_path / "own")}
    if lost == "tokenizer":
        make_other(next(one for one in Workspace(folder).models.iterdir() if one.name.startswith("member-")), tmp_path / "own")
        for path in (tmp_path / "own").glob("tokenizer*"):
            path.unlink()
        said = ["evaluation.judges.own: ", str(tmp_path / "own")]
    elif lost == "head":
        judge["model"] = str(asset("data/nano/generator"))
        said = ["evaluation.judges.own: ", "LlamaForCausalLM"]
    elif lost == "server":
        judge = {"kind": "llm", "model": "big", "endpoint": {"base_url": "http://127.0.0.1:9/v1"}}
        said = ["http://127.0.0.1:9/v1", "evaluation.judges.own.endpoint.base_url"]
    else:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        judge = {"kind": "llm", "model": "big"}
        said = ["https://api.openai.com/v1", "OPENAI_API_KEY"]
    refused(cli("-w", folder, "round", judges(own=judge), "--set=evaluation.judge=own"), *said)
    assert rows(folder, "SELECT round FROM rounds") == [("r0",)]


def test_a_round_that_cannot_be_compared_says_why_before_it_runs_and_after(cli: Cli, turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    ran = cli("-w", folder, "round", judges(other=VERIFIER), "--set=evaluation.judge=other")
    assert ran.code == 0, ran.err
    assert "no verdict: evaluation.judge changed since r2" in ran.err
    assert "r3 has no verdict: r2 and r3 were evaluated with different judges" in ran.out


def test_the_way_back_to_a_round_with_another_judge_is_whole(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    sets = [judges(mine=VERIFIER), "--set=evaluation.judge=mine"]
    killed = [sys.executable, "-m", "tests.crash", folder, "answer", "after", "1", *sets]
    assert subprocess.run(killed, check=False, capture_output=True).returncode == -signal.SIGKILL
    ran = cli("-w", folder, "round")
    refused(ran, "evaluation.judge = 'mine'")
    way = shlex.split(ran.hint.removeprefix("Add ").partition(" to resume")[0])
    assert cli("-w", folder, "round", *way).code == 0


def test_a_judge_that_refuses_stops_the_round_in_one_line_and_it_goes_on(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    with Says(lambda body: refusal(401, "no such key")) as server:
        llm = {"kind": "llm", "model": "big", "endpoint": {"base_url": server.url, "retries": 0}}
        ran = cli("-w", folder, "round", judges(llm=llm), "--set=evaluation.judge=llm")
        refused(ran, server.url, "OPENAI_API_KEY")
    assert rows(folder, "SELECT round, status FROM rounds ORDER BY 1") == [("r0", "done"), ("r1", "failed")]
    with Says(talk(lambda prompt: "Better: neither")) as server:
        llm["endpoint"] = {"base_url": server.url}
        ran = cli("-w", folder, "round", judges(llm=llm), "--set=evaluation.judge=llm")
    assert ran.code == 0, ran.err
    assert rows(folder, "SELECT value FROM metrics WHERE name = 'heldout.judge' AND round = 'r1'") == [(0.5,)]
    # r0 was evaluated before, by another judge.
    assert "r1 has no verdict: r0 and r1 were evaluated with different judges" in ran.out


def test_a_control_is_trained_on_other_picks_of_the_same_candidates(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    ran = cli("-w", folder, "round", "--control", "random")
    assert ran.code == 0, ran.err
    assert "r1 against r1-random" in ran.out.replace("improved over", "against").replace("is worse than", "against")
    found = rows(folder, "SELECT round, parent, policy, status FROM rounds ORDER BY number, round")
    assert found == [("r0", None, "best", "done"), ("r1", "r0", "best", "done"), ("r1-random", "r0", "random", "done")]
    assert rows(folder, "SELECT count(DISTINCT generator_out) FROM rounds") == [(3,)]
    assert rows(folder, "SELECT count(*) FROM candidates WHERE round = 'r1-random'") == [(0,)]
    assert rows(folder, "SELECT stage FROM stages WHERE round = 'r1-random' ORDER BY 1") == [("evaluate",), ("train",)]
    told = json.loads(cli("-w", folder, "trend", "--json").out)
    assert told["rounds"] == ["r0", "r1"]
    assert [(one["base"], one["round"]) for one in told["against_control"]] == [("r1-random", "r1")]
    assert told["best"] in ("r0", "r1")
    assert "r1 vs. r1-random" in cli("-w", folder, "trend").out
    assert json.loads(cli("-w", folder, "compare", "r1-random", "r1", "--json").out)["base"] == "r1-random"
    # The next round goes on from r1, and the control beside it stays what it is.
    assert cli("-w", folder, "round").code == 0
    assert rows(folder, "SELECT parent FROM rounds WHERE round = 'r2'") == [("r1",)]


def test_a_control_that_is_killed_is_gone_on_with_and_no_round_is_turned(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    died = subprocess.run(
        [sys.executable, "-m", "tests.crash", folder, "train", "after", "2", "--control", "random"],
        check=False,
        capture_output=True,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert rows(folder, "SELECT round, status FROM rounds ORDER BY 1")[-1] == ("r1-random", "running")
    ran = cli("-w", folder, "round", "--control", "random")
    assert ran.code == 0, ran.err
    assert "r1-random train" not in ran.err
    found = rows(folder, "SELECT round, status FROM rounds ORDER BY 1")
    assert found == [("r0", "done"), ("r1", "done"), ("r1-random", "done")]


def test_the_wheel_stops_where_rounds_no_longer_improve(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    # Nothing is learned at such a rate, so no round can be improved.
    sets = ("--set=training.learning_rate=1e-12", "--set=evaluation.patience=2")
    ran = cli("-w", folder, "round", "--repeat", "10", "--until", "flat", *sets)
    assert ran.code == 0, ran.err
    assert "2 rounds without gain (evaluation.patience)" in ran.err
    assert rows(folder, "SELECT max(number) FROM rounds") == [(2,)]


def test_references_are_measured(turned: Path) -> None:
    found = dict(rows(turned, "SELECT name, value FROM metrics WHERE round = 'r1'"))
    assert found["heldout.reference.judge"] == 1.0
    assert found["heldout.reference.reward"] > found["heldout.reward"]
    assert 1.0 < found["heldout.perplexity"] < 100
    assert {"heldout.finish_rate", "heldout.tokens", "heldout.diversity"} <= found.keys()
    stored = rows(turned, "SELECT count(*), count(kind), count(reference) FROM heldout_tasks")
    assert stored[0][0] == stored[0][1] == stored[0][2] > 0


def test_a_seed_that_is_a_held_out_task_is_refused(cli: Cli, tmp_path: Path) -> None:
    seeds = [json.loads(line) for line in asset("data/nano/seeds.jsonl").read_text().splitlines()]
    held_out = tmp_path / "held.jsonl"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in seeds[4:30]))
    ran = cli("-w", tmp_path / "w", "round", f"--set=evaluation.tasks={held_out}")
    refused(ran, "seed 5 of asset:data/nano/seeds.jsonl", "overlaps with a held-out task")


def test_preferences_on_held_out_tasks_are_refused(cli: Cli, tmp_path: Path) -> None:
    pairs = [json.loads(line) for line in asset("data/nano/pairs.jsonl").read_text().splitlines()]
    held_out = tmp_path / "held.jsonl"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in pairs[:40] if row["split"] == "train"))
    ran = cli("-w", tmp_path / "w", "round", f"--set=evaluation.tasks={held_out}")
    refused(ran, "training rows of member 'thumbs'", str(held_out))
