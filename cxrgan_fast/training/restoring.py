"""From a run's checkpoints to the state that a training goes on with, checked before it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.gan.adversarial import Adversarial, build_networks
from cxrgan_fast.runs import checkpoint as ckpt
from cxrgan_fast.runs.calls import read_calls
from cxrgan_fast.runs.logs import require_logs
from cxrgan_fast.runs.power_averages import saved_averages
from cxrgan_fast.settings.checks import changed_on_resume
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import read_config
from cxrgan_fast.threads import MOST_THREADS

_FIRST_NUMBERS = ["d_loss", "d_real_accuracy", "d_fake_accuracy", "g_loss", "r1"]
"""What steps reported when checkpoints did not name it."""


def find_state(
    run: Path, config: TrainConfig, n_classes: int, device: torch.device
) -> ckpt.Checkpoint:
    """Load the newest whole checkpoint of a run that is to go on with ``config``.

    Damaged ones are named and set aside. Nothing is changed before it is certain that the run can
    go on, and no network is built.

    Raises:
        UserError: There is no whole checkpoint, it is of other settings, or it holds something
            else than the state of such a training; or something else lies where the run
            writes a file.
    """
    found = ckpt.load_newest_checkpoint(run, device)
    path, state = found.path, found.state
    _require(path, isinstance(state.get("config"), str), "config", "text")
    seconds = state.get("seconds")
    is_time = isinstance(seconds, int | float) and 0 <= seconds < 2**53  # NaN is not
    _require(path, is_time, "seconds", "0 or more")
    threads = state.get("threads", 1)  # an older checkpoint has none
    is_number = type(threads) is int and 1 <= threads <= MOST_THREADS
    _require(path, is_number, "threads", f"from 1 to {MOST_THREADS}")
    stored = override(TrainConfig(), read_config(state["config"], path))
    changed_on_resume(stored, config, path)
    training = state.get("training")
    _require(path, isinstance(training, dict), "training", "a dict")
    assert isinstance(training, dict)
    with torch.device("meta"):  # on no device: a few bytes may ask for a network that fits none
        networks = build_networks(config, n_classes)
    for name, network in (*networks.items(), ("ema", networks[Adversarial.averaged])):
        _check_like(path, network.state_dict(), training.get(name), f"training.{name}")
    _require_places(run)
    require_logs(run)
    read_calls(run)
    for damaged, reason in found.damaged:
        print(
            f"passed over {damaged}: it is damaged ({reason}); kept as "
            f"{ckpt.set_aside(damaged).name}"
        )
    return found


def _require_places(run: Path) -> None:
    """Refuse folders where the run will write files: else its first save would fail."""
    checkpoints = run / "checkpoints"
    for path in (
        run / "generator.safetensors",
        ckpt.best_generator_path(run),
        run / "progress.gif",
        *checkpoints.glob("step-*.pt"),
        *checkpoints.glob("generator-*.safetensors"),
        *(run / "grids").glob("grid-*.png"),
        *(path for *_, path in saved_averages(run)),
    ):
        if path.is_dir() and not path.is_symlink():
            raise UserError(
                f"{printable(str(path))} is a folder, where this run writes a file; move it away"
            )


def upgraded(training: Mapping[str, Any], today: Mapping[str, Any]) -> dict[str, Any]:
    """Give a state of an earlier version the form of today's.

    What that version did not have yet is as at the start. What is not built as any version's is
    left as it is, for :func:`check_training` to refuse.

    Args:
        training: what a checkpoint holds.
        today: ``state_dict()`` of the training that it is for.
    """
    state = {"objective": today["objective"], "numbers": _FIRST_NUMBERS, **training}
    names, sums = state["numbers"], state.get("meters")
    if isinstance(names, list) and isinstance(sums, list) and names != today["numbers"]:
        state["numbers"] = today["numbers"]
        state["meters"] = [_by_name(each, names, today["numbers"]) for each in sums]
    return state


def _by_name(sums: Any, names: list[Any], wanted: list[str]) -> Any:
    """What a tensor of `Meters` holds of numbers with such names, as one of the wanted names."""
    if not isinstance(sums, Tensor) or sums.shape != (len(names),):
        return sums
    ordered = sums.new_zeros(len(wanted))
    for place, name in enumerate(wanted):
        if name in names:
            ordered[place] = sums[names.index(name)]
    return ordered


def check_training(path: Path, expected: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Refuse a state that a training could not take over.

    Args:
        path: its checkpoint.
        expected: ``state_dict()`` of the training that it is for.
        training: what the checkpoint holds.

    Raises:
        UserError: Naming the part.
    """
    same_device = training.get("device") == expected["device"]
    for name, part in expected.items():
        got, where = training.get(name), f"training.{name}"
        if name == "step":
            is_step = type(got) is int and 0 <= got < 2**62
            _require(path, is_step, where, "a number of steps")
        elif name == "device":
            _require(path, isinstance(got, str) and len(got) < 20, where, "a type of device")
        elif name.endswith("_optimizer"):
            # The settings beside it are not taken over.
            slots = got.get("state") if isinstance(got, dict) else None
            _check_like(path, part["state"], slots, f"{where}.state")
        elif name != "random" or same_device:  # another device's numbers begin anew
            _check_like(path, part, got, where)


def _check_like(path: Path, expected: Any, got: Any, where: str) -> None:
    """Refuse what is not built as ``expected`` is: the same keys, shapes and types."""
    if isinstance(expected, Tensor):
        fits = isinstance(got, Tensor) and got.layout == torch.strided
        wanted = f"{expected.dtype} of shape {tuple(expected.shape)}"
        _require(path, fits and (got.shape, got.dtype) == (expected.shape, expected.dtype),
                 where, wanted)  # fmt: skip
    elif isinstance(expected, Mapping):
        names = ", ".join(str(key) for key in list(expected)[:3])
        wanted = f"{len(expected)} entries ({names}, ...)"
        fits = isinstance(got, Mapping) and got.keys() == expected.keys()
        _require(path, fits, where, wanted)
        for key, part in expected.items():
            _check_like(path, part, got[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        fits = isinstance(got, list | tuple) and len(got) == len(expected)
        _require(path, fits, where, f"{len(expected)} entries")
        for index, part in enumerate(expected):
            _check_like(path, part, got[index], f"{where}.{index}")
    else:
        _require(path, type(got) is type(expected), where, type(expected).__name__)


def _require(path: Path, fits: bool, where: str, wanted: str) -> None:
    if not fits:
        raise UserError(
            f"{path}: {printable(where)} is not {wanted}, so that no training can go on from it; "
            "put a copy of the checkpoint in its place, or start a new run"
        )
