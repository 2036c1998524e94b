"""Hostile input, group by group: what is tried, with which command, and the line that says so; see docs/security.md."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import unicodedata
from pathlib import Path

import duckdb
import pytest

from flywheel.core.assets import asset
from flywheel.core.model_folders import chat_format
from flywheel.core.safe_text import visible, without_secrets
from flywheel.errors import ConfigError, ModelError
from flywheel.instructions.prompts import Prompts
from flywheel.report.progress import Terminal
from tests import report_store
from tests.conftest import Cli, Outcome

NANO = asset("data/nano/generator")
ESC, BEL = "\x1b", "\x07"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with rounds, without models."""
    made = tmp_path_factory.mktemp("hostile") / "workspace"
    report_store.build(made)
    shutil.copy(asset("configs/nano.yaml"), made / "config.yaml")
    return made


def refused(outcome: Outcome, said: str) -> None:
    """One error that says it, nothing on stdout, no traceback, and nothing that acts on a terminal."""
    assert (outcome.code, outcome.out) == (1, ""), outcome
    assert outcome.error, outcome.err
    assert said in f"{outcome.error} {outcome.hint}"
    assert all(len(line) < 2_100 for line in outcome.err.splitlines())
    assert "Traceback" not in outcome.err
    assert not acting(outcome.err)


def acting(text: str) -> list[str]:
    """What a terminal would act on, or not show."""
    return [one for one in text if one != "\n" and not one.isprintable() and unicodedata.category(one) != "Zs"]


TERMINAL = {
    "colour": f"{ESC}[31mred",
    "clear the screen": f"{ESC}[2J{ESC}[H",
    "title": f"{ESC}]0;owned{BEL}",
    "clipboard, OSC 52": f"{ESC}]52;c;cm0gLXJmIH4={BEL}",
    "link, OSC 8": f"{ESC}]8;;https://evil.example{ESC}\\click{ESC}]8;;{ESC}\\",
    "device control string": f"{ESC}P+q544e{ESC}\\",
    "8-bit codes": "\x9b2J\x9d0;x\x9c",
    "carriage return": "reward 9.99\rreward 0.01",
    "backspace": "bad\b\b\bgood",
    "delete": "a\x7fb",
    "null byte": "a\0b",
    "bidi override": "abc\u202etxt.exe\u202c",
    "bidi isolate": "\u2067abc\u2069",
    "zero width": "ad\u200bmin\ufeff",
    "line separators": "a\u2028b\u2029c\x85d\x0bd\x0ce",
    "tags": "a\U000e0041\U000e0042",
}
SHOWING = {
    "show": ("show", "r1", "TASK"),
    "sql": ("sql", "SELECT output FROM generations WHERE task_id = 'TASK'"),
    "sql, name of a column": ("sql", 'SELECT 1 AS "ATTACK"'),
    "sql --json": ("sql", "--json", "SELECT output FROM generations WHERE task_id = 'TASK'"),
    "an error": ("show", "ATTACK"),
    "an error of SQL": ("sql", 'SELECT "ATTACK"'),
}


@pytest.mark.parametrize("command", SHOWING)
@pytest.mark.parametrize("attack", TERMINAL)
def test_what_a_model_writes_is_shown_and_not_obeyed(attack: str, command: str, folder: Path, cli: Cli) -> None:
    text, task_id = TERMINAL[attack], report_store.task(1, 7).task_id
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute("UPDATE candidates SET output = ? WHERE task_id = ?", [text, task_id])
    told = cli("-w", folder, *(part.replace("TASK", task_id).replace("ATTACK", text) for part in SHOWING[command]))
    assert not acting(told.out + told.err)
    if command == "sql --json":
        assert json.loads(told.out)[0] == {"output": text}
    elif "error" not in command and attack != "line separators":
        assert visible(text.split("\0")[0])[:20] in told.out


@pytest.mark.parametrize(
    "attack", ["[red]x[/red]", "[/]", "[link=https://evil.example]x[/link]", "[bold", ":smile:", "{x}", "%s"]
)
def test_markup_is_text(attack: str, folder: Path, cli: Cli) -> None:
    told = cli("-w", folder, "sql", f"SELECT '{attack}' AS \"{attack}\"")
    assert [line.strip() for line in told.out.splitlines()] == [attack, attack]


