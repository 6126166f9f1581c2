"""``bench/gpu.sh`` with a Python, and a compute-sanitizer, that only say how they were called."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from cxrgan_fast.ops import available_backends
from cxrgan_fast.ops.backend import load_native

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bench" / "gpu.sh"
STEPS = ["build", "first-minute", "kernels-bf16", "throughput-64", "gpu-tests", "native-tests"]
STEPS += ["memcheck", "racecheck", "kernels"]
# As the head of the script says: each takes under 9 minutes.
CALLS = [
    STEPS,
    ["build", "throughput-128", "training", "compiled-64"],
    ["build", "triton-tests", "compile-tests", "large", "parity-64"],
    ["build", "compiled-128"],
    ["build", "parity-128"],
]

pytestmark = pytest.mark.skipif(
    not (shutil.which("bash") and shutil.which("timeout")), reason="bash or timeout is missing"
)

# $FAIL is a pattern of calls that fail, $HANG of calls that never end by themselves.
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  *get_device_name*) echo "Some GPU (80 GB)"; exit $NO_GPU ;;
  *"import xdist"*) exit 1 ;;
esac
if [ -n "$REAL" ] && [[ "$*" =~ $REAL ]]; then cd "$ROOT" && exec "$REAL_PYTHON" "$@"; fi
if [[ "$*" == *bench.packages* ]]; then echo "$LACKS"; exit; fi
if [ -n "$FAIL" ] && [[ "$*" =~ $FAIL ]]; then echo "this went wrong"; exit 3; fi
if [ -n "$HANG" ] && [[ "$*" =~ $HANG ]]; then
  trap 'echo interrupted; exit 130' INT
  while :; do sleep 0.05; done
fi
if [ -n "$RUNS_HERE" ] && [[ "$*" == *cxrgan_fast.train* ]]; then
  while [ "$1" != --out ]; do shift; done
  mkdir -p "$2/00000-run/grids" && touch "$2/00000-run/progress.gif"
  echo "first grid" >"$2/00000-run/grids/grid-000000.png"
  echo "newest grid" >"$2/00000-run/grids/grid-000500.png"
fi
echo "$* PYTHONPATH=$PYTHONPATH TUNE=$CXRGAN_TRITON_TUNE"
"""
SANITIZER = """#!/usr/bin/env bash
echo "sanitizer $* caching=$PYTORCH_NO_CUDA_MEMORY_CACHING" >>"$CALLS"
echo "$SAYS"
exit $SANITIZED
"""


