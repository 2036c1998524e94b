"""The README of an export: front matter for the hub, then what to know before training on the rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import DatasetCardData

from flywheel.core.safe_text import REMOVED, SECRET_NAME, visible, without_secrets
from flywheel.export.files import PATTERNS
from flywheel.export.shapes import ExportOptions, features
from flywheel.records import Facts, Model, Policy, Round
from flywheel.store.exporting import RoundFacts

TEMPLATE = Path(__file__).with_name("card.md.jinja")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
"""The hub's names for datasets of fewer rows than this."""
QUERY = re.compile(r"(?<=\w)\?[^\s]*$")
"""The end of a URL, which may hold a key."""


def card(
    last: Round,
    rounds: Sequence[RoundFacts],
    *,
    options: ExportOptions,
    models: Sequence[tuple[str, Model]],
    rows: Mapping[str, int],
    changed: Sequence[str],
) -> str:
    """The whole text.

    ``last`` is the named round, ``rounds`` are all in the export, oldest first. ``models`` are those of the named round and
    the members of its reward model, each with its role; ``rows`` are numbers by round; the templates of ``changed`` rounds
    have changed since.
    """

    def by_round(field: str) -> list[dict[str, Any]]:
        """One field of the facts of all rounds, as the rows of a table."""
        tables = ((facts.name, getattr(facts, field)) for facts in rounds)
        return [{"round": name} | row for name, rows in tables for row in (rows if isinstance(rows, list) else [rows]) if row]

    kind = "preference pairs" if options.pairs else "winners" if last.policy == Policy.BEST else "selections"
    name = f"flywheel {kind} of {rounds[0].name}" + (f" to {rounds[-1].name}" if len(rounds) > 1 else "")
    reward = next((model.facts for role, model in models if role == "reward model"), Facts())
    recipe = {"merge": reward.merge, "weights": reward.weights, "accuracy": reward.accuracy}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"escape": _escaped, "cell": _cell}
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        round=last,
        rounds=rounds,
        models=models,
        rows=rows,
        changed=changed,
        pairs=options.pairs,
        shape=options.row_shape,
        columns=options.columns,
        front_matter=_front_matter(name, options, sum(rows.values())),
        generator=public(last.config["generator"]),
        recipe=_fenced({part: dict(values) for part, values in recipe.items() if values}),
        config=_fenced({key: value for key, value in last.config.items() if key != "base"}),
        table=table,
        by_round=by_round,
    )
    return visible(text, keep="\n")  # people read it with cat, too


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


def _fenced(values: Mapping[str, Any]) -> str:
    """Values as YAML in a code block, without secrets; empty without values."""
    if not values:
        return ""
    text = yaml.safe_dump(public(values), sort_keys=False, allow_unicode=True)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"


def public(value: Any, name: str = "") -> Any:
    """Plain values without secrets, which their name or their look gives away, and without the home folder."""
    if isinstance(value, Mapping):
        return {key: public(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if SECRET_NAME.search(name):
        return REMOVED
    text, home = without_secrets(value), str(Path.home())
    if "://" in text:
        text = QUERY.sub("", text)
    return f"~{text.removeprefix(home)}" if text == home or text.startswith(home + "/") else text


def _front_matter(name: str, options: ExportOptions, rows: int) -> str:
    files = [{"split": "train", "path": PATTERNS[options.form]}]
    columns = features(options.columns)._to_yaml_list()  # as `datasets` itself writes them on the hub
    data = DatasetCardData(
        pretty_name=name,
        task_categories=["text-generation"],
        tags=["synthetic", "best-of-n", "flywheel", "trl", *(["preference", "dpo"] if options.pairs else ["sft"])],
        size_categories=[next((size for limit, size in SIZES if rows < limit), "n>10M")],
        configs=[{"config_name": "default", "data_files": files, "default": True}],
        dataset_info={"config_name": "default", "features": columns},
    )
    return str(data.to_yaml())
