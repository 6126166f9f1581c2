"""What each arm trains on: real rows, synthetic counts, and what cannot be."""

import json

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.arms import (
    ARMS,
    find_arm,
    parse_ratios,
    round_half_up,
    training_images,
)

LABELS = [0, 1, 1] * 20
ORDER = tuple(range(59, -1, -1))
NAMES = ("normal", "bacterial")


def of(name: str, ratio: float | None = None, size: int = 30):
    return training_images(find_arm(name), ratio, ORDER, size, LABELS, NAMES)


def test_real_arms_show_the_subset_and_nothing_else() -> None:
    for name, copies, augmented in (("R", 1, False), ("RA", 1, True), ("RR", 2, False)):
        made = of(name)
        assert made.real == made.subset == tuple(range(30, 60))
        assert (made.copies, made.synthetic, made.augmented) == (copies, (0, 0), augmented)


def test_synthetic_arms_add_to_each_class_by_the_ratio() -> None:
    assert of("RS", 0.5).synthetic == (5, 10)
    assert of("RAS", 2).synthetic == (20, 40)
    assert of("RAS", 2).augmented
    assert not of("RS", 2).augmented
    assert of("RS", 2).real == of("R").real
    assert of("S", 1).real == ()
    assert of("S", 1).synthetic == (10, 20)
    assert of("RS", 0.01).synthetic == (1, 1)  # at least one of each


def test_more_real_images_are_those_of_a_larger_subset() -> None:
    made = of("N", 0.5)
    assert set(made.real) == set(ORDER[:45]) > set(made.subset)
    with pytest.raises(UserError, match=r"arm N_2: size 30 .* take 90, there are 60"):
        of("N", 2)


def test_every_arm_has_the_subset_from_which_balance_and_generator_come() -> None:
    for arm in ARMS.values():
        made = of(arm.name, 1.0 if arm.takes_ratio else None)
        assert made.subset == made.allowed == tuple(range(30, 60))
        assert json.loads(json.dumps(made.to_plain()))["arm"] == arm.name


@pytest.mark.parametrize(
    ("name", "ratio", "size", "message"),
    [("RX", None, 30, "arm 'RX': expected R, RA, RR, RS, RAS, S, N"),
     ("R", 1.0, 30, "arm R_1: R has no ratio, got 1"),
     ("RS", None, 30, "arm RS: it needs a ratio"),
     ("RS", 0.0, 30, "ratio 0, expected over 0"),
     ("RS", float("nan"), 30, "ratio nan"),
     ("RS", 101, 30, "ratio 101"),
     ("R", None, 0, "size 0"), ("R", None, 61, "size 61, there are 60")],
)  # fmt: skip
def test_what_cannot_be_is_refused(name, ratio, size, message) -> None:
    with pytest.raises(UserError, match=message):
        of(name, ratio, size)


def test_halves_are_rounded_alike() -> None:
    assert [round_half_up(value) for value in (0.5, 1.5, 2.5, 0.49)] == [1, 2, 3, 0]


def test_ratios_are_read_in_order() -> None:
    assert parse_ratios("2, 0.5,1") == [0.5, 1.0, 2.0]
    for text in ("0", "a", "1,", "nan", "inf", "-1", "1_0", "1e9"):
        with pytest.raises(UserError, match="is no ratio"):
            parse_ratios(text)
    with pytest.raises(UserError, match=r"1\.0 is given twice"):
        parse_ratios("1,1.0")
