"""An export on the Hugging Face hub: the checks before the work, and the upload."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import validate_repo_id

from flywheel.core.safe_text import without_secrets
from flywheel.errors import ConfigError, StoreError, first_line
from flywheel.export.files import PATTERNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An export on the hub."""

    url: str
    private: bool
    """As the hub has it: an existing dataset stays what it was."""


def check_push(name: str) -> None:
    """Raise ConfigError for an invalid name, and StoreError for offline mode or a missing token."""
    try:
        validate_repo_id(name)
        _owner, _name = name.split("/")
    except ValueError:
        raise ConfigError(f"invalid --push {name!r}", "Use OWNER/NAME, such as me/my-winners.") from None
    if constants.HF_HUB_OFFLINE:
        raise StoreError(f"cannot push to {name}: HF_HUB_OFFLINE is set", "Unset HF_HUB_OFFLINE.")
    if get_token() is None:
        raise StoreError(f"cannot push to {name}: no token found", "Set HF_TOKEN, or log in with `hf auth login`.")


def push(folder: Path, name: str, *, public: bool) -> Pushed:
    """Upload a folder to a dataset, which is created if there is none; raises StoreError."""
    api = HfApi()
    try:
        url = api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        # A loader would read the files of an earlier push along with the new ones.
        stale = list(PATTERNS.values())
        api.upload_folder(
            repo_id=name, repo_type="dataset", folder_path=folder, delete_patterns=stale, commit_message="flywheel export"
        )
        private = bool(api.repo_info(name, repo_type="dataset").private)
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        reason = without_secrets(first_line(error).strip())[:200]
        hint = f"The export in {folder} is complete. Check the network and HF_TOKEN, then push it again with --overwrite."
        raise StoreError(f"cannot push to {name}: {reason}", hint) from None
    return Pushed(url=str(url), private=private)
