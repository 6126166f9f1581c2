"""The small cases of ``python -m bench.throughput`` as ``pytest --benchmark-only`` runs them.

Without that option each variant that does not compile does a few steps, not timed, so that the rest
of the suite stays quick and these stay right.
"""

from typing import Any

import pytest
import torch

from bench.throughput import measure_point
from bench.throughput_measurements import VARIANTS
from bench.throughput_variants import COMPILING, Running, forget
from bench.timing import wait
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import TrainConfig, override

CONFIG = override(
    TrainConfig(),
    {"resolution": 32, "base_channels": 8, "batch_size": 4, "precision": "bf16", "r1_interval": 4},
)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_dataset("phantom", resolution=32, phantom_images=64, progress=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        timed = metafunc.config.getoption("benchmark_only")
        quick = [name for name in VARIANTS if name not in COMPILING]
        metafunc.parametrize("variant", VARIANTS if timed else quick)


def test_a_step(timed: Any, variant: str, dataset: ImageDataset) -> None:
    timed.group = "32 pixels, batch 4, 8 base channels"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        running = Running.start(variant, CONFIG, dataset, device)
    except UserError as reason:
        pytest.skip(str(reason))

    def cycle() -> None:
        running.run(running.cycle)  # one of the steps has R1
        wait(device)

    before = running.done
    timed.pedantic(cycle, rounds=10, warmup_rounds=1)
    assert running.done >= before + running.cycle
    running.stop()
    forget()


def test_the_floor_is_below_what_it_is_the_floor_of(dataset: ImageDataset) -> None:
    device = torch.device("cpu")
    point = measure_point(
        CONFIG, dataset, device, ("eager", "floor"), rounds=5, seconds=1.0, limit=600.0
    )
    samples = {name: measurements["samples_ms"] for name, measurements in point["variants"].items()}
    # The least: other work on the machine only adds.
    assert min(samples["floor"]) < min(samples["eager"])
