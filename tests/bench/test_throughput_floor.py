"""The convolution floor: the very products of a step, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import graphs
from bench.convolution_floor import ConvolutionFloor, TensorSpec, record, record_cycle
from bench.dispatched import Dispatched
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.ops import resample_conv
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.step import TrainingStep

CPU = torch.device("cpu")


def new_step(**settings: Any) -> TrainingStep:
    tiny = {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 2}
    config = override(TrainConfig(), {**tiny, "precision": "fp32", "r1_interval": 3, **settings})
    images = torch.randint(256, (8, 1, 32, 32), dtype=torch.uint8)
    names = [str(number) for number in range(8)]
    dataset = ImageDataset(images, torch.arange(8) % 2, ("a", "b"), names, names, "random")
    return TrainingStep(config, dataset, CPU)


def flops(step: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bf16", "spectral_norm": True},
        {"family": "dcgan", "upsampling": "transposed", "conditioning": "concat"},
        {"discriminator_steps": 2, "r1_interval": 1},
        {"r1_gamma": 0.0},
    ],
    ids=str,
)
def test_its_multiplications_are_those_of_the_steps(settings: dict[str, Any]) -> None:
    cycle = record_cycle(new_step(**settings))
    floor, step = ConvolutionFloor(cycle, CPU), new_step(**settings)
    for _ in range(4):  # with R1, without, without, with
        wanted = flops(step)
        assert flops(floor) == wanted > 0


def test_a_cycle_is_a_step_with_r1_and_those_up_to_the_next() -> None:
    with_r1, *plain = record_cycle(new_step(r1_interval=3))
    assert len(plain) == 2
    assert plain[0] is plain[1]
    # The penalty's pass, its gradient and the derivative of that.
    assert len(with_r1) > 1.5 * len(plain[0])


def test_it_repeats_the_products_in_order_and_does_nothing_else() -> None:
    cycle = record_cycle(new_step(precision="bf16", spectral_norm=True))
    floor = ConvolutionFloor(cycle, CPU)
    names = [[str(product.op) for product in products] for products in cycle]
    assert any("aten.convolution_backward" in name for name in names[0])
    assert any("aten.mv" in name for name in names[0])  # spectral normalisation
    for products, expected in zip(cycle, names, strict=True):
        dispatched: list[str] = []
        with Dispatched(lambda op, *_, names=dispatched: names.append(str(op))):
            assert record(floor) == products  # ops, shapes, strides, dtypes and other arguments
        assert dispatched == expected


def test_autocast_is_recorded_after_its_casts() -> None:
    dtypes: dict[bool, set[torch.dtype]] = {False: set(), True: set()}
    for product in record(new_step(precision="bf16")):
        if "convolution" in str(product.op):
            (transposed,) = (leaf for leaf in product.args[:9] if isinstance(leaf, bool))
            tensors = (leaf for leaf in product.args if isinstance(leaf, TensorSpec))
            dtypes[transposed] |= {tensor.dtype for tensor in tensors}
    # Those of upsample_conv2d are exact where the processor's own would round every tap.
    wide = torch.bfloat16 in resample_conv._ROUNDED_OFTEN
    assert dtypes[True] == {torch.float32 if wide else torch.bfloat16}
    assert dtypes[False] == {torch.bfloat16}


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, 3, 4, 5),
        torch.ones(2, 3, 4, 5, dtype=torch.bfloat16).to(memory_format=torch.channels_last),
        torch.ones(3, 4).t(),
        torch.ones(3, 1).expand(3, 4),
        torch.ones(6, 6)[1::2, ::3],
        torch.ones(0, 3),
        torch.tensor(1.0),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)} of {tensor.stride()}",
)
def test_a_specification_makes_a_tensor_like_it(tensor: torch.Tensor) -> None:
    spec = TensorSpec.of(tensor)
    made = spec.make()
    assert TensorSpec.of(made) == spec
    assert made.isfinite().all()


def test_two_alike_tensors_of_a_product_are_two() -> None:
    spec = TensorSpec.of(torch.ones(4, 4))
    products = record(lambda: torch.mm(torch.ones(4, 4), torch.ones(4, 4)))
    assert products[0].args == (spec, spec)
    floor = ConvolutionFloor([products], CPU)
    assert len(floor._tensors) == 2


def test_on_a_gpu_each_kind_of_step_is_captured_once(captured: list[Any]) -> None:
    cycle = record_cycle(new_step(r1_interval=3))
    floor = ConvolutionFloor(cycle, torch.device("cuda"))
    assert floor.how == "replayed as CUDA graphs"
    assert len(captured) == 2
    replayed = [len(record(floor)) for _ in range(4)]
    assert replayed == [len(products) for products in itertools.islice(itertools.cycle(cycle), 4)]


def test_what_cannot_be_captured_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = RuntimeError("operation not permitted when stream is capturing\nmore")
    capturer: Any = create_autospec(graphs.Capturer)
    capturer.return_value.capture.side_effect = refused
    monkeypatch.setattr(graphs, "Capturer", capturer)
    cycle = record_cycle(new_step())
    floor = ConvolutionFloor(cycle, torch.device("cuda"))
    assert floor.how == "queued: operation not permitted when stream is capturing"
    assert record(floor) == cycle[0]
