"""The numbers by which ``research.compare_settings`` compares runs, from what a judge says."""

from __future__ import annotations

from collections.abc import Mapping

from research.compare_work import Record


def numbers_of(
    evaluation: Record, floors: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """What is compared of one run, by the extractor's name and the number's.

    ``fid`` is of all images; ``fid_over_floor``, ``fid_less_floor`` and the rest are at the size of
    the floor.
    """
    found = {}
    for extractor, sizes in evaluation["features"].items():
        at_floor, floor = sizes["halves"], floors[extractor]
        found[extractor] = {
            **at_floor,
            "fid": sizes["all"]["fid"],
            "fid_at_floor": at_floor["fid"],
            "fid_over_floor": at_floor["fid"] / floor["fid"],
            "fid_less_floor": at_floor["fid"] - floor["fid"],
        }
    return found