def test_progress_is_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        with Terminal().work("[/]\x1b]52;c;eA==\x07[red]x", total=2, unit="[/]rows") as counter:
            counter.to(2)
        told = capsys.readouterr().err
        assert "[/]\\x1b]52;c;eA==\\x07[red]x" in told
        assert "\x1b]52" not in told


PAGE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "\u2028alert(1)",
    "javascript:alert(1)",
    "]]><svg onload=alert(1)>",
    "'\"><iframe src=//evil>",
    "${alert(1)}",
    "{{ 7 * 7 }}",
]


def test_a_page_and_a_card_hold_what_a_model_wrote_as_text(folder: Path, tmp_path: Path, cli: Cli) -> None:
    attack = "".join([*PAGE, *TERMINAL.values()])
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute("UPDATE candidates SET output = ? WHERE candidate = 2", [attack])
        db.execute("UPDATE tasks SET reason = ? WHERE NOT kept", [attack])
    assert cli("-w", folder, "report", "--out", tmp_path / "report.html").code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data
    assert any(one[1] == attack for task in json.loads(data[1])["tasks"] for one in task[10])
    outside = page.replace(data[0], "")
    assert not any(one in outside for one in PAGE if "<" in one)
    assert cli("-w", folder, "export", "r1", "--to", tmp_path / "set", "--format", "jsonl").code == 0
    card, rows = ((tmp_path / "set" / name).read_text(encoding="utf-8") for name in ("README.md", "train.jsonl"))
    assert not acting(card)
    assert not re.search(r"(?<!\\)<(script|img|iframe)", card)
    assert json.loads(rows.splitlines()[3])["output"] == attack
    for command in (["rounds"], ["compare", "r1", "r2"], ["trend"], ["schema"]):
        told = cli("-w", folder, *command)
        assert told.code == 0
        assert not acting(told.out)


SQL = [
    *(
        (f"SELECT * FROM {one}", "disabled by configuration")
        for one in (
            "read_csv('/etc/passwd')",
            "read_text('/etc/passwd')",
            "read_blob('/etc/passwd')",
            "read_json('/etc/passwd')",
            "read_parquet('/x.parquet')",
            "glob('/etc/*')",
            "sniff_csv('/etc/passwd')",
            "parquet_metadata('/x')",
            "'x.csv'",
            "'https://example.org/x.csv'",
            "query('FROM read_text(''/etc/passwd'')')",
            "duckdb_secrets()",
        )
    ),
    ("FROM query_table('/etc/passwd')", "does not exist"),
    ("SELECT * FROM '/etc/passwd'", "does not exist"),
    ("SELECT getenv('HOME')", "does not exist"),
    ("SELECT * FROM folder", "does not exist"),
    ("SELECT * FROM sys", "does not exist"),
    ("EXPLAIN ANALYZE COPY tasks TO 'x.csv'", "disabled by configuration"),
    ("CALL enable_logging(storage='file', storage_path='logs')", "locked"),
    ("CALL enable_profiling()", "locked"),
    ("IMPORT DATABASE 'x'", "disabled by configuration"),
    ("DETACH flywheel", "Cannot detach"),
    ("USE memory", "No catalog"),
    ("CALL load_aws_credentials()", "not in the catalog"),
    *(
        (one, "only reads")
        for one in (
            "PRAGMA memory_limit='1TB'",
            "PRAGMA enable_profiling='json'",
            "COPY tasks TO 'x.csv'",
            "COPY tasks FROM '/etc/passwd'",
            "ATTACH '/tmp/other.duckdb' AS o",
            "ATTACH ':memory:' AS o",
            "EXPORT DATABASE 'x'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "LOAD '/tmp/x.so'",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            "SET memory_limit = '1TB'",
            "RESET enable_external_access",
            "CREATE TABLE x (y INTEGER)",
            "CREATE MACRO f() AS 1",
            "CREATE PERSISTENT SECRET (TYPE s3)",
            "INSERT INTO tasks (round) VALUES ('r9')",
            "UPDATE tasks SET kept = false",
            "DELETE FROM tasks",
            "DROP TABLE tasks",
            "DROP VIEW dataset",
            "TRUNCATE tasks",
            "COMMENT ON TABLE tasks IS 'x'",
        )
    ),
    ("SELECT 1; DELETE FROM tasks", "got 2"),
    ("", "got 0"),
    ("/* nothing */", "got 0"),
    ("SELECT '\ud800'", "not valid UTF-8"),
    ("SELECT " + "(" * 40_000 + "1" + ")" * 40_000, "expression depth"),
    ("SELECT * FROM (" * 6_000 + "tasks" + ")" * 6_000, "expression depth"),
    ("SELECT repeat('x', 200000000000)", "maximum supported string size"),
]