@pytest.fixture
def script(tmp_path: Path):
    """Run the script: exit status, output, and the calls of its Python."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("python", PYTHON), ("compute-sanitizer", SANITIZER)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    calls = tmp_path / "calls"
    # In a tree of its own, where it can build as it likes.
    path = tmp_path / "tree" / "bench" / "gpu.sh"
    for folder in ("bench", "kernels", "cxrgan_fast"):
        (tmp_path / "tree" / folder).mkdir(parents=True)

    def start(
        *steps: str, limit: str = "", text: str = "", **variables: str
    ) -> subprocess.Popen[str]:
        calls.write_text("")
        text = text or SCRIPT.read_text()
        if limit:  # every limit is that
            text = re.sub(r"^([\w-]+ +)\d+( .*: )", rf"\g<1>{limit}\2", text, flags=re.M)
            text = re.sub(r"^LEAST=\d+", f"LEAST={limit}", text, flags=re.M)
            text = re.sub(r"^TOTAL=\d+", "TOTAL=0", text, flags=re.M)
        path.write_text(text)
        environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHON": str(tools / "python"),
            "OUT": str(tmp_path / "out"),
            "CALLS": str(calls),
            **dict.fromkeys(("FAIL", "HANG", "RUNS_HERE", "SAYS", "LACKS", "REAL"), ""),
            **dict.fromkeys(("NO_GPU", "SANITIZED"), "0"),
            "REAL_PYTHON": sys.executable,
            "ROOT": str(ROOT),
            **variables,
        }
        for name in ("PYTHONPATH", "CXRGAN_TRITON_TUNE", "WHEELS", "EXTENSION"):
            if name not in variables:
                environment.pop(name, None)
        return subprocess.Popen(
            ["bash", str(path), *steps],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(*steps: str, **options: str) -> tuple[int, str, list[str]]:
        process = start(*steps, **options)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output, calls.read_text().splitlines()

    run.start = start
    return run


def rows() -> list[tuple[str, str, str, str]]:
    """Of each step its name, its limit, the packages that it needs, and its command."""
    (table,) = re.findall(r'^STEPS="\n(.*?)^"', SCRIPT.read_text(), re.M | re.S)
    return re.findall(r"^(\S+) +(\S+) *(.*?) *: (.*)$", table, re.M)


def summary(output: str) -> dict[str, str]:
    """The result of each step, from the table at the end."""
    rows = re.findall(r"^(\S+) +\d+ s  (.*)$", output, re.MULTILINE)
    return dict(rows)


def test_every_step_in_its_order(script, tmp_path: Path) -> None:
    status, output, calls = script()
    assert status == 0
    assert summary(output) == dict.fromkeys(STEPS, "passed")
    out = tmp_path / "out"
    assert (out / "summary.txt").read_text().startswith("Some GPU (80 GB): 0 of 9 steps failed")
    assert output.endswith((out / "summary.txt").read_text())
    assert {each.name for each in out.iterdir()} == {"log.txt", "summary.txt"}
    pytest_call = "-m pytest -q -m not slow --products --continue-on-collection-errors"
    # PyTorch's kernels, which are most of them, are not looked into.
    ours = "--error-exitcode 9 --kernel-name kernel_substring=cxrgan"
    wanted = [
        r"-m pip install --no-build-isolation --no-deps -e \.",
        rf"-m bench.first_minute --device cuda --json {out}/first_minute.json",
        rf"-m bench.kernels --device cuda --out {out}/kernels_bf16.json .*--dtypes bfloat16 "
        r"--layouts channels_last --against eager --compiled-shapes$",
        rf"-m bench.throughput .*--resolution 64 .*--out {out}/throughput_64.json",
        rf"{pytest_call} --junitxml={out}/gpu-tests.xml tests/gpu -k not triton",
        rf"{pytest_call} --junitxml={out}/native-tests.xml tests/ops -k native-cuda and not \(",
        rf"sanitizer --tool memcheck {ours} --report-api-errors no .* -m bench.sanitize --seconds",
        rf"sanitizer --tool racecheck {ours} .* -m bench.sanitize --seconds \d+ caching=1",
        rf"-m bench.kernels --device cuda --out {out}/kernels.json .*--compiled-shapes 64x\S+ 64x",
    ]
    places = [next(i for i, call in enumerate(calls) if re.search(w, call)) for w in wanted]
    assert places == sorted(places)
    assert not any("setup.py" in call for call in calls)
    log = (out / "log.txt").read_text()
    (limit,) = re.findall(r"^== kernels, at most (\d+) s", log, re.M)
    assert 300 < int(limit) <= 522  # nothing before it has taken long
    tuned = {step: re.findall(rf"{step}.* TUNE=(.*)", log) for step in ("-m pytest", "kernels --d")}
    assert set(tuned["-m pytest"]) == {"0"}
    assert set(tuned["kernels --d"]) == {""}


@pytest.mark.parametrize("steps", CALLS, ids="-".join)
def test_all_limits_together_are_under_nine_minutes(steps: list[str]) -> None:
    text, limits = SCRIPT.read_text(), {step: limit for step, limit, _, _ in rows()}
    grace, total, least = (
        int(re.search(rf"^{name}=(\d+)", text, re.M)[1]) for name in ("GRACE", "TOTAL", "LEAST")
    )
    *before, last = steps
    time = sum(int(limits[name]) + grace for name in before)
    if limits[last] == "rest":
        assert time + least + grace <= total < 540  # as much as that is left for the last
    else:
        assert time + int(limits[last]) + grace < 540


def test_steps_of_training_are_measured_and_a_run_is_kept(script, tmp_path: Path) -> None:
    steps = ["build", "throughput-64", "throughput-128", "training"]
    status, output, calls = script(*steps, DATA="some images", RUNS_HERE="1")
    out = tmp_path / "out"
    assert status == 0, output
    assert summary(output) == dict.fromkeys(steps, "passed")
    for size in (64, 128):
        (call,) = (each for each in calls if f"throughput_{size}.json" in each)
        assert f"--preset base --resolution {size} --batch-size 64" in call
        assert call.endswith("--variants reference_amp eager graph floor")
    (train,) = (each for each in calls if "cxrgan_fast.train" in each)
    assert "--data some images --resolution 64" in train
    minutes = float(train.split("--max-minutes ")[1])
    assert 1 < minutes < 2.5
    assert any(
        f"bench.training_run {out}" not in each and "training.json" in each for each in calls
    )
    assert (out / "training.png").read_text() == "newest grid\n"
    assert (out / "training.gif").exists()


@pytest.mark.parametrize("left", [3, 60, 91, 200])
def test_a_training_ends_before_its_limit(script, left: int) -> None:
    """However little time is left: without minutes it would go on until it is killed."""
    ends = rf"training {left} \1training {left}\n"
    text = re.sub(r"^training +150 (.*: )training 150\n", ends, SCRIPT.read_text(), flags=re.M)
    assert text != SCRIPT.read_text()
    status, output, calls = script("training", text=text, RUNS_HERE="1")
    assert status == 0, output
    (train,) = (each for each in calls if "cxrgan_fast.train" in each)
    minutes = float(train.split("--max-minutes ")[1].split()[0])
    assert 0 < 60 * minutes < left


def test_what_compiles_is_measured_into_files_of_its_own(script, tmp_path: Path) -> None:
    status, output, calls = script("build", "compiled-64", "compiled-128")
    assert status == 0, output
    measured = [each for each in calls if "bench.throughput" in each]
    assert [each.split("--out ")[1].split()[0] for each in measured] == [
        str(tmp_path / "out" / f"throughput_compiled_{size}.json") for size in (64, 128)
    ]
    assert not any("--variants" in each for each in measured)  # all of them


@pytest.mark.parametrize("size", [64, 128])
def test_parity_is_measured_with_as_many_seeds_as_fit(script, tmp_path: Path, size: int) -> None:
    status, output, calls = script("build", f"parity-{size}", DATA="some images")
    assert status == 0, output
    (call,) = (each for each in calls if "research.parity" in each)
    assert f"--data some images --resolution {size} --steps" in call
    assert call.endswith(f"--out {tmp_path}/out/parity_{size}.json")
    # It ends by itself, before the time that everything may take: 530 s.
    minutes = float(call.split("--minutes ")[1].split()[0])
    assert 6 < minutes < 530 / 60 - 0.5


def test_a_training_that_fails_is_a_step_that_failed(script) -> None:
    status, output, _ = script("training", FAIL="cxrgan_fast.train")
    assert status == 1
    assert summary(output) == {"training": "failed (3)"}


def test_a_step_that_fails_does_not_stop_the_next(script, tmp_path: Path) -> None:
    steps = ["gpu-tests", "kernels", "first-minute"]
    status, output, _ = script(*steps, FAIL="tests/gpu|bench.kernels")
    assert status == 2
    assert summary(output) == {
        "gpu-tests": "failed (3)",
        "kernels": "failed (3)",
        "first-minute": "passed",
    }
    assert "this went wrong" in output
    assert "2 of 3 steps failed" in (tmp_path / "out" / "summary.txt").read_text()


def test_a_step_is_interrupted_at_its_limit_and_the_next_goes_on(script) -> None:
    start = time.monotonic()
    status, output, _ = script("kernels", "first-minute", limit="1", HANG="bench.kernels")
    assert time.monotonic() - start < 30
    assert status == 1
    assert summary(output) == {"kernels": "stopped at its limit", "first-minute": "passed"}
    assert "interrupted" in output  # it was asked to stop, and could keep what it had


def test_where_pip_cannot_install_it_is_built_in_place(script, tmp_path: Path) -> None:
    status, _, calls = script("build", FAIL="pip install")
    assert status == 0
    assert "setup.py build_ext --inplace" in calls
    assert (tmp_path / "tree" / "cxrgan_fast" / "kernels").readlink() == Path("../kernels")
    status, output, _ = script("build", FAIL="pip install|setup.py")
    assert status == 1
    assert summary(output) == {"build": "failed (3)"}


def test_without_a_sanitizer_its_steps_are_skipped(script, tmp_path: Path) -> None:
    (tmp_path / "tools" / "compute-sanitizer").unlink()
    status, output, _ = script("memcheck", CUDA_HOME=str(tmp_path))
    assert status == 0
    assert summary(output) == {"memcheck": "skipped"}
    assert "there is no compute-sanitizer here" in output


def test_a_sanitizer_that_cannot_look_into_the_gpu_is_skipped(script) -> None:
    says = "========= Error: Device not supported. Please refer to the documentation"
    status, output, _ = script("memcheck", "racecheck", SAYS=says, SANITIZED="1")
    assert status == 0
    assert summary(output) == {"memcheck": "skipped", "racecheck": "skipped"}
    status, output, _ = script("racecheck", SAYS="========= ERROR SUMMARY: 1 error", SANITIZED="9")
    assert status == 1
    assert summary(output) == {"racecheck": "failed (9)"}


def test_wheels_are_installed_for_the_run_only(script, tmp_path: Path) -> None:
    for name in ("some-1", "numpy-2", "torch-2"):  # PyTorch and what it was built with stay
        (tmp_path / f"{name}.whl").write_text("")
    _, output, calls = script("first-minute", WHEELS=str(tmp_path))
    (call,) = [call for call in calls if "--target" in call]
    site = re.fullmatch(
        rf"-m pip install --quiet --no-index --no-deps --target (\S+) {tmp_path}/some-1.whl", call
    )[1]
    assert f"PYTHONPATH={site} " in output
    assert "not taken from WHEELS: numpy-2.whl" in output
    assert not Path(site).parent.exists()


def test_a_wheel_for_another_python_costs_itself_alone(script, tmp_path: Path) -> None:
    for name in ("good-1", "other-1"):
        (tmp_path / f"{name}.whl").write_text("")
    status, output, calls = script("first-minute", WHEELS=str(tmp_path), FAIL="other-1.whl")
    assert status == 0
    assert "WHEELS: other-1.whl cannot be installed" in output
    assert calls[-1].startswith("-m bench.first_minute")
    assert [call for call in calls if call.endswith("good-1.whl")]


def test_a_missing_package_costs_its_step_and_is_said_first(script) -> None:
    """In brackets in STEPS is what costs a part of a step only."""
    steps = ["first-minute", "training", "gpu-tests"]
    status, output, calls = script(*steps, LACKS="pydantic pillow tyro", RUNS_HERE="1")
    assert status == 1
    assert summary(output) == {
        "first-minute": "passed",
        "training": "lacks pillow pydantic tyro",
        "gpu-tests": "passed",
    }
    head = output.partition("== ")[0]
    assert "training cannot start without pillow pydantic tyro\n" in head
    assert "gpu-tests loses a part without pillow\n" in head
    assert "give the folder as WHEELS=wheels" in head
    assert not any("cxrgan_fast.train" in call for call in calls)
    (asked,) = (call for call in calls if "bench.packages" in call and "--how" not in call)
    assert set(asked.split()[2:]) == {
        *("pillow", "safetensors", "tqdm", "pydantic", "pyyaml", "tensorboard", "tyro"),
        *("pytest", "pytest-xdist"),
    }


def test_what_to_carry_is_a_command_for_this_interpreter(script) -> None:
    text = re.sub(r"^(large .* pytest) :", r"\1 noSuch :", SCRIPT.read_text(), flags=re.M)
    _, output, _ = script("large", text=text, REAL="bench.packages")
    assert "large cannot start without noSuch\n" in output
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert re.search(rf"pip download .*--python-version {version} .* noSuch\n", output)


def test_every_step_that_is_called_is_there_with_its_packages() -> None:
    packages = {step: names for step, _, names, _ in rows()}
    assert packages.keys() == {step for call in CALLS for step in call}
    assert {step for step, names in packages.items() if not names} == {"memcheck", "racecheck"}


def test_an_extension_built_elsewhere_is_carried_in(script, tmp_path: Path) -> None:
    carried = tmp_path / "elsewhere" / "_C.so"
    carried.parent.mkdir()
    carried.write_text("an extension")
    lacks = "pybind11 setuptools"  # without which nothing could be built
    status, output, calls = script("build", EXTENSION=str(carried), LACKS=lacks)
    assert status == 0, output
    assert (tmp_path / "tree" / "cxrgan_fast" / "_C.so").read_text() == "an extension"
    assert (tmp_path / "tree" / "cxrgan_fast" / "kernels").is_symlink()
    assert not any("pip install" in call or "setup.py" in call for call in calls)


@pytest.mark.long
def test_a_carried_extension_that_cannot_be_used_says_why(script, tmp_path: Path) -> None:
    """By the real check, in this checkout, whose own extension has another name, or no GPU."""
    if load_native()[0] is None:
        pytest.skip("there is no extension here to be taken for another")
    carried = tmp_path / "_C.of-another-python.so"
    carried.write_text("")
    status, output, _ = script("build", EXTENSION=str(carried), REAL="load_native")
    assert status == 1
    assert "_C.of-another-python.so is not what this Python imports" in output
    reason = available_backends()["native"].why_not.get("cuda")
    carried = tmp_path / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    carried.write_text("")
    status, output, _ = script("build", EXTENSION=str(carried), REAL="load_native")
    assert (status, reason or "build_info") == (1 if reason else 0, reason or "build_info")
    assert reason is None or reason in output


def test_without_a_gpu_or_with_an_unknown_step_nothing_is_run(script) -> None:
    status, output, calls = script(NO_GPU="1")
    assert status == 2
    assert "has no PyTorch that sees a GPU" in output
    assert len(calls) == 1
    status, output, calls = script("first-minute", "kernel")
    assert status == 2
    assert "error: no step kernel" in output
    assert calls == []


def test_interrupting_the_script_interrupts_its_step(script, tmp_path: Path) -> None:
    process = script.start("kernels", "first-minute", HANG="bench.kernels")
    calls = tmp_path / "calls"
    deadline = time.monotonic() + 30
    while "bench.kernels" not in calls.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert "bench.first_minute" not in calls.read_text()
