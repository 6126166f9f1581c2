"""What was done otherwise than asked, in words that stand above the table."""

from collections.abc import Mapping

from cxrgan_fast.evaluation.floors import OTHER_PATIENTS, TEST_SPLIT
from cxrgan_fast.evaluation.matching import Described, Pair


def notes(
    train: Described, test: Described | None, floors: Mapping[str, Pair], n: int, samples: int
) -> list[str]:
    """Say which floors there are not, and of how few images everything is.

    Args:
        train: the training images.
        test: those of the data's test split; None where it has none.
        floors: the pairs of the floors that there are, by their names.
        n: images of each kind that are compared.
        samples: as many as were wanted.
    """
    said = []
    if n < samples:
        said.append(
            f"{n} images of each kind are compared, not {samples}: there are no more in the "
            f"frequencies of the classes ({len(train.dataset)} training images)"
        )
    for floor in (OTHER_PATIENTS, TEST_SPLIT):
        if floor == TEST_SPLIT and test is None:
            said.append("there is no floor by test split: there is no such split")
        elif floor not in floors:
            said.append(f"there is no floor by {floor}: the data have too few images for it")
        elif len(floors[floor].real.dataset) < n:
            said.append(
                f"the floor by {floor} is of {len(floors[floor].real.dataset)} images of each "
                f"kind, not {n}: fewer images make FID larger"
            )
    if test is not None:
        both = set(train.dataset.patients) & set(test.dataset.patients)
        if both:
            said.append(
                f"{len(both)} patients, such as {min(both)}, are named in the training images "
                "and in the test split: the latter are not new"
            )
    return said