@pytest.mark.parametrize(
    "statement",
    ["SET VARIABLE x = 1", "CREATE TEMP TABLE x AS SELECT 1", "VACUUM", "CHECKPOINT", "BEGIN", "PREPARE v AS SELECT 1"],
)
def test_what_only_concerns_the_connection_changes_nothing(statement: str, folder: Path, cli: Cli) -> None:
    before = (folder / "flywheel.duckdb").read_bytes()
    assert cli("-w", folder, "sql", statement).code == 0
    assert (folder / "flywheel.duckdb").read_bytes() == before
    assert "flywheel.duckdb.wal" not in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("statement", "said"), SQL, ids=lambda one: one[:40])
def test_sql_reads_this_database_only(
    statement: str, said: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (folder / "flywheel.duckdb").stat().st_mtime_ns
    refused(cli("-w", folder, "sql", statement), said)
    assert list(tmp_path.iterdir()) == []
    assert (folder / "flywheel.duckdb").stat().st_mtime_ns == before


def test_a_result_larger_than_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr("flywheel.store.reading.MAX_BYTES", 10**7)
    refused(cli("-w", folder, "sql", "SELECT repeat('x', 1000) FROM range(100_000_000)"), "larger than 0.0 GB")


def test_odd_types_come_out_in_every_form(folder: Path, tmp_path: Path, cli: Cli) -> None:
    for form in ("table", "csv", "json", "parquet"):
        asked = ("sql", "SELECT *, MAP {[1]: 2} AS listed FROM test_all_types()", "--format", form, "--out", tmp_path / form)
        assert cli("-w", folder, *asked).code == 0
    with duckdb.connect() as db:
        assert db.execute(f"SELECT count(*) FROM read_parquet('{tmp_path}/parquet')").fetchall() == [(3,)]


FORMULAS = {
    "=1+1": "'=1+1",
    '=HYPERLINK("http://evil")': '\'=HYPERLINK("http://evil")',
    "@SUM(1)": "'@SUM(1)",
    "+1-cmd|x": "'+1-cmd|x",
    "-2+3": "'-2+3",
    "- an item": "'- an item",
    "\tx": "'\tx",
    "\rx": "'\rx",
    "-5": "-5",
    "+3.2": "+3.2",
    "a=b": "a=b",
    " =1": " =1",
}


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_runs_nothing_in_a_spreadsheet_and_json_is_exact(text: str, folder: Path, cli: Cli) -> None:
    task_id = report_store.task(1, 7).task_id
    with duckdb.connect(str(folder / "flywheel.duckdb")) as db:
        db.execute("UPDATE candidates SET output = ? WHERE task_id = ?", [text, task_id])
    asked = ("sql", f"SELECT output, -1.5 AS number FROM generations WHERE task_id = '{task_id}' LIMIT 1", "--format")
    told = cli("-w", folder, *asked, "csv")
    assert list(csv.reader(io.StringIO(told.out, newline="")))[1] == [FORMULAS[text], "-1.5"]
    assert ("--format json" in told.err) == (FORMULAS[text] != text)
    assert json.loads(cli("-w", folder, *asked, "json").out)[0]["output"] == text


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = [
    (BOMB, "10 aliases"),
    ("a: &a [*a]", "Circular"),
    ("[" * 50_000, "50"),
    ("\n".join(f"{' ' * depth}a:" for depth in range(60)), "50 levels"),
    ("seed: 1\nseed: 2", "line 2"),
    ("sampling: {n: 1, n: 2}", "'n'"),
    ("generator: !!python/object/apply:os.system [echo owned]", "line 1"),
    ("generator: !!python/name:os.system", "line 1"),
    ("seed: 2026-13-45", "ValueError"),
    ("seed: !!bool maybe", "KeyError"),
    ("seed: !!timestamp maybe", "line 1"),
    (f"seed: {'9' * 5_000}", "ValueError"),
    ("generator: 'x\0y'", "control character"),
    ("generator: \x1b[31m", "control character"),
    ('generator: "\\ud800"', "generator"),
    ('generator: "\\0"', "generator"),
    ("? {a: 1}\n: b", "line 1"),
    ("? [a]\n: b", "tuple"),
    ("1: b", "unknown config key '1'"),
    ("# " + "x" * 100_001, "100,000"),
    ("a: [1", "line 1"),
    ("%YAML 9.9\n---\na: 1", "line 1"),
    ("a: 1\n---\nb: 2", "line 2"),
    ("just a text", "mapping"),
]


@pytest.mark.parametrize(("text", "said"), YAML, ids=lambda one: one[:30])
def test_a_config_from_a_stranger_is_refused(text: str, said: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    refused(cli("-w", tmp_path / "w", "init", "--config", tmp_path / "config.yaml"), said)
    assert not (tmp_path / "w").exists()


KEY = "sk-planted0123456789abcdef"
SETS = [
    (f"engine.args.api_key={KEY}", "engine.args.api_key looks like a secret"),
    (f"engine.args.extra_headers.Authorization=Bearer {KEY}", "extra_headers.Authorization looks like a secret"),
    (f"engine.endpoint.key_env={KEY}", "engine.endpoint.key_env looks like a secret"),
    (f"engine.endpoint.base_url=https://me:{KEY}@example.org/v1", "base_url looks like a secret"),
    (f"generator=https://me:{KEY}@example.org/model", "generator looks like a secret"),
    (f"reward.args.hub_token={KEY}", "reward.args.hub_token looks like a secret"),
    (f"chat_arguments={{a: [{{password: {KEY}}}]}}", "a.password looks like a secret"),
    (f"nothing={KEY}", "nothing looks like a secret"),
    (f"sampling.n=[1, {KEY}", "--set sampling.n"),
    ("generator=~nobody-of-this-name/model", "no such user"),
    (f"generator={'a' * 5_000}", "is not a valid path"),
    (f"generator={'../' * 40}etc", "no config.json"),
    ("generator=asset:../../../etc", "asset '../../../etc'"),
    ("prompts=asset:../..", "asset '../..'"),
    ("generator=/etc", "no config.json"),
    ("reward.members={../../up: {kind: pairs, data: x, weight: 1}}", "64 letters"),
    ("reward.members={'..': {kind: pairs, data: x, weight: 1}}", "64 letters"),
    ('reward.members={"a\\tb": {kind: pairs, data: x, weight: 1}}', "64 letters"),
    ("evaluation.judges={../up: {kind: verifier, function: 'a:b'}}", "64 letters"),
    ("evaluation.judge=../judge:score", "'../judge:score'"),
    ("evaluation.judge=no_such_module:score", "No module named 'no_such_module'"),
    ("__class__=1", "unknown config key"),
    ("sampling.__init__.__globals__=1", "unknown config key"),
    ("a." * 60 + "b=1", "50 levels"),
    ("sampling.n=&a [*a]", "Circular"),
    (f"seed={'9' * 30}", "seed = 999"),
    ("sampling.temperature=.nan", "finite number"),
    ("sampling.temperature=1e999", "finite number"),
    ("sampling.n=yes", "sampling.n = 'yes'"),
    ("sampling.n=true", "sampling.n = True"),
    ("=1", "'=1'"),
]


@pytest.mark.parametrize(("option", "said"), SETS, ids=lambda one: one[:40].replace(KEY, "KEY"))
def test_an_option_that_means_harm_is_refused_and_no_secret_repeated(option: str, said: str, tmp_path: Path, cli: Cli) -> None:
    outcome = cli("-w", tmp_path / "w", "round", "--set", option)
    refused(outcome, said)
    assert KEY not in outcome.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in written)


TASK_FILES: list[tuple[str, bytes, str]] = [
    ("t.jsonl", b"\xff\xfe", "cannot read"),
    ("t.jsonl", b"[" * 100_000, "line 1"),
    ("t.jsonl", b'{"instruction": ' + b"9" * 5_000 + b"}", "line 1"),
    ("t.jsonl", b'{"instruction": "\\ud800"}', "not valid Unicode"),
    ("t.jsonl", b'{"instruction": 5}', "'instruction'"),
    ("t.jsonl", b'{"instruction": null}', "'instruction'"),
    ("t.jsonl", b'{"instruction": "\x1b[2J"}', "is not JSON"),
    ("t.jsonl", b'{"instruction": {"a": "\\u001b[2J"}}', "'instruction'"),
    ("t.jsonl", json.dumps({"instruction": "x" * 1_000_001}).encode(), "1,000,000"),
    ("t.jsonl", b'{"instruction": "' + b"x" * 17_000_000, "line 1"),
    ("t.jsonl", b"[1]", "line 1"),
    ("t.jsonl", b"", "has no rows"),
    ("t.jsonl", b"\0" * 50, "is not JSON"),
    ("t.jsonl.gz", b"no gzip", "cannot read"),
    ("t.jsonl.gz", gzip.compress(b"{}" * 999, mtime=0)[:-9], "cannot read"),
]


@pytest.mark.parametrize("key", ["instructions.seeds", "evaluation.tasks"])
@pytest.mark.parametrize(("name", "content", "said"), TASK_FILES, ids=lambda one: str(one)[:30])
def test_a_hostile_file_of_tasks_is_refused(key: str, name: str, content: bytes, said: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / name).write_bytes(content)
    refused(cli("-w", tmp_path / "w", "round", "--set", f"{key}={tmp_path / name}"), said)
    assert not (tmp_path / "w").exists()


def test_a_file_that_unpacks_to_more_than_fits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr("flywheel.instructions.tasks.LARGEST", 10**6)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b" " * 10**8, mtime=0))
    refused(cli("-w", tmp_path / "w", "round", "--set", f"instructions.seeds={tmp_path / 'bomb.jsonl.gz'}"), "bomb.jsonl.gz")


