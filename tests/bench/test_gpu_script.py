"""``bench/gpu.sh`` with a Python, and a compute-sanitizer, that only say how they were called."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "gpu.sh"
STEPS = ["build", "env", "gpu-tests", "native-tests", "triton-tests", "memcheck", "racecheck"]
STEPS += ["large", "kernels"]
# As the head of the script says: each takes under 9 minutes.
CALLS = [
    STEPS,
    ["build", "throughput-64", "throughput-128", "training"],
    ["build", "compiled-64"],
    ["build", "compiled-128"],
    ["build", "parity-64"],
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

    def start(*steps: str, limit: str = "", **variables: str) -> subprocess.Popen[str]:
        calls.write_text("")
        text = SCRIPT.read_text()
        if limit:  # every limit is that
            text = re.sub(r"\) echo \d+ ", f") echo {limit} ", text)
            text = re.sub(r"^LEAST=\d+", f"LEAST={limit}", text, flags=re.M)
            text = re.sub(r"^TOTAL=\d+", "TOTAL=0", text, flags=re.M)
        path.write_text(text)
        environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHON": str(tools / "python"),
            "OUT": str(tmp_path / "out"),
            "CALLS": str(calls),
            "FAIL": "",
            "HANG": "",
            "RUNS_HERE": "",
            "NO_GPU": "0",
            "SAYS": "",
            "SANITIZED": "0",
            **variables,
        }
        for name in ("PYTHONPATH", "CXRGAN_TRITON_TUNE"):
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
    assert {each.name for each in out.iterdir()} == {"env.json", "log.txt", "summary.txt"}
    wanted = [
        r"-m pip install --no-build-isolation --no-deps -e \.",
        r"-m cxrgan_fast.env --json",
        rf"-m pytest -q --junitxml={out}/gpu-tests.xml tests/gpu",
        rf"-m pytest -q --junitxml={out}/native-tests.xml tests/ops -k native-cuda",
        rf"--junitxml={out}/triton-tests.xml tests/ops tests/kernels/test_kernels.py -k \(triton",
        r"sanitizer --tool memcheck .* --report-api-errors no .* -m bench.sanitize caching=1",
        r"sanitizer --tool racecheck .* -m bench.sanitize caching=1",
        rf"--junitxml={out}/large.xml tests/ops/test_large_tensors.py -m slow -k cuda",
        rf"-m bench.kernels --device cuda --out {out}/kernels.json .*--compiled-shapes 64x\S+ 64x",
    ]
    places = [next(i for i, call in enumerate(calls) if re.search(w, call)) for w in wanted]
    assert places == sorted(places)
    assert not any("setup.py" in call for call in calls)
    log = (out / "log.txt").read_text()
    (limit,) = re.findall(r"^== kernels, at most (\d+) s", log, re.M)
    assert 400 < int(limit) <= 522  # nothing before it has taken long
    tuned = {step: re.findall(rf"{step}.* TUNE=(.*)", log) for step in ("-m pytest", "kernels --d")}
    assert set(tuned["-m pytest"]) == {"0"}
    assert tuned["kernels --d"] == [""]


@pytest.mark.parametrize("steps", CALLS, ids="-".join)
def test_all_limits_together_are_under_nine_minutes(steps: list[str]) -> None:
    text = SCRIPT.read_text()
    limits, takes_the_rest = {}, set()
    for names, limit in re.findall(r"^  ([\w -]+(?:\| [\w -]+)*)\)\s+echo (\S+) ", text, re.M):
        for name in names.replace("|", " ").split():
            if limit.isdecimal():
                limits[name] = int(limit)
            else:
                takes_the_rest.add(name)
    grace, total, least = (
        int(re.search(rf"^{name}=(\d+)", text, re.M)[1]) for name in ("GRACE", "TOTAL", "LEAST")
    )
    *before, last = steps
    time = sum(limits[name] + grace for name in before)
    if last in takes_the_rest:
        assert time + least + grace <= total < 540  # as much as that is left for the last
    else:
        assert time + limits[last] + grace < 540


def test_steps_of_training_are_measured_and_a_run_is_kept(script, tmp_path: Path) -> None:
    status, output, calls = script(*CALLS[1], DATA="some images", RUNS_HERE="1")
    out = tmp_path / "out"
    assert status == 0, output
    assert summary(output) == dict.fromkeys(CALLS[1], "passed")
    for size in (64, 128):
        (call,) = (each for each in calls if f"throughput_{size}.json" in each)
        assert f"--preset base --resolution {size} --batch-size 64" in call
        assert call.endswith("--variants reference reference_amp eager graph floor")
    (train,) = (each for each in calls if "cxrgan_fast.train" in each)
    assert "--data some images --resolution 64" in train
    minutes = float(train.split("--max-minutes ")[1])
    assert 6 < minutes < 9
    assert any(
        f"bench.training_run {out}" not in each and "training.json" in each for each in calls
    )
    assert (out / "training.png").read_text() == "newest grid\n"
    assert (out / "training.gif").exists()


@pytest.mark.parametrize("left", [3, 60, 91, 200])
def test_a_training_ends_before_its_limit(script, left: int) -> None:
    """However little time is left: without minutes it would go on until it is killed."""
    status, output, calls = script("training", limit=str(left), RUNS_HERE="1")
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
    (call,) = (each for each in calls if "bench.parity" in each)
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
    status, output, _ = script("gpu-tests", "kernels", "env", FAIL="tests/gpu|bench.kernels")
    assert status == 2
    assert summary(output) == {
        "gpu-tests": "failed (3)",
        "kernels": "failed (3)",
        "env": "passed",
    }
    assert "this went wrong" in output
    assert "2 of 3 steps failed" in (tmp_path / "out" / "summary.txt").read_text()


def test_a_step_is_interrupted_at_its_limit_and_the_next_goes_on(script) -> None:
    start = time.monotonic()
    status, output, _ = script("kernels", "env", limit="1", HANG="bench.kernels")
    assert time.monotonic() - start < 30
    assert status == 1
    assert summary(output) == {"kernels": "stopped at its limit", "env": "passed"}
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
    (tmp_path / "some-1.whl").write_text("")
    _, output, calls = script("env", WHEELS=str(tmp_path))
    (call,) = [call for call in calls if "--target" in call]
    site = re.fullmatch(
        rf"-m pip install --quiet --no-index --no-deps --target (\S+) {tmp_path}/some-1.whl", call
    )[1]
    assert f"PYTHONPATH={site} " in output
    assert not Path(site).parent.exists()


def test_without_a_gpu_or_with_an_unknown_step_nothing_is_run(script) -> None:
    status, output, calls = script(NO_GPU="1")
    assert status == 2
    assert "has no PyTorch that sees a GPU" in output
    assert len(calls) == 1
    status, output, calls = script("env", "kernel")
    assert status == 2
    assert "error: no step kernel" in output
    assert calls == []


def test_interrupting_the_script_interrupts_its_step(script, tmp_path: Path) -> None:
    process = script.start("kernels", "env", HANG="bench.kernels")
    calls = tmp_path / "calls"
    deadline = time.monotonic() + 30
    while "bench.kernels" not in calls.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert "cxrgan_fast.env" not in calls.read_text()
