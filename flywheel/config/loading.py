"""Configurations from YAML files, with overrides, and the messages about invalid ones.

A stranger may have written the file: it can hold no objects and no secrets, and it cannot grow in memory.
"""

from __future__ import annotations

import difflib
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from flywheel.config.section import Invalid, Problem, Section
from flywheel.config.sections import Config
from flywheel.core.assets import presets
from flywheel.core.files import encodable
from flywheel.core.safe_text import SECRET_NAME, holds_secret
from flywheel.errors import ConfigError

LONGEST = 1_000_000
"""Characters of a file."""
DEEPEST = 50
"""Levels of nesting."""
MOST = 100_000
"""Values, with those that an alias repeats counted each time."""
SHOWN = 200
"""Characters of an invalid value that a message quotes."""
BASE_NOTE = "relative paths start here; without this line, in the folder of this file"
EXPECTED = {
    "tuple": "a list such as [one, two]",
    "dict": "a section of keys and values",
    "model": "a section of keys and values",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "string_pattern_mismatch": "at most 64 letters, digits, spaces, dots, dashes and underscores",
}
"""What a value must be, by pydantic's type of error or its first word, where its own message speaks of Python."""
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
        return section.model_validate(values)
    except ValidationError as error:
        problems = [problem for details in error.errors(include_url=False) for problem in _problems(section, details, name)]
        messages, hints = (dict.fromkeys(filter(None, texts)) for texts in zip(*problems, strict=True))
        raise ConfigError("; ".join(messages), " ".join(hints)) from None


def _problems(section: type[Section], details: ErrorDetails, name: str) -> Iterable[Problem]:
    kind, location = details["type"], [str(part) for part in details["loc"]]
    if location[-1:] == ["[key]"]:
        location = location[:-2]
    key = ".".join([name, *location] if name else location)
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Invalid):
        return [(f"{key}: {message}" if key else message, hint) for message, hint in cause.problems]
    if kind == "missing":
        return [(f"config key {key!r} is missing", "Add it, or start from `flywheel init --config nano`.")]
    if kind == "extra_forbidden":
        parent, known = key.rpartition(".")[0], _keys(section, location[:-1])
        return [(f"unknown config key {key!r}", _nearest(location[-1], known, "Known keys", parent))]
    expected = EXPECTED.get(kind) or EXPECTED.get(kind.partition("_")[0]) or details["msg"].partition(" should be ")[2]
    problem = f" must be {expected}" if expected else f": {details['msg'].removeprefix('Value error, ')}"
    return [(f"{key} = {_shown(details['input'])}{problem}", "")]


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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _read(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The values of a file with the overrides, and its text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}", "Create one with `flywheel init`.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "It must be a readable UTF-8 file.") from None
    values = read_yaml(text, str(path))
    if not isinstance(values, dict):
        kind = "nothing" if values is None else type(values).__name__
        raise ConfigError(f"{path} must hold keys and values, but holds {kind}", "Start from what `flywheel init` creates.")
    for override in overrides:
        _override(values, override)
    _refuse_unfit(values)
    values.setdefault("base", str(path.parent))
    return values, text


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set expects key=value, got {override!r}", "Write --set sampling.temperature=0.8, for example.")
    value = read_yaml(text, f"--set {key}")
    *parents, last = key.split(".")
    section: Any = values
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise ConfigError(f"--set {key}: {parent} is not a section", "`flywheel init` creates a config with every section.")
    section[last] = value


def read_yaml(text: str, name: str) -> Any:
    """The values in a text; raises ConfigError that starts with ``name`` and quotes no value, as it may be secret."""
    if len(text) > LONGEST:
        raise ConfigError(f"{name} has {len(text):,} characters; the limit is {LONGEST:,}", "Check that it is the right file.")
    try:
        # Counted before anything is built: merge keys copy what their aliases stand for.
        if _size(YAML(typ="safe", pure=True).compose(text), {}) > MOST:
            raise ConfigError(f"{name} has more than {MOST:,} values with its aliases expanded", "Remove some aliases.")
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply", f"Use at most {DEEPEST} levels.") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        if isinstance(error, DuplicateKeyError):
            key = str(error.problem).partition(" with value")[0].removeprefix("found duplicate key ")
            raise ConfigError(f"{name} has the key {key} twice, again in line {line}", "Remove one of them.") from None
        raise ConfigError(f"{name} is not valid YAML in line {line}: {error.problem or error.context}", "Fix it.") from None
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # What a date with 13 months raises, or !!bool maybe.
        raise ConfigError(f"{name} has a value that YAML cannot read ({type(error).__name__})", "Quote texts.") from None


def _size(node: Node | None, sizes: dict[int, int]) -> int:
    """The number of values in a node; aliases of a node are the node itself, which ``sizes`` remembers."""
    if not isinstance(node, CollectionNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = MOST  # what a node counts as inside itself
        children = itertools.chain(*node.value) if isinstance(node, MappingNode) else node.value
        sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children)
    return sizes[id(node)]


def _refuse_unfit(value: Any, path: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for secrets and broken text: a config is stored with every round. It never quotes a secret."""
    key = ".".join(path) or "the config"
    if len(path) > DEEPEST:
        raise ConfigError(f"{key[:60]}… is nested more than {DEEPEST} levels deep", "Use fewer levels.")
    if isinstance(value, Mapping):
        for name, nested in value.items():
            if not isinstance(name, str):
                raise ConfigError(f"{key}: the key {name!r} must be a string", "Quote it.")
            _refuse_unfit(name, (*path, "(a key)"))
            _refuse_unfit(nested, (*path, name))
    elif isinstance(value, list | tuple):
        for nested in value:
            _refuse_unfit(nested, path)
    elif isinstance(value, str):
        if (path and value and SECRET_NAME.search(path[-1])) or holds_secret(value):
            raise ConfigError(
                f"{key} looks like a secret, and a config is stored with every round",
                "Remove it. API keys come from the environment: `engine.endpoint.key_env` names the variable, HF_TOKEN is the "
                "Hugging Face hub's.",
            )
        if "\0" in value or not encodable(value):
            raise ConfigError(f"{key}: {value[:60]!r} is not valid text (a null byte or half a surrogate pair)", "Remove it.")
