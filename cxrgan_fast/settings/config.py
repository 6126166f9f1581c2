"""Every setting of a training run: typed, with its default and one line of explanation.

The flags of ``python -m cxrgan_fast.train`` and the keys of a ``--config`` file are the field
names below. Settings are layered: the preset's, then the file's, then the flags'.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch

from cxrgan_fast.augment.diffaugment import Policy
from cxrgan_fast.data.load import data_place
from cxrgan_fast.data.sources import Columns
from cxrgan_fast.devices import resolve_precision
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.backbones import DOWNLOAD
from cxrgan_fast.metrics.registry import DEFAULT, backbone_names, is_code
from cxrgan_fast.nn import NetworkConfig
from cxrgan_fast.nn.family import families_with
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.setting import Needs, Setting, Settings, flag_of, settings_of
from cxrgan_fast.settings.game import ObjectiveConfig, OptimizationConfig
from cxrgan_fast.settings.names import unknown_setting
from cxrgan_fast.threads import MOST_THREADS


@dataclass(frozen=True)
class DatasetConfig(Settings):
    """The images to train on."""

    data: Annotated[
        str,
        Setting(
            is_path=True,
            resumable=True,
            elsewhere="input path csv train_data dataroot data_dir data_root datadir "
            "dataset dataset_path data_path root train_dir",
        ),
    ] = "phantom"
    """Folder, table, zip archive or packed set of images, or "phantom" for the synthetic set."""
    classes: Annotated[
        tuple[str, ...],
        Setting(
            aliases=("--class",),
            answer="--classes, by their names",
            elsewhere="n_classes num_classes classes_list",
        ),
    ] = ()
    """Classes to use, separated by spaces or commas; NAME=A+B joins the classes A and B. If none is
    given, normal and bacterial of the published set, or all classes of other data."""
    columns: Columns = field(default_factory=Columns)
    """What the columns of a table hold."""
    skip_bad: Annotated[bool, Setting(needs=Needs("data", but="phantom"))] = False
    """Leave out unreadable images and list them, instead of stopping."""
    phantom_images: Annotated[
        int, Setting(least=1, most=10**6, needs=Needs("data", among=("phantom",)))
    ] = 1000
    """Number of images in the phantom set."""
    augment: Annotated[
        tuple[Policy, ...],
        Setting(elsewhere="aug diffaugment diff_augment augmentation augmentations"),
    ] = ("translation", "cutout")
    """DiffAugment policies for all images that the discriminator sees (Zhao et al. 2020); give the
    flag without a policy to turn them off."""
    augment_probability: Annotated[
        Literal["auto"] | float | Schedule,
        Setting(
            least=0,
            most=1,
            needs=Needs("augment"),
            idle=1.0,
            elsewhere="augment_p aug_p augmentation_probability",
        ),
    ] = "auto"
    """Probability of each change of --augment for each image, drawn for it alone; with --ada-target
    the probability at the start. auto is 0 with --ada-target and 1 without."""
    ada_target: Annotated[
        float, Setting(least=0, below=1, needs=Needs("augment"), elsewhere="ada target")
    ] = 0.0
    """Target of r_t, the mean sign of the discriminator's answers to real images, by which the
    probability is steered (Karras et al. 2020, ADA, with 0.6); 0 keeps it as it is."""
    ada_ramp: Annotated[float, Setting(least=0.001, most=1000, needs=Needs("ada_target"))] = 0.02
    """Share of the run in which the steered probability can rise from 0 to 1."""
    mirror: Annotated[bool, Setting(elsewhere="hflip flip horizontal_flip random_flip")] = False
    """Flip each real image left to right with probability 1/2; hearts are then on either side."""
    class_balance: Annotated[
        bool,
        Setting(
            needs=Needs("per_class", but=True),
            elsewhere="balanced class_weights weighted_sampler balance",
        ),
    ] = False
    """Show all classes equally often, instead of as often as they occur in the data."""
    per_class: bool = False
    """Train one GAN for each class instead of one conditional GAN."""
    hold_out_patients: Annotated[
        float, Setting(least=0, elsewhere="holdout held_out val_patients")
    ] = 0.0
    """Patients of each class to leave out of the training, so that evaluate can compare with them:
    a share below 1, or their number; 0 leaves out none."""
    hold_out_seed: Annotated[
        int, Setting(least=0, most=2**63 - 1, needs=Needs("hold_out_patients"))
    ] = 0
    """Random seed of the choice of those patients; the seed of the training does not change it."""
    resident_share: Annotated[float, Setting(least=0, most=1, resumable=True)] = 0.5
    """Share of the device's memory that the images may fill; larger sets are streamed to it."""

    @property
    def always_augments(self) -> bool:
        """Tell whether every change is made to every image, in all of the run."""
        return self.first_probability == 1 and not self.ada_target

    @property
    def first_probability(self) -> float | Schedule:
        """Return the probability of a change, with ADA the one at the start (in the paper 0)."""
        if self.augment_probability == "auto":
            return 0.0 if self.ada_target else 1.0
        return self.augment_probability


