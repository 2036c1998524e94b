"""Configurations from YAML files, with overrides, and the messages about invalid ones."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from flywheel.config.section import Invalid, Section
from flywheel.config.sections import Config
from flywheel.config.yaml_text import LONGEST, read_yaml, refuse_unfit
from flywheel.core.assets import presets
from flywheel.errors import ConfigError

BASE_NOTE = "relative paths start here; without this line, in the folder of this file"
SHOWN = 200
"""Characters of an invalid value that a message quotes."""
EXPECTED = {
    "tuple_type": "a list such as [one, two]",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "string_pattern_mismatch": "at most 64 letters, digits, spaces, dots, dashes and underscores",
}
"""What a value must be, by pydantic's type of error, where its own message speaks of Python."""
S = TypeVar("S", bound=Section)


def find(name: str) -> Path:
    """The file of a preset or a path; raises ConfigError if there is neither."""
    names = presets()
    if name in names:
        return names[name]
    with suppress(OSError, ValueError, RuntimeError):  # a name that cannot be a path: too long, or of no user's home
        path = Path(name).expanduser()
        if path.is_file():
            return path.resolve()
    raise ConfigError(f"no preset or file {_shown(name)}", _nearest(name, sorted(names), "Presets"))


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration, with ``key.path=value`` overrides applied."""
    return check(_read(path, overrides)[0])


def as_text(path: Path, overrides: Sequence[str] = ()) -> str:
    """A configuration as YAML that means the same in any folder, with its comments."""
    raw, text = _read(path, overrides)
    editor = YAML()
    editor.width, editor.preserve_quotes = 4096, True
    editor.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    document = editor.load(text)
    for override in overrides:
        _override(document, override)
    if "base" not in document:
        document["base"] = raw["base"]
        document.yaml_add_eol_comment(BASE_NOTE, "base")
    stream = io.StringIO()
    editor.dump(document, stream)
    return stream.getvalue()


def _read(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The values of a file with the overrides, and its text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}", "Create one with `flywheel init`.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    raw = read_yaml(text, str(path))
    if not isinstance(raw, dict):
        kind = "nothing" if raw is None else type(raw).__name__
        raise ConfigError(f"{path} must hold keys and values, but holds {kind}", "Start from what `flywheel init` creates.")
    for override in overrides:
        _override(raw, override)
    refuse_unfit(raw)
    raw.setdefault("base", str(path.parent))
    return raw, text


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set expects key=value, got {override!r}", "For example: --set sampling.temperature=0.8")
    value = read_yaml(text, f"--set {key}")
    *parents, last = key.split(".")
    section: Any = raw
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise ConfigError(f"--set {key}: {parent} is not a section", "`flywheel init` creates a config with every section.")
    section[last] = value


def check(raw: Mapping[str, Any]) -> Config:
    """Validate plain values into a Config; raises ConfigError with every invalid key, its value and what is allowed.

    Rules between keys are checked once each value is valid by itself.
    """
    return parse(Config, raw)


def parse(section: type[S], raw: Mapping[str, Any], name: str = "") -> S:
    """Validate plain values into one section; as `check`, with ``name`` in front of the keys."""
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        problems = [problem for details in error.errors(include_url=False) for problem in _problems(section, details, name)]
        messages, hints = (dict.fromkeys(part for part in parts if part) for parts in zip(*problems, strict=True))
        raise ConfigError("; ".join(messages), " ".join(hints)) from None


def _problems(section: type[Section], details: ErrorDetails, name: str) -> Sequence[tuple[str, str]]:
    """What is wrong with a value or between values, each with a hint."""
    location = details["loc"][:-2] if details["loc"][-1:] == ("[key]",) else details["loc"]
    key = ".".join(str(part) for part in ((name, *location) if name else location))
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Invalid):
        return [(f"{key}: {message}" if key else message, hint) for message, hint in cause.problems]
    if details["type"] == "extra_forbidden":
        parent = key.rpartition(".")[0]
        return [
            (f"unknown config key {key!r}", _nearest(str(location[-1]), _keys(section, location[:-1]), "Known keys", parent))
        ]
    if details["type"] == "missing":
        return [(f"config key {key!r} is missing", "Add it, or start from `flywheel init --config nano`.")]
    expected = EXPECTED.get(details["type"]) or details["msg"].partition(" should be ")[2]
    if not expected:
        return [(f"{key} = {_shown(details['input'])}: {details['msg'].removeprefix('Value error, ')}", "")]
    return [(f"{key} = {_shown(details['input'])} must be {expected}", "")]


def _nearest(name: str, names: Sequence[str], label: str, parent: str = "") -> str:
    """A hint with the most similar name, or with all of them."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"Did you mean {f'{parent}.{near[0]}'.strip('.')!r}?" if near else f"{label}: {', '.join(names)}."


def _keys(section: Any, location: Sequence[int | str]) -> list[str]:
    """The keys of the section at a location."""
    for part in location:
        field = section.model_fields.get(str(part)) if _is_section(section) else None
        if field is not None:
            # A dict of sections, or a section that may be None.
            types = get_args(field.annotation) or (field.annotation,)
            section = next((kind for kind in types if _is_section(kind)), field.annotation)
    return sorted(section.model_fields) if _is_section(section) else []


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
