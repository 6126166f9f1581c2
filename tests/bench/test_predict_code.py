"""What ``bench.predict`` counts of compiled code: loops, the ways through them, and their trips."""

from __future__ import annotations

import pytest

from bench.predict_code import Part, Trip, code_of
from bench.predict_cost import Cost
from bench.predict_sass import kernels, usage
from bench.predict_trips import Trips, work_of

# A unit loop around a packet loop that keeps a packet, and whose first trip divides; then a grid
# waits, or a cluster, of which others' sums are read; a table of moments; a unit loop that writes.
LISTING = """
.text.some_kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 BRA `(.L_x_1) ;
        /*0020*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;
        /*0030*/                   BRA `(.L_x_1) ;
.L_x_1:
        /*0040*/                   LDG.E.64 R2, desc[UR6][R4.64] ;
        /*0050*/                   IADD3 R6, R2, 0x1, RZ ;
.L_x_2:
        /*0060*/                   IADD3 R6, R6, 0x1, RZ ;
        /*0070*/              @!P1 BRA `(.L_x_4) ;
.L_x_3:
        /*0080*/               @P2 LDG.E.128 R8, desc[UR6][R4.64] ;
        /*0090*/               @P3 LDG.E.128 R12, desc[UR6][R4.64+0x10] ;
        /*00a0*/               @P4 BRA `(.L_x_5) ;
        /*00b0*/                   FCHK P0, R8, R9 ;
        /*00c0*/                   FFMA R16, R8, R9, R9 ;
.L_x_5:
        /*00d0*/                   FADD R16, R12, R15 ;
        /*00e0*/                   FADD R16, R8, R11 ;
        /*00e8*/               @P6 BRA `(.L_x_31) ;
        /*00f0*/                   STS.128 [R4], R8 ;
        /*00f8*/                   IADD3 R4, R4, 0x10, RZ ;
.L_x_31:
        /*0100*/               @P5 BRA `(.L_x_3) ;
.L_x_4:
        /*0110*/                   BRA.DIV UR4, `(.L_x_9) ;
        /*0120*/                   SHFL.BFLY PT, R17, R16, R5, 0x1f ;
        /*0130*/                   FADD R16, R16, R17 ;
        /*0140*/               @P6 BRA `(.L_x_4) ;
        /*0150*/                   STG.E desc[UR6][R4.64], R16 ;
        /*0160*/               @P0 BRA `(.L_x_2) ;
        /*0164*/               @P0 BRA `(.L_x_12) ;
.L_x_6:
        /*0170*/                   LDG.E.STRONG.GPU R20, desc[UR6][R4.64] ;
        /*0180*/                   ISETP.NE.AND P0, PT, R20, RZ, PT ;
        /*0190*/               @P0 BRA `(.L_x_6) ;
        /*0194*/                   IADD3 R4, R4, 0x10, RZ ;
        /*0195*/                   IADD3 R4, R4, 0x10, RZ ;
        /*0196*/                   IADD3 R4, R4, 0x10, RZ ;
        /*0198*/                   BRA `(.L_x_7) ;
.L_x_12:
        /*01a0*/                   UCGABAR_ARV ;
        /*01a4*/                   UCGABAR_WAIT ;
.L_x_13:
        /*01a6*/                   LD.E.128 R20, [R4] ;
        /*01a8*/                   DADD R24, R24, R20 ;
        /*01aa*/               @P1 BRA `(.L_x_13) ;
.L_x_7:
        /*01ac*/                   CS2R R24, SRZ ;
.L_x_8:
        /*01b0*/                   LDG.E.128 R20, desc[UR6][R4.64] ;
        /*01c0*/                   LDG.E.128 R28, desc[UR6][R4.64+0x10] ;
        /*01d0*/                   DFMA R24, R24, R22, R28 ;
        /*01e0*/               @P1 BRA `(.L_x_8) ;
        /*01f0*/               @P2 BRA `(.L_x_10) ;
        /*0200*/                   LDG.E.128 R20, desc[UR6][R4.64] ;
        /*0210*/                   DFMA R24, R24, R22, R28 ;
.L_x_10:
        /*0220*/                   STG.E desc[UR6][R4.64], R24 ;
        /*0230*/               @P3 BRA `(.L_x_7) ;
        /*0240*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_20:
        /*0242*/                   IADD3 R6, R6, 0x1, RZ ;
.L_x_21:
        /*0244*/               @P2 LDG.E.128 R8, desc[UR6][R4.64] ;
        /*0245*/              @!P2 LDS.128 R8, [R4] ;
        /*0246*/               @P4 BRA `(.L_x_22) ;
        /*0247*/                   LDG.E.64 R2, desc[UR6][R4.64] ;
        /*0248*/               @P1 LDG.E.128 R12, desc[UR6][R2.64] ;
        /*0249*/              @!P1 LDG.E R12, desc[UR6][R2.64] ;
        /*024a*/              @!P1 LDG.E R13, desc[UR6][R12.64+0x4] ;
        /*024b*/                   FADD R16, R12, R16 ;
.L_x_22:
        /*024c*/                   FADD R8, R8, R16 ;
        /*024d*/                   STG.E.128 desc[UR6][R4.64], R8 ;
        /*024e*/               @P5 BRA `(.L_x_21) ;
        /*024f*/               @P0 BRA `(.L_x_20) ;
        /*0250*/                   EXIT ;
.L_x_9:
        /*0260*/                   WARPSYNC.COLLECTIVE R16, `(.L_x_11) ;
        /*0270*/                   SHFL.BFLY P0, R18, R16, R5, R17 ;
.L_x_11:
        /*0280*/                   BRA `(.L_x_4) ;
"""