@dataclass(frozen=True)
class OutputConfig(Settings):
    """What the run writes, and when."""

    out: Annotated[
        Path,
        Setting(
            elsewhere="output_folder out_folder outdir out_dir output_dir save_dir results_dir "
            "log_dir logdir workdir"
        ),
    ] = Path("runs")
    """Folder in which the run creates its own folder."""
    name: Annotated[str, Setting(elsewhere="run_name exp_name experiment desc tag")] = ""
    """Name of the run, appended to the name of its folder."""
    log_every: Annotated[
        int,
        Setting(least=1, resumable=True, elsewhere="log_interval log_freq print_freq print_every"),
    ] = 50
    """Steps between two lines of metrics.jsonl."""
    grid_every: Annotated[
        int,
        Setting(
            least=1,
            resumable=True,
            elsewhere="sample_every sample_interval sample_freq display_freq",
        ),
    ] = 250
    """Steps between two sample grids."""
    checkpoint_every: Annotated[
        int,
        Setting(
            least=1,
            resumable=True,
            elsewhere="save_every save_interval save_freq checkpoint_interval snap snapshot_ticks",
        ),
    ] = 500
    """Steps between two checkpoints."""
    keep_checkpoints: Annotated[int, Setting(least=1, resumable=True)] = 3
    """Number of newest checkpoints to keep."""
    mark_every: Annotated[int, Setting(least=0, resumable=True)] = 0
    """Steps between two checkpoints that are kept for good; 0 keeps none for good."""


@dataclass(frozen=True)
class EvaluationConfig(Settings):
    """Metrics of the generated images during the training, which they do not change."""

    eval_every: Annotated[
        int, Setting(least=0, resumable=True, elsewhere="fid_every eval_interval eval_freq")
    ] = 0
    """Steps between two evaluations (FID and other quick metrics), with one more at the end; 0
    turns them off."""
    eval_samples: Annotated[
        int, Setting(least=2, most=10**7, needs=Needs("eval_every"), resumable=True)
    ] = 1000
    """Number of generated images in an evaluation, which compares them with all training images."""
    features: Annotated[str, Setting(is_path=True, needs=Needs("eval_every"), resumable=True)] = (
        DEFAULT
    )
    """Features that evaluations compare: cxr, cxr_ssl, inception, pixels, random, rad-dino, dinov2,
    xrv, or FILE.py:NAME for your own."""
    inception_weights: Annotated[
        Path | None,
        Setting(needs=Needs("features", among=("inception",)), resumable=True, unset="downloaded"),
    ] = None
    """File with the weights of torch-fidelity's Inception network."""
    features_weights: Annotated[
        str | None,
        Setting(
            is_path=True,
            needs=Needs("features", among=backbone_names()),
            resumable=True,
        ),
    ] = None
    """Folder (file for xrv) with the weights of --features rad-dino, dinov2 or xrv, or download to
    fetch the published ones."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Settings of a training run."""

    steps: Annotated[
        int,
        Setting(
            least=1,
            resumable=True,
            answer="--steps, the generator's updates; N images take N / --batch-size of them in an "
            "epoch",
            elsewhere="epoch n_epoch nepochs epochs num_epochs n_epochs max_epochs nepoch niter "
            "num_iters iterations max_steps num_steps total_steps train_steps n_iter kimg "
            "total_kimg",
        ),
    ] = 20_000
    """Total number of generator updates."""
    batch_size: Annotated[
        int, Setting(least=1, most=65536, elsewhere="bs batch train_batch_size")
    ] = 32
    """Number of images of each kind (real and generated) in a step."""
    seed: Annotated[
        int, Setting(least=0, most=2**63 - 1, elsewhere="manual_seed random_seed manualseed")
    ] = 0
    """Random seed of the training; it does not change the phantom set."""
    init_from: Annotated[
        Path | None,
        Setting(
            unset="random weights",
            elsewhere="pretrained init_checkpoint warm_start finetune_from load_weights",
        ),
    ] = None
    """Run folder or generator file whose weights the training begins with, as far as shapes allow;
    all else begins anew."""
    preset: Literal["auto", "tiny", "small", "base"] = "auto"
    """Size of the networks and the batch: 16 base channels and 32 images (tiny), 32 and 32 (small)
    or 64 and 64 (base); auto is base on a GPU, small on a CPU with instructions for bf16, and tiny
    on any other CPU, where a step takes several times as long."""
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Setting(elsewhere="amp mixed_precision fp16 bf16 half use_amp dtype"),
    ] = "auto"
    """Number format of the convolutions; auto is bf16 where the hardware supports it, otherwise
    fp16 on a GPU and fp32 on a CPU."""
    executor: Annotated[
        Literal["auto", "eager", "compile", "graph"],
        Setting(resumable=True, elsewhere="compile torch_compile cuda_graph use_graphs"),
    ] = "auto"
    """How a step runs: op by op (eager), through torch.compile (compile) or as one CUDA graph
    (graph); auto is graph on a GPU and eager on a CPU."""
    threads: Annotated[
        Literal["auto"] | int,
        Setting(
            least=1,
            most=MOST_THREADS,
            resumable=True,
            answer="--threads, of a CPU's steps; images are read once, no workers load them",
            elsewhere="num_workers workers n_workers nworkers",
        ),
    ] = "auto"
    """Number of threads of a step on a CPU; auto uses the free cores and adapts when other work
    starts or ends."""
    deterministic: bool = False
    """Use only algorithms that give the same bits every time; on a GPU they may be slower."""
    device: Annotated[
        str,
        Setting(
            resumable=True,
            answer="--device cpu, cuda or cuda:1",
            elsewhere="cpu no_cuda use_cuda gpu gpus gpu_id gpu_ids cuda n_gpu ngpu",
        ),
    ] = "auto"
    """Device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""
    max_minutes: Annotated[
        float, Setting(least=0, resumable=True, elsewhere="max_time timeout time_limit max_hours")
    ] = 0.0
    """Save and stop after this many minutes, evaluations included; 0 sets no limit."""
    plan_by: Annotated[
        Literal["time", "steps"], Setting(needs=Needs("max_minutes"), resumable=True)
    ] = "time"
    """What schedules take for the planned run where --max-minutes limits it: that time, or the
    steps alone (steps), for a run that goes on in the next job."""
    until: Annotated[float, Setting(least=0.001, most=1, resumable=True)] = 1.0
    """Save and stop once this share of the planned run is done, by the time or the steps that
    schedules follow; --resume goes on with a larger one."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """The images to train on."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The generator and the discriminator."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """The adversarial game."""
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    """How the optimizers update the weights."""
    output: OutputConfig = field(default_factory=OutputConfig)
    """What the run writes, and when."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Metrics of the generated images during the training."""


