"""How large `flywheel report` gets and how long it takes, from store to page and from page to screen: 10 rounds of 5,000 tasks.

    python benchmarks/report.py [--rounds 10] [--tasks 5000] [--candidates 4] [--workspace FOLDER]

The store is filled with texts of made-up words, as long as those of a general model: 75 characters an instruction, 100 an
input, 200 an output. A browser is asked for the page where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

from flywheel import config as configuration
from flywheel.records import Model, ModelKind, Round
from flywheel.report.page.write import write_report
from flywheel.store.database import connection
from flywheel.store.store import Store

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WORDS = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua "
    "enim minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat duis aute irure"
).split()
SCORED = "sin(hash(c.task_id, c.candidate, '{}') % 1000)"


def words(count: int, seed: str) -> str:
    """SQL for a text of so many words, drawn by an expression."""
    drawn = f"{WORDS!r}[1 + (hash({seed}, x) % {len(WORDS)})::INTEGER]"
    return f"list_aggregate(list_transform(range({count}), lambda x: {drawn}), 'string_agg', ' ')"


def fill(store: Store, rounds: int, tasks: int, candidates: int) -> None:
    """Rounds with tasks, candidates, scores, picks, held-out outputs and figures."""
    store.migrate()
    settings = configuration.load(configuration.find("nano"), []).model_dump(mode="json")
    made = {kind: Model(kind=kind, name=str(kind), path=".", digest=str(kind) * 12) for kind in ModelKind}
    members = [Model(kind=ModelKind.MEMBER, name=name, path=".", digest=name * 12) for name in ("thumbs", "pairs", "form")]
    accuracy = {one.name: 0.85 for one in members}
    reward = Model(
        kind=ModelKind.REWARD, name="merged", path=".", digest="0" * 64,
        numbers={"members": [one.model_id for one in members], "weights": dict.fromkeys(accuracy, 1.0), "accuracy": accuracy},
    )  # fmt: skip
    judge = made[ModelKind.JUDGE]
    for model in (*members, reward, judge, made[ModelKind.GENERATOR]):
        store.record_model(model)
    for number in range(rounds + 1):
        store.open_round(
            Round(
                round=f"r{number}", number=number, parent=f"r{number - 1}" if number else None, status="done", seed=0,
                fingerprint="f", identity={"digest.heldout": "h"}, config=settings,
                generator_in=made[ModelKind.GENERATOR].model_id, generator_out=None, reward_model=reward.model_id,
                judge=judge.model_id, versions={},
            )
        )  # fmt: skip
    made_of = (
        f"""
        CREATE TEMP TABLE t AS SELECT 'r' || r AS round, i, left(md5(r || '/' || i), 16) AS task_id
        FROM range(1, {rounds + 1}) AS a(r), range({tasks}) AS b(i)
        """,
        f"""
        INSERT INTO tasks (round, task_id, attempt, instruction, input, constraints, demos, origin, kept, raw, tokens, kind)
        SELECT round, task_id, i, {words(12, "task_id")}, {words(17, "i")}, 'None', [md5((i % 40)::VARCHAR)], 'proposed',
            true, '', 40, 'write' FROM t
        """,
        f"""
        INSERT INTO candidates SELECT round, task_id, c, {words(34, "hash(task_id, c)")}, 'stop', 50, -0.7, 0
        FROM t, range({candidates}) AS x(c)
        """,
        f"INSERT INTO scores SELECT round, task_id, candidate, '{reward.model_id}', {SCORED.format(1)} FROM candidates AS c",
        f"""
        INSERT INTO scores SELECT c.round, c.task_id, candidate, '{judge.model_id}', {SCORED.format(2)}
        FROM candidates AS c JOIN t USING (round, task_id) WHERE t.i < 500
        """,
        f"""
        INSERT INTO selections SELECT round, task_id, 'best', arg_max(candidate, score), 0.1
        FROM scores WHERE model_id = '{reward.model_id}' GROUP BY ALL
        """,
        f"INSERT INTO selections SELECT round, task_id, 'random', hash(task_id) % {candidates}, NULL FROM t",
        "INSERT INTO selections SELECT round, task_id, 'first', 0, NULL FROM t",
        """
        INSERT INTO scores SELECT round, task_id, candidate, model_id, 0.5
        FROM selections, models WHERE arm = 'best' AND kind = 'member' AND name IN ('thumbs', 'pairs', 'form')
        """,
        f"""
        INSERT INTO evaluations SELECT 'r' || r, 'h' || i, s, {words(20, "hash(r, i, s)")}, 'stop', 30, NULL, 0
        FROM range({rounds + 1}) AS a(r), range(500) AS b(i), range(4) AS d(s)
        """,
        f"""
        INSERT INTO evaluation_scores
        SELECT round, task_id, sample, m.model_id, 0.04 * number + sin(hash(round, task_id, sample, kind) % 1000)
        FROM evaluations JOIN rounds USING (round), models AS m WHERE m.model_id IN ('{reward.model_id}', '{judge.model_id}')
        """,
        """
        INSERT INTO metrics SELECT round, 'heldout.' || name, 0.04 * number, 0.04 * number - 0.02, 0.04 * number + 0.02
        FROM rounds, (VALUES ('judge'), ('reward')) AS names(name)
        """,
        """
        INSERT INTO stages (round, stage, rows, tokens, seconds, finished_at) SELECT round, stage, 5000, 100000, 60, now()
        FROM rounds, (VALUES ('propose'), ('answer'), ('score'), ('select'), ('train'), ('evaluate')) AS s(stage)
        WHERE number > 0
        """,
    )
    with connection(store.path, read_only=False) as db:
        for statement in made_of:
            db.execute(statement)


def load(page: Path) -> dict[str, float]:
    """Milliseconds until the page can be used, and of a search for two words, in Chromium; empty where there is none."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        opened = chromium.new_page(viewport={"width": 1280, "height": 900})
        started = time.perf_counter()
        opened.goto(page.resolve().as_uri())
        opened.wait_for_selector("#list [role=option]")
        seconds = time.perf_counter() - started
        told = opened.evaluate(
            """async () => {
                const ready = performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd;
                const search = document.getElementById("search"), times = [];
                for (const words of ["lorem magna", "tempor labore"]) {
                    search.value = words;
                    const from = performance.now();
                    search.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
                    document.getElementById("list").getBoundingClientRect();
                    times.push(performance.now() - from);
                }
                return { ready, firstSearch: times[0], laterSearch: times[1], heap: performance.memory.usedJSHeapSize / 1e6 };
            }"""
        )
        chromium.close()
    return {"open_s": round(seconds, 2), **{name: round(value, 1) for name, value in told.items()}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--workspace", type=Path)
    chosen = parser.parse_args()
    folder = chosen.workspace or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "flywheel.duckdb")
    if not store.path.exists():
        fill(store, chosen.rounds, chosen.tasks, chosen.candidates)
    started = time.perf_counter()
    written = write_report(store, folder / "report.html")
    told = {
        "seconds": round(time.perf_counter() - started, 1),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "page MB": round(written.size / 1e6, 2),
        "tasks": written.tasks,
        "of": written.of,
    }
    print(json.dumps(told | load(written.out), indent=2))


if __name__ == "__main__":
    main()
