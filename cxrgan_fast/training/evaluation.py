"""``python -m cxrgan_fast.evaluate``: a run, or a folder of images, against the data."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_atomic, write_error
from cxrgan_fast.metrics.comparison import Comparison, check_metrics
from cxrgan_fast.metrics.evaluation import METRICS, OTHER_PATIENTS, Reference
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.report import aligned, comparison_record, number, to_record, to_table
from cxrgan_fast.provenance import provenance
from cxrgan_fast.training.calls import last_calls
from cxrgan_fast.training.config import DataConfig
from cxrgan_fast.training.evaluation_pictures import (
    plot_checkpoints,
    write_nearest,
    write_samples,
)
from cxrgan_fast.training.image_sets import (
    ImageFolder,
    RealImages,
    choose_data,
    draw_set,
    image_size,
    in_order_of_data,
    is_run,
    load_real,
    with_classes,
)
from cxrgan_fast.training.sources import ClassSource, find_generators, load_sources

FORMAT = "cxrgan_fast.evaluation/1"
CHECKPOINT_METRICS = ("fid", "kid", "precision", "recall")


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how.

    Attributes:
        subject: run folder, generator file, or folder of class folders of images.
        data: folder of the real images or "phantom"; None for the run's own.
        metrics: names out of `METRICS`.
        samples: images of each kind to compare.
        seed: of the latents, the choices and the resamples.
        checkpoint: as `load_sources` takes it.
        classes: to compare; none for all.
        resolution: to which a folder's images are made smaller.
        skip_bad: go on without unreadable images.
        progress: show bars on standard error, if that is a terminal.
    """

    subject: Path
    data: str | None = None
    metrics: tuple[str, ...] = METRICS
    samples: int = 1000
    seed: int = 0
    checkpoint: str | None = None
    classes: tuple[str, ...] = ()
    resolution: int | None = None
    skip_bad: bool = False
    progress: bool = True

    def check(self) -> None:
        """Refuse what cannot be before anything is loaded.

        Raises:
            UserError: naming the argument.
        """
        if not self.metrics:
            raise UserError(f"--metrics: none named; expected some of {', '.join(METRICS)}")
        check_metrics(self.metrics, METRICS)
        if self.samples < 2:
            raise UserError(f"--samples {self.samples}: expected 2 or more")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: expected 0 or more, below 2^63")
        if self.resolution is not None and self.resolution < 1:
            raise UserError(f"--resolution {self.resolution}: expected a number of pixels")
        if not is_run(self.subject) and self.checkpoint is not None:
            raise UserError(
                f"--checkpoint {self.checkpoint}: {self.subject} is a folder of images, not a run"
            )


def default_output(subject: Path, checkpoint: str | None) -> Path:
    """Where the evaluation of something lies unless told otherwise."""
    if subject.is_file() or not is_run(subject):
        name = subject.stem if subject.is_file() else subject.resolve().name
        return subject.resolve().with_name(f"{name}-evaluation")
    if checkpoint is None:
        return subject / "evaluation"
    return subject / f"evaluation-{Path(checkpoint).stem}"


def evaluate(
    request: Request, extractor: FeatureExtractor, device: torch.device, out: Path
) -> tuple[str, list[Path]]:
    """Evaluate, and write `evaluation.json`, `samples.png` and `nearest.png`.

    Args:
        request: what, and how.
        extractor: on `device`.
        device: where images are drawn and metrics computed.
        out: folder for the files, made when missing; those of these names are replaced.

    Returns:
        The table for the terminal, and the files.

    Raises:
        UserError: anything that cannot work, in one line.
    """
    request.check()
    data = choose_data(request.data, request.subject, request.skip_bad)
    if is_run(request.subject):
        sources = _sources(request, request.checkpoint, data, device)
        image_size(sources, request.resolution)
        make_output(out)  # before the long work, and not beside a run that is not there
        real, reference = _reference(request, data, sources, extractor, device)
        fake = _draw(request, sources, reference)
        origin = _origin(sources, real)
    else:
        folder = ImageFolder.look(request.subject, data, request.classes, request.resolution)
        make_output(out)
        fake = folder.read(data.skip_bad, request.progress)
        real = load_real(data, fake.class_names, folder.resolution, 1, request.progress)
        reference = _make_reference(request, real, extractor, device)
        origin = {"folder": str(request.subject), "notes": _skipped(fake)}
    evaluation = reference.evaluate(
        fake, metrics=request.metrics, samples=request.samples, where=request.subject
    )
    evaluation.notes[:0] = [*origin.pop("notes"), *_skipped(real.train)]
    record = {**_header(request, real, origin, device), **to_record(evaluation)}
    files = [out / "evaluation.json", out / "samples.png"]
    _write_json(files[0], record)
    write_samples(files[1], evaluation.fake)
    nearest = out / "nearest.png"
    if evaluation.pooled.memorisation is not None:
        files.append(nearest)
        write_nearest(nearest, evaluation, real.train)
    else:
        nearest.unlink(missing_ok=True)  # of an evaluation before, it would be taken for this one's
    return f"{_title(request, origin, real)}\n{to_table(evaluation)}", files


