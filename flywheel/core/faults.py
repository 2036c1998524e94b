"""What the machine does, whichever library meets it: a full disk, a place that cannot be written, memory that is short."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
FULL_WORDS = ("No space left on device", "os error 28", "Disk quota exceeded", "PytorchStreamWriter failed writing")
"""Of libraries that raise errors of their own: safetensors, DuckDB, torch."""
UNWRITABLE_WORDS = ("Read-only file system", "os error 30")
MEMORY_WORDS = ("bad_alloc", "allocate memory", "out of memory", "Cannot allocate", "can't start new thread")


def machine_fault(error: BaseException) -> str | None:
    """What to tell in one line where it was the machine, and what to do; None for any other error."""
    said = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    if number in FULL or any(words in said for words in FULL_WORDS):
        return f"the disk is full{place}; free some space, then the same command goes on: what was committed is kept"
    if number in UNWRITABLE or any(words in said for words in UNWRITABLE_WORDS):
        return f"cannot write here ({said}); mend the rights, or name another workspace with --workspace"
    if number == errno.ENOMEM or short_of_memory(error):
        return (
            "memory is short; close other programs or lower engine.chunk (propose, answer, evaluate), reward.batch_tokens "
            "(score) or training.batch_size / training.accumulate (train): what was committed is kept"
        )
    return None


def short_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python and CUDA have an error for it, the CPU's allocators only words."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_WORDS)
