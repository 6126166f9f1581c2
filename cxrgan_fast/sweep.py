"""``python -m cxrgan_fast.sweep``: which settings make a GAN good in a given training time?"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cxrgan_fast.arguments import parse_arguments
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.flags import SOME_FLAGS
from cxrgan_fast.metrics.registry import DEFAULTS
from cxrgan_fast.settings.config import TrainConfig
from cxrgan_fast.settings.given_flags import join_flags, split_flags
from cxrgan_fast.studies.confirmation import SEEDS
from cxrgan_fast.studies.confirmation_runs import MOST_SEEDS, Asked, confirm
from cxrgan_fast.studies.library import load_optuna
from cxrgan_fast.studies.ownership import BEAT_SECONDS, GRACE_SECONDS
from cxrgan_fast.studies.request import GIVEN_FLAGS, MINUTES, TRIALS, Request
from cxrgan_fast.studies.show import best_config, describe_studies, describe_study, to_csv
from cxrgan_fast.studies.space import DEFAULT_SPACE
from cxrgan_fast.studies.sweep import find_all, find_named, run_sweep
from cxrgan_fast.studies.sweep_report import report_of
from cxrgan_fast.threads import MOST_THREADS, available_cores
from cxrgan_fast.train import parse
from cxrgan_fast.training import allocator

_ABOUT = (
    "Search the settings of train for those that give the best images in a given training time. "
    "The same command again, here or on other machines that reach the storage, joins the study. A "
    f"worker says every {BEAT_SECONDS:g} seconds that it is there; a trial whose worker has been "
    f"killed is taken up by the next, on another machine after {GRACE_SECONDS:g} seconds."
)
_NAME = tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: none)")


@dataclass(frozen=True)
class Arguments:
    """What the command takes."""

    name: Annotated[
        tyro.conf.Positional[str | None],
        tyro.conf.arg(metavar="NAME", help_behavior_hint="(required to run a sweep)"),
    ] = None
    """Name of the sweep to begin or to join, and of its folder in --out."""
    data: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(required to run a sweep)")] = (
        None
    )
    """Folder, table, zip archive or packed set of images, or phantom for the synthetic set."""
    space: Annotated[
        Path, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: that of the package)")
    ] = DEFAULT_SPACE
    """YAML file of the settings to vary, with their choices or bounds."""
    minutes_per_trial: Annotated[
        float | None, tyro.conf.arg(help_behavior_hint=f"(default: {MINUTES:g})")
    ] = None
    """Minutes to train each trial; measuring it is not counted."""
    steps_per_trial: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: a time instead)")
    ] = None
    """Steps to train each trial, instead of a time."""
    trials: int = TRIALS
    """Number of trials of the sweep, those of all workers together; workers that ask at the same
    moment may begin one more each."""
    storage: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="URL|FILE", help_behavior_hint="(default: study.journal in the sweep's folder)"
        ),
    ] = None
    """Where the study is kept: a journal file for one machine, or a database such as
    postgresql://user@host/name for several."""
    out: Path = Path("runs")
    """Folder in which the sweep has its own folder."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How settings are drawn: by what earlier trials have shown (tpe), or blindly (random)."""
    objective: Annotated[
        Literal["fid", "fid,seconds"], tyro.conf.arg(metavar="fid|fid,seconds")
    ] = "fid"
    """What is to be low: log(FID / floor) (fid), or that and the seconds of training after which a
    trial came within 5 percent of its own FID, as a Pareto front, which prunes nothing
    (fid,seconds)."""
    seed: int = 0
    """Random seed of the draws and of each training."""
    train: Annotated[
        str, tyro.conf.arg(metavar='"FLAGS"', help_behavior_hint="(default: none)")
    ] = ""
    """Flags of train for all trials, in quotes."""
    threads: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: the cores, shared by the workers)")
    ] = None
    """Number of threads of each training on a CPU."""
    workers_per_device: int = 1
    """Number of trials at a time on this device."""
    features: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = DEFAULTS
    """Features that the metrics compare; the first decides, the others are second opinions."""
    samples: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: as many as training images)")
    ] = None
    """Number of images of each kind (real and generated) to compare."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Instead, list the sweeps in --out, or in --storage."""
    show: Annotated[str | None, _NAME] = None
    """Instead, show the best trials of a sweep, its failures and what prunes."""
    best: Annotated[str | None, _NAME] = None
    """Instead, print the settings of the best trial of a sweep, as YAML that train --config
    takes."""
    export: Annotated[
        tuple[Literal["csv"], str] | None,
        tyro.conf.arg(metavar="csv NAME", help_behavior_hint="(default: none)"),
    ] = None
    """Instead, print all trials of a sweep as CSV."""
    confirm: Annotated[str | None, _NAME] = None
    """Instead, run the best trial of a sweep and its default again on new seeds, and say whether
    the best one stands. The same command again joins, or goes on."""
    seeds: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint=f"(default: {SEEDS}; with --confirm)")
    ] = None
    """Number of new seeds of --confirm, each of which takes two trainings."""
    report: Annotated[str | None, _NAME] = None
    """Instead, write a page of what a sweep shows, with pictures and report.json."""
    report_to: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FOLDER", help_behavior_hint="(default: report in the sweep's folder)"
        ),
    ] = None
    """Folder for --report."""
    against: Annotated[
        str | None,
        tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: none; with --report)"),
    ] = None
    """Another sweep, such as one of --sampler random, whose best-so-far --report draws as well."""


