"""What is known of a model, to and from the JSON column ``models.facts``. What does not apply to a model is left out."""

from __future__ import annotations

from pydantic import TypeAdapter

from flywheel.records import Facts

_FACTS = TypeAdapter(Facts)


def facts_to_json(facts: Facts) -> str:
    """The JSON of a model's facts."""
    return _FACTS.dump_json(facts, exclude_defaults=True).decode()


def facts_from_json(text: str) -> Facts:
    """A model's facts from their JSON."""
    return _FACTS.validate_json(text)
