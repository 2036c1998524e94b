"""Exports: read back by the programs they are for, trained on unchanged, pushed to a hub of our own, refused with a hint."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import duckdb
import pytest
import yaml
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from flywheel.core.assets import asset
from flywheel.core.safe_text import REMOVED
from flywheel.export.card import public, table
from flywheel.export.files import as_line, write_rows
from flywheel.export.shapes import ExportOptions, Format, Shape
from flywheel.instructions.prompts import Prompts
from flywheel.records import Task
from flywheel.store.database import connection
from flywheel.store.reading import query
from flywheel.store.store import Store
from flywheel.training import training_examples
from tests.conftest import Cli, Outcome, copy

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` caches by path; every test has its own cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def turned_store(turned: Path) -> Path:
    return turned / "flywheel.duckdb"


@pytest.fixture(scope="module")
def chatty() -> PreTrainedTokenizerBase:
    """The tokenizer of the nano generator with the smallest chat template."""
    tokenizer = AutoTokenizer.from_pretrained(asset("data/nano/generator"))
    tokenizer.chat_template = CHAT
    return tokenizer


def written(cli: Cli, workspace: Path, to: Path, *options: object) -> list[dict[str, Any]]:
    """The rows of an export, as `datasets` reads them from its folder."""
    outcome = cli("-w", workspace, "export", *(options or ("r2",)), "--to", to)
    assert outcome.code == 0, outcome.err
    return load_dataset(str(to), split="train").to_list()


def in_sql(store: Path, sql: str) -> list[dict[str, Any]]:
    return query(store, sql).as_dicts()


DATASET = (
    "SELECT d.task_id, d.instruction, d.input, d.constraints, d.output, d.reward, d.margin, d.round, d.candidate, d.tokens "
    "FROM dataset AS d JOIN tasks AS t ON t.round = d.round AND t.task_id = d.task_id AND t.kept "
)


@pytest.mark.parametrize("form", Format)
def test_an_export_is_the_view_dataset(form: Format, cli: Cli, turned: Path, turned_store: Path, tmp_path: Path) -> None:
    rows = written(cli, turned, tmp_path / "out", "r2", "--format", form)
    assert rows == in_sql(turned_store, DATASET + "WHERE d.round = 'r2' ORDER BY t.attempt")
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("shape", [Shape.MESSAGES, Shape.PROMPT_COMPLETION])
def test_every_format_and_shape_loads(form: Format, shape: Shape, pairs: bool, cli: Cli, turned: Path, tmp_path: Path) -> None:
    rows = written(cli, turned, tmp_path / "out", "r1", "--format", form, "--shape", shape, *(["--pairs"] if pairs else []))
    assert rows
    assert list(rows[0]) == list(ExportOptions(name="r1", to=tmp_path, shape=shape, pairs=pairs).columns)
    assert {row["round"] for row in rows} == {"r1"}


def test_prompt_and_completion_are_those_of_training(cli: Cli, turned: Path, turned_store: Path, tmp_path: Path) -> None:
    rows = written(cli, turned, tmp_path / "out", "r2", "--shape", "prompt-completion")
    examples = training_examples(
        list(Store(turned_store).winners(["r2"])), [], Prompts(asset("prompts")), proposal_share=0.0, names=()
    )
    assert sorted((row["prompt"], row["completion"]) for row in rows) == sorted((e.prompt, e.completion) for e in examples)


def test_messages_are_the_chat_templates_words(cli: Cli, turned: Path, turned_store: Path, tmp_path: Path) -> None:
    (row, *_) = written(cli, turned, tmp_path / "out", "r2", "--shape", "messages")
    (winner, *_) = in_sql(turned_store, f"{DATASET} WHERE d.round = 'r2' ORDER BY t.attempt")
    task = Task(instruction=winner["instruction"], input=winner["input"], constraints=winner["constraints"])
    words = Prompts(asset("prompts"), chat=lambda words: words).answer(task)
    assert row["messages"] == [{"role": "user", "content": words}, {"role": "assistant", "content": winner["output"].strip()}]


def test_a_generator_that_chats_reads_its_own_template(
    cli: Cli, turned: Path, tmp_path: Path, chatty: PreTrainedTokenizerBase
) -> None:
    workspace = copy(turned, tmp_path)
    chatty.save_pretrained(workspace / "models" / "generator-r1")  # r2 was written by it, and trained from it
    with connection(workspace / "flywheel.duckdb", read_only=False) as db:
        db.execute('UPDATE rounds SET config = json_merge_patch(config, \'{"prompt_style": "chat"}\')')
    (conversation, *_) = written(cli, workspace, tmp_path / "messages", "r2", "--shape", "messages")
    (joined, *_) = written(cli, workspace, tmp_path / "texts", "r2", "--shape", "prompt-completion")
    user, assistant = conversation["messages"]
    assert joined["prompt"] == f"user: {user['content']}\nassistant: "
    assert joined["completion"] == assistant["content"]


def test_all_rounds_up_to_one(cli: Cli, turned: Path, turned_store: Path, tmp_path: Path) -> None:
    rows = written(cli, turned, tmp_path / "out", "r2", "--all")
    assert rows == in_sql(turned_store, f"{DATASET} ORDER BY d.round, t.attempt")
    outcome = cli("-w", turned, "export", "r2", "--all", "--to", tmp_path / "out", "--overwrite", "--json")
    answer = json.loads(outcome.out)
    assert answer["rows"] == len(rows)
    assert list(answer["rounds"]) == ["r1", "r2"]


def test_pairs_are_the_best_and_the_worst_that_finished(cli: Cli, turned: Path, turned_store: Path, tmp_path: Path) -> None:
    rows = written(cli, turned, tmp_path / "out", "r2", "--pairs")
    candidates = in_sql(turned_store, "SELECT * FROM generations WHERE round = 'r2' AND finish_reason = 'stop'")
    expected = {}
    for task_id in {candidate["task_id"] for candidate in candidates}:
        of_task = [candidate for candidate in candidates if candidate["task_id"] == task_id]
        best = next(candidate for candidate in of_task if candidate["won"])
        losers = [other for other in of_task if other["reward"] < best["reward"] and other["output"] != best["output"]]
        if losers:
            expected[task_id] = (best["reward"], min(loser["reward"] for loser in losers))
    assert {row["task_id"]: (row["chosen_reward"], row["rejected_reward"]) for row in rows} == expected
    assert all(row["margin"] == row["chosen_reward"] - row["rejected_reward"] > 0 for row in rows)
    assert all(row["chosen"] != row["rejected"] for row in rows)


def test_a_control_exports_its_policies_picks(cli: Cli, turned: Path, tmp_path: Path) -> None:
    workspace = copy(turned, tmp_path)
    store = workspace / "flywheel.duckdb"
    # A control without its training: the picks are those of the round beside it.
    with connection(store, read_only=False) as db:
        db.execute(
            "INSERT OR IGNORE INTO rounds BY NAME "
            "SELECT * REPLACE ('r2-random' AS round, 'random' AS policy) FROM rounds WHERE round = 'r2'"
        )
    rows = written(cli, workspace, tmp_path / "out", "r2-random")
    picked = in_sql(store, "SELECT task_id, candidate FROM selections WHERE round = 'r2' AND policy = 'random'")
    assert {(row["task_id"], row["candidate"]) for row in rows} == {(pick["task_id"], pick["candidate"]) for pick in picked}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "*random*" in card
    outcome = cli("-w", workspace, "export", "r2-random", "--pairs", "--to", tmp_path / "pairs")
    assert "policy random" in refused(outcome)
    assert "r2" in outcome.hint


def test_the_card_is_valid_and_tells_where_the_rows_are_from(
    cli: Cli, turned: Path, turned_store: Path, tmp_path: Path
) -> None:
    written(cli, turned, tmp_path / "out", "r2")
    text = (tmp_path / "out" / "README.md").read_text()
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    head = yaml.safe_load(front)
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "# license: not chosen yet" in front
    (round_,) = in_sql(turned_store, "SELECT * FROM rounds WHERE round = 'r2'")
    for name in ("generator_in", "generator_out", "reward_model", "judge", "fingerprint"):
        assert round_[name] in body
    (evidence,) = in_sql(turned_store, "SELECT evidence->>'sentence' AS sentence FROM verdicts WHERE round = 'r2'")
    assert evidence["sentence"] in body
    (summary,) = in_sql(turned_store, "SELECT proposed, kept, candidates, winners FROM rounds_summary WHERE round = 'r2'")
    (row,) = [line for line in body.split("\n## Rounds")[1].split("\n## ")[0].splitlines() if line.startswith("| r2 |")]
    assert row.split(" | ")[2:6] == [f"{number:,}" for number in summary.values()]
    for heading in ("Rounds", "Provenance", "Dropped tasks", "Selection policies", "Diversity", "Limits"):
        assert f"\n## {heading}" in body
    config = yaml.safe_load(body.split("```yaml\n")[-1].split("\n```")[0])
    assert config == {key: value for key, value in json.loads(round_["config"]).items() if key != "base"}


def test_the_card_keeps_secrets_to_itself() -> None:
    config = {
        "training": {"args": {"extra": "hf_abcdefghijklmnopqrstuvwx", "eos_token": "<|end|>"}},
        "engine": {"args": {"extra": "Bearer abc.def"}, "endpoint": {"key_env": "OPENAI_API_KEY"}},
        "seeds": str(Path.home() / "seeds.jsonl"),
        "url": "https://me:word@host/v1?key=1",
    }
    assert yaml.safe_load(public(yaml.safe_dump(config))) == {
        "training": {"args": {"extra": REMOVED, "eos_token": "<|end|>"}},
        "engine": {"args": {"extra": REMOVED}, "endpoint": {"key_env": "OPENAI_API_KEY"}},
        "seeds": "~/seeds.jsonl",
        "url": "https://host/v1",
    }


def test_a_table_holds_what_models_and_people_wrote() -> None:
    assert (
        table([{"reason": "a | b\nc", "n": 1200, "x": None}])
        == "| reason | n | x |\n| --- | --- | --- |\n| a \\| b c | 1,200 |  |"
    )


NASTY = ["a\x00b", "a\u2028b\u2029c\x85d\x1ce", '"\\\t\r\n', "2024-01-01", "\U0001f600 ü"]


@pytest.mark.parametrize("form", Format)
def test_any_text_comes_back_as_it_was(form: Format, tmp_path: Path) -> None:
    types = {"output": "string", "round": "string"}
    rows = [{"output": text, "round": "2024-01-01"} for text in NASTY]
    write_rows(tmp_path, form, types, [rows])
    if form == Format.JSONL:
        assert len((tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()) == len(NASTY)
        assert [json.loads(as_line(row)) for row in rows] == rows
    else:
        path = str(next(tmp_path.rglob("*.parquet")))
        assert (
            duckdb.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)").to_arrow_table().to_pylist() == rows
        )


@pytest.mark.parametrize("form", [Format.HF, Format.PARQUET])
def test_texts_that_look_like_dates_stay_texts(form: Format, cli: Cli, turned: Path, tmp_path: Path) -> None:
    # In jsonl the reader of `datasets` takes a column of nothing but dates for dates; the documentation says so.
    workspace = copy(turned, tmp_path)
    with connection(workspace / "flywheel.duckdb", read_only=False) as db:
        db.execute("UPDATE candidates SET output = '2024-01-01'")
    rows = written(cli, workspace, tmp_path / "out", "r2", "--format", form)
    assert {row["output"] for row in rows} == {"2024-01-01"}


def test_an_odd_output_comes_back_from_jsonl(cli: Cli, turned: Path, tmp_path: Path) -> None:
    workspace = copy(turned, tmp_path)
    odd = "a\x00b\n\u2028\u2029\x85\x1c\x1b[31m"
    with connection(workspace / "flywheel.duckdb", read_only=False) as db:
        db.execute("UPDATE candidates SET output = ?", [odd])
    rows = written(cli, workspace, tmp_path / "out", "r2", "--format", "jsonl")
    assert {row["output"] for row in rows} == {odd}
    assert len((tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()) == len(rows)


def test_a_partitioned_export_is_read_in_place_and_only_the_rounds_asked_for(
    cli: Cli, turned: Path, turned_store: Path, tmp_path: Path
) -> None:
    written(cli, turned, tmp_path / "out", "r2", "--all", "--format", "partitioned")
    assert sorted(path.name for path in (tmp_path / "out" / "data").iterdir()) == ["round=r1", "round=r2"]
    source = f"read_parquet('{tmp_path}/out/data/*/*.parquet', hive_partitioning = true)"
    counts = duckdb.sql(f"SELECT round, count(*) FROM {source} GROUP BY ALL ORDER BY ALL").fetchall()
    assert counts == query(turned_store, "SELECT round, count(*) FROM dataset GROUP BY ALL ORDER BY ALL").rows
    ((_, plan),) = duckdb.sql(f"EXPLAIN ANALYZE SELECT * FROM {source} WHERE round = 'r2'").fetchall()
    assert "Total Files Read: 1" in plan


def test_large_exports_are_shards_in_order(tmp_path: Path) -> None:
    blocks = [[{"output": f"{block}-{row}"} for row in range(10)] for block in range(5)]
    write_rows(tmp_path, Format.HF, {"output": "string"}, iter(blocks), shard_bytes=1)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [f"train-{n:05}-of-00005.parquet" for n in range(5)]
    read = load_dataset("parquet", data_files=str(tmp_path / "data" / "*"), split="train")
    assert read["output"][:] == [row["output"] for block in blocks for row in block]


# Trained on unchanged


@pytest.mark.parametrize("shape", [Shape.MESSAGES, Shape.PROMPT_COMPLETION])
def test_trl_trains_on_winners(shape: Shape, cli: Cli, turned: Path, tmp_path: Path, chatty: PreTrainedTokenizerBase) -> None:
    from trl import SFTConfig, SFTTrainer

    written(cli, turned, tmp_path / "out", "r2", "--shape", shape)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(asset("data/nano/generator")),
        args=SFTConfig(output_dir=str(tmp_path / "run"), max_steps=2, use_cpu=True, report_to="none", save_strategy="no"),
        train_dataset=load_dataset(str(tmp_path / "out"), split="train"),
        processing_class=chatty,
    )
    assert 0 < trainer.train().training_loss < 100


@pytest.mark.parametrize("shape", [Shape.MESSAGES, Shape.PROMPT_COMPLETION])
def test_trl_trains_on_pairs(shape: Shape, cli: Cli, turned: Path, tmp_path: Path, chatty: PreTrainedTokenizerBase) -> None:
    from trl import DPOConfig, DPOTrainer

    written(cli, turned, tmp_path / "out", "r2", "--pairs", "--shape", shape)
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(asset("data/nano/generator")),
        args=DPOConfig(output_dir=str(tmp_path / "run"), max_steps=2, use_cpu=True, report_to="none", save_strategy="no"),
        train_dataset=load_dataset(str(tmp_path / "out"), split="train"),
        processing_class=chatty,
    )
    assert 0 < trainer.train().training_loss < 100


# The hub


class Hub:
    """What of the hub an upload needs, on a free port; it keeps what it is sent."""

    def __init__(self, refuse: dict[str, int] | None = None) -> None:
        self.files = {"README.md": b"old", "data/train-00001-of-00002.parquet": b"stale", "notes.txt": b"the owner's"}
        self.made: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not hub.made:
                    self.give({"error": "Repository not found"}, 404)
                elif "/tree/" in self.path:
                    self.give([{"type": "file", "path": path, "size": 3, "oid": "0" * 40} for path in hub.files])
                else:
                    self.give({"id": "me/winners", "sha": "0" * 40, "private": hub.private, "siblings": []})

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                hub.tokens.add(self.headers.get("authorization"))
                status = next((status for part, status in (refuse or {}).items() if part in self.path), None)
                if status:
                    self.give({"error": "no"}, status)
                elif self.path.endswith("/repos/create"):
                    hub.made.append(json.loads(content))
                    self.give({"url": f"{hub.url}/datasets/me/winners", "id": "1", "name": "me/winners"})
                elif "/preupload/" in self.path:
                    files = [{"path": entry["path"]} for entry in json.loads(content)["files"]]
                    self.give({"files": [entry | {"uploadMode": "regular", "shouldIgnore": False} for entry in files]})
                elif "/commit/" in self.path:
                    hub.commit([json.loads(line) for line in content.splitlines()])
                    self.give({"commitUrl": f"{hub.url}/datasets/me/winners/commit/1", "commitOid": "1" * 40})
                else:
                    self.give({"errors": [], "warnings": []})

            def give(self, body: object, status: int = 200) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments: object) -> None:
                """Nothing is printed."""

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def private(self) -> bool:
        """From the request, whose field depends on the release of the client."""
        return self.made[-1].get("private") is True or self.made[-1].get("visibility") == "private"

    def commit(self, operations: list[dict[str, Any]]) -> None:
        for entry in operations:
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "deletedFile":
                del self.files[entry["value"]["path"]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()


def pushed(workspace: Path, to: Path, endpoint: str, *options: str, **environment: str) -> Outcome:
    """An export with a push, in a process of its own: the hub's client reads its address once."""
    names = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_test", "HF_HOME": str(to.parent / "home")}
    command = [sys.executable, "-m", "flywheel.cli", "-w", str(workspace), "export", "r2", "--to", str(to)]
    ran = subprocess.run(
        [*command, "--push", "me/winners", *options], env=os.environ | names | environment, capture_output=True, text=True
    )
    return Outcome(code=ran.returncode, out=ran.stdout, err=ran.stderr)


