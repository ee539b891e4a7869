"""How memory comes back: glibc hands large freed buffers to the kernel, which must clear them anew."""

from __future__ import annotations

import ctypes
import functools

# Parameters of mallopt(3), from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_INT = 2**31 - 1
# Larger buffers are still mapped for themselves, and given back when freed.
_KEPT = 2**30


@functools.cache
def keep_freed_memory() -> None:
    """Let this process use the memory of freed tensors again, on a CPU; elsewhere than on glibc do nothing.

    Every pass through the network allocates and frees the same hundreds of megabytes. Fetching them from the
    kernel each time, page by page, was measured at a sixth of the time of a gradient. The process then
    holds on to its largest use of memory, which was needed anyway.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
        mallopt(_M_MMAP_THRESHOLD, _KEPT)
