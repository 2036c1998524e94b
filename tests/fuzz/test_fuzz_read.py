"""Whatever is in a file, an answer or an option, it is read, or refused in one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flywheel import config as configuration
from flywheel.config import DataConfig, FiltersConfig
from flywheel.config.loading import read_yaml
from flywheel.core.assets import asset
from flywheel.core.files import encodable
from flywheel.engines.openai_errors import BrokenReply, one_line, server_message
from flywheel.engines.openai_format import read_reply
from flywheel.errors import ConfigError, DataError, FlywheelError, StoreError
from flywheel.instructions.filters import Dropped, Filters
from flywheel.instructions.parse import parse_alternative, parse_task
from flywheel.instructions.tasks import read_held_out, read_seeds
from flywheel.records import FinishReason
from flywheel.reward.reading import read_set
from flywheel.reward.sources import find_source, read_source
from flywheel.store import reading
from flywheel.store.store import Store
from tests.fuzz.fuzzing import ODD, TEXTS, VALUES, fuzzed

LABELS = st.sampled_from(
    [
        "Instruction:",
        "Input:",
        "Constraints:",
        "Output:",
        "Example 4",
        "**Input:**",
        "### Constraints",
        "```",
        "---",
        "> - Input:",
        "\n",
        "None",
        "“",
        "1. ",
        "Alternative formulation:",
    ]
)
WRITTEN = st.lists(st.one_of(ODD, LABELS), max_size=12).map("".join)


@fuzzed(text=WRITTEN, chat=st.booleans(), few=100)
def test_a_proposal_is_read_or_not(text: str, chat: bool) -> None:
    parsed = parse_task(text, chat=chat)
    if parsed.task is not None:
        assert all(one.strip() for one in (parsed.task.instruction, parsed.task.input, parsed.task.constraints))
    reworded = parse_alternative(text)
    assert reworded is None or reworded.strip()


@fuzzed(texts=st.lists(WRITTEN, max_size=4), language=st.sampled_from([None, "en"]))
def test_a_proposal_is_kept_or_dropped_for_a_reason(texts: list[str], language: str | None) -> None:
    filters = Filters(FiltersConfig(language=language, max_words=50), protected=[], known=[])
    for text in filter(encodable, texts):
        task = parse_task(text).task
        decision = filters.check(task, text, ended=FinishReason.STOP, demos=set())
        if task is None:
            assert decision.reason
        elif decision.reason is None:
            filters.keep(task)
            assert filters.check(task, text, ended=FinishReason.STOP, demos=set()).reason == Dropped.EXACT_DUPLICATE


FIELDS = st.sampled_from(["instruction", "input", "constraints", "set", "kind", "reference", "line"])
LINES = st.one_of(
    st.dictionaries(FIELDS, st.one_of(ODD, VALUES), max_size=5).map(json.dumps),
    VALUES.map(json.dumps),
    TEXTS,
    st.just("[" * 9_999),
)


@fuzzed(
    example(lines=["9" * 5_000], zipped=False, cut=False),
    lines=st.lists(LINES, max_size=6),
    zipped=st.booleans(),
    cut=st.booleans(),
)
def test_a_file_of_tasks_is_read_or_refused(lines: list[str], zipped: bool, cut: bool) -> None:
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    content = gzip.compress(content, 1) if zipped else content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("tasks.jsonl.gz" if zipped else "tasks.jsonl")
        path.write_bytes(content[: len(content) // 2] if cut else content)
        for reader in (read_seeds, read_held_out):
            try:
                rows = reader(path)
            except DataError as error:
                assert str(path) in str(error)
            else:
                assert all(encodable(one.task.instruction) and one.task.instruction.strip() for one in rows)


CELLS = st.one_of(
    ODD,
    VALUES,
    st.sampled_from(["Human: a Assistant: b", "\n\nHuman: a\n\nAssistant: b", "[1, 2]", "[1", 1, 0, 5, "a", "tie"]),
    st.lists(ODD, min_size=2, max_size=3),
    st.lists(st.floats() | st.integers(), min_size=2, max_size=3),
    st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": ODD | VALUES}), max_size=3),
)
COLUMNS_OF = {
    "thumbs": [("instruction", "output", "label"), ("text", "label"), ("prompt", "response", "label", "split")],
    "pairs": [("instruction", "chosen", "rejected"), ("chosen", "rejected"), ("instruction", "first", "second", "preferred")],
    "rankings": [("instruction", "outputs"), ("instruction", "outputs", "ranks")],
    "ratings": [("instruction", "outputs", "ratings"), ("instruction", "input", "output", "rating")],
}
SHAPES = st.sampled_from([(kind, columns) for kind, found in COLUMNS_OF.items() for columns in found])
TABLES = SHAPES.flatmap(
    lambda shape: st.tuples(st.just(shape[0]), st.lists(st.fixed_dictionaries(dict.fromkeys(shape[1], CELLS)), max_size=4))
)


@fuzzed(
    example(table=("ratings", [{"instruction": "a", "outputs": ["x", "y"], "ratings": "[1"}]), suffix="jsonl"),
    example(table=("rankings", [{"instruction": "a", "outputs": ["x", "y"], "ranks": ["", ""]}]), suffix="jsonl"),
    example(table=("ratings", [{"instruction": "a", "outputs": ["x", "y"], "ratings": [1, 10**400]}]), suffix="jsonl"),
    example(table=("pairs", [{"instruction": "a", "first": "x", "second": "y", "preferred": float("inf")}]), suffix="jsonl"),
    example(table=("pairs", [{"chosen": {"instruction": "\ud800", "output": "x"}, "rejected": "y"}]), suffix="jsonl"),
    table=TABLES,
    suffix=st.sampled_from(["jsonl", "json", "csv"]),
    few=120,
)
def test_preferences_are_read_or_refused(table: tuple[Any, list[dict[str, Any]]], suffix: str) -> None:
    kind, rows = table
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"data.{suffix}"
        path.write_text(written(rows, suffix), encoding="utf-8", errors="surrogatepass", newline="")
        try:
            found = read_set(read_source(find_source(str(path), path)), DataConfig(kind=kind, data=str(path)))
        except DataError as error:
            assert str(path) in str(error)
        else:
            for row in found.rows:
                for answer in row.answers:
                    assert encodable(answer.output)
                    assert answer.task is None or encodable(
                        answer.task.instruction + answer.task.input + answer.task.constraints
                    )


def written(rows: list[dict[str, Any]], suffix: str) -> str:
    if suffix == "jsonl":
        return "\n".join(map(json.dumps, rows))
    if suffix == "json":
        return json.dumps(rows)
    columns = sorted({name for row in rows for name in row})
    text = io.StringIO()
    csv.writer(text).writerows([columns, *([row.get(name, "") for name in columns] for row in rows)])
    return text.getvalue()


@fuzzed(
    content=st.binary(max_size=300),
    suffix=st.sampled_from(["jsonl", "json", "csv", "parquet", "jsonl.gz", "json.gz", "csv.gz"]),
    few=60,
)
def test_bytes_that_are_no_data_are_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"data.{suffix}"
        path.write_bytes(content)
        try:
            list(read_source(find_source(str(path), path)))
        except DataError as error:
            assert str(path) in str(error)


KEYS = (
    "choices",
    "text",
    "message",
    "content",
    "refusal",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "logprobs",
    "token_logprobs",
    "error",
    "data",
    "id",
    "detail",
)
REPLIES = st.recursive(
    VALUES | st.sampled_from(["stop", "length", 1, 2**40, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
CHOICES = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {
                    "text": ODD | REPLIES,
                    "message": st.fixed_dictionaries({"content": ODD | REPLIES}),
                    "finish_reason": st.just("stop") | REPLIES,
                },
                optional={"logprobs": REPLIES},
            ),
            max_size=3,
        )
    },
    optional={"usage": REPLIES, "error": REPLIES},
)


@fuzzed(
    body=st.one_of(CHOICES, REPLIES).map(lambda one: json.dumps(one).encode()) | st.binary(max_size=100),
    few=120,
)
def test_an_answer_of_a_server_is_completions_or_broken(body: bytes) -> None:
    try:
        completions = read_reply(body).completions(prompt="p", n=2, stop=["\n\n"])
    except BrokenReply as error:
        assert one_line(str(error)).isprintable()
        return
    assert 1 <= len(completions) <= 2
    for one in completions:
        assert encodable(one.text)
        assert 0 <= one.tokens < 2**31


@fuzzed(body=REPLIES)
def test_what_a_server_says_fits_on_a_line(body: object) -> None:
    assert one_line(server_message(body)).isprintable()


NANO = YAML(typ="safe").load(asset("configs/nano.yaml"))
PATHS = [f"{section}.{key}" for section, inside in NANO.items() if isinstance(inside, dict) for key in inside] + list(NANO)


def refuses_in_words(sets: list[str]) -> None:
    try:
        configuration.load(configuration.find("nano"), sets).model_dump_json()
    except ConfigError as error:
        assert str(error).strip()


@fuzzed(key=st.sampled_from(PATHS) | TEXTS, value=VALUES.map(lambda one: json.dumps(one)) | ODD, few=100)
def test_an_override_is_taken_or_refused(key: str, value: str) -> None:
    refuses_in_words([f"{key}={value}"])


def as_yaml(value: Any) -> str:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(value, stream)
    return stream.getvalue()


@fuzzed(
    example(text="&a [*a]"),
    example(text="a: 2026-13-45"),
    example(text="a: !!bool x"),
    example(text="[" * 20_000),
    example(text='"\\ud800"'),
    text=st.one_of(
        ODD,
        VALUES.map(as_yaml),
        st.text("&*!{}[]:,-?|>'\"%@`#ab01 \n\t", max_size=60),
    ),
    few=120,
)
def test_yaml_is_read_or_refused(text: str) -> None:
    try:
        value = read_yaml(text, "it")
    except ConfigError as error:
        assert "it" in error.message.replace(",", " ").split()
        return
    repr(value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        if encodable(text):
            path.write_text(text, encoding="utf-8", newline="")
            with pytest.raises(ConfigError):
                configuration.load(path)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("sql") / "flywheel.duckdb")
    store.migrate()
    return store.path


WORDS = st.sampled_from(
    [
        "SELECT",
        "*",
        "FROM",
        "tasks",
        "WHERE",
        "'x'",
        "(",
        ")",
        ",",
        ";",
        "COPY",
        "TO",
        "read_text",
        "'/etc/passwd'",
        "ATTACH",
        "SET",
        "=",
        "PRAGMA",
        "INSTALL",
        "LOAD",
        "httpfs",
        "enable_external_access",
        "true",
        "CREATE",
        "TEMP",
        "TABLE",
        "AS",
        "1",
        "EXPLAIN",
        "ANALYZE",
        "INSERT INTO",
        "DELETE FROM",
        "DROP",
        "VIEW",
        "dataset",
        "query",
        "glob",
        "EXPORT DATABASE",
        "CALL",
        "--",
        "/*",
        "*/",
        "$$",
        "$1",
        "?",
        "WITH",
        "a",
        "UPDATE",
        "kept",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "MACRO",
        "f()",
        "IMPORT DATABASE",
        "DETACH",
        "flywheel",
        "USE",
    ]
)


def test_sql_reads_or_is_refused_and_changes_nothing(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = database.read_bytes()

    @fuzzed(
        example(sql="COPY tasks TO 'x'"),
        example(sql="SELECT '\ud800'"),
        example(sql="(" * 99_000),
        example(sql="SELECT 1 UNION ALL " * 6_000),
        sql=st.lists(WORDS | ODD, max_size=9).map(" ".join),
        few=60,
    )
    def test_sql(sql: str) -> None:
        try:
            table = reading.query(database, sql)
        except StoreError as error:
            assert str(error)
        else:
            assert "root:" not in str(table.rows)

    test_sql()
    assert database.read_bytes() == before
    assert not list(tmp_path.iterdir())


@fuzzed(name=st.text(string.ascii_letters + "./\\~$ \0\n_-", max_size=40) | ODD | st.just("a" * 5_000), few=100)
def test_a_name_of_a_config_is_found_or_refused(name: str) -> None:
    try:
        configuration.find(name)
    except FlywheelError as error:
        assert str(error)
