"""YAML that a stranger may have written, as plain values: no objects, no secrets, nothing that grows in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

from flywheel.core.files import encodable
from flywheel.core.safe_text import SECRET_NAME, holds_secret
from flywheel.errors import ConfigError

LONGEST = 1_000_000
"""Characters of a file."""
DEEPEST = 50
"""Levels of nesting."""
MOST = 100_000
"""Values, with those that an alias repeats counted each time."""


def read_yaml(text: str, name: str) -> Any:
    """The values in a text; raises ConfigError that starts with ``name`` and quotes no value, as it may be secret."""
    if len(text) > LONGEST:
        raise ConfigError(f"{name} has {len(text):,} characters; the limit is {LONGEST:,}", "Check that it is the right file.")
    try:
        _refuse_bombs(text, name)
        return YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        problem = str(error.problem).partition(" with value")[0].removeprefix("found duplicate key ")
        raise ConfigError(f"{name} has the key {problem} twice, again in line {_line(error)}", "Remove one of them.") from None
    except MarkedYAMLError as error:
        raise ConfigError(f"{name} is not valid YAML in line {_line(error)}: {error.problem or error.context}") from None
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # What a date with 13 months raises, or !!bool maybe.
        raise ConfigError(f"{name} has a value that YAML cannot read ({type(error).__name__})", "Quote texts.") from None


def _line(error: MarkedYAMLError) -> int | str:
    return error.problem_mark.line + 1 if error.problem_mark else "?"


def _refuse_bombs(text: str, name: str) -> None:
    """Raise ConfigError for values that are too many or nested too deep, aliases expanded, before any of them is built."""
    sizes: dict[str, int] = {}
    collections: list[tuple[str | None, int]] = []
    count = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        where = f"in line {event.start_mark.line + 1}" if event.start_mark else ""
        if isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                raise ConfigError(f"{name} uses the alias *{event.anchor} {where}, where it is not defined yet")
            count += sizes[event.anchor]
        elif isinstance(event, NodeEvent):
            count += 1
            if isinstance(event, CollectionStartEvent):
                collections.append((event.anchor, count))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, CollectionEndEvent):
            anchor, start = collections.pop()
            if anchor:
                sizes[anchor] = count - start + 1
        if len(collections) > DEEPEST:
            raise ConfigError(f"{name} is nested more than {DEEPEST} levels deep {where}")
        if count > MOST:
            raise ConfigError(f"{name} has more than {MOST:,} values with its aliases expanded")


def refuse_unfit(value: Any, path: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for secrets and broken text: a config is stored with every round. It never quotes a secret."""
    key = ".".join(path) or "the config"
    if len(path) > DEEPEST:
        raise ConfigError(f"{key[:60]}… is nested more than {DEEPEST} levels deep")
    if isinstance(value, Mapping):
        for name, nested in value.items():
            if not isinstance(name, str):
                raise ConfigError(f"{key}: the key {name!r} must be a string", "Quote it.")
            refuse_unfit(name, (*path, "(a key)"))
            refuse_unfit(nested, (*path, name))
    elif isinstance(value, list | tuple):
        for nested in value:
            refuse_unfit(nested, path)
    elif isinstance(value, str):
        if (path and value and SECRET_NAME.search(path[-1])) or holds_secret(value):
            raise ConfigError(
                f"{key} looks like a secret, and a config is stored with every round",
                "Remove it. API keys come from the environment: `engine.endpoint.key_env` names the variable, HF_TOKEN is the "
                "Hugging Face hub's.",
            )
        if "\0" in value or not encodable(value):
            raise ConfigError(f"{key}: {value[:60]!r} is not valid text (a null byte or half a surrogate pair)")