@pytest.mark.parametrize("options", [[], ["--public"]])
def test_a_push_puts_the_folder_on_the_hub(options: list[str], turned: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        outcome = pushed(turned, tmp_path / "out", hub.url, *options)
        assert outcome.code == 0, outcome.err
        assert outcome.out.splitlines()[-1].endswith(f"/datasets/me/winners ({'public' if options else 'private'})")
        assert hub.private == (not options)
        assert hub.made[0]["type"] == "dataset"
        assert hub.tokens == {"Bearer hf_test"}
        there = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
        assert set(hub.files) == {*there, "notes.txt"}  # the stale shard is gone, the owner's file is not
        assert all(hub.files[name] == path.read_bytes() for name, path in there.items())


@pytest.mark.parametrize(
    ("refuse", "environment", "says", "hint"),
    [
        ({"create": 401}, {}, "401", "HF_TOKEN"),
        ({"create": 403}, {}, "403", "HF_TOKEN"),
        ({"commit": 403}, {}, "403", "HF_TOKEN"),
        (None, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "", "network"),
    ],
)
def test_a_push_that_fails_is_reported_and_keeps_the_export(
    refuse: dict[str, int] | None, environment: dict[str, str], says: str, hint: str, turned: Path, tmp_path: Path
) -> None:
    with Hub(refuse) as hub:
        outcome = pushed(turned, tmp_path / "out", environment.pop("HF_ENDPOINT", hub.url), **environment)
    error = refused(outcome)
    assert "me/winners" in error
    assert says in error
    assert str(tmp_path / "out") in outcome.hint
    assert hint in outcome.hint
    assert "hf_test" not in outcome.err
    assert load_dataset(str(tmp_path / "out"), split="train").num_rows


def test_a_push_that_cannot_begin_writes_nothing(
    cli: Cli, turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, hint in (("winners", "OWNER/NAME"), ("a/b/c", "OWNER/NAME"), ("me/x", "Unset")):
        outcome = cli("-w", turned, "export", "r2", "--to", tmp_path / "out", "--push", name)
        assert name in refused(outcome)
        assert hint in outcome.hint
    outcome = pushed(turned, tmp_path / "out", "http://127.0.0.1:9", HF_TOKEN="")
    assert "me/winners" in refused(outcome)
    assert "HF_TOKEN" in outcome.hint
    assert not (tmp_path / "out").exists()


# What is refused


def refused(outcome: Outcome) -> str:
    """The message of the error, which has a hint and nothing else beside it."""
    assert outcome.code == 1
    assert outcome.error
    assert outcome.hint
    assert len(outcome.err.splitlines()) == 2
    return outcome.error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["r9"], "'r9'"),
        (["r0"], "r0"),
        (["r2", "--pairs", "--shape", "columns"], "--shape columns"),
        (["r2", "--public"], "--push"),
    ],
)
def test_what_cannot_be_exported(options: list[str], says: str, cli: Cli, turned: Path, tmp_path: Path) -> None:
    assert says in refused(cli("-w", turned, "export", *options, "--to", tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_round_is_exported_from_its_selection_on(cli: Cli, turned: Path, tmp_path: Path) -> None:
    workspace = copy(turned, tmp_path)
    store = workspace / "flywheel.duckdb"
    with connection(store, read_only=False) as db:
        db.execute("UPDATE rounds SET status = 'running', generator_out = NULL WHERE round = 'r2'")
        db.execute("DELETE FROM verdicts WHERE round = 'r2'")
    assert written(cli, workspace, tmp_path / "early", "r2", "--shape", "prompt-completion")
    assert "r2 is not finished" in (tmp_path / "early" / "README.md").read_text()
    with connection(store, read_only=False) as db:
        db.execute("UPDATE stages SET finished_at = NULL WHERE round = 'r2' AND stage = 'select'")
    outcome = cli("-w", workspace, "export", "r2", "--to", tmp_path / "out")
    assert "r2" in refused(outcome)
    assert "flywheel round" in outcome.hint
    with connection(store, read_only=False) as db:
        db.execute("UPDATE stages SET finished_at = now()")
        db.execute("UPDATE candidates SET finish_reason = 'length'")
        db.execute("DELETE FROM selections")
    for options, setting in (([], "sampling.max_tokens"), (["--pairs"], "sampling.n")):
        outcome = cli("-w", workspace, "export", "r2", *options, "--to", tmp_path / "out")
        assert "r2" in refused(outcome)
        assert setting in outcome.hint
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken(cli: Cli, turned: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refused(cli("-w", turned, "export", "r2", "--to", tmp_path / "file"))
    (tmp_path / "out").mkdir()
    written(cli, turned, tmp_path / "out")
    outcome = cli("-w", turned, "export", "r1", "--to", tmp_path / "out")
    assert "2 entries" in refused(outcome)
    assert "--overwrite" in outcome.hint
    rows = written(cli, turned, tmp_path / "out", "r1", "--format", "jsonl", "--overwrite")
    assert {row["round"] for row in rows} == {"r1"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "train.jsonl"]
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    outcome = cli("-w", turned, "export", "r1", "--to", tmp_path / "out", "--overwrite")
    assert "thesis.tex" in refused(outcome)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "mine"


def test_templates_that_have_changed_are_reported(cli: Cli, turned: Path, tmp_path: Path) -> None:
    workspace = copy(turned, tmp_path)
    with connection(workspace / "flywheel.duckdb", read_only=False) as db:
        db.execute('UPDATE rounds SET identity = json_merge_patch(identity, \'{"digest.prompts": "other"}\')')
    outcome = cli("-w", workspace, "export", "r2", "--shape", "prompt-completion", "--to", tmp_path / "out")
    assert "r2" in outcome.err
    assert "The templates have changed since r2 ran" in (tmp_path / "out" / "README.md").read_text()
    assert cli("-w", workspace, "export", "r2", "--to", tmp_path / "columns").err == ""
