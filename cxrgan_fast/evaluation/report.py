"""An evaluation as a record for JSON."""

from collections.abc import Sequence
from typing import Any

from cxrgan_fast.evaluation.evaluator import ALL_CLASSES
from cxrgan_fast.evaluation.findings import Evaluation, Part
from cxrgan_fast.evaluation.floors import Difference
from cxrgan_fast.evaluation.verdict import verdict
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.memorization import MOST_LISTED, Memorization


def to_record(evaluation: Evaluation, others: Sequence[Evaluation] = ()) -> dict[str, Any]:
    """Return all of an evaluation, ready for JSON.

    Args:
        evaluation: what was found by the features that decide.
        others: what was found of the same images by other features; of them `second_opinions` holds
            what depends on the features.

    Every estimate has `value`, `interval` (95 %, None where there is none), `standard_error`,
    `n_real`, `n_fake` and `details`.
    """
    return {
        "features": evaluation.extractor,
        "images": evaluation.fake.class_counts(),
        "notes": evaluation.notes,
        **_of_features(evaluation),
        "duplicates": {
            "images": evaluation.n_given,
            "among_generated": evaluation.duplicates,
            "of_training_images": evaluation.copies,
        },
        "copies": _copies(evaluation),
        "near_copies": _near_copies(evaluation),
        "second_opinions": [
            {"features": other.extractor, **_of_features(other), "seconds": other.seconds}
            for other in others
        ],
        "verdict": verdict(evaluation, others),
        "seconds": evaluation.seconds,
    }


def _of_features(evaluation: Evaluation) -> dict[str, Any]:
    return {
        ALL_CLASSES: _part(evaluation.pooled),
        "classes": {name: _part(part) for name, part in evaluation.classes.items()},
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "generated": comparison_record(part.comparison),
        "floors": {name: comparison_record(floor) for name, floor in part.floors.items()},
        "differences": {
            name: {metric: _difference(each) for metric, each in of_metrics.items()}
            for name, of_metrics in part.differences.items()
        },
        "memorisation": _memorization(part.memorization),
        "memorisation_by_test_split": _memorization(part.second_opinion),
    }


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Return estimates, and reasons for those left out, ready for JSON."""
    estimates = {name: _estimate(estimate) for name, estimate in comparison.estimates.items()}
    return {"metrics": estimates, "omitted": comparison.omitted}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "interval": estimate.interval,
        "standard_error": estimate.standard_error,
        "n_real": estimate.n_real,
        "n_fake": estimate.n_fake,
        "details": estimate.details,
    }


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "value": found.value,
        "floor": found.floor,
        "difference": found.difference,
        "interval": found.interval,
        "floor_deviation": found.deviation,
        "divisions": found.divisions,
    }


def _memorization(found: Memorization | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "share": _estimate(found.share),
        "reference": found.yardstick,
        "n_reference": len(found.yardstick_distances),
        "reference_share": found.yardstick_share,
        "quantile_distance": found.quantile_distance,
        "median_distance": found.fake_median,
        "reference_median_distance": found.yardstick_median,
        "median_ratio": found.median_ratio,
        "p_value": found.p_value,
    }


def _copies(evaluation: Evaluation) -> dict[str, Any] | None:
    """How many near copies there are by pixels, and how often the search is wrong."""
    copies = evaluation.near_copies
    if copies is None:
        return None
    labels = evaluation.fake.labels[copies.found.cpu()]
    names = evaluation.fake.class_names
    counts = labels.bincount(minlength=len(names)).tolist()
    return {
        "near_copies": len(copies.found),
        "of_generated": len(evaluation.fake),
        "classes": dict(zip(names, counts, strict=True)),
        "threshold": copies.threshold.likeness,
        "false_rate": copies.threshold.false_rate,
        "calibrated_by_patients": copies.threshold.n,
        "held_out_share": copies.held_out_share,
        "n_held_out": copies.n_held_out,
        "median_likeness": float(copies.nearest.likeness.quantile(0.5)),
        "largest_likeness": float(copies.nearest.likeness.max()),
    }


def _near_copies(evaluation: Evaluation) -> list[dict[str, Any]]:
    copies = evaluation.near_copies
    if copies is None:
        return []
    nearest = copies.nearest
    return [
        {
            "generated": evaluation.fake.files[row],
            "training": evaluation.train_files[int(nearest.rows[row])],
            "likeness": float(nearest.likeness[row]),
            "transform": nearest.transforms[row]._asdict(),
        }
        for row in copies.found[:MOST_LISTED].tolist()
    ]
