"""By which features a generator was chosen, beside those by which it is judged.

A generator that is the best of many by one network is flattered by that network, and by those of
its family. So is one whose discriminator was built on a network that was trained before: it has
learned to please it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cxrgan_fast.metrics.extractor import FeatureExtractor


def chosen_and_judged(
    extras: Iterable[Mapping[str, str]], extractors: Sequence[FeatureExtractor]
) -> tuple[dict[str, Any], list[str]]:
    """Say by what generators were chosen and trained, and by what they are judged.

    Args:
        extras: what the generators' files hold beside the weights.
        extractors: their features judge them; the first decides, the others are second opinions.

    Returns:
        For the record: `chosen_by` (features; none for a generator that was not chosen),
        `networks_seen` (in training), `judged_by` and `second_opinions_by`; and notes, a line each.
    """
    extras = list(extras)
    families = {
        extra["features"]: extra.get("features_family") or extra["features"].rpartition("-")[0]
        for extra in extras
        if extra.get("features")
    }
    seen = {name for extra in extras for name in extra.get("networks_seen", "").split(",") if name}
    judges = [{"name": each.name, "family": each.family} for each in extractors]
    notes = [f"chosen by {name}, judged by {extractors[0].name}" for name in families]
    for family in dict.fromkeys(each.family for each in extractors):
        if family in families.values():
            notes.append(
                f"the generator is the best of its run by features of the family {family}, "
                "which flatters what they say of it: judge it by others too, such as --features "
                f"{'pixels' if family != 'pixels' else 'cxr'}"
            )
        if family in seen:
            notes.append(
                f"the discriminator was built on a network of the family {family}, so that "
                "its figures mean nothing: judge by others"
            )
    record = {
        "chosen_by": sorted(families),
        "networks_seen": sorted(seen),
        "judged_by": judges[0],
        "second_opinions_by": judges[1:],
    }
    return record, notes
