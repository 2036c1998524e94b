"""What no configuration may hold, for it is stored with every round: secrets, and texts that are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.config.yaml_text import DEEPEST
from flywheel.core.files import encodable
from flywheel.core.safe_text import SECRET_NAME, holds_secret
from flywheel.errors import ConfigError


def refuse_unfit(value: Any, path: tuple[str, ...] = ()) -> None:
    """Raise ConfigError that names the key, and not the value of one that is secret."""
    key = ".".join(path) or "the config"
    if len(path) > DEEPEST:
        raise ConfigError(f"{key[:60]}… is nested more than {DEEPEST} deep; mend it")
    if isinstance(value, Mapping):
        for name, inside in value.items():
            if not isinstance(name, str):
                raise ConfigError(f"{key}: the key {name!r} must be a text; quote it")
            refuse_unfit(name, (*path, "(a key)"))
            refuse_unfit(inside, (*path, name))
    elif isinstance(value, list | tuple):
        for inside in value:
            refuse_unfit(inside, path)
    elif isinstance(value, str):
        if (path and value and SECRET_NAME.search(path[-1])) or holds_secret(value):
            raise ConfigError(
                f"{key} holds what looks like a secret, and a config is stored with every round; take it out, keys come from "
                "the environment (engine.endpoint.key_env names the variable, HF_TOKEN is the hub's)"
            )
        if "\0" in value or not encodable(value):
            raise ConfigError(f"{key}: {value[:60]!r} holds what is no text (a null byte, or half a character); mend it")
