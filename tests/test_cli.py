"""The command line: answers on stdout, progress on stderr, and one error with a hint for what the user has to fix."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from flywheel.core.assets import asset
from tests.conftest import Cli, copy, refused


def test_compare_answers_in_a_sentence_and_in_json(cli: Cli, turned: Path) -> None:
    told = cli("-w", turned, "compare", "r0", "r1")
    assert told.code == 0
    assert told.out.startswith("r1 ")
    found = json.loads(cli("-w", turned, "compare", "r0", "r1", "--json").out)
    assert found["verdict"] in {"improved", "flat", "worse", "proxy-only", "collapsing", "inconclusive"}
    assert found["verdict"] in told.out
    assert found["judge"]["low"] <= found["judge"]["value"] <= found["judge"]["high"]
    assert found["tasks"] == 60


def test_the_verdict_stored_with_a_round_is_the_one_compare_gives(cli: Cli, turned: Path) -> None:
    stored = json.loads(cli("-w", turned, "sql", "SELECT verdict FROM verdicts ORDER BY round", "--json").out)
    asked = [json.loads(cli("-w", turned, "compare", *pair, "--json").out)["verdict"] for pair in (("r0", "r1"), ("r1", "r2"))]
    assert [row["verdict"] for row in stored] == asked


def test_sql_prints_tables_csv_json_and_parquet(cli: Cli, turned: Path, tmp_path: Path) -> None:
    sql = "SELECT round, count(*) AS candidates FROM candidates GROUP BY ALL ORDER BY ALL"
    assert cli("-w", turned, "sql", sql).out.split() == ["round", "candidates", "r1", "320", "r2", "320"]
    assert list(csv.reader(io.StringIO(cli("-w", turned, "sql", sql, "--format", "csv").out)))[1] == ["r1", "320"]
    assert json.loads(cli("-w", turned, "sql", sql, "--format", "json").out)[1] == {"round": "r2", "candidates": 320}
    assert cli("-w", turned, "sql", sql, "--format", "parquet", "--out", tmp_path / "rows.parquet").code == 0
    assert duckdb.connect().execute(f"FROM '{tmp_path}/rows.parquet'").fetchall() == [("r1", 320), ("r2", 320)]
    refused(cli("-w", turned, "sql", sql, "--format", "parquet"), "parquet")


def test_rounds_and_show_tell_what_there_is(cli: Cli, turned: Path) -> None:
    lines = json.loads(cli("-w", turned, "rounds", "--json").out)
    assert [(line["round"], line["status"], line["kept"]) for line in lines] == [
        ("r0", "done", 0),
        ("r1", "done", 80),
        ("r2", "done", 80),
    ]
    shown = cli("-w", turned, "show", "r1").out
    assert "80 kept" in shown
    assert "propose" in shown
    task_id = json.loads(cli("-w", turned, "sql", "SELECT task_id FROM dataset WHERE round = 'r1' LIMIT 1", "--json").out)[0][
        "task_id"
    ]
    task = cli("-w", turned, "show", "r1", task_id[:12]).out
    assert task.count("stop") + task.count("length") == 4
    assert "pairs " in task
    assert "winner" in task


def test_schema_names_every_table(cli: Cli, turned: Path) -> None:
    told = cli("-w", turned, "schema").out
    for table in ("models", "rounds", "stages", "tasks", "candidates", "scores", "selections", "evaluations", "dataset"):
        assert f"{table}: " in told


def test_sample_ranks_n_candidates_and_reward_score_agrees(cli: Cli, turned: Path) -> None:
    asked = ("Count the words.", "--input", "cat, pear, saw")
    ranked = json.loads(cli("-w", turned, "sample", *asked, "--n", "3", "--json").out)
    assert [row["rank"] for row in ranked] == [1, 2, 3]
    rewards = [row["reward"] for row in ranked if row["finish"] == "stop"]
    assert rewards == sorted(rewards, reverse=True)
    scored = cli(
        "-w", turned, "reward", "score", "merged", ranked[0]["output"], "--instruction", asked[0], "--input", asked[2], "--json"
    )
    assert json.loads(scored.out)[0]["score"] == pytest.approx(rewards[0], abs=1e-4)


def test_reward_build_tells_the_accuracies_of_what_is_built(cli: Cli, turned: Path) -> None:
    rows = json.loads(cli("-w", turned, "reward", "build", "--json").out)
    assert [row["name"] for row in rows] == ["thumbs", "pairs", "form", "merged"]


def test_doctor_finds_a_healthy_workspace_healthy(cli: Cli, turned: Path) -> None:
    outcome = cli("-w", turned, "doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(outcome.out)}
    assert outcome.code == 0
    assert findings["rounds"]["message"] == "r0 done, r1 done, r2 done"
    assert findings["torch"]["ok"]


def test_a_workspace_works_where_it_is_moved(cli: Cli, turned: Path, tmp_path: Path) -> None:
    moved = copy(turned, tmp_path)
    assert cli("-w", moved, "sample", "Count the words.", "--input", "cat, pear").code == 0


def test_init_makes_a_commented_config_and_does_not_overwrite_it(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert cli("-w", folder, "init").code == 0
    assert "# " in (folder / "config.yaml").read_text()
    assert cli("-w", folder, "rounds").code == 0
    refused(cli("-w", folder, "init"), "config.yaml")


# Bad input: one line, exit 1, nothing lost


def test_until_without_repeat_is_refused_before_a_workspace_is_created(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("-w", tmp_path / "w", "round", "--until", "flat")
    refused(outcome, "repeat")
    assert "--repeat" in outcome.hint
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("compare", "r1", "r9"), "r9"),
        (("show", "r9"), "r9"),
        (("show", "r1", "zzz"), "zzz"),
        (("sql", "DELETE FROM tasks"), ""),
        (("sql", "SELEC 1"), "SELEC"),
        (("round", "--n", "0"), "sampling.n"),
        (("round", "--set", "sampling.temprature=1"), "temprature"),
        (("round", "--config", "nano"), "configuration"),
        (("reward", "score", "nobody", "text"), "nobody"),
    ],
)
def test_bad_input_is_one_error_and_loses_nothing(cli: Cli, turned: Path, arguments: tuple[str, ...], value: str) -> None:
    before = (turned / "flywheel.duckdb").read_bytes()
    refused(cli("-w", turned, *arguments), value)
    assert (turned / "flywheel.duckdb").read_bytes() == before


def test_a_missing_or_corrupt_generator_is_one_error(cli: Cli, tmp_path: Path) -> None:
    refused(cli("-w", tmp_path / "a", "round", "--set", "generator=/nowhere/model"), "/nowhere/model")
    broken = Path(shutil.copytree(asset("data/nano/generator"), tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:5000])
    refused(cli("-w", tmp_path / "b", "round", "--set", f"reward.base={broken}"), "model.safetensors")


def test_a_broken_line_of_seeds_is_named_before_anything_is_built(cli: Cli, tmp_path: Path) -> None:
    lines = asset("data/nano/seeds.jsonl").read_text().splitlines()
    lines[4] = '{"instruction": '
    (tmp_path / "seeds.jsonl").write_text("\n".join(lines))
    started = time.monotonic()
    refused(
        cli("-w", tmp_path / "w", "round", "--set", f"instructions.seeds={tmp_path}/seeds.jsonl"),
        "seeds.jsonl line 5",
    )
    assert time.monotonic() - started < 20


def test_a_workspace_of_a_newer_schema_is_refused(cli: Cli, turned: Path, tmp_path: Path) -> None:
    folder = copy(turned, tmp_path)
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute("INSERT INTO migrations (version, name) VALUES (9999, 'future')")
    for command in (("rounds",), ("round",), ("compare", "r0", "r1"), ("sql", "SELECT 1")):
        refused(cli("-w", folder, *command), "9999")


def test_a_place_that_cannot_be_written_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(cli("-w", tmp_path / "file" / "workspace", "round"), "workspace")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        refused(cli("-w", tmp_path / "locked" / "workspace", "round"), "workspace")


def test_commands_before_the_first_round_say_what_to_type(cli: Cli, tmp_path: Path) -> None:
    for command in (("rounds",), ("compare", "r0", "r1"), ("sql", "SELECT 1"), ("schema",)):
        outcome = cli("-w", tmp_path, *command)
        refused(outcome)
        assert "flywheel round" in outcome.hint
    refused(cli("-w", tmp_path, "sample", "Sort."))


def test_reading_works_while_another_process_runs_a_round(built: Path, tmp_path: Path, cli: Cli) -> None:
    folder = copy(built, tmp_path)
    at_work = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "-w", folder, "round"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    answered = 0
    while at_work.poll() is None:
        assert cli("-w", folder, "sql", "SELECT count(*) FROM stages").code == 0
        assert cli("-w", folder, "rounds").code == 0
        answered += 1
        time.sleep(0.2)
    assert at_work.returncode == 0
    assert answered > 5


# What a first user ran into


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("sql", ""), "0"),
        (("sql", "/* nothing */"), "0"),
        (("sql", "SELECT 1; SELECT 2"), "2"),
        (("sql", "SELECT 1", "--format", "csv", "--out", "/nowhere/x.csv"), "/nowhere/x.csv"),
        (("sql", "SELECT 1", "--format", "parquet", "--out", "/nowhere/x.parquet"), "/nowhere/x.parquet"),
        (("reward", "score", "merged", "fine", ""), "text 2"),
        (("show", "r1", ""), "80"),
    ],
)
def test_slips_are_one_error(cli: Cli, turned: Path, arguments: tuple[str, ...], value: str) -> None:
    refused(cli("-w", turned, *arguments), value)


def test_columns_of_one_name_do_not_hide_each_other_and_json_has_no_nan(cli: Cli, turned: Path) -> None:
    told = cli("-w", turned, "sql", "SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS b", "--json")
    assert json.loads(told.out, parse_constant=lambda name: pytest.fail(name)) == [{"a": 1, "a_1": 2, "b": None}]


def test_a_workspace_that_is_a_file_is_refused_by_every_command(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in (("rounds",), ("round",), ("doctor",)):
        refused(cli("-w", tmp_path / "file", *command), "file")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def f(rows):\n    raise ValueError('boom\\nboom')", "ValueError: boom boom"),
        ("def f(rows):\n    return [1.0]", "3"),
        ("def f(rows):\n    return [float('nan')] * len(rows)", "nan"),
        ("def f(rows):\n    return ['good'] * len(rows)", "ValueError"),
        ("raise RuntimeError('at import')", "RuntimeError: at import"),
        ("def f(", "SyntaxError"),
    ],
)
def test_a_judge_is_tried_before_anything_is_built(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    module = f"judge_{abs(hash(body))}"
    (tmp_path / f"{module}.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    refused(cli("-w", tmp_path / "w", "round", "--set", f"evaluation.judge={module}:f"), said)
    assert not (tmp_path / "w").exists()


def test_a_template_with_an_unknown_name_is_told_before_anything_is_built(cli: Cli, tmp_path: Path) -> None:
    prompts = Path(shutil.copytree(asset("prompts"), tmp_path / "prompts"))
    (prompts / "answer.jinja").write_text("{{ taks.instruction }}")
    refused(cli("-w", tmp_path / "w", "round", "--set", f"prompts={prompts}"), "taks")
    (prompts / "answer.jinja").write_text("{{ task.instruction")
    refused(cli("-w", tmp_path / "w", "round", "--set", f"prompts={prompts}"), "answer.jinja")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "training.accelerate_config"),
        ("num_processes: [", "training.accelerate_config"),
        ("- 1", "training.accelerate_config"),
        ("no_such_key: 1", "training.accelerate_config"),
    ],
)
def test_a_broken_accelerate_config_is_told_before_anything_is_built(
    cli: Cli, tmp_path: Path, file: str | None, said: str
) -> None:
    path = tmp_path / "accelerate.yaml"
    if file is not None:
        path.write_text(file)
    refused(cli("-w", tmp_path / "w", "round", "--set", f"training.accelerate_config={path}"), said)
    assert not (tmp_path / "w" / "models").exists()


def test_adapters_for_layers_that_are_not_there_are_told_before_anything_is_built(cli: Cli, tmp_path: Path) -> None:
    lora = "training.lora={targets: [no_such]}"
    refused(cli("-w", tmp_path / "w", "round", "--set", lora), "no_such")
    assert not (tmp_path / "w" / "models").exists()


def test_a_restart_with_a_typo_loses_nothing(cli: Cli, built: Path, tmp_path: Path) -> None:
    folder = copy(built, tmp_path)
    subprocess.run([sys.executable, "-m", "tests.crash", folder, "answer", "after", "1"], check=False)
    count = ("-w", folder, "sql", "SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM candidates)", "--format", "csv")
    before = cli(*count).out
    refused(cli("-w", folder, "round", "--restart", "--set", "generator=/nope"), "/nope")
    assert cli(*count).out == before
    assert before.splitlines()[1] != "0,0"


def test_a_line_separator_inside_a_text_does_not_end_its_line(tmp_path: Path) -> None:
    from flywheel.instructions.tasks import read_tasks

    path = tmp_path / "tasks.jsonl"
    path.write_text('{"instruction": "a\u2028b", "input": "x"}\n', encoding="utf-8")
    assert read_tasks(path)[0].instruction == "a\u2028b"


@pytest.mark.parametrize(
    ("name", "begins"), [("rows.parquet", b"PAR1"), ("rows.json", b"["), ("rows.csv", b"round"), ("rows", b"round")]
)
def test_the_suffix_of_out_decides_the_format(cli: Cli, turned: Path, tmp_path: Path, name: str, begins: bytes) -> None:
    assert cli("-w", turned, "sql", "SELECT round FROM rounds", "--out", tmp_path / name).code == 0
    assert (tmp_path / name).read_bytes().startswith(begins)