def evaluate_checkpoints(
    request: Request, extractor: FeatureExtractor, device: torch.device, out: Path
) -> tuple[str, list[Path]]:
    """Evaluate every generator that a run has kept; write `checkpoints.json` and a plot.

    The file is written after each, so that Ctrl-C loses one at most. A generator that is damaged or
    draws no numbers has its reason there and in the table, and the others are evaluated.

    Args:
        request: what, and how; of its metrics those of `CHECKPOINT_METRICS`.
        extractor: on `device`.
        device: where images are drawn and metrics computed.
        out: folder for the files.

    Returns:
        The table for the terminal, and the files; without the plot if there is no Matplotlib.

    Raises:
        UserError: anything that cannot work, in one line.
    """
    request.check()
    if not is_run(request.subject) or request.subject.is_file():
        raise UserError(f"--all-checkpoints: {request.subject} is not a run folder")
    if request.checkpoint is not None:
        raise UserError("--all-checkpoints and --checkpoint: give one of the two")
    metrics = [name for name in CHECKPOINT_METRICS if name in request.metrics]
    if not metrics:
        raise UserError(f"--all-checkpoints: expected some of {', '.join(CHECKPOINT_METRICS)}")
    steps = kept_steps(request.subject)
    data = choose_data(request.data, request.subject, request.skip_bad)
    sources = _sources(request, None, data, device)  # those of a step may be damaged
    image_size(sources, request.resolution)
    make_output(out)
    real, reference = _reference(request, data, sources, extractor, device)
    counts = _counts(request, sources, reference)
    floors = {
        name: reference.compare(pair, metrics)
        for name, pair in reference.floor_pairs(counts).items()
    }
    rows: list[dict[str, Any]] = []
    record = {
        **_header(request, real, {"run": request.subject.name}, device),
        "features": reference.label(),
        "images": dict(zip(real.train.class_names, counts, strict=True)),
        "floors": {name: comparison_record(floor) for name, floor in floors.items()},
        "checkpoints": rows,
    }
    found: dict[int, Comparison] = {}
    failed: dict[int, str] = {}
    hidden = None if request.progress else True  # None: shown on a terminal only
    for step in tqdm(steps, desc="checkpoints", disable=hidden, leave=False):
        try:
            sources = _sources(request, str(step), data, device)
            fake = reference.describe(_draw(request, sources, reference), counts)
        except UserError as error:
            failed[step] = str(error)
            rows.append({"step": step, "error": failed[step]})
        else:
            found[step] = reference.compare(reference.pair(fake, counts), metrics)
            rows.append({"step": step, **comparison_record(found[step])})
        _write_json(out / "checkpoints.json", record)
    if not found:
        raise UserError(failed[steps[-1]])
    files = [out / "checkpoints.json"]
    label = reference.label()
    shown = f"{label['name']}, {label['dimension']}-d"
    plot = plot_checkpoints(out / "checkpoints.png", found, floors.get(OTHER_PATIENTS), shown)
    lines = [f"features: {shown}, version {label['version']}", *_checkpoint_table(found, floors)]
    lines += [f"step {step}: {reason}" for step, reason in failed.items()]
    left_out = [name for name in request.metrics if name not in CHECKPOINT_METRICS]
    if left_out and request.metrics != METRICS:  # named by hand
        lines.append(f"not computed of every checkpoint: {', '.join(left_out)}")
    if plot is None:
        (out / "checkpoints.png").unlink(missing_ok=True)
        lines.append("no plot: Matplotlib is not installed (pip install matplotlib)")
    else:
        files.append(plot)
    return "\n".join(lines), files


def kept_steps(run: Path) -> list[int]:
    """Steps of which a run has kept the generators of all its classes, oldest first.

    Raises:
        UserError: as `find_generators`; none is kept.
    """
    names = "generator-*.safetensors"
    of_each = [
        {
            int(number)
            for path in (found.parent / "checkpoints").glob(names)
            if (number := path.stem.rpartition("-")[2]).isdecimal()  # a user may keep others there
        }
        for found in find_generators(run)
    ]
    steps = sorted(set.intersection(*of_each))
    if not steps:
        raise UserError(f"--all-checkpoints: {run} has kept no generators in its checkpoints")
    return steps


