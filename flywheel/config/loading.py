"""Configurations from YAML, with overrides, and what is said where one makes no sense."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from flywheel.config.section import Section
from flywheel.config.sections import Config
from flywheel.config.unfit import refuse_unfit
from flywheel.config.yaml_text import LONGEST, read_yaml
from flywheel.core.assets import presets
from flywheel.errors import ConfigError


def find(name: str) -> Path:
    """The file of a preset name or a path; raises ConfigError for neither."""
    known = presets()
    if name in known:
        return known[name]
    with suppress(OSError, ValueError, RuntimeError):  # a name that is no path: too long, or of nobody's home
        path = Path(name).expanduser()
        if path.is_file():
            return path.resolve()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"presets are {', '.join(sorted(known))}"
    raise ConfigError(f"no preset or file {_shown(name)}; {hint}")


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration, with ``key.path=value`` overrides applied."""
    return check(_read(path, overrides))


def as_text(path: Path, overrides: Sequence[str] = ()) -> str:
    """A configuration as YAML that means the same in any folder; with its comments, unless there are overrides."""
    raw = _read(path, overrides)
    text = path.read_text(encoding="utf-8-sig")
    text += "" if text.endswith("\n") else "\n"
    base = f"base: {path.parent}    # relative paths start from here; without this line, from this file's folder"
    for candidate in (text, f"{text}\n{base}\n"):
        with suppress(ConfigError):
            if read_yaml(candidate, str(path)) == raw:
                return candidate
    return yaml.safe_dump(raw, sort_keys=False)


def _read(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"no config at {path}; make one with `flywheel init`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}; mend it, or its rights") from None
    raw = read_yaml(text, str(path))
    if not isinstance(raw, dict):
        held = "nothing" if raw is None else type(raw).__name__
        raise ConfigError(f"{path} must hold keys and values, it holds {held}; start from what `flywheel init` makes")
    for override in overrides:
        _override(raw, override)
    refuse_unfit(raw)
    raw.setdefault("base", str(path.parent))
    return raw


def check(raw: Mapping[str, Any]) -> Config:
    """Validate plain values into a Config; raises ConfigError that names the key, the value and the remedy."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


S = TypeVar("S", bound=Section)
SHOWN = 200
"""Characters of a wrong value that a message shows."""


def parse(section: type[S], raw: Mapping[str, Any], name: str) -> S:
    """Validate plain values into one section; raises ConfigError that begins with ``name``."""
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{name}: {_explain(error)}") from None


PLAIN_WORDS = {
    "tuple_type": "input should be a list such as [one, two]",
    "dict_type": "input should be a section of keys and values",
    "model_type": "input should be a section of keys and values",
    "int_type": "input should be a whole number",
    "int_parsing": "input should be a whole number",
    "int_from_float": "input should be a whole number",
    "float_type": "input should be a number",
    "float_parsing": "input should be a number",
    "bool_type": "input should be true or false",
    "bool_parsing": "input should be true or false",
    "string_type": "input should be a text",
}
"""What pydantic says in the words of Python, by its types of error."""


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set wants key=value, got {override!r}; for example sampling.temperature=0.8")
    value = read_yaml(text, f"--set {key}")
    *parents, last = key.split(".")
    section: Any = raw
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise ConfigError(f"--set {key}: {parent} is not a section; see `flywheel init` for a commented config")
    section[last] = value


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    others = [".".join(str(part) for part in one["loc"]) for one in error.errors(include_url=False)[1:]]
    more = f" (to mend too: {', '.join(dict.fromkeys(others))})" if others else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.4)
        section = key.rpartition(".")[0]
        hint = f"did you mean {f'{section}.{near[0]}'.strip('.')!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown config key {key!r}; {hint}{more}"
    if first["type"] == "missing":
        return f"config key {key!r} is missing; add it, or start from `flywheel init --config nano`{more}"
    message = PLAIN_WORDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if not key:
        return message
    # A rule on a whole section says itself which values are at odds.
    value = "" if first["type"] == "value_error" and isinstance(first["input"], dict) else f", got {_shown(first['input'])}"
    return f"{key}: {message[0].lower()}{message[1:]}{value}{more}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section of an unknown key does have."""
    section: Any = Config
    for part in location[:-1]:
        fields = section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}
        if str(part) in fields:
            annotation = fields[str(part)].annotation
            # A dict of sections, or a section that may be None.
            parts = get_args(annotation) or (annotation,)
            section = next((one for one in parts if isinstance(one, type) and issubclass(one, BaseModel)), annotation)
    return sorted(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
