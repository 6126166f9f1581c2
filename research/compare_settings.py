"""``python -m research.compare_settings``: which settings of ``train`` give better images?

Trains arms, which are settings, each with several seeds, seed by seed over all arms. Of one seed
all arms begin with the same weights, see the images in the same order and are judged by the same
latents, as far as their shapes are the same; so differences are taken within seeds. Runs are as
long as each other in images (--steps, of the first arm) or by the clock (--minutes). Each is an
ordinary run of ``train``, in a process of its own.

What is done is kept in ``--work``: the same command goes on where it was stopped or killed, and
with more seeds or arms it takes what is there. The best of several arms looks better than it is:
before it is believed, ``--confirm`` trains it and the first arm again, with new seeds.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.command import check, parser_of, prepare_process, recorded
from bench.record import RESULTS, ROOT, Result, check_out
from bench.timing import in_turns
from cxrgan_fast.command import run_command
from cxrgan_fast.devices import resolve_device
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.judge import Judge
from cxrgan_fast.metrics.registry import load_extractors
from cxrgan_fast.provenance import device_name
from cxrgan_fast.runs.lock import locked
from cxrgan_fast.settings.images import load_images
from cxrgan_fast.studies.differences import require_scipy
from cxrgan_fast.threads import MOST_THREADS
from research.compare_arms import BEST, Arm, find_arm, read_arms
from research.compare_measurements import best_arm, summarize
from research.compare_report import report
from research.compare_training import Child, Length, Machine, stop_all
from research.compare_work import Record, Work
from research.parity_statistics import MOST_SEEDS
from research.plot_compare_settings import plot

FEATURES = ("cxr_ssl", "cxr", "pixels")
"""The first decides: no label has shaped it."""
FIRST_NEW_SEED = MOST_SEEDS
"""Seeds of --confirm are from here on, so that they are new however many others there are."""
_POLL_SECONDS = 0.5

Job = tuple[int, Arm]


class Study:
    """Runs that are to be made, made, and put together.

    Args:
        work: where they are kept.
        arms: the first is what the others are compared with.
        judge: evaluates them.
        length: of each run.
        machine: on what they are trained.
        result: the file of the result.
        about: what the file holds beside the runs and their summary.
    """

    def __init__(
        self,
        work: Work,
        arms: Sequence[Arm],
        judge: Judge,
        length: Length,
        machine: Machine,
        result: Result,
        about: Record,
    ) -> None:
        self.work, self.arms, self.judge = work, arms, judge
        self.length, self.machine = length, machine
        self.result, self.about = result, about
        self.jobs: list[Job] = []
        self.confirmed: tuple[Arm, list[int]] | None = None

    def run_of(self, job: Job) -> Record | None:
        """What is kept of a run that is done and evaluated, or has failed; else None."""
        run = self.work.read(*job, "run")
        if run is None or run["failed"] is not None:
            return run
        evaluation = self.work.read(*job, "evaluation")
        if evaluation is None or evaluation["key"] != self.judge.key:
            return None
        if evaluation["failed"] is not None:
            return {**run, "failed": evaluation["failed"]}
        return {**run, "evaluation": evaluation}

    def do(self, jobs: Sequence[Job]) -> None:
        """Train and evaluate all of some runs that are not done, a few at a time.

        Raises:
            KeyboardInterrupt: everything is saved.
        """
        self.jobs += jobs
        waiting = [job for job in jobs if self.run_of(job) is None]
        running: list[Child] = []
        done = len(jobs) - len(waiting)
        with tqdm(total=len(jobs), initial=done, unit="run", disable=None, smoothing=0,
                  bar_format="{desc}: {percentage:3.0f}% of {total} runs "
                  "[{elapsed}, {remaining} left]{postfix}") as bar:  # fmt: skip
            try:
                while waiting or running:
                    while waiting and len(running) < self.machine.workers:
                        job = waiting.pop(0)
                        running.append(Child(self.work, *job, self.length, self.machine))
                    for child in [child for child in running if child.has_ended]:
                        running.remove(child)
                        self._end(child, bar)
                        done += 1
                    bar.n = done + sum(child.share() for child in running)
                    shown = (f"seed {child.seed} {child.arm.name}" for child in running)
                    bar.set_description("; ".join(shown))
                    time.sleep(_POLL_SECONDS)
            finally:
                stop_all(running)

    def _end(self, child: Child, bar: tqdm[Any]) -> None:
        """Keep what has become of a run, evaluate it, and write what there is."""
        job = child.seed, child.arm
        run = child.result()
        self.work.keep(*job, "run", run)
        line = f"seed {child.seed}, {child.arm.name}: "
        if run["failed"] is None:
            run = self._evaluate(job, lambda words: bar.set_description(line + words))
        words = f"failed: {run['failed']}" if run["failed"] else _in_short(run)
        tqdm.write(line + words, file=sys.stderr)
        self.write()

    def _evaluate(self, job: Job, say: Callable[[str], None]) -> Record:
        """Evaluate a run, keep that, and give the run with it."""
        folder = self.work.run_folder(*job)
        assert folder is not None
        try:
            evaluation = {"failed": None, **self.judge.evaluate(folder, job[0], say)}
        except UserError as error:  # its generator gives no numbers: the others go on
            evaluation = {"failed": f"evaluation: {error}", "key": self.judge.key}
        self.work.keep(*job, "evaluation", evaluation)
        run = self.run_of(job)
        assert run is not None
        return run

    def record(self) -> Record:
        """Everything that the result file holds."""
        runs = [run for job in self.jobs if (run := self.run_of(job)) is not None]
        new = set(self.confirmed[1]) if self.confirmed else set()
        chosen = [run for run in runs if run["seed"] not in new]
        names = [arm.name for arm in self.arms]
        confirmation = None
        if self.confirmed is not None:
            arm, seeds = self.confirmed
            of_new = [run for run in runs if run["seed"] in new]
            summary = summarize(of_new, self.judge.floors, [names[0], arm.name])
            confirmation = {"arm": arm.name, "seeds": seeds, "summary": summary}
        return {
            **self.about,
            "complete": len(runs) == len(self.jobs),
            "wanted": len(self.jobs),
            "arms": {arm.name: shlex.join(arm.flags) for arm in self.arms},
            "evaluation": self.judge.key,
            "floors": self.judge.floors,
            "summary": summarize(chosen, self.judge.floors, names),
            "confirmation": confirmation,
            "runs": runs,
        }

    def write(self) -> None:
        """Write the result as far as there is one."""
        record = self.record()
        if any(run["failed"] is None for run in record["runs"]):
            self.result.write(record)


def _in_short(run: Record) -> str:
    evaluation = run["evaluation"]
    fids = [f"{name} {each['all']['fid']:.4g}" for name, each in evaluation["features"].items()]
    seconds = sum(evaluation["seconds"].values())
    return f"FID {', '.join(fids)}; evaluated in {seconds:.0f} s"


# --- The command ----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("research.compare_settings", __doc__)
    add = parser.add_argument
    add("--arm", action="append", default=[], metavar="NAME: FLAGS",
        help="an arm: its name and its flags of train; again for another; the first is compared "
        "with")  # fmt: skip
    add("--arms", type=Path, metavar="FILE",
        help="YAML of arms, as research/arms/r1_gamma.yaml; before those of --arm")  # fmt: skip
    add("--train", default="", metavar="FLAGS",
        help='flags of train for all arms, in quotes: --train "--resolution 64"')  # fmt: skip
    add("--data", default="phantom", help='a folder of images, or "phantom" (the default)')
    add("--seeds", type=int, default=6, help="runs of each arm: seeds 0, 1, ... (default 6)")
    add("--steps", type=int, help="of the first arm; others show as many images")
    add("--minutes", type=float, help="of each run, instead of --steps")
    add("--threads", type=int, default=1, help="of each run (default 1)")
    add("--workers", type=int, default=1, help="runs at a time (default 1)")
    add("--features", nargs="+", default=list(FEATURES), metavar="NAME",
        help=f"of the images; the first decides (default {' '.join(FEATURES)})")  # fmt: skip
    add("--samples", type=int, help="generated images, and real ones (default: all of the data)")
    add("--confirm", metavar="ARM",
        help=f"train it and the first arm again, by new seeds; {BEST}: of lowest FID")  # fmt: skip
    add("--confirm-seeds", type=int, default=6, help="how many new seeds (default 6)")
    add("--retry-failed", action="store_true", help="try runs again that have failed")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default auto)")
    add("--work", type=Path, default=Path("runs/compare_settings"),
        help="what is kept (default: runs/compare_settings)")  # fmt: skip
    add("--out", type=Path, default=RESULTS / "compare_settings.json",
        help="default: bench/results/compare_settings.json")  # fmt: skip
    add("--plot", type=Path, metavar="PNG", help="draw the result there as well")
    return parser


def _line_of_command() -> str:
    """The command line for the record: quoted for a shell, and a file of arms by its place here."""
    words = list(sys.argv[1:])
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == "--arms":
            at, name = (place, value) if equals else (place + 1, words[place + 1])
            file = Path(name).absolute()
            shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(file.name)
            words[at] = f"--arms={shown}" if equals else str(shown)
    hidden = ("--out", "--work", "--plot")
    return recorded("research.compare_settings", list(map(shlex.quote, words)), hidden=hidden)


def _jobs(arms: Sequence[Arm], seeds: Sequence[int]) -> list[Job]:
    """Seed by seed over all arms, which take turns in being the first."""
    of_name = {arm.name: arm for arm in arms}
    turns = zip(seeds, in_turns(of_name, len(seeds)), strict=True)
    return [(seed, of_name[name]) for seed, names in turns for name in names]


def main() -> None:
    """Train, evaluate, print and write."""
    arguments = _parser().parse_args()
    counted = ("seeds", "threads", "workers", "steps", "confirm_seeds")
    check(
        arguments,
        least={**dict.fromkeys(counted, 1), "samples": 2},
        most={"seeds": MOST_SEEDS, "confirm_seeds": MOST_SEEDS, "threads": MOST_THREADS,
              "workers": MOST_THREADS, "steps": 10**9, "samples": 10**7},
        over_0=["minutes"],
    )  # fmt: skip
    if arguments.plot is not None:
        check_out(arguments.plot, "--plot")
    if (arguments.steps is None) == (arguments.minutes is None):
        raise UserError("--steps and --minutes: give one of the two, the length of each run")
    require_scipy()
    prepare_process(arguments.threads)
    arms = read_arms(arguments.arm, arguments.arms, arguments.train)
    if arguments.confirm not in (None, BEST) and find_arm(arguments.confirm, arms) is arms[0]:
        raise UserError(f"--confirm {arguments.confirm}: it is what the others are compared with")
    device = resolve_device(arguments.device)
    extractors = load_extractors(arguments.features, device)
    dataset = load_images(arms[0].config, arguments.data)
    common = {
        "steps": arguments.steps,
        "minutes": arguments.minutes,
        "threads": arguments.threads,
        "device": str(device),
        "fingerprint": dataset.fingerprint,
        # Beside each other runs are slower, which changes what is done in a time.
        **({} if arguments.minutes is None else {"workers": arguments.workers}),
    }
    study_of = {**common, "workers": arguments.workers,
                "resolution": arms[0].config.network.resolution}  # fmt: skip
    # Before the folder is made: what cannot be judged leaves none.
    judge = Judge(dataset, extractors, device, arguments.samples, _say)
    work = Work(arguments.work, common, arms)
    with locked(arguments.work):
        judge.find_floors(arguments.work / "floors.json", _say)
        study = Study(
            work, arms, judge,
            Length(arguments.steps, arguments.minutes, arms[0].images_per_step),
            Machine(arguments.data, arguments.device, arguments.threads, arguments.workers),
            Result(arguments.out, _line_of_command()),
            {
                "device": device.type,
                "device_name": device_name(device),
                "data": f"{dataset.name}, {len(dataset)} images",
                "study": study_of,
                "method": METHOD,
            },
        )  # fmt: skip
        try:
            _all_of(study, arguments)
        except KeyboardInterrupt:
            print(f"the same command goes on with what {arguments.work} holds", file=sys.stderr)
            raise
    _tell(study, arguments)


def _all_of(study: Study, arguments: argparse.Namespace) -> None:
    jobs = _jobs(study.arms, range(arguments.seeds))
    new = list(range(FIRST_NEW_SEED, FIRST_NEW_SEED + arguments.confirm_seeds))
    if arguments.retry_failed:
        for job in [*jobs, *_jobs(study.arms, new)]:
            for name in ("run", "evaluation"):
                record = study.work.read(*job, name)
                if record is not None and record["failed"] is not None:
                    study.work.forget(*job, name)
    study.do(jobs)
    if arguments.confirm is None:
        return
    chosen: str | None = arguments.confirm
    names = [arm.name for arm in study.arms]
    if chosen == BEST:
        chosen = best_arm(study.record()["summary"], names, study.judge.names[0])
    if chosen is None:
        print(f"--confirm {BEST}: no arm is better than {names[0]!r}", file=sys.stderr)
        return
    study.confirmed = find_arm(chosen, study.arms), new
    study.do(_jobs([study.arms[0], study.confirmed[0]], new))


def _tell(study: Study, arguments: argparse.Namespace) -> None:
    record = study.record()
    if not any(run["failed"] is None for run in record["runs"]):
        reasons = {run["failed"]: None for run in record["runs"]}
        raise UserError(f"all runs have failed: {'; '.join(reasons)}")
    study.result.finish(record, report, f"{len(record['runs'])} of {record['wanted']} runs")
    if arguments.plot is not None:
        plot(record, arguments.plot)
        print(arguments.plot)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


METHOD = {
    "pairs": "of a seed all arms begin with the same weights where their networks have the same "
    "shapes (see parameters of the runs), see the images in the same order (in batches of their "
    "own size) and are judged by the same latents where these have one length",
    "steps": "of the first arm; another arm takes as many as show the same number of real images",
    "minutes": "by the clock of the training alone, its start and its evaluation not counted; of "
    "a run that goes on what is left",
    "fid": "of as many generated images as there are training images, against all of these",
    "at_floor": "fid_over_floor, fid_less_floor and all other metrics are of halves: generated "
    "images against halves of the training images by patient, the mean over divisions; the floor "
    "is of two such halves",
    "near_copies": "of at most 1,000 generated images those that are near copies of training "
    "images by pixels; expected: how many of as many new images would be called so",
    "r_t": "mean sign of the discriminator's logits of real images beside the boundary of the "
    "loss; of pairs, mean sign of the difference between the real and the generated image; the "
    "mean over the last tenth of the run's lines; the same tenth for the losses",
    "images_per_second": "the median over the lines of the run's log, several runs at a time "
    "where the study has workers",
    "p": "two-sided and not corrected for several arms: the best of several is confirmed on new "
    "seeds",
}
"""What the measurements cannot be read without."""

if __name__ == "__main__":
    sys.exit(run_command(main))
