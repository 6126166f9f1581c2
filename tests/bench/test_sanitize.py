"""``bench.sanitize``: what it calls, and that it ends in time to say what was found."""

from __future__ import annotations

import math
import time
from unittest.mock import create_autospec

import pytest
import torch

from bench import sanitize
from commands import call
from cxrgan_fast.ops import available_backends

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    "cpu" not in available_backends()["native"].runs_on, reason="there are no native ops here"
)


def test_every_call_is_made_once() -> None:
    done, refused, left = sanitize.run_all(CPU)
    shapes, kinds = len(sanitize.SHAPES), 2 * 5
    of_images = 2 * shapes * 3 * 2  # ops, shapes, dtypes, layouts
    of_inputs = shapes * 3 * 2
    of_losses = kinds * 3 * len(sanitize.LOGITS)
    assert (done, refused, left) == (of_images + of_inputs + of_losses, 0, 0)


def test_no_call_is_begun_after_the_deadline(capsys) -> None:
    every = len(sanitize._calls(CPU))
    assert sanitize.run_all(CPU, deadline=time.monotonic() - 1) == (0, 0, every)
    assert math.isinf(sanitize.run_all.__defaults__[0])
    assert call(sanitize.main, "--device", "cpu", "--seconds", 0) == 2
    assert "--seconds 0: too few for a single call" in capsys.readouterr().err


def test_the_first_shape_comes_in_every_way_before_the_second(monkeypatch) -> None:
    seen = []
    for name in ("_every_way", "_rarer_calls"):
        double = create_autospec(
            getattr(sanitize, name),
            side_effect=lambda case, device: (seen.append(case), (1, 0))[1],
        )
        monkeypatch.setattr(sanitize, name, double)
    quiet = create_autospec(sanitize._augmented_batch, return_value=(1, 0))
    monkeypatch.setattr(sanitize, "_augmented_batch", quiet)
    sanitize.run_all(CPU)
    shapes = [case.shape for case in seen if case.of_images]
    assert shapes == [shape for shape in sanitize.SHAPES for _ in range(len(shapes) // 4)]
    first = seen[: seen.index(next(c for c in seen if c.shape == sanitize.SHAPES[1]))]
    assert {case.op for case in first} == {
        "conditional_batch_norm_act",
        "bias_leaky_relu",
        "discriminator_loss",
        "generator_loss",
    }
