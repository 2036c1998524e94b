"""The README of an export: front matter for the hub, then what to know before training on the rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import DatasetCardData

from flywheel.core.safe_text import visible, without_secrets
from flywheel.export.files import PATTERNS
from flywheel.export.shapes import ExportOptions, features
from flywheel.records import Facts, Policy, Round
from flywheel.store import exporting
from flywheel.store.store import Store

TEMPLATE = Path(__file__).with_name("card.md.jinja")
QUERY = re.compile(r"(://[^\s?]*)\?[^\s'\"]*")
"""A URL with parameters, which may contain a key."""
HOME = re.compile(rf"(?<![\w:/]){re.escape(str(Path.home()))}/")


def card(
    store: Store, options: ExportOptions, rounds: Sequence[Round], *, rows: Mapping[str, int], changed: Sequence[str]
) -> str:
    """The whole text, for rounds from the oldest to the named one.

    ``rows`` are numbers by round; the templates of the rounds in ``changed`` have changed since.
    """
    last = rounds[-1]
    roles = [("generator", last.generator_in), ("trained on it", last.generator_out)]
    roles += [("reward model", last.reward_model), ("judge", last.judge)]
    reward = store.model(last.reward_model).facts if last.reward_model is not None else Facts()
    roles += [("member", member) for member in reward.members]
    facts = [exporting.facts(store.path, row.round, row.tasks_of) for row in rounds]

    def by_round(field: str) -> list[dict[str, Any]]:
        """One field of the facts of all rounds, as the rows of a table."""
        tables = ((round_.name, getattr(round_, field)) for round_ in facts)
        return [{"round": name} | row for name, rows in tables for row in (rows if isinstance(rows, list) else [rows]) if row]

    kind = "preference pairs" if options.pairs else "winners" if last.policy == Policy.BEST else "selections"
    name = f"flywheel {kind} of {rounds[0].round}" + (f" to {last.round}" if len(rounds) > 1 else "")
    recipe = {"merge": reward.merge, "weights": reward.weights, "accuracy": reward.accuracy}
    files = [{"split": "train", "path": PATTERNS[options.form]}]
    front_matter = DatasetCardData(
        pretty_name=name,
        task_categories=["text-generation"],
        tags=["synthetic", "best-of-n", "flywheel", "trl", *(["preference", "dpo"] if options.pairs else ["sft"])],
        configs=[{"config_name": "default", "data_files": files, "default": True}],
        # As `datasets` itself writes them on the hub.
        dataset_info={"config_name": "default", "features": features(options.columns)._to_yaml_list()},
    )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"escape": _escaped, "cell": _cell}
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        round=last,
        rounds=facts,
        models=[(role, store.model(model_id)) for role, model_id in roles if model_id is not None],
        rows=rows,
        changed=changed,
        pairs=options.pairs,
        shape=options.row_shape,
        columns=options.columns,
        front_matter=front_matter,
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
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if type(value) is int else _escaped(str(value))


def _escaped(text: str) -> str:
    """A text on one line, without meaning in Markdown."""
    return re.sub(r"([\\`|<>\[\]])", r"\\\1", " ".join(text.split()))


def _fenced(values: Mapping[str, Any]) -> str:
    """Values as YAML in a code block, without secrets; empty without values."""
    if not values:
        return ""
    text = public(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"


def public(text: str) -> str:
    """A text without secrets, parameters of URLs, and the home folder."""
    return HOME.sub("~/", QUERY.sub(r"\1", without_secrets(text)))
