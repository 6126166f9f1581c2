"""Class agreement: scikit-learn's accuracy, names of classes, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Features, Resamples
from cxrgan_fast.metrics.class_agreement import class_agreement, columns_of_classes
from cxrgan_fast.metrics.metric import Asked, Sets, all_metrics

CXR = ("normal", "bacterial", "viral")


def _random(n: int = 200, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, classes).softmax(1), torch.randint(0, classes, (n,))


def test_it_is_the_accuracy() -> None:
    probabilities, labels = _random()
    found = class_agreement(probabilities, Asked(labels, ((0,), (1,), (2,))))
    expected = accuracy_score(labels.numpy(), probabilities.argmax(1).numpy())
    assert found.value == pytest.approx(expected)
    mean = probabilities[torch.arange(200), labels].double().mean()
    assert found.details == {"mean_probability": pytest.approx(float(mean)), "classes": 3}
    assert (found.n_real, found.n_fake, found.standard_error) == (0, 200, None)


def test_only_classes_of_the_data_are_choices() -> None:
    probabilities = torch.tensor([[0.3, 0.2, 0.5], [0.1, 0.3, 0.6], [0.45, 0.3, 0.25]])
    labels = torch.tensor([0, 1, 0])
    # Viral, the third, is no choice: 0.3 > 0.2, 0.3 > 0.1, 0.45 > 0.3.
    alone = class_agreement(probabilities, Asked(labels, ((0,), (1,))))
    assert alone.value == 1
    assert alone.details["mean_probability"] == pytest.approx((0.6 + 0.75 + 0.6) / 3)
    # Joined they are pneumonia: 0.7, 0.9 and 0.55 against 0.3, 0.1 and 0.45.
    joined = class_agreement(probabilities, Asked(labels, ((0,), (1, 2))))
    assert joined.value == pytest.approx(1 / 3)


def test_names_of_classes() -> None:
    assert columns_of_classes(("NORMAL", "Bacterial"), CXR) == ((0,), (1,))
    assert columns_of_classes(("bacterial", "normal"), CXR) == ((1,), (0,))
    assert columns_of_classes(("PNEUMONIA", "no_finding"), CXR) == ((1, 2), (0,))
    assert columns_of_classes(("effusion", "viral-pneumonia"), CXR) == ((), (2,))
    assert columns_of_classes(("pneumonia",), ("normal", "bacterial")) == ((),)


def test_swapped_classes_are_seen() -> None:
    labels = torch.arange(100) % 2
    sure = torch.nn.functional.one_hot(labels, 2) * 0.8 + 0.1
    assert class_agreement(sure, Asked(labels, ((0,), (1,)))).value == 1
    swapped = class_agreement(sure, Asked(1 - labels, ((0,), (1,))))
    assert (swapped.value, swapped.details["mean_probability"]) == (0, pytest.approx(0.1))


def test_the_standard_error_is_that_of_a_share() -> None:
    probabilities, labels = _random(300)
    resamples = Resamples.draw(1, 300, count=2000)
    found = class_agreement(probabilities, Asked(labels, ((0,), (1,), (2,))), resamples=resamples)
    expected = np.sqrt(found.value * (1 - found.value) / 300)
    assert found.standard_error == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (((0,), ()), "knows 1 of the data's 2 classes"),
        (((0,),), "knows 1 of the data's 1 classes .* two or more"),
        (((1, 2), (2,)), "two or more and all of them"),
    ],
)
def test_what_it_cannot_be_computed_of(columns: tuple[tuple[int, ...], ...], told: str) -> None:
    probabilities, labels = _random()
    with pytest.raises(UserError, match=told):
        class_agreement(probabilities, Asked(labels % len(columns), columns))


def test_shapes_and_no_images() -> None:
    probabilities, labels = _random(4)
    columns = ((0,), (1,), (2,))
    with pytest.raises(UserError, match="got none"):
        class_agreement(probabilities[:0], Asked(labels[:0], columns))
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(3,\)"):
        class_agreement(probabilities, Asked(labels[:3], columns))


def test_the_record_follows_the_part_that_is_taken() -> None:
    probabilities, labels = _random(9)
    asked = Asked(labels, ((0,), (1,), (2,)))
    fake = Features(torch.randn(9, 2), probabilities)
    sets = Sets(Features(torch.randn(5, 2)), fake, asked=asked)
    metric = all_metrics()["class_agreement"]
    assert metric.compute(sets) == class_agreement(probabilities, asked)
    part = sets.of_equal_sizes()
    assert len(part.asked.labels) == 5
    rows = (fake.vectors[:, 0] == part.fake.vectors[:, :1]).nonzero()[:, 1]
    assert torch.equal(part.asked.labels, labels[rows])
    with pytest.raises(UserError, match="nobody knows"):
        metric.compute(Sets(sets.real, fake))
