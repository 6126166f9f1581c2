"""The sentence says what was found, how sure it is, and what would have been found."""

from typing import Any

from cxrgan_fast.studies.augmentation.finding import state_finding


def size(images: int | str, difference: float, p: float, smallest: float = 0.01) -> dict[str, Any]:
    return {"size": images, "images": 2477 if images == "all" else images, "folds": 5,
            "difference": difference, "interval_95": [difference - 0.01, difference + 0.01],
            "p_holm": p, "smallest_effect": smallest}  # fmt: skip


def sentence(*sizes: dict[str, Any]) -> str:
    primary = {"arm": "RAS_*", "against": "RA"}
    return state_finding({"sizes": list(sizes), "seeds": 6, "primary": primary})


def test_a_gain_a_loss_and_nothing_are_told_apart() -> None:
    assert sentence(
        size(100, 0.021, 0.0004), size(400, -0.012, 0.02), size("all", 0.001, 0.8, 0.004)
    ) == (
        "Synthetic images raised the AUC on new patients with 100 real images by 0.0210 (95 % "
        "interval +0.0110 to +0.0310, p < 0.001); synthetic images lowered the AUC on new patients "
        "with 400 real images by 0.0120 (95 % interval -0.0220 to -0.0020, p = 0.020); no "
        "difference shown with all 2477 real images (+0.0010, 95 % interval -0.0090 to +0.0110; "
        "0.0040 would have been) (RAS_* against RA, 5 folds of patients, 6 seeds, p corrected for "
        "3 sizes)."
    )


def test_where_nothing_is_shown_it_says_so_and_no_more() -> None:
    told = sentence(size(100, 0.02, 0.051))
    assert told.startswith("No difference shown with 100 real images (+0.0200, 95 % interval")
    assert "raised" not in told
    assert "0.0100 would have been" in told
    assert told.endswith("(RAS_* against RA, 5 folds of patients, 6 seeds).")


def test_what_is_no_difference_before_correction_is_none_after_it() -> None:
    shown = size(100, 0.02, 0.06)
    shown["p_value"] = 0.03
    assert sentence(shown, size(400, 0.0, 0.9)).startswith("No difference shown with 100")
