"""The recipe of the classifiers: bounds, its schedule, and plain values."""

import pytest

from cxrgan_fast.augment.diffaugment import POLICIES
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.recipe import POLICY, Recipe


def test_the_augmentation_has_all_that_suits_radiographs() -> None:
    assert set(POLICY) == set(POLICIES)


def test_the_rate_falls_and_the_curve_ends_with_the_last_step() -> None:
    recipe = Recipe(steps=100, curve_points=4)
    assert recipe.drops() == [60, 85]
    assert recipe.curve_steps() == [25, 50, 75, 100]
    assert Recipe(steps=3, curve_points=20).curve_steps() == [1, 2, 3]


def test_a_recipe_is_kept_as_plain_values() -> None:
    recipe = Recipe(network="resnet18", steps=7, learning_rate=0.01)
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    with pytest.raises(UserError, match=r"there is no 'step'; .*did you mean 'steps'"):
        Recipe.from_plain({"step": 3})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("network", "smal", "expected small, .*did you mean 'small'"), ("steps", 0, "steps 0"),
     ("steps", 1.5, r"steps 1\.5"), ("batch_size", 1, "batch size 1"), ("batch_size", True, "True"),
     ("learning_rate", 0.0, r"learning rate 0\.0: expected over 0"),
     ("learning_rate", float("nan"), "learning rate nan"), ("dropout", 1.0, r"dropout 1\.0"),
     ("augment_probability", 1.1, "augment probability"), ("weight_decay", -1, "weight decay -1"),
     ("weight_decay", "a", "weight decay a"), ("curve_points", 0, "curve points 0")],
)  # fmt: skip
def test_values_out_of_range_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe.from_plain({name: value})
