"""Kill, run again, compare, many times over; the exit code is 1 where anything is not as it must be."""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.kills.state import compare, half_written, state
from tests.kills.undisturbed import Place, Undisturbed, arguments, turn_undisturbed
from tests.kills.victim import Ended, Moment, in_child, run

WARM = (
    "flywheel.round.loop flywheel.cli flywheel.report.tables flywheel.report.progress flywheel.training.sft "
    "flywheel.reward.merge flywheel.engines.ctranslate2_engine flywheel.engines.likelihood "
    "flywheel.export.export flywheel.evaluation.compare flywheel.nano.verifier pyarrow.parquet datasets trl "
    "sacrebleu pytz filelock"
)
"""What every victim would import; here once."""
_undisturbed: Undisturbed


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One kill and what came of it."""

    label: str
    killed_in: str
    resumed: bool
    lost: int
    twice: int
    chunks_twice: int
    other: tuple[str, ...]
    said: str = ""


def main() -> int:
    options = parsed()
    began = time.monotonic()
    for name in WARM.split():
        importlib.import_module(name)
    refuse_threads()
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=options.folder))
    global _undisturbed
    _undisturbed = turn_undisturbed(folder)
    print(
        f"seed {options.seed}; {len(_undisturbed.places)} places, undisturbed in {time.monotonic() - began:.0f} s", flush=True
    )
    places = [one for one in _undisturbed.places if options.only is None or one.label in options.only.split(",")]
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        work = [(number, place, options.seed) for number, place in enumerate(drawn(places, options.kills, options.seed))]
        trials = []
        for one in pool.map(trial, work):
            trials.append(one)
            if not sound(one):
                print(f"kill {len(trials) - 1} in {one.killed_in}: {asdict(one)}", flush=True)
    print(json.dumps([asdict(one) for one in trials]) if options.json else table(trials))
    print(f"{len(trials)} kills in {time.monotonic() - began:.0f} s", flush=True)
    if not options.keep:
        shutil.rmtree(folder)
    return 0 if all(map(sound, trials)) else 1


def refuse_threads() -> None:
    """A thread of a library would be missing in what is forked from here; that of Arrow's allocator is begun anew by itself."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    others = [name for name in names if name != "jemalloc_bg_thd"]
    assert len(others) == 1, f"threads after the imports: {others}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="victims at a time")
    parser.add_argument("--only", help="labels of the table, separated by commas")
    parser.add_argument("--folder", help="where the workspaces are made")
    parser.add_argument("--keep", action="store_true", help="leave them there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    return options


def drawn(places: Sequence[Place], kills: int, seed: int) -> list[Place]:
    """As many kills for each label, spread at random over its places."""
    rng = random.Random(f"{seed} places")
    labels = sorted({one.label for one in places})
    rng.shuffle(labels)
    found = [labels[number % len(labels)] for number in range(kills)]
    return [rng.choice([one for one in places if one.label == label]) for label in found]


def trial(work: tuple[int, Place, int]) -> Trial:
    """Kill a command at a random moment of a place, run it again, compare."""
    number, place, seed = work
    rng = random.Random(f"{seed} {number}")
    base, wanted = _undisturbed.folder, _undisturbed.after[place.command]
    folder, output = base / f"trial-{number}" / "workspace", base / f"output-{number}"
    command = arguments(place.command, folder, base)
    killed = Ended()
    while killed.killed_in is None:  # a fast one may end before it is killed
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_undisturbed.before(place), folder)
        moment = Moment(place=place.name, seconds=rng.uniform(0.0, place.seconds))
        killed = run(command, output, kill=moment)
        assert killed.killed_in or killed.status == 0, output.read_text()
    half = half_written(folder, wanted["files"])
    made = place.command == "init" and (folder / "config.yaml").exists()
    again = Ended() if made else run(command, output)
    found = compare(wanted, in_child(state, folder)) if again.status == 0 else compare({}, {})
    chunks = sum(count - 1 for count in (killed.chunks + again.chunks).values())
    done = Trial(
        label=place.label, killed_in=killed.killed_in, resumed=again.status == 0, lost=found.lost, twice=found.twice,
        chunks_twice=chunks, other=(*found.other, *(f"half-written: {one}" for one in half)),
        said="" if again.status == 0 else output.read_text()[-2000:],
    )  # fmt: skip
    if sound(done):
        shutil.rmtree(folder.parent)
    return done


def sound(one: Trial) -> bool:
    return one.resumed and not one.lost and not one.twice and not one.other and one.chunks_twice <= 1


def table(trials: Sequence[Trial]) -> str:
    """By place: kills, and what came of them."""
    names = ("place", "kills", "resumed", "differences", "rows lost", "duplicates", "chunks twice")
    lines = []
    for label in [*dict.fromkeys(one.label for one in trials), "all"]:
        those = [one for one in trials if label in ("all", one.label)]
        figures = [len(those), sum(one.resumed for one in those), sum(len(one.other) for one in those)]
        figures += [sum(one.lost for one in those), sum(one.twice for one in those), sum(one.chunks_twice for one in those)]
        lines.append(f"{label:<14}" + "".join(f"{figure:>14,}" for figure in figures))
    return "\n".join([f"{names[0]:<14}" + "".join(f"{name:>14}" for name in names[1:]), *lines])


if __name__ == "__main__":
    sys.exit(main())
