"""The report: what it reads from the store, what it says where something is missing, and the page in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flywheel.records import Stage
from flywheel.report.page.charts import charts_of
from flywheel.report.page.figures import gather
from flywheel.report.page.tasks import LONGEST, escaped, tasks_of
from flywheel.report.page.write import render, write_report
from flywheel.store.database import connection
from flywheel.store.report_rows import TASK_FIELDS
from flywheel.store.store import Store
from tests import report_store
from tests.conftest import Cli, copy
from tests.report_store import HOSTILE, TASKS

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return report_store.build(tmp_path_factory.mktemp("report") / "wheel")


@pytest.fixture(scope="module")
def page_file(store: Store) -> Path:
    return write_report(store, store.path.parent / "report.html").out


# What it reads


def test_the_figures_of_a_real_workspace_are_there(turned: Path) -> None:
    figures = gather(Store(turned / "flywheel.duckdb"))
    assert [row["round"] for row in figures.turns] == ["r0", "r1", "r2"]
    assert [step.round for step in figures.trend.against_parent] == ["r1", "r2"]
    assert {row["round"] for row in figures.measured("heldout.judge")} == {"r0", "r1", "r2"}
    assert set(figures.curves) == {row["round"] for row in figures.policies} == {"r1", "r2"}
    (model,) = figures.models
    assert [part["model"] for part in model["parts"]] == ["thumbs", "pairs", "form", "merged"]
    assert all(part["accuracy"] for part in model["parts"])
    assert {row["candidates"]: row["count"] for row in figures.lengths if row["round"] == "r1"} == {"all": 320, "winners": 80}
    assert sum(row["attempts"] for row in figures.drops if (row["round"], row["reason"]) == ("r1", "kept")) == 80
    tasks = tasks_of(turned / "flywheel.duckdb")
    assert tasks.shown == tasks.answered
    assert tasks.shown == {"r1": 80, "r2": 80}
    assert len(charts_of(figures)) >= 12


def page_without_charts(store: Store) -> str:
    return render(gather(store), {}, tasks_of(store.path), name="wheel")


def tables(page: str) -> dict[str, list[list[str]]]:
    """The texts of the tables of a page by title, with the headings as the first row."""
    parts = re.findall(r'aria-label="([^"]+)">\s*<table>(.*?)</table>', page, re.DOTALL)
    return {
        title: [
            [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row)]
            for row in re.findall("<tr.*?</tr>", table, re.DOTALL)
        ]
        for title, table in parts
    }


def test_a_table_has_the_rows_of_its_chart(store: Store) -> None:
    texts = tables(page_without_charts(store))
    headings, *comparisons = texts["All comparisons"]
    assert headings[:3] == ["comparison", "verdict", "judge before"]
    assert [row[:2] for row in comparisons][:2] == [["r1 vs. r0", "improved"], ["r2 vs. r1", "improved"]]
    _, *policies = texts["Selection policies"]
    assert [row[:2] for row in policies] == [["r1", "best"], ["r1", "first"], ["r2", "best"], ["r2", "first"]]
    _, *curve = texts["Best-of-N curve"]
    assert [row[:2] for row in curve if row[0] == "r1"] == [["r1", "1"], ["r1", "2"], ["r1", "3"]]
    headings, *parts = next(rows for title, rows in texts.items() if "ties merge, density 0.5, selects in r0 to r3" in title)
    assert headings == ["model", "weight", "rows", "pairs", "average"]
    assert parts == [
        ["thumbs", "1", "100", "0.800", "0.800"],
        ["pairs", "0.5", "100", "0.800", "0.800"],
        ["merged", "", "", "0.850", "0.850"],
    ]


def test_a_judge_that_does_not_decide_has_a_column(store: Store, tmp_path: Path) -> None:
    changed = Store(Path(shutil.copy(store.path, tmp_path)))
    with connection(changed.path, read_only=False) as db:
        db.execute("INSERT INTO metrics (round, name, value) VALUES ('r1', 'heldout.judge.a second-judge 1.5', 0.25)")
    headings, *rows = tables(page_without_charts(changed))["Held-out scores of every round"]
    assert headings == ["round", "judge", "reward", "judge a second-judge 1.5"]
    assert [(row[0], row[3]) for row in rows] == [("r0", ""), ("r1", "0.250"), ("r1-random", ""), ("r2", "")]


def test_the_command_writes_a_page_and_charts(cli: Cli, turned: Path, tmp_path: Path) -> None:
    workspace, out, charts = copy(turned, tmp_path), tmp_path / "page.html", tmp_path / "charts"
    result = cli("-w", workspace, "report", "--out", out, "--charts", charts, "--tasks", 5)
    assert result.code == 0, result.err
    assert "10 of 160 tasks" in result.out
    assert "A sample: 10 of 160 tasks" in out.read_text()
    assert "<title>flywheel report: workspace</title>" in out.read_text()
    assert (charts / "judge.svg").read_text().startswith("<svg")
    assert "var(" not in (charts / "judge.svg").read_text(), "a chart in a file does not depend on a style sheet"
    result = cli("-w", workspace, "report", "--out", out, "--charts", charts, "--json")
    files = {Path(path) for path in json.loads(result.out)["charts"]}
    assert files == set(charts.iterdir())
    images = [path for path in files if path.suffix == ".png"]
    assert len(images) == len(files) / 2
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in images)
    refused = cli("-w", workspace, "report", "--out", tmp_path / "nowhere" / "page.html")
    assert (refused.code, refused.out) == (1, "")
    assert str(tmp_path / "nowhere") in refused.error


def test_a_task_carries_its_candidates_scores_selections_and_lineage(store: Store) -> None:
    data = json.loads(tasks_of(store.path).json)
    assert (data["rounds"], data["members"], data["judges"]) == (["r1", "r2"], ["thumbs", "pairs"], ["verifier"])
    tasks = [dict(zip(TASK_FIELDS, values, strict=True)) for values in data["tasks"]]
    cut = next(task for task in tasks if task["round"] == "r1" and task["attempt"] == 1)
    assert cut["selected"][0] == 1, "the candidate that was cut has not won"
    assert [candidate[2] for candidate in cut["candidates"]] == ["stop", "stop", "length"]
    assert cut["candidates"][1][-2:] == [[1.0], [0.75, 0.75]]
    assert cut["candidates"][2][-2:] == [[1.0], []]
    assert data["demos"][cut["demos"][0]] == ["Name a colour.", "seed"]
    assert next(task for task in tasks if task["attempt"] == 5)["paraphrases"] == [["Say it otherwise.", None]]


def test_fewer_tasks_are_the_first_by_id_and_a_long_text_is_cut(store: Store, tmp_path: Path) -> None:
    path = Path(shutil.copy(store.path, tmp_path))
    with connection(path, read_only=False) as db:
        db.execute("UPDATE candidates SET output = repeat('long ', 2000)")
    page = tasks_of(path, limit=7)
    assert (page.shown, page.answered) == ({"r1": 7, "r2": 7}, {"r1": TASKS, "r2": TASKS})
    tasks = json.loads(page.json)["tasks"]
    every = json.loads(tasks_of(store.path).json)["tasks"]
    assert [task[:2] for task in tasks if task[0] == "r1"] == sorted(task[:2] for task in every)[:7]
    assert all(LONGEST <= len(task[10][0][1]) < LONGEST + 100 for task in tasks)
    assert "10,000 characters in total" in tasks[0][10][0][1]


def test_a_page_keeps_to_its_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.report.page.tasks.LIMIT", 12_000)
    page = tasks_of(store.path)
    assert len(page.json.encode()) <= 12_000
    assert 5 < page.shown["r1"] < TASKS
    assert abs(page.shown["r1"] - page.shown["r2"]) <= 1


def test_nothing_in_the_data_leads_out_of_its_element() -> None:
    text = escaped([HOSTILE, "\u2029"])
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == [HOSTILE, "\u2029"]


# What it says


def notes(store: Store) -> str:
    return " ".join(re.findall(r'<p class="note">(.*?)</p>', page_without_charts(store)))


def test_headlines_include_the_control_and_a_note_names_the_unfinished_round(store: Store) -> None:
    figures = gather(store)
    assert [(step.comparison.verdict, step.round, step.base) for step in figures.headlines] == [
        ("improved", "r2", "r1"),
        ("improved", "r2", "r0"),
        ("improved", "r1", "r1-random"),
    ]
    assert "r3 is not finished" in notes(store)
    assert "control" not in notes(store)


@pytest.mark.parametrize(
    ("missing", "note"),
    [
        ("DELETE FROM scores WHERE model_id LIKE 'judge-%'", "scored no candidates"),
        ("DELETE FROM rounds WHERE policy <> 'best'", "There is no control"),
        ("DELETE FROM rounds WHERE number > 0", "Only r0 is finished"),
        ("UPDATE rounds SET status = 'running'", "No round is finished"),
        ("DELETE FROM evaluation_scores WHERE model_id LIKE 'judge-%'", "no held-out task has"),
        ("UPDATE rounds SET reward_model = NULL", "No round has a reward model"),
        ("DELETE FROM selections", "r3 is not finished"),
        ("DELETE FROM metrics", "No round is evaluated by a judge"),
    ],
)
def test_a_note_names_what_is_missing_and_the_page_is_complete(store: Store, tmp_path: Path, missing: str, note: str) -> None:
    changed = Store(Path(shutil.copy(store.path, tmp_path)))
    with connection(changed.path, read_only=False) as db:
        db.execute(missing)
    assert note in notes(changed)
    assert write_report(changed, tmp_path / "report.html").out.read_text().rstrip().endswith("</html>")


def test_only_r0_and_no_round_at_all(cli: Cli, tmp_path: Path) -> None:
    first = report_store.build_r0(tmp_path / "first")
    page = write_report(first, tmp_path / "report.html").out.read_text()
    assert "nothing to browse" in page
    empty = Store(tmp_path / "empty" / "flywheel.duckdb")
    empty.path.parent.mkdir()
    empty.migrate()
    refused = cli("-w", tmp_path / "empty", "report", "--out", tmp_path / "none.html")
    assert (refused.code, refused.out) == (1, "")
    assert refused.hint == "Run `flywheel round` first."


def test_a_round_in_the_middle_of_a_stage_is_shown(store: Store, tmp_path: Path) -> None:
    changed = Store(Path(shutil.copy(store.path, tmp_path)))
    changed.progress("r3", Stage.ANSWER)
    assert "r3 is not finished: it is running, in the stage answer." in notes(changed)


# The page in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """An installed Chromium; Playwright comes without one."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser found: install one of {', '.join(BROWSERS)} (on Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root.
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield chromium
        chromium.close()


