"""``python -m bench.grouped_convolutions``: what it compares, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench import grouped_convolutions
from bench.grouped_convolutions import SHAPES, convolutions, passes
from commands import call


@pytest.mark.parametrize("channels", sorted({int(shape.split("x")[1]) for shape in SHAPES}))
def test_equal_work_is_equal_in_weights(channels: int) -> None:
    weights = {
        name: 9 * width * width // groups
        for name, (width, groups) in convolutions(channels).items()
    }
    assert weights["groups"] == weights["equal"] < weights["wide"]


@pytest.mark.parametrize("layout", grouped_convolutions.LAYOUTS)
def test_the_passes_are_those_of_autograd(layout: str) -> None:
    each = passes(2, 32, 4, 2, torch.float32, layout)
    forward, of_input = each["forward"], each["of_input"]
    images, weight = (operand.clone().requires_grad_() for operand in forward.args)
    output = torch.nn.functional.conv2d(images, weight, padding=1, groups=2)
    torch.testing.assert_close(forward(), output)
    grad = of_input.args[0]
    expected = torch.autograd.grad(output, (images, weight), grad)
    torch.testing.assert_close(of_input()[0], expected[0])
    torch.testing.assert_close(each["of_weight"]()[1], expected[1])
    assert of_input()[1] is None  # the other is not computed


def test_from_the_command_to_the_table(tmp_path: Path, capsys) -> None:
    file = tmp_path / "grouped.json"
    assert call(grouped_convolutions.main, file, "--shapes", "2x64x8", "--rounds", 2) == 0
    record = json.loads(file.read_text())
    assert len(record["rows"]) == 2 * 2 * 3
    for row in record["rows"]:
        assert {len(samples) for samples in row["samples_ms"].values()} == {2}
    assert capsys.readouterr().out.endswith(grouped_convolutions.report(record) + "\n")
