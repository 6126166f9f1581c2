"""Threads: PyTorch's own pool and no other, from any thread and process, without the GIL.

Programs in processes of their own: their pools are as new, and a hang is a failure. The two losses
take part as soon as they have kernels of their own.
"""

from __future__ import annotations

import os

import pytest

from op_cases import NATIVE_CPU
from programs import run_program

pytestmark = [
    pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str),
    pytest.mark.usefixtures("target"),
]

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="no /proc here")

# Calls of every op, large enough for every thread: forward, backward.
PREAMBLE = """
import os, re, sys, threading
import torch
from op_cases import CASES, LAYOUTS
from cxrgan_fast.ops import discriminator_loss, generator_loss, set_backend
from cxrgan_fast.ops.backend import native

def losses():
    real, fake = torch.randn(2, 1 << 18, generator=torch.Generator().manual_seed(0))
    real, fake = real.requires_grad_(), fake.requires_grad_()
    d, g = discriminator_loss(real, fake), generator_loss(fake)
    return {"d": d.detach(), "g": g.detach(), "grad": torch.autograd.grad(d + g, fake)[0]}

def calls(shape=(16, 32, 32, 32), **options):
    cases = {
        f"{op} {layout}": make(shape, layout=layout, **options).results
        for op, make in CASES.items() for layout in LAYOUTS
    }
    return {**cases, "losses": losses}

def same(got, expected):
    return all(torch.equal(got[name], expected[name]) for name in expected)

def threads():
    return len(os.listdir("/proc/self/task"))
"""

COUNT = (
    PREAMBLE
    + """
def runtimes():
    lines = open("/proc/self/maps").read().splitlines()
    return {line.split()[-1] for line in lines if re.search(r"/lib(gomp|omp|iomp5)[^/]*$", line)}

torch.set_num_threads(3)
x = torch.randn(1 << 20, requires_grad=True)
torch.nn.functional.leaky_relu(x).sum().backward()  # starts PyTorch's pool
functions = calls()  # made by PyTorch's own operators
set_backend("native")
before = threads(), runtimes()
for name, function in functions.items():
    for _ in range(3):
        function()
        assert (threads(), runtimes()) == before, (name, threads(), runtimes(), before)
assert {os.path.realpath(native().openmp_runtime())} == {os.path.realpath(p) for p in runtimes()}
"""
)


@pytest.mark.long
@needs_proc
def test_no_threads_and_no_openmp_runtime_beside_those_of_torch() -> None:
    run_program(COUNT)


HONOR = (
    PREAMBLE
    + """
torch.set_num_threads(1)
functions = calls()
set_backend("native")
function = functions[sys.argv[1]]
alone = threads()
function()
assert threads() == alone, "a thread was started for one"
torch.set_num_threads(3)
expected = function()
assert threads() == alone + 2, (threads(), alone)
torch.set_num_threads(1)
assert same(function(), expected)
"""
)


@pytest.mark.long
@needs_proc
@pytest.mark.parametrize(
    "call", ["conditional_batch_norm_act-training contiguous", "bias_leaky_relu channels_last"]
)
def test_set_num_threads_is_honored(call: str) -> None:
    run_program(HONOR, call)


AT_ONCE = (
    PREAMBLE
    + """
from concurrent.futures import ThreadPoolExecutor

torch.set_num_threads(int(sys.argv[1]))
functions = calls((4, 24, 32, 31))
set_backend("native")
expected = {name: function() for name, function in functions.items()}
names = list(functions) * 30
barrier = threading.Barrier(4)

def work(first):
    barrier.wait()
    wrong = []
    for name in names[first:] + names[:first]:
        if not same(functions[name](), expected[name]):
            wrong.append(name)
    return wrong

with ThreadPoolExecutor(4) as pool:
    for wrong in pool.map(work, range(4)):
        assert not wrong, wrong
"""
)


@pytest.mark.long
@pytest.mark.parametrize("threads", [1, 2])
def test_calls_from_several_python_threads_at_once(threads: int) -> None:
    run_program(AT_ONCE, str(threads))


FORKED = (
    PREAMBLE
    + """
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(2)
set_backend("native")
functions = calls((4, 24, 32, 31))
expected = {name: function() for name, function in functions.items()}  # the parent's pool runs

class Calls(Dataset):
    def __len__(self):
        return 2 * len(functions)

    def __getitem__(self, index):
        name = list(functions)[index % len(functions)]
        return name, same(functions[name](), expected[name])

for _ in range(2):
    loader = DataLoader(
        Calls(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    results = list(loader)
    assert len(results) == len(Calls())
    assert all(right for _, right in results), results
    for name, function in functions.items():  # the parent's pool is as it was
        assert same(function(), expected[name]), name
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_workers_after_the_parent_has_used_its_pool() -> None:
    # Waiting threads sleep: where others work too, spinning takes most of the processor time.
    run_program(FORKED, OMP_WAIT_POLICY="passive")


# Another thread counts, offering the GIL back at every step, and the interpreter takes it from
# nobody by itself: the count moves on only while somebody has released it. A profiler reads the
# count right before and right after each call into the extension.
RELEASED = (
    PREAMBLE
    + """
import time

torch.set_num_threads(1)
functions = calls((8, 32, 64, 64))
set_backend("native")
count, stop, start = 0, False, 0
called, moved = set(), set()

def counting():
    global count
    while not stop:
        count += 1
        time.sleep(0)

def look(frame, event, function):
    global start
    if event == "c_call":
        start = count
    elif event == "c_return" and "cxrgan_fast._C" in f"{function.__module__} {function!r}":
        called.add(function.__name__)
        if count > start:
            moved.add(function.__name__)

sys.setswitchinterval(1000)
thread = threading.Thread(target=counting, daemon=True)
thread.start()
for _ in range(50):  # a short kernel may be over before the other thread has woken up
    sys.setprofile(look)
    for function in functions.values():
        function()
    sys.setprofile(None)
    # C additions, or how many bytes a kernel will need: shorter than letting go of the GIL.
    called = {name for name in called if not name.endswith(("_statistics", "_workspace"))}
    if moved >= called:
        break
stop = True
thread.join()
assert len(called) > 3, called
assert moved >= called, called - moved
"""
)


def test_every_kernel_releases_the_gil() -> None:
    run_program(RELEASED)