@pytest.fixture(params=list(SIZES))
def page(request: pytest.FixtureRequest, chromium: object, page_file: Path) -> Iterator[Page]:
    """The page at a size; a console message, a network request or a dialog fails the test."""
    width, height = SIZES[request.param]
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme="light")  # type: ignore[attr-defined]
    page, problems = context.new_page(), []
    page.set_default_timeout(20_000)
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: problems.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    page.goto(page_file.as_uri())
    page.wait_for_selector("#list [aria-selected=true]")
    yield page
    assert problems == []
    context.close()


def listed(page: Page, tasks: int) -> None:
    """Wait until this number of tasks passes the filters."""
    from playwright.sync_api import expect

    total = 2 * TASKS
    expect(page.locator("#count")).to_have_text(f"{total} tasks" if tasks == total else f"{tasks} of {total} tasks")


def test_the_page_fits_its_width_and_its_charts_are_drawn(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visible = page.locator("figure svg:visible")
    assert visible.count() == page.locator("figure").count() >= 10
    assert page.locator("section:has(figure):not(:has(table))").count() == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    page.locator("#list [role=option]").nth(2).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_search_filters_and_sorting_change_what_is_listed(page: Page) -> None:
    listed(page, 2 * TASKS)
    page.fill("#search", "word7")
    listed(page, 2)
    page.select_option("#round", "r2")
    listed(page, 1)
    assert page.inner_text("#list mark") == "word7"
    page.click("#reset")
    listed(page, 2 * TASKS)
    page.fill("#low", "2.5")
    page.fill("#high", "2.55")
    listed(page, 12)
    page.select_option("#sort", "high")
    assert "2.55" in page.locator("#list [role=option]").first.inner_text()
    page.fill("#low", "")
    page.fill("#high", "")
    page.check("#disagree")
    listed(page, 2)
    page.fill("#search", "no such words")
    page.wait_for_selector("text=No task matches.")


def test_a_task_shows_its_candidates_side_by_side(page: Page) -> None:
    page.locator("#list [role=option]").nth(1).click()
    assert page.locator("#detail .candidates li").count() == 3
    won = page.locator("#detail .candidates li.won")
    assert won.count() == 1
    assert "winner" in won.inner_text()
    for label in ("reward", "judge verifier", "thumbs", "pairs", "tokens", "finish reason"):
        assert label in won.inner_text()
    assert "token limit" in page.inner_text("#detail .candidates li:last-child, #detail .candidates li:nth-child(2)")
    assert "Name a colour." in page.inner_text("#detail")
    address = page.url
    assert "#task=r1/" in address
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#detail:visible")
    assert "Write the word 1 of round 1." in page.inner_text("#detail")


def test_what_a_model_wrote_is_shown_as_text(page: Page) -> None:
    page.fill("#search", "<script>alert(1)</script>")
    listed(page, 2)
    page.locator("#list [role=option]").first.click()
    assert HOSTILE.strip("\u2028") in page.inner_text("#detail .output >> nth=0").replace("\u2028", "")
    assert page.inner_text("#detail h3").startswith("<script>alert(1)</script></script><img")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    # The policy would also stop a script that was not escaped.
    policy = page.get_attribute("meta[http-equiv=Content-Security-Policy]", "content")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_theme_follows_the_system_until_it_is_chosen(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    stroke = "getComputedStyle(document.querySelector('figure svg text')).fill"
    light = page.evaluate(ground), page.evaluate(stroke)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground), page.evaluate(stroke)
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    page.click("#theme")
    assert (page.evaluate(ground), page.evaluate(stroke)) == light
    page.click("#theme")
    page.emulate_media(color_scheme="light")
    assert (page.evaluate(ground), page.evaluate(stroke)) == dark
    assert page.get_attribute("#theme", "aria-pressed") == "true"
    page.reload()
    assert page.evaluate(ground) == dark[0]
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("answer")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "list"
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    assert page.get_attribute("#list", "aria-activedescendant") == "option-1"
    page.keyboard.press("End")
    assert page.inner_text("#page") == f"101–{2 * TASKS - 2} of {2 * TASKS - 2}"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    page.wait_for_selector("#detail:visible")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "list"
    assert page.locator("#list [aria-selected=true]:visible").count() == 1
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert page.input_value("#search") == ""
