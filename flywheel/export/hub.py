"""An export on the Hugging Face hub: what can be told before the work, and the upload."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from flywheel.errors import ConfigError, FlywheelError, StoreError

STALE = ["data/train-*.parquet", "train.parquet", "train.jsonl"]
"""Files of an earlier push that a loader would read beside the new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """Where an export lies on the hub."""

    url: str
    private: bool
    """As the hub has it: a data set that was there keeps what it was."""


def check_push(name: str) -> None:
    """Raise where a push could not even begin: a name that is none, no network by choice, no token."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
        well_named = name.count("/") == 1
    except HFValidationError:
        well_named = False
    if not well_named:
        raise ConfigError(f"--push wants OWNER/NAME, got {name!r}; for example me/my-winners")
    if constants.HF_HUB_OFFLINE:
        raise StoreError(f"cannot push to {name}: HF_HUB_OFFLINE is set; unset it")
    if get_token() is None:
        raise StoreError(f"cannot push to {name}: there is no token; set HF_TOKEN, or log in with `hf auth login`")


def push(folder: Path, name: str, *, public: bool) -> Pushed:
    """Upload a folder as a data set, made where there is none; raises StoreError in one line."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    api = HfApi()
    try:
        url = api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=name, repo_type="dataset", folder_path=folder, delete_patterns=STALE, commit_message="flywheel export"
        )
        private = bool(api.repo_info(name, repo_type="dataset").private)
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise _failure(name, folder, error) from None
    return Pushed(url=str(url), private=private)


def _failure(name: str, folder: Path, error: Exception) -> FlywheelError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    remedy = {
        401: "the hub does not know the token; set HF_TOKEN to one that is valid",
        403: "the token has no right to write there; take one with write access, or a name of your own",
        404: "there is no such owner, or the token may not see it; mend the name",
        429: "the hub wants you to wait; try again later",
    }.get(status or 0)
    if remedy is None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        remedy = f"{re.sub(r'hf_[A-Za-z0-9]+', 'hf_…', lines[0])[:200]}; check the network and try again"
    return StoreError(f"cannot push to {name}: {remedy}; the export lies whole in {folder}")
