"""``python -m bench.profile_step``: what a training step spends beside its convolutions.

Some warm steps, op by op, under PyTorch's profiler: on the CPU the time that each op spends in
itself, on a GPU that of each kernel. Every one is counted in exactly one group.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from bench.command import check, parser_of, prepare_process, recorded
from bench.dispatched import Dispatched
from bench.record import write_result
from bench.tables import table
from bench.timing import seconds_of
from cxrgan_fast.command import run_command
from cxrgan_fast.data import load_dataset
from cxrgan_fast.devices import resolve_device, resolve_precision
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.step import TrainingStep

WARM_UP = 3
SHOWN = 5  # members of a group in the table
SHOWN_OF_REST = 20
AVERAGE = "moving average"
FUSED = "fused ops"
REST = "rest"
FUSED_OP = (
    r"^(cxrgan_fast::)?(conditional_batch_norm|bias_leaky_relu|augmented_batch"
    r"|discriminator_loss|generator_loss)"
)
FUSED_BACKWARD = "DirectBackward"  # of whichever of them

# Whatever runs within these belongs to them: an optimizer's additions are the optimizer's.
RANGES = {
    "optimizer": r"^Optimizer\.|_fused_(adam|sgd)|FusedAdam|FusedSgd",
    AVERAGE: rf"^{AVERAGE}$",
    FUSED: rf"{FUSED_OP}|^{FUSED_BACKWARD}$|cxrgan::",
}
# Otherwise the innermost name that one of these describes decides: of a kernel or of an op, then of
# the op around it.
KINDS = {
    "random numbers": r"distribution|philox|aten::(rand|normal_|uniform_|random_|bernoulli)",
    "copies and casts": r"Memcpy|copy|CatArray|aten::(to|clone|contiguous|cat|stack|_to_copy)$",
    "fills": r"Memset|FillFunctor|aten::(_?fill|zero|ones|full|new_zeros|scalar_tensor)",
    "padding, pooling, resampling": r"pool|upsample|(^|::|_)pad|constant_pad|flip|grid_sampl",
    "convolutions and matrix products": r"conv|gemm|gemv|cudnn|cutlass|xmma|implicit_|wgrad|dgrad"
    r"|winograd|aten::(addmm|mm|bmm|matmul|linear|mv|addmv|dot|baddbmm)(_|$)|dot_kernel",
    "elementwise additions": r"CUDAFunctor_add|CUDAFunctorOnSelf_add|aten::(_foreach_)?add_?$",
}
GROUPS = (*KINDS, *RANGES, REST)


@dataclass(frozen=True)
class Part:
    """Time in one op itself, or in one kernel.

    Attributes:
        name: of the op or the kernel.
        microseconds: what it took in all.
        calls: how often it ran.
        within: names of what it ran in, the innermost first.
    """

    name: str
    microseconds: float
    calls: int = 1
    within: tuple[str, ...] = ()


def group_of(part: Part) -> str:
    """The one group that a part belongs to."""
    names = (part.name, *part.within)
    for group, pattern in RANGES.items():
        if any(re.search(pattern, name) for name in names):
            return group
    for name in names:
        # What the autograd engine itself does is none of these, whatever node it does it for.
        if re.search(r"Backward\d*$", name):
            continue
        for group, pattern in KINDS.items():
            if re.search(pattern, name):
                return group
    return REST


def parts_of(events: Iterable[FunctionEvent], device_type: str) -> list[Part]:
    """The parts that a profile's events tell of.

    Args:
        events: what ``profile.events()`` gives.
        device_type: "cpu" for the ops, "cuda" for the kernels.
    """
    events = list(events)
    ops = [event for event in events if event.device_type == DeviceType.CPU]
    # All fused ops share the name of their backward, but it has the number of the forward.
    forward = {
        event.sequence_nr: event.name
        for event in ops
        if event.sequence_nr >= 0 and re.search(FUSED_OP, event.name)
    }

    def names(event: FunctionEvent | None) -> tuple[str, ...]:
        """The op's name and those around it."""
        found = []
        while event is not None:
            name = event.name.removeprefix("autograd::engine::evaluate_function: ")
            if name == FUSED_BACKWARD and event.sequence_nr in forward:
                name = f"{forward[event.sequence_nr]} (backward)"
            found.append(name)
            event = event.cpu_parent
        return tuple(found)

    if device_type == "cpu":
        named = [(names(event), event.self_cpu_time_total) for event in ops]
        return [Part(name, took, within=tuple(around)) for (name, *around), took in named]
    parts = [
        Part(kernel.name, kernel.duration, within=names(event))
        for event in ops
        for kernel in event.kernels
    ]
    # Kernels that no op launched: those of a replayed graph.
    remaining: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for event in events:
        if event.device_type != DeviceType.CPU and not event.is_user_annotation:
            remaining[event.name][0] += event.time_range.elapsed_us()
            remaining[event.name][1] += 1
    for part in parts:
        remaining[part.name][0] -= part.microseconds
        remaining[part.name][1] -= part.calls
    return parts + [
        Part(name, took, int(calls)) for name, (took, calls) in remaining.items() if calls > 0
    ]


def _label(part: Part, group: str) -> str:
    """A part's name in its group: what happens within a fused op on the CPU is that op."""
    names = (part.name, *part.within)
    fused = [name for name in names if re.search(RANGES[FUSED], name)]
    return fused[0] if group == FUSED and part.name.startswith("aten::") else part.name


