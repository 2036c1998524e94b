"""Faults of the machine, whichever library meets them: a full disk, a read-only folder, too little memory."""

from __future__ import annotations

import errno

from flywheel.errors import RESUME, FlywheelError

FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
FULL_WORDS = ("No space left on device", "os error 28", "Disk quota exceeded", "PytorchStreamWriter failed writing")
"""In the errors of safetensors, DuckDB and torch."""
UNWRITABLE_WORDS = ("Read-only file system", "os error 30")
MEMORY_WORDS = ("bad_alloc", "allocate memory", "out of memory", "Cannot allocate", "can't start new thread")


def machine_fault(error: BaseException) -> FlywheelError | None:
    """What to report where the machine is at fault, and what to do; None for any other error."""
    text = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    if number in FULL or any(words in text for words in FULL_WORDS):
        return FlywheelError(f"the disk is full{place}", f"Free some space. {RESUME}")
    if number in UNWRITABLE or any(words in text for words in UNWRITABLE_WORDS):
        return FlywheelError(f"cannot access a file: {text}", "Fix its permissions, or choose another --workspace.")
    if number == errno.ENOMEM or short_of_memory(error):
        return FlywheelError(
            "out of memory",
            "Close other programs, lower `engine.workers` and `engine.batch_tokens` (propose, answer, evaluate) or "
            f"`reward.batch_tokens` (score), or set `training.gradient_checkpointing` to true (train). {RESUME}",
        )
    return None


def short_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python and CUDA have an exception for it, CPU allocators only a message."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_WORDS)
