"""Configurations from YAML files, with overrides, and the messages about invalid ones.

A file may be from a stranger: it can create no objects, contain no secrets, and not expand in memory.
"""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.reader import ReaderError

from flywheel.config.section import Problem, Section
from flywheel.config.sections import Config
from flywheel.core.assets import presets
from flywheel.core.files import encodable, expanded
from flywheel.core.safe_text import SECRET_NAME, holds_secret
from flywheel.errors import ConfigError

LONGEST = 100_000
"""Characters of a file."""
DEEPEST = 50
"""Levels of nesting."""
ALIASES = 10
"""Aliases of a file: each can double what came before it."""
WRONG_FILE = "Shorten it, or check that it is a flywheel config."
START = "Start from the config that `flywheel init` creates."
BASE_NOTE = "relative paths are resolved against this folder; default: the folder of this file"
S = TypeVar("S", bound=Section)


def find(name: str) -> Path:
    """The file of a preset or a path; raises ConfigError if there is neither."""
    names = presets()
    if name in names:
        return names[name]
    with suppress(OSError):  # a path that is too long
        path = expanded(name)
        if path.is_file():
            return path.resolve()
    raise ConfigError(f"no preset or config file {name!r}", _nearest(name, sorted(names), "Available presets"))


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration, with ``key.path=value`` overrides applied."""
    return parse(Config, _read(path, overrides)[0])


def as_text(path: Path, overrides: Sequence[str] = ()) -> str:
    """A configuration as YAML that means the same in any folder, with its comments."""
    values, text = _read(path, overrides)
    editor = YAML()
    editor.width, editor.preserve_quotes = 4096, True
    editor.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    document = editor.load(text)
    for override in overrides:
        _override(document, override)
    if "base" not in document:
        document["base"] = values["base"]
        document.yaml_add_eol_comment(BASE_NOTE, "base")
    stream = io.StringIO()
    editor.dump(document, stream)
    return stream.getvalue()


def parse(section: type[S], values: Mapping[str, Any], name: str = "") -> S:
    """Validate plain values into a section; ``name`` comes before the keys in messages.

    Raises ConfigError with every invalid key, its value and what is allowed. Rules between keys are checked once each value
    is valid by itself.
    """
    try:
        # As JSON, so that pydantic is strict about numbers and booleans, and calls lists arrays and sections objects.
        return section.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        problems = [problem for details in error.errors(include_url=False) for problem in _problems(section, details, name)]
        messages, hints = (dict.fromkeys(filter(None, texts)) for texts in zip(*problems, strict=True))
        raise ConfigError("; ".join(messages), " ".join(hints)) from None


def _problems(section: type[Section], details: ErrorDetails, name: str) -> Iterable[Problem]:
    kind, location = details["type"], [str(part) for part in details["loc"]]
    if location[-1:] == ["[key]"]:
        location = location[:-2]
    if location[-1:] in (["str"], ["tuple[str, ...]"]):  # the alternatives of a union
        location.pop()
    key = ".".join([name, *location] if name else location)
    if kind == "value_error":
        (problems,) = details["ctx"]["error"].args
        return [(f"{key}.{message}".lstrip("."), hint) for message, hint in problems]
    if kind == "json_invalid":  # only a command's arguments: a config has been read as UTF-8
        return [("an option is not valid UTF-8", "Remove the invalid bytes, or use a UTF-8 terminal or script.")]
    if kind == "missing":
        return [(f"missing config key {key!r}", START)]
    if kind == "extra_forbidden":
        parent, known = key.rpartition(".")[0], _keys(section, location[:-1])
        return [(f"unknown config key {key!r}", _nearest(location[-1], known, "Valid keys", parent))]
    if kind == "string_pattern_mismatch":
        hint = "Use at most 64 letters, digits, spaces, dots, dashes and underscores, with a letter or digit first."
        return [(f"invalid name {details['input']!r:.200} in {key}", hint)]
    return [(f"{key} = {details['input']!r:.200} must {details['msg'].partition(' should ')[2]}", "")]


def _nearest(name: str, names: Sequence[str], label: str, parent: str = "") -> str:
    """A hint with the most similar name, or with all of them."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"Did you mean {f'{parent}.{near[0]}'.strip('.')!r}?" if near else f"{label}: {', '.join(names)}."


