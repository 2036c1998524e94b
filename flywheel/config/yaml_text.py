"""YAML that somebody else may have written, as plain values: no objects, no key said twice, nothing that grows in memory."""

from __future__ import annotations

from typing import Any

import yaml

from flywheel.errors import ConfigError

LONGEST = 1_000_000
"""Characters of a file."""
DEEPEST = 50
"""Sections in one another."""
MOST = 100_000
"""Values, those that an alias repeats counted each time."""


def read_yaml(text: str, name: str) -> Any:
    """The values in a text; raises ConfigError that begins with ``name`` and shows no value: it may be secret."""
    if len(text) > LONGEST:
        raise ConfigError(f"{name} has {len(text):,} characters, a config has {LONGEST:,} at most; is it the right file?")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, name, depth=0, known={})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ConfigError(f"{name} is nested more than {DEEPEST} deep; a config is not, mend it") from None
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name} is not YAML{where}: {error.problem or error.context}; mend it") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # What PyYAML says of a date with 13 months, or of !!bool perhaps.
        raise ConfigError(f"{name} has a value that YAML cannot read ({type(error).__name__}); quote texts") from None


def _count(node: yaml.Node, name: str, *, depth: int, known: dict[int, int]) -> int:
    """How many values a node stands for; raises where they are too many, too deep, in a circle, or have one key twice."""
    if known.get(id(node)) == 0:
        raise ConfigError(f"{name} holds itself through an alias in line {node.start_mark.line + 1}; take the alias out")
    if depth > DEEPEST:
        raise ConfigError(f"{name} is nested more than {DEEPEST} deep in line {node.start_mark.line + 1}; mend it")
    if id(node) not in known:
        known[id(node)] = 0
        inside = [part for entry in _entries(node, name) for part in entry]
        known[id(node)] = 1 + sum(_count(one, name, depth=depth + 1, known=known) for one in inside)
    if known[id(node)] > MOST:
        raise ConfigError(f"{name} has more than {MOST:,} values, its aliases followed; a config has not, mend it")
    return known[id(node)]


def _entries(node: yaml.Node, name: str) -> list[tuple[yaml.Node, ...]]:
    if isinstance(node, yaml.SequenceNode):
        return [(one,) for one in node.value]
    if not isinstance(node, yaml.MappingNode):
        return []
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise ConfigError(
                    f"{name} has the key {key.value!r} twice in a section, again in line {key.start_mark.line + 1}; mend it"
                )
            seen.add((key.tag, key.value))
    return list(node.value)
