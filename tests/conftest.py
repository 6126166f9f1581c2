"""Fixtures for every room's tests."""

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest
import torch

# Before anything imports Triton. Without a GPU its kernels are tested in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import tiers
from cuda_standin import building, standing_in
from cxrgan_fast.ops import use_backend
from cxrgan_fast.ops.conditional_batch_norm_kernels import use_cuda_path
from op_cases import TARGETS, Target

# Fixtures of commands and runs, of tests/support. A machine with a GPU and little else lacks what
# they need, and has tests that do without.
_NEEDED = ("tyro", "pydantic", "yaml", "safetensors", "tensorboard", "tqdm", "PIL")
pytest_plugins = ["run_fixtures"] if all(map(importlib.util.find_spec, _NEEDED)) else []

ROOT = Path(__file__).resolve().parent.parent

# One thread, here and in the programs that tests start: a second one waits spinning for its share
# of such small tensors, and on busy cores that costs ten times what it gains. Tests of threads set
# their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

# A shell that starts this in the background has Ctrl-C ignored, also by what the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a machine with a GPU and little else it may be missing: that costs the files of properties.
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    # How many examples every property is tried on. A machine with other work to do is no reason to
    # fail one.
    settings.register_profile("default", max_examples=50, deadline=None)
    settings.register_profile("long", max_examples=500, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the tiers know beside their markers."""
    parser.addoption(
        "--products",
        action="store_true",
        help="run every combination of a test's parameters, not only all pairs of their values",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile of Hypothesis: of the second tier, unless that is left out."""
    if sys.modules.get("hypothesis") and not config.getoption("--hypothesis-profile", None):
        first_tier = "not long" in config.getoption("-m")
        settings.load_profile("default" if first_tier else "long")


def pytest_report_header() -> str:
    """Say what a run on this machine does not show."""
    return tiers.header()


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Leave out combinations of parameters that no tier runs before they become items."""
    yield
    tiers.thin_out(metafunc, metafunc.config.getoption("--products"))


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run here, and put the rest into tiers."""
    items[:], left_out = tiers.sort_into_tiers(items, config.getoption("--products"))
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> None:
    """Keep what is there before a file's tests out of their collections of garbage.

    A million objects stay until the end: what was imported and collected, and what compilers and
    caches have kept. What captures, measures or ends a run collects garbage first, and each time
    these would take half a second.
    """
    importlib.import_module("torch._dynamo")  # as the first optimizer does, too late for this
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_numbers_every_run() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of the tests, and the tests out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def chest_xrays() -> Path:
    """The published chest X-ray folders, where this machine has them."""
    path = Path(os.environ.get("CXRGAN_DATA") or ROOT.parent / "shared" / "data" / "chest_xray")
    if not path.is_dir():
        pytest.skip(f"no chest X-rays at {path}: set CXRGAN_DATA to the folder of train/ and test/")
    return path


@pytest.fixture(params=TARGETS, ids=str)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Each backend on each device in turn, in use; tiers leaves out those that cannot run."""
    target: Target = request.param
    with ExitStack() as stack:
        if target.standin:
            stack.enter_context(standing_in(request.getfixturevalue("cuda_standin")))
            stack.enter_context(use_cuda_path(target.standin))
        stack.enter_context(use_backend(target.backend))
        yield target


@pytest.fixture(scope="session")
def cuda_standin() -> ModuleType:
    """csrc, CUDA kernels included, compiled for the CPU."""
    if building.why_not():
        pytest.skip(f"native-standin: {building.why_not()}")
    return building.load(building.build(ROOT / "csrc", ROOT / "build" / "cuda_standin"))


@pytest.fixture
def backend(target: Target) -> str:
    """The name of the backend in use."""
    return target.backend


@pytest.fixture
def device(target: Target) -> str:
    """Where the tensors of the backend in use have to be."""
    return target.device


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """torch.set_num_threads, undone afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
