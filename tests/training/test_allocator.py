"""The allocator setting, in processes of its own: it cannot be taken back."""

import json
import os
import subprocess
import sys

import pytest

from cxrgan_fast.training.allocator import glibc_version

needs_glibc = pytest.mark.skipif(not glibc_version(), reason="the C library is not glibc")

# How many blocks the C library has mapped once a 64 MiB tensor is there.
PROGRAM = """
import ctypes, json, sys
import torch
from cxrgan_fast.training.allocator import describe, keep_large_tensors_off_mmap

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo2
done = keep_large_tensors_off_mmap() if sys.argv[1] == "set" else None
before = mallinfo().hblks
tensor = torch.ones(16 << 20)
print(json.dumps([done, mallinfo().hblks - before, describe()]))
"""


def run(mode: str, **environment: str) -> list:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.long
@needs_glibc
def test_large_tensors_stay_off_mmap_only_when_asked():
    assert run("leave") == [None, 1, "not changed"]
    assert run("set") == [True, 0, "large tensors come from the heap"]


@needs_glibc
def test_the_users_own_setting_is_left_alone():
    done, mapped, description = run("set", MALLOC_MMAP_MAX_="1000")
    assert (done, mapped) == (False, 1)
    assert description == "not changed: MALLOC_MMAP_MAX_ is set"


def test_another_c_library_is_left_alone(monkeypatch):
    from cxrgan_fast.training import allocator

    monkeypatch.setattr(allocator, "glibc_version", lambda: "")
    monkeypatch.setattr(allocator, "_state", "")
    assert not allocator.keep_large_tensors_off_mmap()
    assert allocator.describe() == "not changed: the C library is not glibc"
