"""What the benchmark compares must be the same computation on the same inputs."""

import pytest
import torch
from torch import Tensor

from bench import cases
from bench.cases import Case, all_cases


def _output_and_gradients(function, case: Case) -> list[Tensor]:
    arguments, grad = cases.inputs(case)
    output = function(*arguments)
    wanted = [each for each in arguments if each.requires_grad]
    return [output, *torch.autograd.grad(output, wanted, grad), *arguments]


@pytest.mark.parametrize("case", all_cases(shapes=[(5, 3, 4, 6)]), ids=str)
def test_eager_computes_what_the_fused_op_does(case: Case) -> None:
    eager = _output_and_gradients(cases.eager(case), case)
    fused = _output_and_gradients(cases.fused(case), case)
    # bfloat16 has 8 bits, and eager rounds to them after every one of its ops.
    bound = 2e-2 if case.dtype == "bfloat16" else 1e-5
    for one, other in zip(eager, fused, strict=True):
        assert one.shape == other.shape
        difference = (one.double() - other.double()).norm()
        assert difference <= bound * (other.double().norm() + 1e-3)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_every_variant_works_on_images_of_the_case(dtype: str, layout: str) -> None:
    case = Case("conditional_batch_norm_act", (5, 3, 4, 6), dtype, layout)
    (x, *_), grad = cases.inputs(case)
    for image in (x, grad):
        assert image.shape == case.shape
        assert image.dtype == cases.DTYPES[dtype]
        assert image.is_contiguous(memory_format=cases.LAYOUTS[layout])
        assert image.nbytes == case.image_bytes
    variants = cases.steps(case, ["eager"])
    assert list(variants) == ["eager", "fused", "copy"]
    assert torch.equal(variants["copy"](), grad)
    assert [each.shape for each in variants["fused"]()] == [x.shape, (2, 3), (2, 3)]


def test_running_statistics_are_part_of_what_is_timed() -> None:
    case = Case("conditional_batch_norm_act", (5, 3, 4, 6))
    arguments, grad = cases.inputs(case)
    cases.forward_backward(cases.fused(case), arguments, grad)()
    *_, running_mean, running_var = arguments
    assert running_mean.ne(0).all()
    assert running_var.ne(1).all()


def test_the_published_cases() -> None:
    every = all_cases()
    of_images = [case for case in every if case.of_images]
    assert len(of_images) == 2 * 6 * 2 * 2  # ops, shapes, layouts, dtypes
    assert len(every) - len(of_images) == 2 * 5 * 2  # losses, kinds, dtypes
    assert len(set(map(str, every))) == len(every)
    assert all_cases(["generator_loss"], dtypes=["float32"])[0] == Case(
        "generator_loss", (64,), kind="minimax"
    )
