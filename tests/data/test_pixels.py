"""Bytes to floats and back."""

import pytest
import torch

from cxrgan_fast.data import to_float, to_uint8


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_every_byte_survives_the_round_trip(value_range: tuple[float, float]) -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    floats = to_float(levels, value_range)
    assert floats.dtype == torch.float32
    assert floats.min() == value_range[0]
    assert floats.max() == pytest.approx(value_range[1], abs=1e-6)
    assert torch.equal(to_uint8(floats, value_range), levels)


def test_to_uint8_rounds_and_saturates() -> None:
    values = torch.tensor([-5.0, -1.0, 0.499 / 127.5 - 1, 0.501 / 127.5 - 1, 1.0, 7.0])
    assert to_uint8(values, (-1, 1)).tolist() == [0, 0, 0, 1, 255, 255]


def test_low_precision_is_scaled_in_float32() -> None:
    values = torch.linspace(-1, 1, 1000, dtype=torch.bfloat16)
    assert torch.equal(to_uint8(values, (-1, 1)), to_uint8(values.double(), (-1, 1)))


def test_memory_format_and_input_are_kept() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8).to(memory_format=torch.channels_last)
    floats = to_float(images, (-1, 1))
    assert floats.is_contiguous(memory_format=torch.channels_last)
    to_uint8(floats, (-1, 1))
    assert torch.equal(floats, torch.full_like(floats, -1))


def test_wrong_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"images: expected torch\.uint8, got torch\.float32"):
        to_float(torch.zeros(1), (-1, 1))
    with pytest.raises(TypeError, match=r"images: expected a floating-point tensor.*uint8"):
        to_uint8(torch.zeros(1, dtype=torch.uint8), (-1, 1))
