"""What is said of arms, on numbers whose answers are known."""

from __future__ import annotations

from research.compare_measurements import best_arm


def test_the_best_arm_has_the_lowest_fid_and_no_failed_run() -> None:
    def summary(of_arms: dict[str, float], failed: str = "") -> dict:
        return {
            "arms": {name: {"failed": {"0": "so"} if name == failed else {}} for name in of_arms},
            "differences": {
                name: {"pixels": {"fid": {"mean": mean}}} for name, mean in of_arms.items()
            },
        }

    arms = ["first", "a", "b"]
    assert best_arm(summary({"a": -1.0, "b": -2.0}), arms, "pixels") == "b"
    assert best_arm(summary({"a": -1.0, "b": -2.0}, failed="b"), arms, "pixels") == "a"
    assert best_arm(summary({"a": 1.0, "b": 2.0}), arms, "pixels") is None