def _keys(section: type[Section], location: Sequence[str]) -> list[str]:
    """The keys of the section at a location, of which some parts are names of members or judges."""
    for part in location:
        if field := section.model_fields.get(part):
            kinds = (field.annotation, *get_args(field.annotation))
            section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), section)
    return sorted(section.model_fields)


def _read(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The values of a file with the overrides, and its text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {path}: {reason}", "Make it a readable file, encoded as UTF-8.") from None
    values = read_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a YAML mapping of keys to values", START)
    for override in overrides:
        _override(values, override)
    try:
        values = json.loads(json.dumps(values, default=str))
    except (TypeError, ValueError, RecursionError) as error:  # a list as a key, an alias in its own value
        raise ConfigError(
            f"the config cannot be stored as JSON: {error}", "Use only strings as keys, and no alias inside its own value."
        ) from None
    _refuse_unfit(values)
    return {"base": str(path.parent)} | values, text


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"invalid option --set {override!r}", "Use KEY=VALUE, such as `--set sampling.temperature=0.8`.")
    value = read_yaml(text, f"--set {key}")
    *parents, last = key.split(".")
    section: Any = values
    for depth, parent in enumerate(parents, start=1):
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            name = ".".join(parents[:depth])
            message = f"cannot set config key {key!r}: {name!r} is {'null' if section is None else 'a value'}, not a section"
            example = f", such as `--set '{name}={{{key.removeprefix(f'{name}.')}: VALUE}}'`" if section is None else ""
            raise ConfigError(message, f"Set `{name}` itself{example}.")
    section[last] = value


def read_yaml(text: str, name: str) -> Any:
    """The values in a text; raises ConfigError, which quotes no value, as that may be secret."""
    if len(text) > LONGEST:
        raise ConfigError(f"{name} has more than {LONGEST:,} characters", WRONG_FILE)
    depth = aliases = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            aliases += isinstance(event, AliasEvent)
            if depth > DEEPEST or aliases > ALIASES:
                most = f"{DEEPEST} levels of nesting" if depth > DEEPEST else f"{ALIASES} aliases"
                raise ConfigError(f"{name} has more than {most}", f"Use at most {most}.")
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        place = f"{name}, line {error.problem_mark.line + 1 if error.problem_mark else '?'}"
        if isinstance(error, DuplicateKeyError):
            key = str(error.problem).partition('"')[2].partition('"')[0]
            raise ConfigError(f"duplicate key {key!r} in {place}", "Remove one of the two.") from None
        raise ConfigError(f"invalid YAML in {place}: {error.problem or error.context}", "Fix the syntax or quote it.") from None
    except ReaderError:
        message = f"{name} contains a control character or is not valid UTF-8"
        raise ConfigError(message, "Remove the character, or encode the text as UTF-8.") from None
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # What a date with 13 months raises, or !!bool maybe.
        raise ConfigError(
            f"invalid value in {name} ({type(error).__name__})", "Quote strings that look like dates or YAML tags."
        ) from None


def _refuse_unfit(value: Any, path: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for secrets and broken text: a config is stored with every round. It never quotes a secret."""
    key = ".".join(path)
    if len(path) > DEEPEST:
        raise ConfigError(f"config key {key[:60]!r}… has more than {DEEPEST} levels of nesting", "Use fewer levels.")
    if isinstance(value, dict):
        for name, nested in value.items():
            _refuse_unfit(name, (*path, "(a key)"))
            _refuse_unfit(nested, (*path, name))
    elif isinstance(value, list):
        for nested in value:
            _refuse_unfit(nested, path)
    elif isinstance(value, str):
        if (value and SECRET_NAME.search(path[-1])) or holds_secret(value):
            raise ConfigError(
                f"{key} looks like a secret",
                "Remove it: configs are stored with every round. Set an API key in the environment variable that "
                "`engine.endpoint.key_env` names, and a Hugging Face token in HF_TOKEN.",
            )
        if "\0" in value or not encodable(value):
            raise ConfigError(f"{key} contains an invalid character: {value[:60]!r}", "Remove the character.")
