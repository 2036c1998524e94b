"""Models on disk: found, fetched and checked before a library is let near them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flywheel.core.functions import reason_of
from flywheel.errors import ModelError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
"""Endings of weights that are not safetensors."""


def local_folder(source: str) -> Path:
    """The folder of a model: the folder itself, or the download of a hub id. Safetensors only.

    Raises ModelError for a missing folder, missing or corrupt weights, or a hub id that cannot be had.
    """
    folder = Path(source)
    if not folder.exists():
        folder = _download(source)
    check_model(folder)
    return folder


def check_model(folder: Path) -> None:
    """Raise ModelError unless the folder holds a config and readable safetensors."""
    from safetensors import SafetensorError, safe_open

    if not folder.is_dir():
        raise ModelError(f"no model folder at {folder}; mend the path in the config")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, so it is not a model's folder; mend the path in the config")
    try:
        if not isinstance(json.loads((folder / "config.json").read_text(encoding="utf-8")), dict):
            raise ValueError("no object")
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON ({error}); copy or build the model anew") from None
    for path in _weights(folder):
        try:
            with safe_open(path, framework="np") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is corrupt ({error}); copy or build the model anew") from None


def _weights(folder: Path) -> list[Path]:
    """The files that transformers would read the weights from; raises ModelError where these are not all safetensors here."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        raise ModelError(
            f"{folder} has no model.safetensors{f', only {pickled[0]}' if pickled else ''}: pickled weights are not read, for "
            "they can hold a program that runs when they are opened; save the model with save_pretrained"
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        inside = bool(names) and all(Path(name).name == name and name.endswith(".safetensors") for name in names)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OSError) as error:
        raise ModelError(f"{index} is no index of weights ({type(error).__name__}); copy or build the model anew") from None
    if not inside:
        raise ModelError(f"{index} names files that are no *.safetensors beside it; copy or build the model anew")
    return [folder / name for name in names]


def settings_of(folder: Path) -> Any:
    """The configuration of a model that transformers knows without the model's own code; raises ModelError for another."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        reason = reason_of(error).partition(" You can inspect")[0][:300]
        raise ModelError(
            f"transformers cannot read the configuration of {folder} ({reason}); code that comes with a model is not run"
        ) from None


def has_chat_format(folder: Path, *, trust_remote_code: bool = False) -> bool:
    """Whether a model's tokenizer has a chat template."""
    from transformers import AutoTokenizer

    return bool(AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code).chat_template)


def chat_format(
    folder: Path, *, arguments: Mapping[str, Any] | None = None, trust_remote_code: bool = False
) -> Callable[[str], str]:
    """What puts a user's words into the chat template of a model, up to where the model answers.

    ``arguments`` are what the template takes beside the words. Raises ModelError where its tokenizer has no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if not tokenizer.chat_template:
        raise ModelError(f"the tokenizer of {folder} has no chat template; set prompt_style to completion")
    begun = tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]

    def as_chat(words: str) -> str:
        message = [{"role": "user", "content": words}]
        try:
            text = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, **(arguments or {})))
        except Exception as error:  # whatever the model's template does, in the sandbox of transformers
            raise ModelError(
                f"the chat template of {folder} fails ({reason_of(error)}); mend it, or set prompt_style"
            ) from None
        # A tokenizer that begins every text with its start token would write it twice.
        return text.removeprefix(tokenizer.bos_token) if begun else text

    return as_chat


def _download(source: str) -> Path:
    if source.startswith(("/", ".", "~")) or source.count("/") > 1:
        raise ModelError(f"no model folder at {source}; mend the path in the config")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise not_to_be_had(source, error) from None


def not_to_be_had(source: str, error: Exception) -> ModelError:
    """What is told of a model that is not on disk, and that the hub does not give."""
    reason = str(error).strip().splitlines()[0]
    return ModelError(f"{source!r} is neither a folder nor to be had from the hub ({reason}); mend the name, or go online")