# What a size means. Settings that are not named keep their defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"base_channels": 16, "batch_size": 32},
    "small": {"base_channels": 32, "batch_size": 32},
    "base": {"base_channels": 64, "batch_size": 64},
}
PRESETS_OF_FAMILIES: dict[tuple[str, str], dict[str, Any]] = {
    # The defaults of a CPU, where groups of channels are slow: plain convolutions with about as
    # much work make a step of 0.64 of the time (bench.step_cost).
    (preset, "r3"): {"group_size": 0, "expansion": 0.75}
    for preset in ("tiny", "small")
}


def usual_preset(device: torch.device) -> str:
    """Return the name of the preset that ``auto`` stands for on a device."""
    if device.type != "cpu":
        return "base"
    return "small" if resolve_precision("auto", device) == "bf16" else "tiny"


Config = TypeVar("Config")


def flatten(config: object) -> dict[str, Any]:
    """Return all settings of a (nested) configuration by their flat names."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]  # any configuration dataclass
        value = getattr(config, f.name)
        flat.update(flatten(value) if isinstance(value, Settings) else {f.name: value})
    return flat


def override(config: Config, flat: Mapping[str, Any]) -> Config:
    """Copy ``config`` with the settings of ``flat``, by their flat names, replaced.

    Raises:
        UserError: ``config`` has no setting of that name, or a value does not fit its setting.
    """
    known = flatten(config)
    if "family" in known and flat.get("family", known["family"]) != known["family"]:
        config = _override(config, {"family": flat["family"]})  # it brings its own settings
        known = flatten(config)
    for name in flat:
        if name not in known:
            if families := families_with(name):
                raise UserError(
                    f"{flag_of(name)} is a setting of --family {families[0]}, got "
                    f"--family {known['family']}; leave it out"
                )
            hint = unknown_setting(name, settings_of(config))
            raise UserError(f"there is no setting {name!r}{hint}")
    return _override(config, flat)


def _override(config: Config, flat: Mapping[str, Any]) -> Config:
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]  # any configuration dataclass
        value = getattr(config, f.name)
        if isinstance(value, Settings):
            changes[f.name] = _override(value, flat)
        elif f.name in flat:
            changes[f.name] = flat[f.name]
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Make the settings' paths absolute, so that a run can be resumed from any folder."""
    data, features = config.dataset.data, config.evaluation.features
    weights, backbone = config.evaluation.inception_weights, config.evaluation.features_weights
    if backbone is not None and backbone != DOWNLOAD:
        backbone = os.path.abspath(backbone)
    return override(
        config,
        {
            "data": data if data_place(data) is None else os.path.abspath(data),
            "features": os.path.abspath(features) if is_code(features) else features,
            "inception_weights": None if weights is None else weights.absolute(),
            "init_from": None if config.init_from is None else config.init_from.absolute(),
            "features_weights": backbone,
        },
    )