def main() -> None:
    """Parse, run or look up, and print what the study says."""
    with SOME_FLAGS:
        arguments = parse_arguments(
            Arguments,
            args=join_flags("--train", sys.argv[1:]),
            prog="python -m cxrgan_fast.sweep",
            description=_ABOUT,
        )
    load_optuna()
    if _looks_up(arguments):
        print(_looked_up(arguments), end="")
        return
    if arguments.confirm is not None:
        print(_confirmed(arguments))
        return
    allocator.keep_large_tensors_off_mmap()  # before the first large tensor
    request = _request(arguments)
    request.check()
    base = _common_settings(arguments)
    study = run_sweep(request, base, _words_of_one(sys.argv[1:]))
    print(describe_study(study))


def _common_settings(arguments: Arguments) -> TrainConfig:
    assert arguments.data is not None
    flags = split_flags("--train", arguments.train, GIVEN_FLAGS)
    try:
        parse([*flags, "--device", "cpu"])
    except UserError as error:
        raise UserError(f"--train: {error}") from None
    return parse([*flags, "--data", arguments.data, "--device", arguments.device])[0]


def _looks_up(arguments: Arguments) -> bool:
    asked = {
        "--list": arguments.list,
        "--show": arguments.show is not None,
        "--best": arguments.best is not None,
        "--export": arguments.export is not None,
        "--report": arguments.report is not None,
        "--confirm": arguments.confirm is not None,
    }
    given = [flag for flag, is_given in asked.items() if is_given]
    for flag, value, needed in (
        ("--seeds", arguments.seeds, "--confirm"),
        ("--report-to", arguments.report_to, "--report"),
        ("--against", arguments.against, "--report"),
    ):
        if value is not None and not asked[needed]:
            raise UserError(f"{flag} {value} does nothing without {needed} NAME: leave it out")
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: give one of them")
    if given and arguments.name is not None:
        raise UserError(f"{given[0]} and NAME {arguments.name}: give one of them")
    return bool(given) and not asked["--confirm"]


def _looked_up(arguments: Arguments) -> str:
    storage, out = arguments.storage, arguments.out
    if arguments.list:
        return describe_studies(find_all(storage, out)) + "\n"
    if arguments.show is not None:
        return describe_study(find_named(arguments.show, storage, out)) + "\n"
    if arguments.report is not None:
        named = arguments.report, arguments.against
        return report_of(*named, storage, out, arguments.report_to) + "\n"
    if arguments.best is not None:
        return best_config(find_named(arguments.best, storage, out))
    assert arguments.export is not None
    return to_csv(find_named(arguments.export[1], storage, out))


def _confirmed(arguments: Arguments) -> str:
    assert arguments.confirm is not None
    name = arguments.confirm
    seeds = SEEDS if arguments.seeds is None else arguments.seeds
    for flag, value, least, most in (
        ("--seeds", seeds, 2, MOST_SEEDS),
        ("--threads", arguments.threads or 1, 1, MOST_THREADS),
        ("--workers-per-device", arguments.workers_per_device, 1, MOST_THREADS),
    ):
        if not least <= value <= most:
            raise UserError(f"{flag} {value}: expected a whole number from {least} to {most}")
    workers = arguments.workers_per_device
    threads = arguments.threads or max(1, available_cores() // workers)
    allocator.keep_large_tensors_off_mmap()  # before the first large tensor
    asked = Asked(name, seeds, arguments.storage, arguments.out, arguments.data, threads, workers,
                  arguments.device)  # fmt: skip
    found = confirm(asked, _words_of_one(sys.argv[1:]))
    return (
        f"trial {found['trial']}, against the default: {found['words']}\n"
        f"sweep --report {name} has it with all measurements"
    )


def _request(arguments: Arguments) -> Request:
    if arguments.name is None:
        raise UserError("NAME is missing: name the sweep to begin or to join; --list lists them")
    if arguments.data is None:
        raise UserError("--data is missing: name the images to train on, or phantom")
    minutes = arguments.minutes_per_trial
    if minutes is None and arguments.steps_per_trial is None:
        minutes = MINUTES
    return Request(
        name=arguments.name,
        data=arguments.data,
        space=arguments.space,
        minutes=minutes,
        steps=arguments.steps_per_trial,
        trials=arguments.trials,
        storage=arguments.storage,
        out=arguments.out,
        sampler=arguments.sampler,
        objective=arguments.objective,
        seed=arguments.seed,
        threads=arguments.threads,
        workers=arguments.workers_per_device,
        device=arguments.device,
        features=arguments.features,
        samples=arguments.samples,
    )


def _words_of_one(words: list[str]) -> list[str]:
    """The command line for one of several workers."""
    kept = []
    skip = False
    for word in words:
        flag, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif flag.replace("_", "-") in ("--workers-per-device", "--threads"):
            skip = not equals
        else:
            kept.append(word)
    return kept


if __name__ == "__main__":
    sys.exit(run_command(main))
