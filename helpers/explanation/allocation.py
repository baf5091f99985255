"""Why a larger batch can be slower on a CPU, and the one line that mends it.

PyTorch asks the C library for each activation. glibc takes blocks above a limit (at most 32 MiB, by default moving)
straight from the system and gives them back when they are freed: every page of every activation is then mapped and
filled with zeros again in each batch. What this does not do: anything on macOS, Windows or musl, where it returns
False.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# numbers from glibc's malloc.h; the values are C ints
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**31 - 1


def keep_freed_memory(block: int = 2**30) -> bool:
    """Let this process keep freed memory for its next request instead of giving it back to the system.

    It holds for the whole process and until its end, so memory that was once needed stays with it: call it in a
    notebook or script of your own, never in a library. Results do not change.

    Args:
        block: requests up to this many bytes are kept, 1 to 2**31 - 1.

    Returns whether the C library took it (True on Linux with glibc). Source: mallopt(3), man-pages 6.
    """
    if isinstance(block, bool) or not isinstance(block, int):
        raise TypeError(f"block must be a whole number of bytes, got {block!r}")
    if not 1 <= block <= LARGEST:
        raise ValueError(f"block must be 1 to {LARGEST:,} bytes, got {block:,}")
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 - musl has a mallopt that does nothing
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, block)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
