"""``python -m cxrgan_fast.study``: do synthetic X-rays help a classifier?"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from cxrgan_fast.arguments import parse_arguments
from cxrgan_fast.command import run_command
from cxrgan_fast.devices import resolve_device, resolve_precision
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.given_flags import join_flags, split_flags
from cxrgan_fast.settings.images import load_images
from cxrgan_fast.studies.augmentation.arms import ARMS, parse_ratios
from cxrgan_fast.studies.augmentation.folds import make_folds
from cxrgan_fast.studies.augmentation.groups import Work
from cxrgan_fast.studies.augmentation.libraries import import_for_study
from cxrgan_fast.studies.augmentation.networks import NetworkName
from cxrgan_fast.studies.augmentation.plan import (
    Plan,
    check_arms,
    describe_plan,
    keep_plan,
)
from cxrgan_fast.studies.augmentation.recipe import Recipe
from cxrgan_fast.studies.augmentation.scores import negative_label
from cxrgan_fast.studies.augmentation.study import (
    check_name,
    generator_settings,
    make_study_folder,
    measure_times,
    report_study,
    run_study,
)
from cxrgan_fast.studies.augmentation.subsets import nested_subsets, parse_sizes
from cxrgan_fast.train import parse
from cxrgan_fast.training import allocator

_ABOUT = (
    "Train classifiers on real and on real and synthetic images, and say whether these help, at "
    "which numbers of real images, and how sure that is. The same command again goes on with a "
    "study, also beside another one that works on it in the same folder."
)
# Flags of train that the study gives, or that would let a GAN see other images.
_GIVEN = {
    "--data": "--data",
    "--seed": "--seeds",
    "--device": "--device",
    "--out": "--out",
    "--name": "NAME",
    "--resume": "the same command, which goes on by itself",
    "--config": "flags, so that the study knows them",
    "--per-class": "no study: its GANs are conditional",
    "--init-from": "no study: its GANs begin with random weights",
    "--hold-out-patients": "the study, which divides patients itself",
    "--hold-out-seed": "the study, which divides patients itself",
    "--eval-every": "no study: nothing is chosen within a training",
}
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Arguments:
    """What the command takes."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Name of the study to begin or to go on with, and of its folder in --out."""
    data: str
    """Folder, table, zip archive or packed set of images, or phantom for the synthetic set."""
    sizes: str = "50,100,200,400,800,1600,all"
    """Numbers of real images to train on, with commas between them; all is every training image of
    a fold."""
    ratios: str = "0.5,1,2,5"
    """Numbers of synthetic images for each real one, with commas between them; validation patients
    choose among them."""
    arms: str = ",".join(ARMS)
    """Arms to train, with commas between them: R real, A augmented, S synthetic images, RR real
    ones twice, N more real ones."""
    seeds: int = 6
    """Number of trainings of each arm, fold and size, each with a GAN of its own."""
    train: Annotated[
        str, tyro.conf.arg(metavar='"FLAGS"', help_behavior_hint="(default: none)")
    ] = ""
    """Flags of train for all GANs, in quotes; --resolution and --classes hold for the classifiers
    as well."""
    network: NetworkName = "small"
    """Network of the classifiers: small is a residual network of this package; the others need
    torchvision."""
    classifier_steps: int = Recipe.steps
    """Number of optimizer steps of each classifier."""
    negative: Annotated[str, tyro.conf.arg(help_behavior_hint="(default: normal)")] = "normal"
    """Name of the class without disease."""
    out: Path = Path("studies")
    """Folder in which the study has its own folder."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""
    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Instead, print what the study would train and about how long that takes."""
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Instead, report what is there of the study."""


def main() -> None:
    """Parse, train what is missing, and print the report."""
    arguments = parse_arguments(
        Arguments,
        args=join_flags("--train", sys.argv[1:]),
        prog="python -m cxrgan_fast.study",
        description=_ABOUT,
    )
    for module in ("sklearn.metrics", "scipy.stats", "statsmodels.api", "matplotlib.figure"):
        import_for_study(module)  # before hours of work, not after them
    allocator.keep_large_tensors_off_mmap()  # before the first large tensor
    work = _work(arguments)
    if arguments.plan:
        print(describe_plan(work.plan, measure_times(work)))
        return
    make_study_folder(work.folder)
    work = replace(work, plan=keep_plan(work.folder, work.plan))
    failed: list[str] = []
    if not arguments.report:
        try:
            failed = run_study(work)
        except KeyboardInterrupt:
            print(f"the same command goes on with {work.folder}", file=sys.stderr)
            raise
    print(report_study(work))
    if failed:
        raise UserError(
            f"{len(failed)} groups have failed, the first one: {failed[0]}; the same command tries "
            "them again"
        )


def _work(arguments: Arguments) -> Work:
    """Check all that is asked for, and plan it."""
    check_name(arguments.name)
    if arguments.plan and arguments.report:
        raise UserError("--plan and --report: give one of them")
    if not 2 <= arguments.seeds <= MOST_SEEDS:
        raise UserError(
            f"--seeds {arguments.seeds}: expected 2, without which there is no interval, to "
            f"{MOST_SEEDS}"
        )
    sizes, ratios = parse_sizes(arguments.sizes), parse_ratios(arguments.ratios)
    arms = check_arms([word.strip() for word in arguments.arms.split(",")])
    recipe = Recipe(network=arguments.network, steps=arguments.classifier_steps)
    device = resolve_device(arguments.device)
    generator = _generator(arguments)
    generator = override(generator, {"precision": resolve_precision(generator.precision, device)})
    network = generator.network
    dataset = load_images(generator, arguments.data)
    network.validate(len(dataset.class_names))
    labels = dataset.labels.tolist()
    folds = make_folds(dataset.fingerprint, dataset.patients, labels, dataset.class_names)
    for fold in folds:
        nested_subsets(fold, dataset.patients, labels, dataset.class_names, sizes)
    plan = Plan(
        data=dataset.name,
        fingerprint=dataset.fingerprint,
        class_names=dataset.class_names,
        negative=negative_label(dataset.class_names, arguments.negative),
        folds=tuple(folds),
        sizes=tuple(sizes),
        arms=arms,
        ratios=tuple(ratios),
        seeds=arguments.seeds,
        recipe=recipe,
        generator=generator_settings(generator),
    )
    return Work(arguments.out / arguments.name, plan, dataset, generator, device)


def _generator(arguments: Arguments) -> TrainConfig:
    """The settings of the GANs, of train's own parser."""
    words = split_flags("--train", arguments.train, _GIVEN)
    try:
        return parse([*words, "--data", arguments.data, "--device", arguments.device])[0]
    except UserError as error:
        raise UserError(f"--train: {error}") from None


if __name__ == "__main__":
    sys.exit(run_command(main))