PREFERENCES: list[tuple[str, bytes, str]] = [
    ("d.json", b"[" * 100_000, "as JSON"),
    ("d.json", b"\xff\xfe\0", "as JSON"),
    ("d.json.gz", gzip.compress(b"[1]", mtime=0)[:-9], "as JSON"),
    ("d.json", b"[5]", "must be an object"),
    ("d.csv", b"a,b\n1", "d.csv line 2"),
    ("d.csv", b"a,b\n" + b"x" * 200_000 + b",1", "d.csv"),
    ("d.csv", b"\xff", "d.csv"),
    ("d.csv.gz", b"\x1f\x8b\x08\0\0\0", "d.csv"),
    ("d.parquet", b"PAR1" + b"\xff" * 50 + b"PAR1", "d.parquet"),
    ("d.exe", b"MZ", "d.exe"),
    ("d.jsonl", b'{"text": "a", "label": "\x00"}', "is not JSON"),
    ("d.jsonl", b'{"text": "\\ud800", "label": 1, "g": 1}', "not a text"),
    ("d.jsonl", b'{"text": "a", "label": 1e400, "g": 1}', "no label"),
]


@pytest.mark.parametrize(("name", "content", "said"), PREFERENCES, ids=lambda one: str(one)[:30])
def test_hostile_preferences_are_refused(name: str, content: bytes, said: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / name).write_bytes(content)
    refused(cli("reward", "pairs", tmp_path / name, "--group-by", "g", "--to", tmp_path / "out.jsonl"), said)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_hub_id_leads_nowhere_else(cli: Cli, tmp_path: Path) -> None:
    refused(cli("reward", "pairs", "owner/name/../../etc", "--group-by", "g", "--to", tmp_path / "out.jsonl"), "/../../etc")


