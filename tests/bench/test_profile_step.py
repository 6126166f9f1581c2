"""The profile of a step: every op and kernel in one group, and none lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

from bench import profile_step
from bench.profile_step import GROUPS, Part, group_of, measurements, parts_of, report
from commands import call
from cxrgan_fast.data import load_dataset
from cxrgan_fast.nn import EMA
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.step import TrainingStep

SMALL = {"resolution": 32, "base_channels": 8, "batch_size": 4, "precision": "fp32"}
ADD = "at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, array>"


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (["aten::mkldnn_convolution", "aten::conv2d"], "convolutions and matrix products"),
        (["aten::empty", "aten::mm", "MmBackward0"], "convolutions and matrix products"),
        (["aten::fill_", "aten::convolution_backward"], "fills"),
        (["aten::copy_", "aten::_to_copy", "aten::conv2d"], "copies and casts"),
        (["aten::add_", "autograd::X"], "elementwise additions"),
        (["aten::_foreach_add_"], "elementwise additions"),
        (["aten::add_", "Optimizer.step#Adam.step"], "optimizer"),
        (["aten::lerp_", "aten::_foreach_lerp_", "moving average"], "moving average"),
        (["aten::empty", "bias_leaky_relu"], "fused ops"),
        (["conditional_batch_norm_act (backward)"], "fused ops"),
        (["aten::empty", "augmented_batch"], "fused ops"),
        (["aten::constant_pad_nd"], "padding, pooling, resampling"),
        (["aten::avg_pool2d_backward"], "padding, pooling, resampling"),
        (["aten::normal_", "aten::randn"], "random numbers"),
        (["aten::where"], "rest"),
        (["aten::addcmul"], "rest"),
        (["ConvolutionBackward0"], "rest"),  # the engine's own time
        # Kernels, within the op that launched them.
        (["sm90_xmma_fprop_implicit_gemm_bf16", "aten::cudnn_convolution"], GROUPS[4]),
        ([ADD, "aten::add"], "elementwise additions"),
        (["Memcpy DtoD (Device -> Device)", "aten::copy_"], "copies and casts"),
        (["Memset (Device)", "aten::zero_"], "fills"),
        (["multi_tensor_apply_kernel<FusedAdamMathFunctor>"], "optimizer"),
        (["void cxrgan::backward_reduce_kernel<float>(int)"], "fused ops"),
        (["apply_kernel", "cxrgan_fast::bias_leaky_relu"], "fused ops"),
        (["distribution_elementwise_grid_stride_kernel<float>"], "random numbers"),
        (["a_kernel_of_tomorrow"], "rest"),
    ],
)
def test_a_part_is_in_the_group_of_what_it_does(names: list[str], group: str) -> None:
    assert group_of(Part(names[0], 1.0, within=tuple(names[1:]))) == group


def test_shares_add_up_and_unknown_parts_are_named() -> None:
    parts = [Part("aten::add", 30.0), Part("mystery", 50.0, 4), Part("aten::add", 20.0, 2)]
    rows = {row["group"]: row for row in measurements(parts, steps=2)}
    assert set(rows) == set(GROUPS)
    assert rows["elementwise additions"]["share"] == pytest.approx(0.5)
    assert rows["elementwise additions"]["calls_per_step"] == 1.5
    assert rows["rest"]["members"] == [
        {"name": "mystery", "ms_per_step": pytest.approx(0.025), "calls_per_step": 2}
    ]
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)


def op(
    name: str,
    *kernels: tuple[str, float],
    parent: FunctionEvent | None = None,
    number: int = -1,
) -> FunctionEvent:
    event = FunctionEvent(0, name, 1, 0.0, 1000.0, sequence_nr=number)
    if parent is not None:
        event.set_cpu_parent(parent)
    for kernel, took in kernels:
        event.append_kernel(kernel, 0, took)
    return event


def kernel(name: str, took: float, annotation: bool = False) -> FunctionEvent:
    return FunctionEvent(
        0, name, 1, 0.0, took, device_type=DeviceType.CUDA, is_user_annotation=annotation
    )


def test_kernels_of_a_gpu() -> None:
    average = op("moving average")
    events = [
        average,
        op("aten::add_", (ADD, 2.0), parent=average),
        op("aten::add", (ADD, 3.0)),
        op("conditional_batch_norm_act", ("apply_kernel", 5.0), number=7),
        op("DirectBackward", ("backward_reduce_kernel", 4.0), number=7),
        kernel(ADD, 2.0),
        kernel(ADD, 3.0),
        kernel("apply_kernel", 5.0),
        kernel("backward_reduce_kernel", 4.0),
        kernel("moving average", 2.5, annotation=True),  # a range, not a kernel
        kernel("Memset (Device)", 1.0),  # which no op launched: part of a graph
    ]
    parts = parts_of(events, "cuda")
    assert sum(part.microseconds for part in parts) == 15
    assert sum(part.calls for part in parts) == 5
    took = {row["group"]: row["ms_per_step"] * 1e3 for row in measurements(parts, steps=1)}
    assert {group: each for group, each in took.items() if each} == {
        "moving average": pytest.approx(2),
        "elementwise additions": pytest.approx(3),
        "fused ops": pytest.approx(9),
        "fills": pytest.approx(1),
    }
    within = ("conditional_batch_norm_act (backward)",)
    assert Part("backward_reduce_kernel", 4.0, within=within) in parts


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    config = override(TrainConfig(), {**SMALL, "r1_interval": 2})
    dataset = load_dataset("phantom", resolution=32, phantom_images=4, progress=False)
    step = TrainingStep(config, dataset, torch.device("cpu"))
    measurements = profile_step.profile_step(step, steps=2)
    assert step.ema.update.__func__ is EMA.update  # as it was
    return measurements


@pytest.mark.long
def test_a_step_on_the_cpu(found: dict[str, Any]) -> None:
    rows = {row["group"]: row for row in found["groups"]}
    assert set(rows) == set(GROUPS)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    for name, row in rows.items():
        assert row["ms_per_step"] > 0, name
        took = sum(member["ms_per_step"] for member in row["members"])
        assert took == pytest.approx(row["ms_per_step"])
    fused = {member["name"] for member in rows["fused ops"]["members"]}
    assert {
        "bias_leaky_relu",
        "bias_leaky_relu (backward)",
        "conditional_batch_norm_act",
        "conditional_batch_norm_act (backward)",
        "discriminator_loss",
        "generator_loss",
    } <= fused
    assert not any(name.startswith("aten::") for name in fused)
    # Generator and discriminator in each step; the generator's weights are averaged once.
    optimizers = {m["name"]: m["calls_per_step"] for m in rows["optimizer"]["members"]}
    assert optimizers["Optimizer.step#Adam.step"] == 2
    averages = {m["name"]: m["calls_per_step"] for m in rows["moving average"]["members"]}
    assert averages["moving average"] == 1
    assert found["dispatched_ops_per_step"] > found["views_per_step"] > 50


def test_the_report_shows_every_group_and_what_it_hides(found: dict[str, Any]) -> None:
    text = report(found)
    assert all(f"\n{group} " in text for group in GROUPS)
    rest = next(row for row in found["groups"] if row["group"] == "rest")
    assert f"and {len(rest['members']) - profile_step.SHOWN_OF_REST} more" in text
    assert f"{found['dispatched_ops_per_step']:.0f} ops" in text


def test_the_command(capsys, tmp_path) -> None:
    file = tmp_path / "profile.json"
    flags = ["--resolution", "32", "--base-channels", "8", "--batch-size", "2", "--device", "cpu"]
    flags += ["--precision", "fp32", "--phantom-images", "4", "--steps", "1", "--spectral-norm"]
    assert call(profile_step.main, *flags, "--out", file) == 0
    assert "rest" in capsys.readouterr().out
    record = json.loads(file.read_text())
    assert record["command"] == f"python -m bench.profile_step {' '.join(flags)}"
    assert record["device"] == "cpu"
    assert {row["group"] for row in record["groups"]} == set(GROUPS)
