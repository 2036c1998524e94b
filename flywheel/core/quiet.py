"""Silences the progress bars and warnings of the libraries that train and generate; flywheel shows its own progress."""

from __future__ import annotations

import logging
import os
import warnings


def silence() -> None:
    """Switch off what the libraries print; errors still come as exceptions."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("trl", "accelerate", "mergekit", "ctranslate2", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|trl|torch|mergekit|accelerate|peft|ctranslate2)(\.|$)")
