"""Class agreement: does an independent classifier see the class that was asked for?

The share of generated images to which the extractor's classifier, which never saw them, gives the
class that they were asked to show: the accuracy that Shmelkov, Schmid and Alahari call GAN-test
("How good is my GAN?", ECCV 2018), with a classifier of its own set rather than of ours. Only
classes of the data are choices: `cxr` also knows viral pneumonia, whose probability counts for
"pneumonia" if the data call it so, and for nothing where the data have normal and bacterial alone.

Features such as FID's do not see a swap of two classes; this does. It is no measure of quality
beyond that: a generator may overdo what the classifier looks for, and be above real images. The
floor is the same share of real images. For `cxr` it flatters: most of those it was trained on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.metric import Asked, Detail, Metric, Sets, register

# What others call a class of `cxr`, or several of them together.
_CALLED = {
    "healthy": ("normal",),
    "no finding": ("normal",),
    "bacteria": ("bacterial",),
    "bacterial pneumonia": ("bacterial",),
    "virus": ("viral",),
    "viral pneumonia": ("viral",),
    "pneumonia": ("bacterial", "viral"),
}


def columns_of_classes(
    class_names: Sequence[str], classifier: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Return which columns of a classifier's probabilities mean each class of the data.

    Args:
        class_names: classes of the data. Capitals do not matter, and `_` and `-` are spaces.
        classifier: names of its classes, in the order of the columns.

    Returns:
        The columns of each class; empty for one that the classifier does not know.
    """
    known = {name.casefold(): column for column, name in enumerate(classifier)}
    found = []
    for name in class_names:
        plain = name.casefold().replace("_", " ").replace("-", " ").strip()
        parts = (plain,) if plain in known else _CALLED.get(plain, ())
        there = [known[part] for part in parts if part in known]
        found.append(tuple(there) if len(there) == len(parts) else ())
    return tuple(found)


def class_agreement(
    probabilities: Tensor, asked: Asked, *, resamples: Resamples | None = None
) -> Estimate:
    """Compute the share of generated images in which a classifier sees the class asked for.

    Args:
        probabilities: (M, K) of the classifier's K classes.
        asked: which class each was asked to show, and its columns.
        resamples: resamples of the generated images, for the standard error.

    Returns:
        The share, 0 to 1, with `n_real` 0. `details`: `mean_probability`, that of the class asked
        for, where those of the data's classes are made to sum to 1; `classes`, how many there are
        to choose among. Where two classes are equally probable the first is chosen.

    Raises:
        UserError: the classifier knows fewer than two of the classes, or two classes of the data
            are one of its own; or it does not know one that was asked for; or there are no images.
        ValueError: the shapes do not go together.
    """
    labels, columns = asked.labels, asked.columns
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),):
        raise ValueError(
            f"probabilities, labels: expected (M, K) and (M,), got {tuple(probabilities.shape)} "
            f"and {tuple(labels.shape)}"
        )
    if not len(labels):
        raise UserError("class agreement: expected generated images, got none; generate some")
    unknown = [place for place, own in enumerate(columns) if not own]
    used = [column for own in columns for column in own]
    if unknown or len(columns) < 2 or len(used) > len(set(used)):
        raise UserError(
            f"the classifier of these features knows {len(columns) - len(unknown)} of the data's "
            f"{len(columns)} classes by their names; it takes two or more and all of them"
        )
    rows = probabilities.double()
    of_class = torch.stack([rows[:, list(own)].sum(1) for own in columns], 1)  # (M, classes)
    agrees = (of_class.argmax(1) == labels).double()
    total = of_class.sum(1)
    share = of_class.gather(1, labels[:, None])[:, 0] / torch.where(total > 0, total, 1.0)
    error = None
    if resamples is not None:
        counts = resamples.fake.to(rows)
        error = standard_error(counts @ agrees / counts.sum(1))
    details = {"mean_probability": float(share.mean()), "classes": len(columns)}
    return Estimate(float(agrees.mean()), 0, len(rows), error, details)


def _of_sets(sets: Sets) -> Estimate:
    assert sets.fake.probabilities is not None  # else the record's `takes` has refused
    if sets.asked is None:
        raise UserError("nobody knows which classes these images were asked to show")
    return class_agreement(sets.fake.probabilities, sets.asked, resamples=sets.resamples)


register(
    Metric(
        name="class_agreement",
        title="class agreement",
        better="higher",
        takes="probabilities",
        function=_of_sets,
        fewest=(0, 1),
        details=(Detail("mean_probability", "mean probability of the class asked for", "higher"),),
        place=45,
    )
)
