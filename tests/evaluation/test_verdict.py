"""The verdict says what the differences from the floor say, within chance or not."""

import pytest
import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.evaluation.findings import Evaluation, Part
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS, Difference
from cxrgan_fast.evaluation.verdict import verdict
from cxrgan_fast.metrics.comparison import Comparison


def difference(value: float, floor: float, half: float | None, deviation: float | None = None):
    above = value - floor
    interval = None if half is None else (above - half, above + half)
    return Difference(value, floor, interval, deviation, 20)


def an_evaluation(name: str = "pixels", copies: int = 0, **differences: Difference) -> Evaluation:
    files = [f"{row}.png" for row in range(4)]
    fake = ImageDataset(
        images=torch.zeros(4, 1, 2, 2, dtype=torch.uint8),
        labels=torch.zeros(4, dtype=torch.int64),
        class_names=("normal",),
        patients=files,
        files=files,
        name="generated",
    )
    return Evaluation(
        extractor={"name": name, "dimension": 8, "version": "1", "input_size": 2},
        fake=fake,
        train_files=["a.png"],
        pooled=Part(Comparison(), differences={OTHER_PATIENTS: differences}),
        classes={},
        n_given=4,
        duplicates=[],
        near_copies=None,
        copies=[("0.png", "a.png")] * copies,
        notes=[],
        seconds={},
    )


@pytest.mark.parametrize(
    ("recall", "precision", "said"),
    [
        ((0.60, 0.88, 0.02), (0.92, 0.86, 0.02), "too alike: recall 0.60 of 0.88"),
        ((0.87, 0.88, 0.02), (0.85, 0.86, 0.02), "as varied and as lifelike as new X-rays"),
        ((0.90, 0.88, 0.01), (0.40, 0.86, 0.02), "varied, but some show what no X-ray does"),
        ((0.10, 0.88, 0.02), (0.40, 0.86, 0.02), "too alike, and some show what no X-ray does"),
        ((0.60, 0.88, 0.50), (0.92, 0.86, 0.02), "as varied and as lifelike"),  # within chance
    ],
)
def test_variety_goes_by_recall_and_precision_beyond_chance(recall, precision, said):
    found = an_evaluation(recall=difference(*recall), precision=difference(*precision))
    first, _, _ = verdict(found)
    assert said in first
    assert f"precision {precision[0]:.2f} of {precision[1]:.2f} (pixels, 8-d)" in first


def test_what_was_not_computed_is_not_judged():
    first, second, third = verdict(an_evaluation(recall=difference(0.6, 0.8, 0.1)))
    assert first == "Variety: not judged, since there is no precision with a floor."
    assert second == "Copies: none of 4 images byte for byte; near copies were not looked for."
    assert third == "Distance: not judged, since there is no FID with a floor."


def test_copies_byte_for_byte_come_before_all():
    assert verdict(an_evaluation(copies=3))[1] == (
        "Copies: 3 of 4 images are training images byte for byte."
    )


def test_distance_is_the_difference_and_whether_other_features_agree():
    far = an_evaluation(fid=difference(0.9, 0.1, 0.2, 0.04))
    assert verdict(far)[2] == (
        "Distance: FID (pixels, 8-d) 0.9 is 0.8 (95 % 0.6 to 1) above the floor of 0.1, "
        "20 times the floor's spread."
    )
    near = an_evaluation("cxr", fid=difference(0.12, 0.1, 0.1, 0.04))
    assert "FID (cxr, 8-d) 0.12 is not told from the floor of 0.1 (+0.02," in verdict(near)[2]
    assert "; likewise FID (cxr" in verdict(far, [an_evaluation("cxr", **far_of(far))])[2]
    assert "; otherwise FID (cxr, 8-d) 0.12 is not told" in verdict(far, [near])[2]
    unknown = an_evaluation(fid=difference(0.9, 0.1, None))
    assert verdict(unknown)[2] == "Distance: FID (pixels, 8-d) 0.9, 0.8 above the floor of 0.1."


def far_of(evaluation: Evaluation) -> dict[str, Difference]:
    return evaluation.pooled.differences[OTHER_PATIENTS]
