"""The README of an export: front matter for the hub, then what to know before training on the rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import DatasetCardData

from flywheel.core.safe_text import visible
from flywheel.export.files import data_files
from flywheel.export.private import public
from flywheel.export.shapes import ExportOptions, card_features
from flywheel.records import Facts, Model, Policy, Round
from flywheel.store.exporting import RoundFacts

TEMPLATE = Path(__file__).with_name("card.md.jinja")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
"""The hub's names for datasets of fewer rows than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of an export, and their provenance."""

    round: Round
    """The round that was named."""
    rounds: Sequence[RoundFacts]
    """All rounds in the export, oldest first."""
    models: Sequence[tuple[str, Model]]
    """The models of the named round and the members of its reward model, each with its role."""
    options: ExportOptions
    rows: Mapping[str, int]
    """By round."""
    changed: Sequence[str] = ()
    """Rounds whose templates have changed since."""


def card(contents: Contents) -> str:
    """The whole text."""

    def by_round(field: str) -> list[dict[str, Any]]:
        """One field of the facts of all rounds, as the rows of a table."""
        tables = ((facts.name, getattr(facts, field)) for facts in contents.rounds)
        return [{"round": name} | row for name, rows in tables for row in (rows if isinstance(rows, list) else [rows]) if row]

    made = contents.round
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"escape": _escaped, "cell": _cell}
    values = {field.name: getattr(contents, field.name) for field in fields(contents)} | {
        "name": _name(contents),
        "pairs": contents.options.pairs,
        "shape": contents.options.row_shape,
        "columns": contents.options.columns,
        "front_matter": _front_matter(contents),
        "generator": public(made.config["generator"]),
        "recipe": _recipe(contents),
        "config": _fenced({key: value for key, value in made.config.items() if key != "base"}),
        "table": table,
        "by_round": by_round,
    }
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return visible(template.render(values), keep="\n")  # people read it with cat, too


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table; empty without rows."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.3f}"
        case int() if not isinstance(value, bool):
            return f"{value:,}"
    return _escaped(str(value))


def _escaped(text: str) -> str:
    """A text on one line, without meaning in Markdown."""
    return re.sub(r"([\\`|<>\[\]])", r"\\\1", " ".join(text.split()))


def _fenced(values: Any) -> str:
    """Values as YAML in a code block, without secrets."""
    text = yaml.safe_dump(public(values), sort_keys=False, allow_unicode=True)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"


def _name(contents: Contents) -> str:
    names = [facts.name for facts in contents.rounds]
    what = "preference pairs" if contents.options.pairs else "winners" if contents.round.policy == Policy.BEST else "selections"
    return f"flywheel {what} of {names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}'}"


def _front_matter(contents: Contents) -> str:
    rows = sum(contents.rows.values())
    files = [{"split": "train", "path": data_files(contents.options.form)}]
    data = DatasetCardData(
        pretty_name=_name(contents),
        task_categories=["text-generation"],
        tags=["synthetic", "best-of-n", "flywheel", "trl", *(["preference", "dpo"] if contents.options.pairs else ["sft"])],
        size_categories=[next((size for limit, size in SIZES if rows < limit), "n>10M")],
        configs=[{"config_name": "default", "data_files": files, "default": True}],
        dataset_info={"config_name": "default", "features": card_features(contents.options.columns)},
    )
    return str(data.to_yaml())


def _recipe(contents: Contents) -> str:
    facts = next((model.facts for role, model in contents.models if role == "reward model"), Facts())
    parts = {"merge": facts.merge, "weights": facts.weights, "accuracy": facts.accuracy}
    recipe = {name: dict(part) for name, part in parts.items() if part}
    return _fenced(recipe) if recipe else ""
