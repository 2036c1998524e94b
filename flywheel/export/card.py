"""The README of an export: what the hub reads of it, then what a person should know before training on it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from flywheel.core.safe_text import visible
from flywheel.export.files import data_files
from flywheel.export.private import public
from flywheel.export.shapes import Columns, Format, Shape, card_features
from flywheel.records import Model, Policy, Round
from flywheel.store.exporting import RoundFacts

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
"""What the hub calls data sets of less than so many rows."""
LICENSE = "# license: not chosen yet. What the generator's licence says of its outputs holds; name yours, such as apache-2.0."
MEANING = {
    "task_id": "digest of the task's three fields",
    "instruction": "what is to be done",
    "input": "what it is to be done with; the word None for nothing",
    "constraints": "what the output must observe; the word None for nothing",
    "output": "the text that was picked",
    "messages": "the task as a user says it, the output as the assistant's",
    "completion": "the output, as it follows the prompt in training",
    "chosen": "the candidate with the highest reward",
    "rejected": "the finished candidate with the lowest reward that says something else",
    "reward": "of the merged reward model, in standard deviations over its reference set; compare within one reward model only",
    "chosen_reward": "reward of the chosen one",
    "rejected_reward": "reward of the rejected one",
    "round": "the round that wrote it",
    "candidate": "its place among the candidates of its task, from 0",
    "tokens": "tokens of the output, the end mark included",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an export holds, and what made it."""

    round: Round
    """The round that was named."""
    rounds: Sequence[RoundFacts]
    """All rounds whose rows are in it, oldest first."""
    models: Mapping[str, Model]
    """Those that the round names, and the members of its reward model, by id."""
    form: Format
    shape: Shape
    pairs: bool
    rows: Mapping[str, int]
    """By round."""
    columns: Columns
    changed: Sequence[str] = ()
    """Rounds whose prompts are made with other templates than they had."""


def card(contents: Contents) -> str:
    """The whole text."""
    parts = (_head, _title, _columns, _rounds, _verdicts, _models, _drops, _policies, _diversity, _limits, _config)
    text = "\n\n".join(text for part in parts if (text := part(contents))) + "\n"
    return visible(text, keep="\n")  # people read it with cat, too


def _head(contents: Contents) -> str:
    rows = sum(contents.rows.values())
    front = {
        "pretty_name": _name(contents),
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "best-of-n", "flywheel", *(["preference", "dpo", "trl"] if contents.pairs else ["sft", "trl"])],
        "size_categories": [next((size for limit, size in SIZES if rows < limit), "n>10M")],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": data_files(contents.form)}], "default": True}
        ],
        "dataset_info": {"config_name": "default", "features": card_features(contents.columns)},
    }
    return f"---\n{LICENSE}\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _name(contents: Contents) -> str:
    names = [one.name for one in contents.rounds]
    what = "preference pairs" if contents.pairs else "picks" if contents.round.policy != Policy.BEST else "winners"
    return f"flywheel {what} of {names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}'}"


def _title(contents: Contents) -> str:
    made, rows = contents.round, sum(contents.rows.values())
    wrote, n = f"`{public(made.config['generator'])}`", made.config["sampling"]["n"]
    if made.number > 1 and not made.config["training"].get("student"):
        wrote += f", as {made.parent} left it"
    if contents.pairs:
        what = "each the highest and the lowest reward among the finished candidates of a task"
    elif made.policy == Policy.BEST:
        what = "each the candidate of its task that a merged reward model liked best"
    else:
        what = f"each the candidate of its task that the control policy *{made.policy}* picked: a baseline, not the best"
    return (
        f"# {_name(contents)}\n\n"
        f"{rows:,} rows, {what}. A language model ({wrote}) wrote the tasks and answered each {n} times; nobody has read them. "
        "Made by `flywheel export`.\n\n"
        '```python\nfrom datasets import load_dataset\n\nrows = load_dataset("path/to/this/folder", split="train")\n```'
    )


def _columns(contents: Contents) -> str:
    prompt, margin = "what the generator reads, as in training", "reward of the chosen less that of the rejected"
    if contents.shape == Shape.MESSAGES:
        prompt = "the task as a user says it"
    if not contents.pairs:
        margin = "reward of the pick less that of the best other finished candidate; null where it was the only one"
    meaning = MEANING | {"prompt": prompt, "margin": margin}
    rows = [{"column": name, "type": kind, "meaning": meaning[name]} for name, kind in contents.columns.items()]
    return f"## Columns\n\n{table(rows)}"


def _rounds(contents: Contents) -> str:
    rows = [
        {"round": one.name, "rows": contents.rows[one.name]}
        | {key: one.summary[key] for key in ("proposed", "kept", "candidates", "winners")}
        | {"held-out judge": one.summary["judge"], "held-out reward": one.summary["reward"]}
        for one in contents.rounds
    ]
    about = "proposed and kept count tasks; held-out figures are of the generator trained on the round."
    return f"## Rounds\n\n{table(rows)}\n\n{about}"


