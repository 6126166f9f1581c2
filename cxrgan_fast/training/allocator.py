"""Large CPU tensors kept off mmap, so that a step does not wait for the kernel's fresh pages.

glibc gives every allocation over 32 MB (at most; the threshold adapts below that) its own mmap and
returns it at once when it is freed. A training step frees and allocates the same large tensors over
and over, and each time the kernel maps and clears every page again. With ``M_MMAP_MAX`` 0 they come
from the heap, and with a high ``M_TRIM_THRESHOLD`` the heap keeps what is freed. See mallopt(3).
"""

import ctypes
import os

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1

_state = "not changed"


def keep_large_tensors_off_mmap() -> bool:
    """Set the allocator of this process; call it before the first large tensor.

    Does nothing where the C library is not glibc, or where the user has set glibc's own
    ``MALLOC_MMAP_MAX_`` or ``MALLOC_TRIM_THRESHOLD_``.

    Returns:
        Whether the setting was made.
    """
    global _state
    if not glibc_version():
        _state = "not changed: the C library is not glibc"
        return False
    for variable in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"):
        if variable in os.environ:
            _state = f"not changed: {variable} is set"
            return False
    libc = ctypes.CDLL(None)
    done = libc.mallopt(_M_MMAP_MAX, 0) == 1
    done = libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT) == 1 and done
    _state = "large tensors come from the heap" if done else "not changed: mallopt refused"
    return done


def describe() -> str:
    """Describe in a few words what this process's allocator does with large tensors."""
    return _state


def glibc_version() -> str:
    """Return the version of glibc, such as ``2.36``; empty if the C library is another."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):  # Windows has no confstr, macOS not this one
        return ""
    return version if name == "glibc" else ""
