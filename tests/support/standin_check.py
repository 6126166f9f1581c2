"""A program: the CUDA kernels' results, executed on the CPU, against the definition.

``python -c "import standin_check; standin_check.main()" MODULE PATHS``: MODULE is what
cuda_standin.building.build made, PATHS names paths of use_cuda_path with commas between. It prints
``right``, or fails with the first result that is wrong. The order of threads and the GPU are chosen
by the variables CXRGAN_STANDIN_ORDER and CXRGAN_STANDIN_DEVICE, which hold for a process.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from torch import Tensor

from augmented_batch_cases import InputCase, input_case
from cuda_standin import building, standing_in
from cxrgan_fast.ops import discriminator_loss, use_backend
from cxrgan_fast.ops.adversarial_loss import LOSS_KINDS
from cxrgan_fast.ops.conditional_batch_norm_kernels import use_cuda_path
from op_cases import CASES, LAYOUTS, batch_norm_case, relative_error

# Of the last two a block goes over several rounds: a sample's units are many, or samples are.
SHAPES = [(12, 40, 8, 8), (5, 8, 13, 9), (2, 3, 50, 50), (3, 4, 48, 40), (40, 4, 8, 8)]


def check_images(path: str) -> None:
    """Every image op on a path."""
    for op, layout, shape in itertools.product(CASES, LAYOUTS, SHAPES):
        torch.manual_seed(0)
        case = CASES[op](shape, layout=layout)
        truth = case.truth()
        with use_cuda_path(path):
            for name, value in case.results().items():
                error = relative_error(value, truth[name])
                assert error < 1e-6, (path, op, layout, shape, name, error)


def check_units() -> None:
    """Images that take clusters with many short units: their sums need the most workspace."""
    for shape in [(1, 302, 7, 7), (1, 477, 4, 4), (3, 407, 4, 4), (4, 8, 12, 12), (5, 16, 10, 10)]:
        torch.manual_seed(0)
        case = batch_norm_case(shape, dtype=torch.bfloat16, layout="channels_last")
        truth = case.truth()
        for name, value in case.results().items():
            error = relative_error(value, truth[name])
            assert error < 1e-2, (shape, name, error)


def check_losses() -> None:
    """Every kind, in one block and in several."""

    def results(real: Tensor, fake: Tensor, kind: str) -> tuple[Tensor, ...]:
        real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        loss = discriminator_loss(real, fake, kind=kind)  # type: ignore[arg-type]
        return loss, *torch.autograd.grad(loss, (real, fake))

    for kind, count in itertools.product(LOSS_KINDS, (70, 20_000)):
        torch.manual_seed(0)
        real, fake = torch.randn(count), torch.randn(count)
        got = results(real, fake, kind)
        with use_backend("reference"):
            truth = results(real.double(), fake.double(), kind)
        for value, true in zip(got, truth, strict=True):
            error = relative_error(value, true)
            assert error < 1e-6, (kind, count, error)


def check_augmented_batch() -> None:
    """Values and gradients to the bit: in whole packets, in single values, and beside them."""
    for channels, width, offset in ((1, 16, 0), (3, 20, 0), (1, 13, 0), (1, 8, 1)):
        torch.manual_seed(0)
        drawn = input_case((channels, 11, width), stored=3, fakes=5)
        assert drawn.noise is not None
        assert drawn.stored is not None
        # The noise begins `offset` values behind an aligned address; the set lies among others.
        memory = torch.zeros(drawn.noise.numel() + offset)
        noise = memory[offset:].view(drawn.noise.shape).copy_(drawn.noise)
        others = torch.cat((drawn.stored, drawn.stored))
        case = InputCase(**{**vars(drawn), "noise": noise, "stored": others[:5]})
        assert case.fake is not None
        fake = case.fake.requires_grad_()
        got, truth = case.call(), case.composed()
        assert torch.equal(got, truth), (channels, width)
        (gradient,), (expected,) = (torch.autograd.grad(y, fake, truth) for y in (got, truth))
        assert torch.equal(gradient, expected), (channels, width)
        assert case.rows is not None
        case.rows[2] = 5
        assert case.call()[2].isnan().all()


def main() -> None:
    """Check everything."""
    module = building.load(Path(sys.argv[1]))
    with standing_in(module), use_backend("native"):
        for path in sys.argv[2].split(","):
            check_images(path)
        check_units()
        check_losses()
        check_augmented_batch()
    print("right")