INDEX = "model.safetensors.index.json"
MODELS: list[tuple[str, dict[str, str | bytes | None], str]] = [
    (
        "a pickle",
        {"model.safetensors": None, "pytorch_model.bin": b"\x80\x04."},
        "only pytorch_model.bin",
    ),
    ("a checkpoint", {"model.safetensors": None, "model.pt": b"\x80\x04."}, "only model.pt"),
    (
        "a pickle beside other safetensors",
        {"model.safetensors": None, "x.safetensors": b"", "pytorch_model.bin": b""},
        "Pickled",
    ),
    ("a pickle of that name", {"model.safetensors": b"\x80\x04cos\nsystem\n"}, "model.safetensors: "),
    (
        "an index that leads out",
        {"model.safetensors": None, INDEX: '{"weight_map": {"a": "../../x.safetensors"}}'},
        "*.safetensors",
    ),
    (
        "an index of pickles",
        {"model.safetensors": None, INDEX: '{"weight_map": {"a": "pytorch_model.bin"}}'},
        "*.safetensors",
    ),
    ("an index of nothing", {"model.safetensors": None, INDEX: "[" * 99_999}, INDEX),
    ("an index of a list", {"model.safetensors": None, INDEX: "[]"}, INDEX),
    ("a config in brackets", {"config.json": "[" * 99_999}, "config.json"),
    ("a config that is a list", {"config.json": "[]"}, "config.json"),
    ("a header of 2**60 bytes", {"model.safetensors": b"\xff\xff\xff\xff\xff\xff\xff\x0f{}"}, "model.safetensors: "),
]


