"""By which features a generator was chosen, beside those by which it is judged.

A generator that is the best of many by one network is flattered by that network, and by those of
its family. So is one whose discriminator was built on a network that was trained before: it has
learned to please it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cxrgan_fast.metrics.extractor import FeatureExtractor


def chosen_and_judged(
    extras: Iterable[Mapping[str, str]], extractor: FeatureExtractor
) -> tuple[dict[str, Any], list[str]]:
    """Say by what generators were chosen and trained, and by what they are judged.

    Args:
        extras: what the generators' files hold beside the weights.
        extractor: whose features judge them.

    Returns:
        For the record: `chosen_by` (features; none for a generator that was not chosen),
        `networks_seen` (in training) and `judged_by`; and notes, a line each.
    """
    extras = list(extras)
    families = {
        extra["features"]: extra.get("features_family") or extra["features"].rpartition("-")[0]
        for extra in extras
        if extra.get("features")
    }
    seen = {name for extra in extras for name in extra.get("networks_seen", "").split(",") if name}
    notes = [f"chosen by {name}, judged by {extractor.name}" for name in families]
    if extractor.family in families.values():
        notes.append(
            f"the generator is the best of its run by features of the family {extractor.family}, "
            "which flatters what they say of it: judge it by others too, such as --features "
            f"{'pixels' if extractor.family != 'pixels' else 'cxr'}"
        )
    if extractor.family in seen:
        notes.append(
            f"the discriminator was built on a network of the family {extractor.family}, so that "
            "these figures mean nothing: judge by others"
        )
    record = {
        "chosen_by": sorted(families),
        "networks_seen": sorted(seen),
        "judged_by": {"name": extractor.name, "family": extractor.family},
    }
    return record, notes
