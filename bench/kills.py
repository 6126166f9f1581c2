"""``python -m bench.kills [--kills 1000] [--out FILE]``: kill trainings, resume them, compare.

A training saves at every step, is killed with SIGKILL at a random moment and resumed, again and
again until it has ended; then the next one begins, until there have been as many kills as asked
for. After each kill every file of the run must be whole, and the next call must go on. At its end
each training must have the bits of one that nobody killed.

The trainings are forked from this program, which has loaded PyTorch: what is to be killed is the
training and not seconds of imports.
"""

import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bench.command import check, parser_of, recorded
from bench.record import RESULTS, write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.checkpoint import checkpoint_path, load_newest_checkpoint, saved_steps
from cxrgan_fast.runs.data_record import read_record
from cxrgan_fast.runs.generator_file import load_generator
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.training.loop import train

CPU = torch.device("cpu")
STEPS = 40
FROM_START = 0.1  # share of the kills at any moment; the others come after a new checkpoint
LONGEST = 0.4  # seconds from there to the kill, at most
SETTINGS: dict[str, Any] = {
    "steps": STEPS, "resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
    "phantom_images": 12, "precision": "fp32", "preset": "small", "device": "cpu",
    "checkpoint_every": 1, "grid_every": 4, "log_every": 1,
}  # fmt: skip


def start(out: Path, run: Path | None) -> int:
    """Fork a process that trains, and give its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with Path(os.devnull).open("w") as null:
            sys.stdout = sys.stderr = null
            train(override(TrainConfig(), {**SETTINGS, "out": out}), CPU, run)
        code = 0
    except BaseException:
        (out / "failure.txt").write_text(traceback.format_exc())
    os._exit(code)


def kill_after(pid: int, seconds: float, out: Path | None, step: int) -> int | None:
    """Kill a process after some seconds; give its exit status if it ended before, else None.

    Args:
        pid: of the process.
        seconds: until the kill.
        out: if given, they are counted from when a run in it has a checkpoint beyond `step`.
        step: the newest before.
    """
    since = time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if out is not None:
            if max([0, *(max([0, *saved_steps(run)]) for run in _runs(out))]) > step:
                out, since = None, time.monotonic()
        elif time.monotonic() - since >= seconds:
            break
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return None if code == -signal.SIGKILL else code


def _runs(out: Path) -> list[Path]:
    return [path for path in sorted(out.iterdir()) if path.is_dir()]


def is_whole(path: Path) -> bool:
    """Whether a file of a run can be read to its end."""
    try:
        if path.suffix == ".safetensors":
            return load_generator(path).step > 0
        if path.suffix in (".png", ".gif"):
            with Image.open(path) as image:
                image.load()
        elif path.name == "config.yaml":
            return "steps" in read_config_file(path)
        elif path.name == "dataset.json":
            return read_record(path.parent) is not None
    except (UserError, OSError):
        return False
    # The checkpoints are looked at together. What lines are appended to has a last one that may
    # be cut, which readers pass over, and a hidden file is one that was not finished.
    return True


def same_bits(a: Any, b: Any) -> bool:
    """Whether two nested states are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


def final_state(run: Path) -> dict[str, Any]:
    """The state of the training at its end."""
    found = load_newest_checkpoint(run, CPU)
    return dict(found.state["training"])


def measure(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill trainings until there have been so many kills; count what came of them."""
    rng = random.Random(seed)
    (folder / "straight").mkdir()
    straight = _straight(folder / "straight")
    counts: Counter[str] = Counter()
    failures: list[str] = []
    interrupted = False
    while counts["kills"] < kills and not interrupted:
        out = folder / f"training-{counts['trainings']}"
        out.mkdir()
        counts["trainings"] += 1
        run: Path | None = None
        while True:
            before = saved_steps(run)[-1] if run else 0
            wait = rng.uniform(0, LONGEST)
            since = None if rng.random() < FROM_START else out
            if counts["kills"] >= kills or interrupted:
                wait, since = 3600.0, None
            pid = start(out, run)
            try:
                code = kill_after(pid, wait, since, before)
            except KeyboardInterrupt:  # what has been counted so far is written
                interrupted = True
                os.waitpid(pid, 0)
                continue
            if code is not None:
                if code:
                    counts["calls_that_failed"] += 1
                    failures.append((out / "failure.txt").read_text()[-2000:])
                break
            counts["kills"] += 1
            # A run without a checkpoint has nothing to go on from; it begins anew.
            runs = [path for path in _runs(out) if saved_steps(path)]
            run = runs[0] if runs else None
            if run is None:
                counts["kills_before_the_first_checkpoint"] += 1
                continue
            counts["kills_after_new_steps"] += saved_steps(run)[-1] > before
            files = [path for path in run.rglob("*") if path.is_file()]
            counts["kills_amid_a_write"] += any(path.name.endswith(".tmp") for path in files)
            visible = [path for path in files if not path.name.startswith(".")]
            broken = [path.name for path in visible if not is_whole(path)]
            broken += [path.name for path, _ in load_newest_checkpoint(run, CPU).damaged]
            counts["files_that_were_not_whole"] += len(broken)
            failures += broken
        if not failures:
            runs = [path for path in _runs(out) if saved_steps(path)]
            counts["trainings_with_other_bits"] += not same_bits(final_state(runs[0]), straight)
    counted = {name: counts[name] for name in _COUNTED}
    return {"seed": seed, "steps": STEPS, "longest_seconds": LONGEST, "counts": counted,
            "failures": failures[:20], "settings": SETTINGS}  # fmt: skip


_COUNTED = ("kills", "trainings", "kills_before_the_first_checkpoint", "kills_after_new_steps",
            "kills_amid_a_write", "files_that_were_not_whole", "calls_that_failed",
            "trainings_with_other_bits")  # fmt: skip


def _straight(out: Path) -> dict[str, Any]:
    """The state of a training that nobody kills. Here: what it imports the forked ones have."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run, _ = train(override(TrainConfig(), {**SETTINGS, "out": out}), CPU)
    assert checkpoint_path(run, STEPS).exists()
    return final_state(run)


def main() -> None:
    """Parse, measure, write, print."""
    parser = parser_of("bench.kills", __doc__)
    parser.add_argument("--kills", type=int, default=1000, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=RESULTS / "kills.json", help="file to write")
    options = parser.parse_args()
    check(options, least={"kills": 1})
    # Ctrl-C writes what there is; also where a shell has started this in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)  # before the first op: a fork after threads were used would hang
    with tempfile.TemporaryDirectory() as folder:
        measurements = measure(options.kills, options.seed, Path(folder))
    write_result(options.out, recorded("bench.kills"), measurements)
    print(", ".join(f"{name} {count}" for name, count in measurements["counts"].items()))


if __name__ == "__main__":
    sys.exit(run_command(main))