def make_output(out: Path) -> None:
    """Make the folder for the files, if it is not there.

    Raises:
        UserError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error


def _sources(
    request: Request, checkpoint: str | None, data: DataConfig, device: torch.device
) -> list[ClassSource]:
    """What draws each class, in the data's order of the classes."""
    # As a folder of the same images is read: it is to have the same numbers, and what is chosen
    # at random is chosen class by class.
    sources = load_sources(request.subject, checkpoint, request.classes, device)
    return in_order_of_data(sources, data)


def _reference(
    request: Request,
    data: DataConfig,
    sources: Sequence[ClassSource],
    extractor: FeatureExtractor,
    device: torch.device,
) -> tuple[RealImages, Reference]:
    resolution, channels = image_size(sources, request.resolution)
    classes = [source.class_name for source in sources]
    real = load_real(data, classes, resolution, channels, request.progress)
    return real, _make_reference(request, real, extractor, device)


def _make_reference(
    request: Request, real: RealImages, extractor: FeatureExtractor, device: torch.device
) -> Reference:
    return Reference(
        real.train, real.test, extractor, device, seed=request.seed, progress=request.progress
    )


def _counts(request: Request, sources: Sequence[ClassSource], reference: Reference) -> list[int]:
    """How many to draw of each class: there is no end of them, but of real images."""
    names = reference.train.dataset.class_names
    return reference.match(dict.fromkeys(names, request.samples), request.samples, request.subject)


def _draw(request: Request, sources: Sequence[ClassSource], reference: Reference) -> ImageDataset:
    names = reference.train.dataset.class_names
    counts = _counts(request, sources, reference)
    return draw_set(sources, counts, names, request.seed, request.progress)


def _origin(sources: Sequence[ClassSource], real: RealImages) -> dict[str, Any]:
    """Which generators draw, and whether the data are those that they were trained on."""
    notes = []
    names = real.train.class_names
    for snapshot in {id(source.snapshot): source.snapshot for source in sources}.values():
        trained_on = snapshot.extra.get("data_fingerprint")
        if trained_on is None or not set(snapshot.class_names) <= set(names):
            continue  # unknown, or only some of its classes are compared
        if trained_on != with_classes(real.train, snapshot.class_names).fingerprint:
            notes.append(
                "the data are not the images that the generator was trained on: its training "
                "images are unknown here, so memorisation of them would not be seen"
            )
            break
    origin = {source.class_name: source.checkpoint for source in sources}
    return {"generators": origin, "notes": notes}


def _skipped(dataset: ImageDataset) -> list[str]:
    if not dataset.skipped:
        return []
    file, reason = dataset.skipped[0]
    return [
        f"{len(dataset.skipped)} unreadable images of {dataset.name} are left out, such as {file} "
        f"({reason})"
    ]


def _header(
    request: Request, real: RealImages, origin: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    test = None if real.test is None else real.test.class_counts()
    return {
        "format": FORMAT,
        "generated_by": origin,
        "data": {
            "name": real.train.name,
            "fingerprint": real.train.fingerprint,
            "resolution": real.train.images.shape[-1],
            "image_channels": real.train.images.shape[1],
            "train": real.train.class_counts(),
            "test": test,
        },
        "samples": request.samples,
        "seed": request.seed,
        "evaluated_with": {**provenance(device), "settings": _settings(request)},
        "trained_with": last_calls(request.subject) if is_run(request.subject) else {},
    }


def _settings(request: Request) -> dict[str, Any]:
    return {**asdict(request), "subject": str(request.subject)}


def _title(request: Request, origin: dict[str, Any], real: RealImages) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in real.train.class_counts().items())
    side = real.train.images.shape[-1]
    drawn_by = ", ".join(dict.fromkeys(origin.get("generators", {}).values()))
    return (
        f"{drawn_by or request.subject} against the training images of {real.train.name} "
        f"({counts}), {side} x {side} pixels"
    )


def _checkpoint_table(found: dict[int, Comparison], floors: dict[str, Comparison]) -> list[str]:
    computed = {name for comparison in found.values() for name in comparison.estimates}
    names = [name for name in CHECKPOINT_METRICS if name in computed]
    if not names:
        reasons = next(iter(found.values())).omitted
        return [f"not computed: {name}: {reason}" for name, reason in reasons.items()]
    rows = [["step", *names, "real/generated images"]]
    lines = [(str(step), comparison) for step, comparison in found.items()]
    lines += [(f"floor: {name}", floor) for name, floor in floors.items()]
    for title, comparison in lines:
        cells = [
            number(comparison.estimates[name].value) if name in comparison.estimates else "-"
            for name in names
        ]
        known = next(iter(comparison.estimates.values()), None)
        rows.append([title, *cells, f"{known.n_real}/{known.n_fake}" if known else "-"])
    return aligned(rows)


def _write_json(path: Path, record: dict[str, Any]) -> None:
    text = json.dumps(_finite(record), indent=1, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def _finite(value: Any) -> Any:
    """JSON has no infinity: what is one, among a metric's details, becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
