"""What is missing on a machine with a GPU costs what needs it, and is named with how to have it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import packages
from programs import run_program

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bench" / "gpu.sh"
# What each step of bench/gpu.sh imports before it does anything.
MODULES = {
    "first-minute": ["bench.first_minute"],
    "kernels": ["bench.kernels"],
    "memcheck": ["bench.sanitize"],
    "throughput-64": ["bench.throughput"],
    "training": ["cxrgan_fast.train", "cxrgan_fast.training.loop", "bench.training_run"],
    "parity-64": ["research.parity", "research.parity_statistics"],
}
# Those of a machine with PyTorch, Triton and NumPy alone.
MISSING = ("pydantic", "tyro", "pydicom", "yaml", "tensorboard", "scipy", "matplotlib")


def needs() -> dict[str, list[str]]:
    """The table of bench/gpu.sh, without what is in brackets."""
    (table,) = re.findall(r'^STEPS="\n(.*?)^"', SCRIPT.read_text(), re.M | re.S)
    rows = [re.split(r"[(:]", line)[0].split() for line in table.splitlines()]
    return {step: names for step, _, *names in rows}


def with_their_own(names: list[str]) -> set[str]:
    """Distributions with all that they need, canonical names."""
    found, todo = set[str](), list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            wanted = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [re.match(r"[\w.-]+", each)[0] for each in wanted if "extra ==" not in each]
    return found


def all_but(names: list[str]) -> list[str]:
    """Modules of the distributions here that are neither those, nor PyTorch's, nor needed by it."""
    kept = with_their_own([*names, "torch", "triton", "numpy", "cxrgan_fast"])
    kept -= with_their_own(["cxrgan_fast"]) - with_their_own([*names, "torch", "triton", "numpy"])
    kept.add("cxrgan-fast")
    return [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not kept & {re.sub(r"[-_.]+", "-", each).lower() for each in owners}
    ]


WITHOUT = """
import importlib, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
for name in sys.argv[2:]:
    importlib.import_module(name)
print(*(name for name, module in sys.modules.items() if module is not None))
"""
# Imported when it is needed, not before.
LATER = {"training": {"tensorboard"}, "parity-64": {"scipy"}}


@pytest.mark.long
@pytest.mark.parametrize("step", MODULES)
def test_a_step_starts_with_the_packages_that_are_named_for_it(step: str) -> None:
    """And imports them: none is carried for nothing."""
    named = needs().get(step, [])
    blocked = all_but(named)
    assert {"pydicom", "sklearn"} <= set(blocked)
    imported = run_program(WITHOUT, ",".join(blocked), *MODULES[step], PYTHONPATH=str(ROOT))
    modules = {packages.MODULES.get(name, name) for name in set(named) - LATER.get(step, set())}
    assert modules <= set(imported.split())


COLLECT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
import pytest
class Collected:  # also what is left out then, since there is no GPU
    def pytest_itemcollected(self, item):
        print(item.nodeid)
flags = ["--collect-only", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
print("status", int(pytest.main([*flags, *sys.argv[2:]], plugins=[Collected()])))
"""


def collected(missing: tuple[str, ...], *paths: str) -> tuple[set[str], set[str]]:
    """The files of which tests are collected without some modules, and those with errors."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [sys.executable, "-c", COLLECT, ",".join(missing), *paths],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = set(re.findall(r"^(tests/\S+?\.py)::", run.stdout, re.M))
    errors = set(re.findall(r"^ERROR (tests/\S+?\.py)", run.stdout, re.M))
    assert "status" in run.stdout, run.stdout + run.stderr
    return found, errors


@pytest.mark.long
def test_the_gpu_tests_are_collected_with_pytorch_and_pytest_alone() -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "gpu").glob("test_*.py")}
    assert collected(MISSING, "tests/gpu") == (files, set())
    # What trains needs more, and is one file.
    others = ("hypothesis", "PIL", "tqdm", "safetensors")
    training = {"tests/gpu/test_training_graph.py"}
    assert collected(MISSING + others, "tests/gpu") == (files - training, training)


@pytest.mark.long
def test_without_hypothesis_the_other_tests_of_the_ops_are_collected() -> None:
    found, errors = collected((*MISSING, "hypothesis"), "tests/ops")
    assert "tests/ops/test_accuracy.py" in found
    assert "tests/ops/test_any_shape.py" in errors
    text = {path: (ROOT / path).read_text() for path in errors}
    assert all("hypothesis" in each or "properties" in each for each in text.values()), errors


def test_a_package_is_looked_for_by_the_name_of_its_module() -> None:
    assert packages.missing(["numpy", "no-such", "pillow", "no-such", "pyyaml"]) == ["no-such"]


@pytest.mark.parametrize(
    ("libc", "tags"),
    [
        ("", ["manylinux2014_x86_64", "manylinux_2_17_x86_64"]),
        ("glibc 2.27", ["manylinux2014_x86_64", "manylinux_2_17_x86_64"]),
        ("glibc 2.31", ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"]),
    ],
)
def test_wheels_are_no_newer_than_the_c_library(libc: str, tags: list[str]) -> None:
    assert packages.platforms("x86_64", libc) == tags


def test_the_command_prints_what_is_missing_then_how_to_carry_it(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["packages", "--how", "numpy", "no-such", "nor-this"])
    packages.main()
    names, command = capsys.readouterr().out.splitlines()
    assert names == "no-such nor-this"
    assert command.startswith("python3 -m pip download --dest wheels --only-binary=:all: ")
    assert command.endswith(" no-such nor-this")
    monkeypatch.setattr(sys, "argv", ["packages", "--how", "numpy"])
    packages.main()
    assert capsys.readouterr().out == "\n"
