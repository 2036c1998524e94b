"""The data of the embedded default, from fixed seeds: seeds, held-out tasks, preferences.

Preferences compare outputs of the generator itself, so that reward models learn its real mistakes.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

from flywheel.config import EngineConfig
from flywheel.core.files import digest_model
from flywheel.engines.contract import Sampling
from flywheel.engines.ctranslate2_engine import CTranslate2Engine
from flywheel.instructions.prompts import Prompts
from flywheel.nano.tasks import SEED, fresh_tasks, held_out_tasks
from flywheel.nano.verifier import Check, check
from flywheel.nano.world import FAMILIES, FAMILY_OF, draw_task, right_output
from flywheel.records import FinishReason, Task

ASIDE = 0.3
"""Share of pairs on the other quality: members that know nothing of each other's quality cannot be merged."""
SAMPLES = 8
"""Outputs sampled for each task of a preference."""
WRONG_LABELS = 0.1
"""Share of labels of the train split that are wrong, as people's are."""


def seed_tasks() -> list[dict[str, object]]:
    """Eight sets of three tasks: every family twice, no family twice in a set."""
    rng = random.Random(f"{SEED}/seeds")
    held_out = {(task.instruction, task.input) for task in held_out_tasks()}
    rows: list[dict[str, object]] = []
    names = [family.name for family in FAMILIES]
    order = rng.sample(names, len(names)) + rng.sample(names, len(names))
    while any(len(set(order[start : start + 3])) < 3 for start in range(0, len(order), 3)):
        order = rng.sample(names, len(names)) + rng.sample(names, len(names))
    for place, name in enumerate(order):
        family = next(family for family in FAMILIES if family.name == name)
        task = draw_task(rng)
        while task.instruction not in family.phrasings or (task.instruction, task.input) in held_out:
            task = draw_task(rng)
        rows.append({"set": f"set-{place // 3 + 1}"} | task_row(task))
    return rows


def held_out_rows() -> list[dict[str, object]]:
    """The held-out tasks with their family and their right output."""
    return [
        task_row(task) | {"kind": FAMILY_OF[task.instruction].name, "reference": right_output(task)}
        for task in held_out_tasks()
    ]


def sampled_outputs(generator: Path, prompts: Prompts, tasks: list[Task], cache: Path) -> list[list[str]]:
    """Distinct finished outputs of the generator itself for each task, so that its mistakes are real ones."""
    engine = CTranslate2Engine(generator, EngineConfig(), cache=cache, digest=digest_model(generator))
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=32)
    groups = engine.generate([prompts.answer(task) for task in tasks], n=SAMPLES, sampling=sampling, seed=SEED)
    return [
        sorted({out.text.strip() for out in group if out.finish_reason == FinishReason.STOP and out.text.strip()})
        for group in groups
    ]


def preferences(prompts: Prompts, generator: Path, cache: Path) -> dict[str, list[dict[str, object]]]:
    """Thumbs on the whole, pairs on the answer, pairs on the form; one label of ten in the train split is wrong.

    Each set draws its own tasks and stresses one quality; no pair is better in one and worse in the other.
    """
    held_out = {(task.instruction, task.input) for task in held_out_tasks()}
    sets: dict[str, list[dict[str, object]]] = {}
    for name, (wanted, make) in PREFERENCES.items():
        rng = random.Random(f"{SEED}/{name}")
        tasks = list(dict.fromkeys(itertools.islice(fresh_tasks(name, held_out), wanted * 2)))
        rows: list[dict[str, object]] = []
        for task, outputs in zip(tasks, sampled_outputs(generator, prompts, tasks, cache), strict=True):
            preference = make(task, outputs, rng)
            if preference is None:
                continue
            split = split_of(task)
            if split == "train" and rng.random() < WRONG_LABELS:
                preference = wrong_label(preference)
            rows.append(task_row(task) | preference | {"split": split})
            if len(rows) == wanted:
                break
        if len(rows) < wanted:
            raise RuntimeError(f"{name}: {len(rows)} of {wanted} rows; draw more tasks")
        sets[name] = rows
    return sets


def split_of(task: Task) -> str:
    """The same for all rows on one instruction and input, in every set."""
    rng = random.Random(f"{SEED}/split/{task.instruction}/{task.input}")
    return rng.choices(("train", "validation", "test"), (8, 1, 1))[0]


def a_thumb(task: Task, outputs: list[str], rng: random.Random) -> dict[str, object] | None:
    """One output and whether it is right in every respect; dislikes are wrong in the answer or in the form."""
    liked = rng.random() < 0.5
    seen = _checked(task, outputs)
    if liked:
        candidates = [output for output, checked in seen if checked.answer and checked.form]
    else:
        respect = rng.choice(("answer", "form"))
        candidates = [output for output, checked in seen if not getattr(checked, respect)]
    return {"output": rng.choice(candidates), "label": int(liked)} if candidates else None


def an_answer_pair(task: Task, outputs: list[str], rng: random.Random) -> dict[str, object] | None:
    """Mostly a right and a wrong answer."""
    return _a_pair(task, outputs, rng, _better_form if rng.random() < ASIDE else _better_answer)


def a_form_pair(task: Task, outputs: list[str], rng: random.Random) -> dict[str, object] | None:
    """Mostly an output in the form asked for and one in another."""
    return _a_pair(task, outputs, rng, _better_answer if rng.random() < ASIDE else _better_form)


def _better_answer(one: Check, other: Check) -> bool:
    return one.answer and not other.answer and (one.form or not other.form)


def _better_form(one: Check, other: Check) -> bool:
    return one.form and not other.form and (one.answer or not other.answer)


def _a_pair(
    task: Task, outputs: list[str], rng: random.Random, better: Callable[[Check, Check], bool]
) -> dict[str, object] | None:
    seen = _checked(task, outputs)
    pairs = [(first, second) for first, one in seen for second, other in seen if better(one, other)]
    if not pairs:
        return None
    chosen, rejected = rng.choice(pairs)
    return {"chosen": chosen, "rejected": rejected}


def _checked(task: Task, outputs: list[str]) -> list[tuple[str, Check]]:
    return [(output, checked) for output in outputs if (checked := check(task, output))]


def wrong_label(row: dict[str, object]) -> dict[str, object]:
    """The row as a careless annotator would have it."""
    if "label" in row:
        return row | {"label": 1 - int(str(row["label"]))}
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


def task_row(task: Task) -> dict[str, object]:
    return {"instruction": task.instruction, "input": task.input, "constraints": task.constraints}


PREFERENCES: dict[str, tuple[int, Callable[[Task, list[str], random.Random], dict[str, object] | None]]] = {
    "thumbs": (12000, a_thumb),
    "pairs": (12000, an_answer_pair),
    "form": (3000, a_form_pair),
}