def test_code_is_counted_by_its_loops() -> None:
    grid = code_of(kernels(LISTING)["some_kernel"], grid=True)
    assert [each.kind for each in grid.parts] == ["unit", "spin", "group", "unit"]
    measure, _, group, write = grid.parts
    # The unit's own four.
    assert measure.cost == Cost(2 + 2, 0, 0)
    packets, exchange = measure.parts
    # Two loads, two branches, two sums and the branch back; both sums wait, the second for what has
    # come. To keep one is two more.
    assert packets.again == Trip(Cost(7, 1, 0), Cost(2, 0, 0), 2, 0)
    assert packets.kept == Trip(Cost(9, 1, 0), Cost(2, 0, 0), 2, 0)
    assert exchange == Part("exchange", Cost(4, 0, 1))
    # Without the two instructions for a part that is left over.
    assert group == Part("group", Cost(4, 0, 0), parts=[Part("moments", Cost(4, 1, 0), 2)])
    # A label, then its parameters; what is not aligned is not loaded. Kept packets are near.
    (packets,) = write.parts
    assert packets.again == Trip(Cost(6, 1, 0), Cost(5, 1, 0), 1, 1)
    assert packets.kept == Trip(Cost(6, 0, 1), Cost(5, 2, 0), 0, 1)
    # Not the call. By the time that the load has come, so has the constant; then the barrier.
    assert grid.cost == Cost(4 + 1 + 4 + 2, 1, 1)


def test_a_cluster_waits_for_itself_and_a_grid_for_all() -> None:
    (listing,) = kernels(LISTING).values()
    cluster = code_of(listing, grid=False)
    assert [each.kind for each in cluster.parts] == ["unit", "blocks", "group", "unit"]
    assert cluster.parts[1] == Part("blocks", Cost(3, 0, 0, 1))
    assert cluster.cost == Cost(4 + 1 + 2 + 2, 1, 1, 1)


def test_code_that_is_no_nested_loops_is_refused() -> None:
    jump = "/*{:04x}*/ @P0 BRA `({}) ;\n"
    into_both = (
        ".text.k:\n" + jump.format(0, ".L_x_2") + ".L_x_1:\n/*0010*/ FADD R1, R1, R1 ;\n"
        ".L_x_2:\n/*0020*/ FADD R1, R1, R1 ;\n" + jump.format(48, ".L_x_1") + "/*0040*/ EXIT ;\n"
    )
    with pytest.raises(ValueError, match="not those of nested loops"):
        code_of(kernels(into_both)["k"], grid=False)


def test_usage_is_what_ptxas_prints() -> None:
    printed = (
        "ptxas info    : Compiling entry function '_Z1kv' for 'sm_90'\n"
        "ptxas info    : Function properties for _Z1kv\n"
        "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 8 bytes stack, 64 bytes smem\n"
    )
    assert usage(printed) == {"_Z1kv": (40, 64, 16)}


TILING = {
    "samples": 64, "channels": 48, "tiles": 3, "piece": 64, "pieces": 4, "units": 256, "group": 32,
    "across": 2, "chunks": 10, "round": 8, "slots": 95, "packets_a_thread": 16,
}  # fmt: skip
ASKED = {
    "kernel": "single_forward_kernel<int>", "direction": "forward", "blocks": 30, "threads": 256,
    "kept": 12, "tiling": TILING,
}  # fmt: skip
ANSWER = {"channels_last": True, "width": 8, "classes": 5, "packets_in_flight": [4, 2]}


