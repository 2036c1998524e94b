"""Models on disk: found, downloaded and checked before a library loads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flywheel.core.faults import FULL
from flywheel.core.functions import reason_of
from flywheel.errors import ModelError, first_line

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
"""Suffixes of weights that are not safetensors."""
FIX_PATH = "Fix the path in the command or the config."
COPY_AGAIN = "Copy, download or build the model again."


def local_folder(source: str) -> Path:
    """The folder of a model: the folder itself, or the download of a hub id. Safetensors only.

    Raises ModelError for a missing folder, missing or corrupt weights, or a hub id that cannot be downloaded.
    """
    folder = Path(source)
    if not folder.exists() and source.count("/") < 2 and not source.startswith(("/", ".", "~")):
        folder = _download(source)
    check_model(folder)
    return folder


def check_model(folder: Path) -> None:
    """Raise ModelError unless the folder holds a config and readable safetensors."""
    from safetensors import SafetensorError, safe_open

    if not folder.is_dir():
        raise ModelError(f"no model folder at {folder}", FIX_PATH)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, so it is not a model folder", FIX_PATH)
    _read_json(folder / "config.json")
    for path in _weights(folder):
        try:
            with safe_open(path, framework="np") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {path}: {first_line(error)}", COPY_AGAIN) from None


def _weights(folder: Path) -> list[Path]:
    """The files that transformers would load weights from; raises ModelError unless all are safetensors in the folder."""
    weights, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if weights.is_file():
        return [weights]
    if not index.is_file():
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        hint = "Save the model with save_pretrained. Pickled weights are not loaded: they can run code."
        raise ModelError(f"{folder} has no model.safetensors" + "".join(f", only {name}" for name in pickles[:1]), hint)
    weight_map = _read_json(index).get("weight_map")
    names = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    wrong = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    if wrong or not names:
        problem = f"names {wrong[0]!r}, which is not a *.safetensors file in its folder" if wrong else "names no files"
        raise ModelError(f"{index} {problem}", COPY_AGAIN)
    return [folder / name for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"cannot read {path}: {reason_of(error)}", COPY_AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object", COPY_AGAIN)
    return value


def settings_of(folder: Path) -> Any:
    """A model's configuration, read by transformers without code of the model; raises ModelError if that is impossible."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        reason = reason_of(error).partition(" You can inspect")[0][:300]
        message = f"transformers cannot read the configuration of {folder}: {reason}"
        raise ModelError(message, "Use a model that transformers supports; code that comes with a model is not run.") from None


def chat_format(
    folder: Path, *, arguments: Mapping[str, Any] | None = None, trust_remote_code: bool = False
) -> Callable[[str], str] | None:
    """A function that puts a user's message into the chat template of a model, up to where the model answers.

    ``arguments`` go to the template. None for a tokenizer without one.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if not tokenizer.chat_template:
        return None
    adds_start = tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]

    def as_chat(words: str) -> str:
        message = [{"role": "user", "content": words}]
        try:
            text = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, **(arguments or {})))
        except Exception as error:  # whatever the model's template does, in the sandbox of transformers
            hint = "Fix the template or `chat_arguments`, or set `prompt_style` to completion."
            raise ModelError(f"the chat template of {folder} fails: {reason_of(error)}", hint) from None
        # A tokenizer that starts every text with its start token would add it twice.
        return text.removeprefix(tokenizer.bos_token) if adds_start else text

    return as_chat


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        if getattr(error, "errno", None) in FULL:
            raise
        raise not_found(source, error) from None


def not_found(source: str, error: Exception) -> ModelError:
    """The error for a model that is neither on disk nor on the hub."""
    message = f"model {source!r} not found, neither as a folder nor on the hub: {first_line(error)}"
    return ModelError(message, "Check the name, the network and, for a private or gated model, the token in HF_TOKEN.")
