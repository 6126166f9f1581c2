"""How often the loops of a kernel go round in a launch: what is known here of csrc/cuda.

``bench.predict_code`` finds the loops of a compiled kernel and what they go over; a launch's tiling
and the loops of conditional_batch_norm_combine.cuh and its neighbours say how much that is, for the
warp that has the most to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.predict_code import Part, Trip
from bench.predict_cost import WARP, Cost

FORWARD_PART, BACKWARD_PART = 16, 8
"""Bytes of a Moments and of a Sums: lanes side by side have those of a sector of 32 bytes."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the busiest warp of a launch does, and the passes of all of them over the image."""

    warp: Cost
    """Everything."""
    around: Cost
    """Of that, what is outside of units."""
    instructions: float
    """Of a warp in the mean: some of what is around units is done by few of a block's warps."""
    loads: float = 0
    """Of the image, in images; and stores."""
    stores: float = 0
    spins: int = 0
    """Waits for all blocks of the grid."""
    of_packet: float = 0
    """Instructions of a packet, in all loops over packets; and of a unit, around its packets."""
    of_unit: float = 0


@dataclass(frozen=True)
class Trips:
    """How often the loops of each kind go round, or how much they go over.

    Args:
        asked: the launch, with its tiling, as ``predict_plans.cu`` prints it.
        answer: about its case.
        as_before: count the packets of a unit's last trip for whole trips, and all warps of a block
            for as busy as the busiest, as ``predicted_kernels_before.json`` does.
    """

    asked: Mapping[str, Any]
    answer: Mapping[str, Any]
    as_before: bool = False

    def of(self) -> dict[str, float]:
        """By kind; of what a loop takes several at once, how many there are."""
        t, threads = self.asked["tiling"], self.asked["threads"]
        warps, classes = threads // WARP, self.answer["classes"]
        columns = t["across"] * (self.answer["width"] if self.answer["channels_last"] else 1)
        rows_of_block = max(threads // columns, 1)
        forward = self.asked["direction"] == "forward"
        across = (
            32 // (FORWARD_PART if forward else BACKWARD_PART)
            if self.answer["channels_last"]
            else 1
        )
        team = WARP // across  # Team<kRows, Part>::kSize
        # Kernels of all channels have a group of them at a time; the others have a tile's.
        single = self.asked["kernel"].startswith("single_")
        groups = math.ceil(columns / across) if single else 1
        pairs = math.ceil(classes * groups / (t["chunks"] if single else 1))
        sharing = 2 ** math.floor(math.log2(max(warps / pairs, 1)))
        samples_of_round = math.ceil(t["round"] / t["pieces"])
        return {
            "kernel": 1,
            "once": 1,
            "other": 1,
            "spin": 1,
            "unit": math.ceil(math.ceil(t["units"] / t["round"]) / t["chunks"]),
            "packets": t["packets_a_thread"],
            "merge": warps - 1,
            "columns": math.ceil(columns / threads),
            "channels": math.ceil(math.ceil(t["channels"] / across) / self.asked["blocks"]),
            "group": math.ceil(groups / warps),
            "moments": math.ceil(t["chunks"] / team),
            "classes": math.ceil(classes / team),
            "fold": math.log2(max(WARP / columns, 1)),
            "blocks": math.ceil(t["chunks"] / rows_of_block),
            "pairs": math.ceil(pairs / (warps // sharing)),
            "samples": math.ceil(t["samples"] / (sharing * team)),
            "slots": t["slots"] / t["samples"],
            "round": math.ceil(samples_of_round / rows_of_block),
            "exchange of unit": math.log2(t["group"] / t["across"]),
            "exchange of kernel": math.log2(WARP / t["across"]),
            "add of round": min(t["round"], t["pieces"]),
            "add of kernel": threads / max(WARP, columns),
            "add of pairs": sharing - 1,
        }

    def shares(self) -> dict[str, float]:
        """The part of a block's warps, 0 to 1, that goes over the loops of a kind, if not all."""
        t, warps = self.asked["tiling"], self.asked["threads"] // WARP
        columns = t["across"] * (self.answer["width"] if self.answer["channels_last"] else 1)
        if self.as_before:
            return {}
        some = min(math.ceil(columns / WARP) / warps, 1)
        return {"once": some, "columns": some, "group": some, "add of kernel": some}

    @property
    def in_flight(self) -> int:
        """Packets of a tensor that a trip of the packet loops takes."""
        forward, backward = self.answer["packets_in_flight"]
        return int(forward if self.asked["direction"] == "forward" else backward)

    def of_packets(self, trip: Trip, packets: float) -> Cost:
        """What the packets of a unit cost.

        To write fewer than a trip takes is so much less work. To measure them is as much as to
        measure a whole batch of them (View::kBatch).
        """
        trips = math.ceil(packets / self.in_flight)
        batch = self.answer["packets_in_flight"][1]
        done = packets if trip.stores else math.ceil(packets / batch) * batch
        if self.as_before:
            done = trips * self.in_flight
        return trip.first + trip.cost.times(done / self.in_flight, trips)

    @property
    def kept(self) -> float:
        """The part of the packets, 0 to 1, that wait in shared memory."""
        packets = self.asked["tiling"]["packets_a_thread"]
        return min(self.asked["kept"] / packets, 1.0) if packets else 0.0


def work_of(code: Part, trips: Trips) -> Work:
    """What the busiest warp of a launch does.

    Args:
        code: its kernel.
        trips: of its loops.

    Raises:
        ValueError: a loop of the kernel is of a kind whose trips are not known, or does not go over
            whole trips of packets.
    """
    counts, shares, in_flight = trips.of(), trips.shares(), trips.in_flight

    def of(numbers: Mapping[str, float], part: Part, inside: str) -> float | None:
        return numbers.get(part.kind, numbers.get(f"{part.kind} of {inside}"))

    def cost(part: Part, inside: str) -> Cost:
        times = of(counts, part, inside)
        if times is None:
            raise ValueError(f"a loop over {part.kind!r} in one over {inside!r}")
        if part.again is not None and part.kept is not None:
            packets = times / counts["unit"]
            return trips.of_packets(part.kept, packets) * trips.kept + trips.of_packets(
                part.again, packets
            ) * (1 - trips.kept)
        total = part.cost.times(times / part.items, math.ceil(times / part.items))
        for each in part.parts:
            total += cost(each, part.kind) * times
        return total

    around, units, packets = code.cost, Cost(), Cost()
    instructions = code.cost.instructions
    for each in code.parts:
        found = cost(each, "kernel")
        share = of(shares, each, "kernel")
        instructions += found.instructions * (1 if share is None else share)
        if each.kind == "unit":
            units += found
        else:
            around += found
    loads = stores = 0.0
    for each in code.walk():
        for trip, share in ((each.kept, trips.kept), (each.again, 1 - trips.kept)):
            if trip is None:
                continue
            if trip.loads % in_flight or trip.stores % in_flight:
                raise ValueError(
                    f"a trip of its packet loops loads {trip.loads} and stores {trip.stores} "
                    f"packets, expected multiples of {in_flight}"
                )
            loads += share * trip.loads / in_flight
            stores += share * trip.stores / in_flight
            packets += trip.cost * (share / in_flight)
    a_unit = counts["unit"]
    return Work(
        warp=around + units,
        around=around,
        instructions=instructions,
        loads=loads,
        stores=stores,
        spins=sum(each.kind == "spin" for each in code.walk()),
        of_packet=packets.instructions,
        of_unit=units.instructions / a_unit - packets.instructions * counts["packets"] / a_unit,
    )