@pytest.mark.parametrize(("files", "said"), [one[1:] for one in MODELS], ids=[one[0] for one in MODELS])
@pytest.mark.parametrize("key", ["generator", "reward.base"])
def test_weights_are_safetensors_in_their_folder(
    key: str, files: dict[str, str | bytes | None], said: str, tmp_path: Path, cli: Cli
) -> None:
    shutil.copytree(NANO, tmp_path / "model")
    for name, content in files.items():
        path = tmp_path / "model" / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(cli("-w", tmp_path / "w", "round", "--set", f"{key}={tmp_path / 'model'}"), said)


TEMPLATES = [
    ("{{ task.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    ("{{ ''.__class__ }}", "unsafe"),
    ("{{ cycler.__init__.__globals__.os.system('x') }}", "unsafe"),
    ("{{ '{0.__class__}'.format(task) }}", "unsafe"),
    ("{{ demos.append(1) }}", "Fix the template"),
    ("{% include '../../../../etc/passwd' %}", "Fix the template"),
    ("{% include '/etc/passwd' %}", "Fix the template"),
    ("{% import 'os' as os %}", "Fix the template"),
    ("{{ range(10 ** 9) | list }}", "Range too big"),
    ("{% for x in task %}", "Fix the template"),
    ("{{ nothing }}", "undefined"),
]


@pytest.mark.parametrize(("text", "said"), TEMPLATES)
def test_a_template_reaches_nothing(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "propose.jinja").write_text(text)
    with pytest.raises(ConfigError) as error:
        Prompts(tmp_path).propose([report_store.task(1, 7)])
    assert said in str(error.value)
    assert "root:" not in str(error.value)


def test_a_template_of_a_workspace_is_told_in_a_line(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "answer.jinja").write_text("{% for x in task %}")
    refused(cli("-w", tmp_path / "w", "round", "--set", f"prompts={tmp_path}"), "Fix the template")


def test_a_chat_template_that_fails_is_told(tmp_path: Path) -> None:
    shutil.copytree(NANO, tmp_path / "model")
    settings = json.loads((tmp_path / "model/tokenizer_config.json").read_text())
    for template in ("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% for x in messages %}"):
        (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
        with pytest.raises(ModelError, match="the chat template of"):
            chat_format(tmp_path / "model")("hello")


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(NANO, tmp_path / "model")
    (tmp_path / "model/evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\n")
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}
    settings = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(settings | {"auto_map": names, "model_type": "evil"}))
    outcome = cli("-w", tmp_path / "w", "round", "--dry-run", "--set", f"generator={tmp_path / 'model'}")
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "owned").exists()
    refused(cli("reward", "slice", tmp_path / "model", "--layers", "2", "--to", tmp_path / "cut"), "is not run")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://me:secret@example.org/v1", "https://example.org/v1"),
        (f"the key {KEY} is wrong", "the key (removed) is wrong"),
        ("hf_abcdefghijklmnopqrstuv", "(removed)"),
        ("Authorization: Bearer abc.def", "Authorization: (removed)"),
        ("mail me@example.org", "mail me@example.org"),
        ("models/sk-learn-like-name", "models/sk-learn-like-name"),
    ],
)
def test_an_error_shows_no_secret(text: str, left: str) -> None:
    assert without_secrets(text) == left