def _verdicts(contents: Contents) -> str:
    found = []
    for one in contents.rounds:
        if one.sentences:
            found += [f"- {_text(sentence)}" for sentence in one.sentences]
        elif one.summary["status"] != "done":
            found.append(f"- {one.name} is not finished: no generator was trained on these rows and evaluated yet.")
        else:
            found.append(f"- {one.name} has no verdict: it was evaluated otherwise than its parent.")
    about = "The verdict on each round against its parent, on held-out tasks, by a judge that did not select:"
    return "\n\n".join(["## Did training on it help?", about, "\n".join(found)])


def _models(contents: Contents) -> str:
    made = contents.round
    roles = {"generator": made.generator_in, "trained on it": made.generator_out, "reward model": made.reward_model}
    roles |= {"judge": made.judge}
    rows = [
        {"role": role, "model": model.model_id, "trained from": model.parent, "digest": model.digest}
        for role, model_id in roles.items()
        if model_id and (model := contents.models.get(model_id))
    ]
    reward = contents.models.get(made.reward_model or "")
    for model_id in reward.facts.members if reward else ():
        if member := contents.models.get(model_id):
            rows.append({"role": "member", "model": model_id, "trained from": member.parent, "digest": member.digest})
    parts = {"merge": reward.facts.merge, "weights": reward.facts.weights, "accuracy": reward.facts.accuracy} if reward else {}
    merged = {name: dict(part) for name, part in parts.items() if part}
    about = "The reward model is a merge of its members, with this recipe and this accuracy on each test set:"
    recipe = f"{about}\n\n{_fenced(yaml.safe_dump(public(merged), sort_keys=False))}\n\n" if merged else ""
    digests = [{"of": key.removeprefix("digest."), "digest": value} for key, value in made.identity.items() if "digest." in key]
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    return (
        f"## Made by\n\n{table(rows)}\n\n{recipe}"
        f"Seed {made.seed}, engine {_text(str(made.engine.get('name', 'unknown')))}, fingerprint `{made.fingerprint}`. "
        f"Libraries: {versions}.\n\n{table(digests)}"
    )


def _drops(contents: Contents) -> str:
    rows = [{"round": one.name} | row for one in contents.rounds for row in one.dropped]
    return f"## Dropped tasks\n\n{table(rows) if rows else 'None.'}"


def _policies(contents: Contents) -> str:
    rows = [{"round": one.name} | row for one in contents.rounds for row in one.policies]
    about = (
        "Of the same candidates; *best* is what was selected, the others are controls. *judge* is empty where it was not asked."
    )
    return f"## What each way of picking gives\n\n{about}\n\n{table(rows)}" if rows else ""


def _diversity(contents: Contents) -> str:
    rows = [{"round": one.name} | one.diversity for one in contents.rounds if one.diversity]
    return f"## Diversity of the tasks\n\n{table(rows)}" if rows else ""


def _limits(contents: Contents) -> str:
    made = contents.round
    picked = "Both texts of a pair are" if contents.pairs else "Every output is"
    lines = [
        f"{picked} written by a model. {'Neither' if contents.pairs else 'None'} was checked by a person, and a wrong one can "
        "have a high reward.",
        "The reward model says what it was trained to like. It can be fooled, the more so the more candidates it picks from "
        "and the more rounds a generator was trained to please it; what it likes for no reason (length, tone, form) is here in "
        "excess.",
        "The tasks are what the generator came up with after a few examples. They repeat its habits, its mistakes and its "
        "one-sided view of the world, and cover less than people ask.",
        "What was filtered out is named above. Nothing else was: private data that the generator has memorised, offence and "
        "falsehood may be in it.",
        "The held-out figures hold for this generator and these held-out tasks. On another model the same rows may do harm.",
    ]
    if contents.pairs:
        lines.append(
            "A rejected text is only worse in the reward model's eyes, and may be as good. Candidates cut at the token limit "
            "are left out; so are tasks whose finished candidates have one reward or one text."
        )
    if contents.shape == Shape.MESSAGES and made.config.get("prompt_style") != "chat":
        lines.append(
            "The generator read plain text, not messages: the user's words here are flywheel's chat template for the same task."
        )
    if contents.changed:
        lines.append(
            f"The templates have changed since {', '.join(contents.changed)} ran (or flywheel's own have): the prompts here "
            "are made with those of today, and may differ from what the generator read."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _config(contents: Contents) -> str:
    made = contents.round
    shown = public({key: value for key, value in made.config.items() if key != "base"})
    text = _fenced(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
    return f"## Configuration\n\n<details>\n<summary>The configuration of {made.round}</summary>\n\n{text}\n\n</details>"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as a table in Markdown."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(str(value))


def _text(text: str) -> str:
    """A text on one line of Markdown that means nothing else there."""
    return re.sub(r"([\\`|<>\[\]])", r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"
