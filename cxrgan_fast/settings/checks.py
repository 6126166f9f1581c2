"""Settings that cannot work, refused by name before anything is made."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrgan_fast.data.load import data_place
from cxrgan_fast.data.sources import Columns
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import file_name_safe
from cxrgan_fast.ops.adversarial_loss import SMOOTHED_KINDS
from cxrgan_fast.settings.config import EvaluationConfig, OutputConfig, TrainConfig, flatten

# A resumed run may go on longer, elsewhere, and report and evaluate differently; nothing else may
# change. Its data may have moved: that they are the same is seen from their content.
_COLUMNS = [f.name for f in dataclasses.fields(Columns)]
MAY_CHANGE_ON_RESUME = {
    "steps",
    "max_minutes",
    "executor",
    "threads",
    "device",
    "data",
    "resident_share",
    *_COLUMNS,
    *(f.name for f in dataclasses.fields(OutputConfig)),
    *(f.name for f in dataclasses.fields(EvaluationConfig)),
} - {"out", "name"}

MOST_THREADS = 1024
_LARGEST = 1e12  # of a setting that is no count: beyond it steps give infinities


def check(config: TrainConfig, *, resumed: bool = False) -> None:
    """Refuse settings that cannot work, by name.

    Args:
        config: The settings.
        resumed: Whether they are those of a run that goes on. What it keeps of evaluations is then
            no mistake where it goes on without them.

    Raises:
        UserError: With the setting, what came and what was expected.
    """
    flat = flatten(config)
    positive = ("steps", "batch_size", "phantom_images", "discriminator_steps", "r1_interval",
                "log_every", "grid_every", "checkpoint_every", "keep_checkpoints")  # fmt: skip
    not_negative = ("seed", "max_minutes", "early_steps", "noise_std", "noise_decay_steps",
                    "r1_gamma", "g_lr", "d_lr", "l2", "ema_half_life", "ema_ramp",
                    "mark_every", "eval_every")  # fmt: skip
    smallest = {
        **dict.fromkeys(positive, 1),
        **dict.fromkeys(not_negative, 0),
        "eval_samples": 2,  # a covariance needs two
    }
    for name, least in smallest.items():
        if not flat[name] >= least:
            raise UserError(f"{_flag(name)} should be at least {least}, got {flat[name]}")
    largest = {
        "seed": 2**63 - 1,
        "batch_size": 65536,
        "phantom_images": 10**6,
        "eval_samples": 10**7,
        "discriminator_steps": 1000,
        "latent_size": 1 << 40,
    }
    for name, value in flat.items():
        # Counts beyond 2^53 fit neither a double nor, soon, a tensor; nobody means them.
        most = largest.get(name, 2**53)
        if type(value) is int and value > most:
            raise UserError(f"{_flag(name)} should be at most {most}, got {flat[name]}")
    threads = flat["threads"]
    if threads != "auto" and not 1 <= threads <= MOST_THREADS:
        raise UserError(
            f"--threads should be auto or from 1 to {MOST_THREADS}, got {threads}; the cores that "
            "may be used are what auto takes at most"
        )
    for name in ("label_smoothing", "beta1", "beta2", "momentum"):
        if not 0 <= flat[name] < 1:
            raise UserError(f"{_flag(name)} should be in [0, 1), got {flat[name]}")
    if not 0 <= flat["resident_share"] <= 1:
        raise UserError(f"--resident-share should be from 0 to 1, got {flat['resident_share']}")
    for name, value in flat.items():
        if isinstance(value, float) and not abs(value) <= _LARGEST:
            raise UserError(
                f"{_flag(name)} should be a number of at most {_LARGEST:g}, got {value}"
            )
    if config.objective.label_smoothing and config.objective.loss not in SMOOTHED_KINDS:
        raise UserError(
            f"--label-smoothing needs a loss with a target ({', '.join(SMOOTHED_KINDS)}), "
            f"got --loss {config.objective.loss}; leave it out"
        )
    if len(set(config.dataset.augment)) < len(config.dataset.augment):
        raise UserError(f"--augment names a policy twice: {' '.join(config.dataset.augment)}")
    if flat["name"] and not file_name_safe(flat["name"]):
        raise UserError(f"--name {flat['name']!r}: expected a letter or a digit in it")
    _refuse_idle(flat, resumed)


def _refuse_idle(flat: Mapping[str, Any], resumed: bool) -> None:
    """Refuse settings that were changed but would do nothing beside the others."""
    optimizer = flat["optimizer"]
    evaluates = flat["eval_every"] > 0 or resumed
    on_disk = data_place(flat["data"]) is not None
    needs = (
        ("early_steps", flat["loss"] == "minimax", "--loss minimax"),
        ("momentum", optimizer == "sgd", "--optimizer sgd"),
        ("beta1", optimizer in ("adam", "adamw"), "--optimizer adam or adamw"),
        ("beta2", optimizer != "sgd", "an --optimizer other than sgd"),
        ("negative_slope", flat["activation"] == "leaky_relu", "--activation leaky_relu"),
        ("noise_decay_steps", flat["noise_std"] > 0, "--noise-std"),
        ("r1_interval", flat["r1_gamma"] > 0, "--r1-gamma"),
        ("ema_ramp", flat["ema_half_life"] > 0, "--ema-half-life"),
        ("phantom_images", not on_disk, "--data phantom"),
        ("skip_bad", on_disk, "--data PATH"),
        *((name, on_disk, "--data TABLE") for name in _COLUMNS),
        ("class_balance", not flat["per_class"], "several classes in one GAN (no --per-class)"),
        ("eval_samples", evaluates, "--eval-every"),
        ("features", evaluates, "--eval-every"),
        ("inception_weights", flat["features"] == "inception", "--features inception"),
    )
    usual = flatten(TrainConfig())
    for name, met, need in needs:
        if not met and flat[name] != usual[name]:
            raise UserError(f"{_flag(name)} does nothing without {need}; leave it out")


def changed_on_resume(stored: TrainConfig, asked: TrainConfig, source: Path) -> None:
    """Refuse a resumed run whose hyperparameters differ from those ``source`` has ``stored``.

    Raises:
        UserError: Naming each setting that differs.
    """
    before, after = flatten(stored), flatten(asked)
    changed = [
        f"{_flag(name)} {after[name]} ({source.name} has {before[name]})"
        for name in before
        if name not in MAY_CHANGE_ON_RESUME and before[name] != after[name]
    ]
    if changed:
        raise UserError(
            f"a resumed run keeps its settings, got {', '.join(changed)}; "
            "leave them out, or start a new run"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
