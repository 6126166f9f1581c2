"""The compiled module, its stub ``_C.pyi`` and the class ``Extension`` say the same.

csrc/bindings*.cpp make the module, the stub describes it to mypy, and the class is the type of what
``native()`` returns.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cxrgan_fast.ops import extension
from cxrgan_fast.ops.backend import NATIVE_DTYPES, load_native

PACKAGE = Path(extension.__file__).parents[1]
STUB = (PACKAGE / "_C.pyi").read_text()
CLASS = inspect.getsource(extension)

# What pybind11 writes, from version to version, for what C++ takes.
WRITTEN = {
    "typing.SupportsInt | typing.SupportsIndex": "int",
    "typing.SupportsInt": "int",
    "typing.SupportsFloat | typing.SupportsIndex": "float",
    "typing.SupportsFloat": "float",
}


@dataclass(frozen=True)
class Signature:
    """The types of a function's arguments, without self, and of what it returns."""

    arguments: tuple[str, ...]
    returned: str


@dataclass
class Described:
    """What one description says."""

    constants: dict[str, str]
    functions: dict[str, Signature]
    """Methods as ``class.method``."""
    classes: set[str]
    dictionaries: dict[str, set[str]]
    """The keys of those that functions return."""


def of_stub(source: str) -> Described:
    body = ast.parse(source).body
    aliases = {
        ast.unparse(node.targets[0]): ast.unparse(node.value)
        for node in body
        if isinstance(node, ast.Assign)
    }
    found = Described({}, {}, set(), {})
    for node in body:
        if isinstance(node, ast.AnnAssign):
            found.constants[ast.unparse(node.target)] = ast.unparse(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.functions[node.name] = signature(node, aliases)
        elif isinstance(node, ast.ClassDef):
            if [ast.unparse(base) for base in node.bases] == ["TypedDict"]:
                keys = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
                found.dictionaries[node.name] = keys
                continue
            found.classes.add(node.name)
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    found.functions[f"{node.name}.{each.name}"] = signature(each, aliases)
    return found


def of_module(module: ModuleType) -> Described:
    found = Described({}, {}, set(), {})
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        if inspect.isclass(value):
            found.classes.add(name)
            for method, each in vars(value).items():
                if method == "__init__" or not method.startswith("_"):
                    found.functions[f"{name}.{method}"] = of_binding(each)
        elif callable(value):
            found.functions[name] = of_binding(value)
        else:
            found.constants[name] = type_of(value)
    return found


def type_of(constant: object) -> str:
    if not isinstance(constant, dict):
        return type(constant).__name__
    keys, values = (
        " | ".join({type(each).__name__ for each in part})
        for part in (constant.keys(), constant.values())
    )
    return f"dict[{keys}, {values}]"


def of_binding(function: Any) -> Signature:
    """From the line that pybind11 puts into a docstring; an overloaded function has another."""
    line, *_ = function.__doc__.splitlines()
    node = ast.parse(f"def {line}: ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return signature(node, {})


def signature(node: ast.FunctionDef, aliases: dict[str, str]) -> Signature:
    arguments = [*node.args.posonlyargs, *node.args.args]
    assert arguments == [each for each in ast.walk(node.args) if isinstance(each, ast.arg)]
    assert not node.args.defaults
    kinds = [
        kind(ast.unparse(each.annotation), aliases)
        for each in arguments
        if each.annotation is not None and each.arg != "self"
    ]
    assert len(kinds) == len([each for each in arguments if each.arg != "self"])
    assert node.returns is not None
    return Signature(tuple(kinds), kind(ast.unparse(node.returns), aliases))


def kind(annotation: str, aliases: dict[str, str]) -> str:
    annotation = aliases.get(annotation, annotation)
    for written, meant in WRITTEN.items():
        annotation = annotation.replace(written, meant)
    return annotation.replace("Tuple[", "tuple[")


def differences(stub: Described, module: Described) -> list[str]:
    """What a module and a stub disagree on, by name; what C++ returns is a bare dict or list."""
    found = []
    for of in ("constants", "functions"):
        ours: dict[str, Any] = getattr(stub, of)
        theirs: dict[str, Any] = getattr(module, of)
        for name in sorted(ours.keys() | theirs.keys()):
            if of == "functions" and name in ours and name in theirs:
                agree = ours[name].arguments == theirs[name].arguments and _returns(
                    ours[name].returned, theirs[name].returned, stub
                )
            else:
                agree = ours.get(name) == theirs.get(name)
            if not agree:
                found.append(f"{name}: {ours.get(name)} in _C.pyi, {theirs.get(name)} compiled")
    found += sorted(f"class {name}" for name in stub.classes ^ module.classes)
    return found


def _returns(stub: str, module: str, described: Described) -> bool:
    if module == "dict":
        return stub in described.dictionaries
    return stub == module or stub.startswith(f"{module}[")


def members(source: str) -> dict[str, str]:
    """The members of Extension, and what of the stub each is."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == "Extension":
            for each in node.body:
                if isinstance(each, ast.Assign):
                    found[ast.unparse(each.targets[0])] = ast.unparse(each.value)
    return found


def expected_members(stub: Described) -> dict[str, str]:
    functions = [name for name in stub.functions if "." not in name]
    whole = {name: f"_C.{name}" for name in (*stub.constants, *stub.classes)}
    return whole | {name: f"staticmethod(_C.{name})" for name in functions}


@pytest.fixture(params=["installed", "stand-in"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """The extension that is installed, and the one that tests compile from csrc as it is."""
    if request.param == "stand-in":
        found: ModuleType = request.getfixturevalue("cuda_standin")
        return found
    core, why_not = load_native()
    if core is None:
        pytest.skip(why_not)
    assert isinstance(core, ModuleType)
    return core


def test_the_stub_has_what_the_module_has(module: ModuleType) -> None:
    assert differences(of_stub(STUB), of_module(module)) == []


def test_dictionaries_have_the_keys_of_the_stub(cuda_standin: ModuleType) -> None:
    keys = of_stub(STUB).dictionaries
    assert set(cuda_standin.build_info()) == keys["BuildInfo"]
    assert [set(device) for device in cuda_standin.cuda_devices()] == [keys["CudaDevice"]]


def test_the_class_has_what_the_stub_has() -> None:
    assert members(CLASS) == expected_members(of_stub(STUB))


def test_the_dtypes_are_constants_of_the_stub() -> None:
    constants = of_stub(STUB).constants
    assert {constants.get(name) for name in NATIVE_DTYPES.values()} == {"int"}


def _with(old: str, new: str) -> str:
    assert STUB.count(old) == 1
    return STUB.replace(old, new)


@pytest.mark.parametrize(
    ("stub", "named"),
    [
        (lambda: _with("def paths(self, image: int, /)", "def paths(self)"), "paths"),
        (lambda: _with("def simd_level() -> str", "def simd_level() -> int"), "simd_level"),
        (lambda: _with("def simd_level() -> str: ...", ""), "simd_level"),
        (lambda: _with("LOSS_KINDS: dict[str, int]", "LOSS_KINDS: list[str]"), "LOSS_KINDS"),
        (lambda: _with("CPU: int", "CPU: int\nGPU: int"), "GPU"),
        (lambda: _with("        training: bool,\n", "        training: int,\n"), "backward"),
        (lambda: _with("class AugmentedBatch:", "class Batch:"), "AugmentedBatch"),
        (lambda: _with("    label_smoothing: float,\n", ""), "discriminator_loss"),
    ],
)
def test_a_stub_that_drifts_is_seen(
    cuda_standin: ModuleType, stub: Callable[[], str], named: str
) -> None:
    found = differences(of_stub(stub()), of_module(cuda_standin))
    assert any(named in each for each in found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        simd_level = staticmethod(_C.simd_level)\n", ""),
        ("staticmethod(_C.bias_leaky_relu_gate)", "staticmethod(_C.bias_leaky_relu)"),
        ("CPU = _C.CPU", "CPU = _C.CPU\n        GPU = _C.CPU"),
    ],
)
def test_a_class_that_drifts_is_seen(old: str, new: str) -> None:
    assert CLASS.count(old) == 1
    assert members(CLASS.replace(old, new)) != expected_members(of_stub(STUB))


RIGHT = """
from torch import Tensor
from cxrgan_fast.ops.backend import load_native, native
from cxrgan_fast.ops.conditional_batch_norm_kernels import _problem
from cxrgan_fast.ops.augmented_batch import _batch

def calls(x: Tensor) -> None:
    _problem(x, x, x, x, 0.2).paths(x.data_ptr())
    native().generator_loss(0, 0, 1, 0, 0, 0, (0, 0), -1, 1)
    native().cuda_probe_error(0)
    if core := load_native()[0]:
        core.cuda_devices()[0]["l2_bytes"] + core.FLOAT32
"""
WRONG = """\
    _problem(x, x, x, x, 0.2).paths()
    _problem(x, x, x, x, 0.2).path(0)
    _batch(x, 1, 1, None, None).linear(0, 0, 0)
    native().generator_loss(0, 0, 1, 0, 0, (0, 0), -1, 1)
    native().cuda_probe_error("0")
    native().no_such_function()
    native().cuda_devices()[0]["l2"]
    load_native()[0].simd_level()
"""


@pytest.mark.long
def test_mypy_checks_every_call_against_the_stub(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    config = tmp_path / "mypy.ini"
    # Without what PyTorch is made of, which takes half a minute to read.
    config.write_text(
        f"[mypy]\nmypy_path = {PACKAGE.parent}\n[mypy-torch.*,tqdm.*]\nfollow_imports = skip\n"
    )
    where = ["--config-file", str(config), "--cache-dir", str(tmp_path / "cache")]
    program = tmp_path / "program.py"
    program.write_text(RIGHT + WRONG)
    said, errors, _ = api.run([*where, "--show-error-codes", str(program)])
    assert not errors
    lines = {int(line.split(":")[1]) for line in said.splitlines() if "program.py" in line}
    right = len(RIGHT.splitlines())
    assert lines == {right + 1 + each for each in range(len(WRONG.splitlines()))}, said