def measurements(parts: Iterable[Part], steps: int) -> list[dict[str, Any]]:
    """Time, share and calls a step of each group, with its members, the longest first."""
    members: dict[str, dict[str, list[float]]] = {group: {} for group in GROUPS}
    for part in parts:
        group = group_of(part)
        sums = members[group].setdefault(_label(part, group), [0.0, 0])
        sums[0] += part.microseconds
        sums[1] += part.calls
    total = sum(took for of_group in members.values() for took, _ in of_group.values())
    rows = []
    for group, of_group in members.items():
        took = sum(each for each, _ in of_group.values())
        rows.append(
            {
                "group": group,
                "ms_per_step": took / steps / 1e3,
                "share": took / total if total else 0.0,
                "calls_per_step": sum(calls for _, calls in of_group.values()) / steps,
                "members": [
                    {"name": name, "ms_per_step": us / steps / 1e3, "calls_per_step": calls / steps}
                    for name, (us, calls) in sorted(of_group.items(), key=lambda item: -item[1][0])
                ],
            }
        )
    return sorted(rows, key=lambda row: (row["group"] == REST, -row["ms_per_step"]))


def profile_step(step: TrainingStep, steps: int) -> dict[str, Any]:
    """Profile some steps, of which as many are taken before without the profiler, and timed.

    Args:
        step: the step; it is trained on.
        steps: how many; R1's interval, so that it has its share.

    Returns:
        What the JSON holds: the groups, the ops dispatched and, on a GPU, the kernels launched
        (copies and memory sets included).
    """
    cuda = step.device.type == "cuda"
    update = step.ema.update

    def marked_update(*arguments: Any, **named: Any) -> None:
        with record_function(AVERAGE):
            update(*arguments, **named)

    step.ema.update = marked_update  # type: ignore[method-assign]  # a name in the profile
    try:
        for _ in range(WARM_UP):
            step()
        wall = seconds_of(step, steps, step.device)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        with profile(activities=activities) as recorded:
            seconds_of(step, steps, step.device)
        views = Counter[bool]()  # of which the others are ops
        with Dispatched(lambda op, *_: views.update([op.is_view])):
            seconds_of(step, steps, step.device)
    finally:
        del step.ema.update  # the method is found again
    parts = parts_of(recorded.events(), step.device.type)
    groups = measurements(parts, steps)
    found = {
        "steps": steps,
        "wall_ms_per_step": wall / steps * 1e3,
        "grouped_ms_per_step": sum(row["ms_per_step"] for row in groups),
        "dispatched_ops_per_step": views[False] / steps,
        "views_per_step": views[True] / steps,
    }
    if cuda:
        found["kernel_launches_per_step"] = sum(part.calls for part in parts) / steps
    return {**found, "groups": groups}


def report(found: dict[str, Any]) -> str:
    """The measurements as text for a terminal."""
    rows = []
    for group in found["groups"]:
        rows.append([*_cells(group["group"], group), f"{100 * group['share']:.1f}"])
        shown = SHOWN_OF_REST if group["group"] == REST else SHOWN
        rows += [[*_cells(f"  {each['name'][:90]}", each), ""] for each in group["members"][:shown]]
        hidden = len(group["members"]) - shown
        if hidden > 0:
            rows.append([f"  and {hidden} more", "", "", ""])
    header = ["group", "ms a step", "calls a step", "%"]
    counts = ", ".join(
        f"{found[key]:.0f} {words}"
        for key, words in (
            ("dispatched_ops_per_step", "ops"),
            ("views_per_step", "views"),
            ("kernel_launches_per_step", "kernel launches"),
        )
        if key in found
    )
    title = (
        f"a step takes {found['wall_ms_per_step']:.3f} ms, "
        f"{found['grouped_ms_per_step']:.3f} ms of it below (with the profiler on); {counts}"
    )
    return table(title, header, rows, left=1)


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    return [name, f"{row['ms_per_step']:.4f}", f"{row['calls_per_step']:.1f}"]


def main() -> None:
    """Profile, print, and write if asked to."""
    parser = parser_of("bench.profile_step", __doc__)
    parser.add_argument("--data", default="phantom", help="a folder of images, or phantom")
    parser.add_argument("--phantom-images", type=int, default=64)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--base-channels", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--spectral-norm", action="store_true")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, help="steps profiled; R1's interval unless given")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    check(arguments, least={"phantom_images": 1, "steps": 1})
    prepare_process()
    device = resolve_device(arguments.device)
    settings = {
        "resolution": arguments.resolution,
        "base_channels": arguments.base_channels,
        "batch_size": arguments.batch_size,
        "spectral_norm": arguments.spectral_norm,
        "precision": resolve_precision(arguments.precision, device),
    }
    config = override(TrainConfig(), settings)
    dataset = load_dataset(
        arguments.data,
        resolution=arguments.resolution,
        phantom_images=max(arguments.phantom_images, arguments.batch_size),
    )
    step = TrainingStep(config, dataset, device)
    found = profile_step(step, arguments.steps or config.objective.r1_interval)
    print(report(found))
    if arguments.out:
        about = {"device": device.type, "threads": torch.get_num_threads(), "settings": settings}
        write_result(arguments.out, recorded("bench.profile_step"), {**about, **found})


if __name__ == "__main__":
    sys.exit(run_command(main))
