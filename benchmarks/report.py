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

from _filled import Size, fill

from flywheel.report.page.write import write_report
from flywheel.store.store import Store

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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
        fill(store, Size(rounds=chosen.rounds, tasks=chosen.tasks, candidates=chosen.candidates, held_out=500))
    started = time.perf_counter()
    written = write_report(store, folder / "report.html")
    told = {
        "seconds": round(time.perf_counter() - started, 1),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "page MB": round(written.size / 1e6, 2),
        "tasks": written.tasks,
        "answered": written.answered,
    }
    print(json.dumps(told | load(written.out), indent=2))


if __name__ == "__main__":
    main()