def test_trips_are_those_of_the_loops_of_the_source() -> None:
    forward = Trips(ASKED, ANSWER).of()
    # 32 rounds by 10 blocks; 16 columns a tile, two side by side; 16 lanes go over 10 parts.
    assert (forward["unit"], forward["packets"], forward["group"]) == (4, 16, 1)
    assert (forward["moments"], forward["merge"], forward["columns"]) == (1, 7, 1)
    assert (forward["exchange of unit"], forward["exchange of kernel"]) == (4, 4)
    backward = Trips(ASKED | {"direction": "backward", "kernel": "single_backward_kernel"}, ANSWER)
    trips = backward.of()
    # 5 classes of 4 groups are 2 pairs for each of 10 blocks, 4 warps to each; 8 lanes and 4 warps
    # go over 64 samples.
    assert (trips["pairs"], trips["add of pairs"], trips["samples"]) == (1, 3, 2)
    assert trips["slots"] == 95 / 64
    # Two samples a round, by 16 threads to a column; of each 4 units.
    assert (trips["round"], trips["add of round"], trips["blocks"]) == (1, 4, 1)
    assert (trips["fold"], trips["add of kernel"]) == (1, 8)
    assert (backward.in_flight, backward.kept) == (2, 0.75)
    # A kernel of all channels has a group of them at a time, 12 by 5 blocks: a warp to a class.
    reduce = Trips(
        ASKED | {"direction": "backward", "kernel": "backward_reduce_kernel", "blocks": 5}, ANSWER
    ).of()
    assert (reduce["channels"], reduce["pairs"], reduce["add of pairs"]) == (3, 1, 0)
    planes = Trips(
        ASKED | {"tiling": TILING | {"across": 1, "group": 8, "chunks": 40}},
        ANSWER | {"channels_last": False},
    ).of()
    assert (planes["moments"], planes["exchange of unit"], planes["exchange of kernel"]) == (
        2,
        3,
        5,
    )
    assert (planes["group"], planes["fold"], planes["unit"]) == (1, 5, 1)


def test_work_of_a_warp() -> None:
    kept, again = (
        Trip(Cost(100, 1, 0), Cost(8, 1, 0), 4, 0),
        Trip(Cost(60, 2, 0), Cost(12, 2, 0), 4, 4),
    )
    code = Part(
        "kernel",
        Cost(1000, 3, 0),
        parts=[
            Part("unit", Cost(40, 2, 1), parts=[
                Part("packets", again.cost, kept=kept, again=again),
                Part("exchange", Cost(10, 0, 1)),
            ]),
            Part("once", Cost(50, 0, 2), parts=[Part("merge", Cost(20, 0, 4), 4)]),
            Part("exchange", Cost(20, 0, 0)),
            Part("spin", Cost(6, 1, 0)),
        ],
    )  # fmt: skip
    work = work_of(code, Trips(ASKED, ANSWER))
    # Seven more warps merge in two trips of four, four exchanges, a wait.
    merges = 50 + 20 * 7 / 4
    assert work.around == Cost(1000 + merges + 4 * 20 + 6, 3 + 1, 2 + 2 * 4)
    # Of four packets a unit three wait in shared memory: a trip each.
    packets = 0.75 * 108 + 0.25 * 72
    unit = Cost(40 + 4 * 10 + packets, 2 + 0.75 * 2 + 0.25 * 4, 1 + 4)
    assert work.warp == work.around + unit * 4
    # One of eight warps merges.
    assert work.instructions == work.warp.instructions - merges * 7 / 8
    assert (work.loads, work.stores, work.spins) == (1, 0.25, 1)
    assert work.of_packet == (0.75 * 100 + 0.25 * 60) / 4
    assert work.of_unit == unit.instructions - 4 * work.of_packet


def test_fewer_packets_than_a_trip_are_measured_by_the_batch_and_written_one_by_one() -> None:
    trips = Trips(ASKED, ANSWER)
    measure, write = (Trip(Cost(80, 1, 0), Cost(5), 4, stores) for stores in (0, 4))
    assert [trips.of_packets(measure, n).instructions for n in (1, 2, 3, 5)] == [45, 45, 85, 125]
    assert [trips.of_packets(write, n).instructions for n in (1, 2, 3, 5)] == [25, 45, 65, 105]
    assert [trips.of_packets(write, n).far for n in (1, 4, 5)] == [1, 1, 2]
    before = Trips(ASKED, ANSWER, as_before=True)
    for trip in (measure, write):
        assert [before.of_packets(trip, n).instructions for n in (1, 4, 5)] == [85, 85, 165]
    assert (before.shares(), len(trips.shares())) == ({}, 4)
