"""Every setting of a training run: typed, with its default and one line of explanation.

The flags of ``python -m cxrgan_fast.train`` and the keys of a ``--config`` file are the field
names below. Settings are layered: the preset's, then the file's, then the flags'.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from cxrgan_fast.augment.diffaugment import Policy
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.registry import DEFAULT, is_code
from cxrgan_fast.nn import NetworkConfig
from cxrgan_fast.nn.family import families_with
from cxrgan_fast.ops.adversarial_loss import LossKind
from cxrgan_fast.settings.names import unknown_setting


@dataclass(frozen=True)
class ObjectiveConfig:
    """The adversarial game: Goodfellow et al. 2014, Algorithm 1, and what is added to it."""

    loss: LossKind = "non_saturating"
    """Adversarial loss."""
    discriminator_steps: int = 1
    """Discriminator updates for each generator update (k of Algorithm 1)."""
    early_steps: int = 0
    """With --loss minimax: the generator maximises log D(G(z)) for this many steps first."""
    label_smoothing: float = 0.0
    """One-sided label smoothing: the target of real images is 1 minus this."""
    noise_std: float = 0.0
    """Deviation of the Gaussian noise on every image the discriminator sees; their range is 2."""
    noise_decay_steps: int = 0
    """The noise falls linearly to nothing over this many steps; 0 keeps it constant."""
    r1_gamma: float = 1.0
    """Weight γ of the R1 penalty γ/2·E‖∇D‖² on real images (Mescheder et al. 2018); 0 is off."""
    r1_interval: int = 16
    """R1 is computed every this many steps, with its weight multiplied by it (lazy)."""


@dataclass(frozen=True)
class OptimizationConfig:
    """How the weights move."""

    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    """Optimizer of both networks."""
    g_lr: float = 5e-4
    """Learning rate of the generator."""
    d_lr: float = 5e-4
    """Learning rate of the discriminator."""
    beta1: float = 0.0
    """Adam's first decay rate."""
    beta2: float = 0.99
    """Adam's second decay rate; RMSprop's smoothing constant."""
    momentum: float = 0.9
    """Momentum of SGD."""
    l2: float = 0.0
    """Weight decay: an L2 penalty, or decoupled under adamw."""
    ema_half_life: float = 10_000.0
    """Half-life of the generator's moving average, in images shown."""
    ema_ramp: float = 0.05
    """Warm-up: the half-life is at most this share of the images shown so far; 0 is none."""


@dataclass(frozen=True)
class DatasetConfig:
    """What is trained on."""

    data: str = "phantom"
    """Folder, table, zip archive or packed set of images, or "phantom" for the synthetic set."""
    classes: tuple[str, ...] = ()
    """Classes to use; none means normal and bacterial of the published set, else all. NAME=A+B
    joins the classes A and B."""
    skip_bad: bool = False
    """Go on without unreadable images, listing them, instead of stopping."""
    phantom_images: int = 1000
    """Size of the phantom set."""
    augment: tuple[Policy, ...] = ("translation", "cutout")
    """DiffAugment policies on what the discriminator sees (Zhao et al. 2020); give none to stop."""
    mirror: bool = False
    """Flip each real image left-right with probability 1/2, which puts hearts on either side."""
    class_balance: bool = False
    """Show all classes equally often; without it, as often as they are in the data."""
    per_class: bool = False
    """Train one GAN for each class instead of one conditional GAN."""
    resident_share: float = 0.5
    """Share of the device's memory that the images may take; a larger set is streamed to it."""


@dataclass(frozen=True)
class OutputConfig:
    """What is written, and when."""

    out: Path = Path("runs")
    """Folder in which the run's own folder is made."""
    name: str = ""
    """A name of your own for the run, at the end of its folder's."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    grid_every: int = 250
    """Steps between two sample grids."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    keep_checkpoints: int = 3
    """The newest checkpoints that are kept."""
    mark_every: int = 0
    """Checkpoints at multiples of this many steps are kept for good; 0 marks none."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How good the images are, computed while it trains; the training itself is not changed."""

    eval_every: int = 0
    """Steps between two evaluations (FID, KID, precision, recall), also at the end; 0 is never."""
    eval_samples: int = 1000
    """Generated images in an evaluation; the real ones are all that it trains on."""
    features: str = DEFAULT
    """Features that evaluations compare: cxr, inception, pixels, or FILE.py:NAME."""
    inception_weights: Path | None = None
    """Weights for the features inception, as torch-fidelity has them; downloaded if not given."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run."""

    steps: int = 20_000
    """Generator updates in all."""
    batch_size: int = 32
    """Images of each kind (real, generated) in a step."""
    seed: int = 0
    """Seed of the training, below 2^63; the phantom set is always the same."""
    preset: Literal["auto", "small", "base"] = "auto"
    """Size: small (32 base channels), base (64); auto is small on a CPU, base on a GPU."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the convolutions; auto is bf16 where the hardware has it, else fp16 on a GPU,
    fp32 on a CPU."""
    executor: Literal["auto", "eager", "compile", "graph"] = "auto"
    """How a step runs: op by op, by torch.compile, as one CUDA graph; auto is graph on a GPU."""
    threads: Literal["auto"] | int = "auto"
    """Threads of a step on a CPU; auto takes the free cores, and follows as other work comes."""
    deterministic: bool = False
    """Only algorithms that give the same bits every time; on a GPU they may be slower."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    max_minutes: float = 0.0
    """Stop this call after so many minutes, evaluations among them, and save; 0 is no limit."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """What is trained on."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The two networks."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """The adversarial game."""
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    """How the weights move."""
    output: OutputConfig = field(default_factory=OutputConfig)
    """What is written, and when."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How good the images are, computed while it trains."""


# What a size means. Settings that are not named keep their defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "small": {"base_channels": 32, "batch_size": 32},
    "base": {"base_channels": 64, "batch_size": 64},
}

Config = TypeVar("Config")


def flatten(config: object) -> dict[str, Any]:
    """All settings of a (nested) configuration by their flat names."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]  # any configuration dataclass
        value = getattr(config, f.name)
        flat.update(flatten(value) if dataclasses.is_dataclass(value) else {f.name: value})
    return flat


def override(config: Config, flat: Mapping[str, Any]) -> Config:
    """A copy of ``config`` in which the settings of ``flat`` (flat names) are replaced.

    Raises:
        UserError: ``config`` has no setting of that name.
    """
    known = flatten(config)
    if "family" in known and flat.get("family", known["family"]) != known["family"]:
        config = _override(config, {"family": flat["family"]})  # it brings its own settings
        known = flatten(config)
    for name in flat:
        if name not in known:
            if families := families_with(name):
                raise UserError(
                    f"--{name.replace('_', '-')} is a setting of --family {families[0]}, got "
                    f"--family {known['family']}; leave it out"
                )
            raise UserError(f"there is no setting {name!r}{unknown_setting(name, known)}")
    return _override(config, flat)


def _override(config: Config, flat: Mapping[str, Any]) -> Config:
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]  # any configuration dataclass
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            changes[f.name] = _override(value, flat)
        elif f.name in flat:
            changes[f.name] = flat[f.name]
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The settings with paths that hold in every folder, so that a run can be resumed in any."""
    data, features = config.dataset.data, config.evaluation.features
    weights = config.evaluation.inception_weights
    return override(
        config,
        {
            "data": data if data == "phantom" else os.path.abspath(data),
            "features": os.path.abspath(features) if is_code(features) else features,
            "inception_weights": None if weights is None else weights.absolute(),
        },
    )
