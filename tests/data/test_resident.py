"""Images for the steps: the same batches whether they all lie on the device or are streamed."""

from __future__ import annotations

import pytest
import torch

from cxrgan_fast.data import EpochOrder, ImageDataset, StepImages, step_images
from cxrgan_fast.data.resident import ResidentImages, StreamedImages

CPU = torch.device("cpu")
N, BATCH, BATCHES = 11, 3, 2
PER_STEP = BATCH * BATCHES


@pytest.fixture
def dataset() -> ImageDataset:
    images = torch.randint(0, 256, (N, 1, 8, 8), dtype=torch.uint8)
    names = [str(i) for i in range(N)]
    return ImageDataset(images, torch.arange(N) % 2, ("a", "b"), names, names, "made")


def made(dataset: ImageDataset, share: float) -> StepImages:
    return step_images(dataset, EpochOrder(N, 0), BATCH, BATCHES, CPU, share)


def batches(source: StepImages, position: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The images and labels of a step, copied."""
    source.seek(position)
    rows = [source.next_rows() for _ in range(BATCHES)]
    return [(source.images[each], source.labels[each]) for each in rows]


@pytest.mark.parametrize(("share", "kind"), [(0.0, StreamedImages), (0.5, ResidentImages)])
def test_batches_follow_the_order(dataset: ImageDataset, share: float, kind: type) -> None:
    source = made(dataset, share)
    assert isinstance(source, kind)
    order = EpochOrder(N, 0)
    for step in range(20):
        for number, (images, labels) in enumerate(batches(source, step * PER_STEP)):
            rows = order.rows(step * PER_STEP + number * BATCH, BATCH)
            assert torch.equal(images, dataset.images[rows])
            assert torch.equal(labels, dataset.labels[rows])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_step_elsewhere_in_the_order(dataset: ImageDataset, share: float) -> None:
    """As after loading a checkpoint, and again the same step, as after a failed one."""
    source, order = made(dataset, share), EpochOrder(N, 0)
    for position in (0, 60, 60, 6, 12, 600):
        rows = order.rows(position, BATCH)
        assert torch.equal(batches(source, position)[0][0], dataset.images[rows])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_tensors_stay_where_they_are(dataset: ImageDataset, share: float) -> None:
    source = made(dataset, share)
    addresses = [each.data_ptr() for each in (source.images, source.labels, *source.state())]
    for step in range(5):
        batches(source, step * PER_STEP)
    now = [each.data_ptr() for each in (source.images, source.labels, *source.state())]
    assert now == addresses


def test_rows_are_sent_again_when_those_that_were_are_used_up(
    dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrgan_fast.data.resident._ROWS_AHEAD", 2 * PER_STEP)
    source, order = made(dataset, 0.5), EpochOrder(N, 0)
    for step in range(7):
        (images, _), *_ = batches(source, step * PER_STEP)
        assert torch.equal(images, dataset.images[order.rows(step * PER_STEP, BATCH)])


def test_no_more_than_some_epochs_are_ordered_ahead(dataset: ImageDataset) -> None:
    asked = []

    class Watched(EpochOrder):
        def rows(self, start: int, count: int) -> torch.Tensor:
            asked.append((start, count))
            return super().rows(start, count)

    source, order = step_images(dataset, Watched(N, 0), BATCH, BATCHES, CPU, 0.5), EpochOrder(N, 0)
    for position in range(0, 70 * N, PER_STEP):
        (images, _), *_ = batches(source, position)
        assert torch.equal(images, dataset.images[order.rows(position, BATCH)])
    steps = 64 * N // PER_STEP
    assert asked == [(0, steps * PER_STEP), (steps * PER_STEP, steps * PER_STEP)]


def test_streaming_leaves_the_cores_to_the_training(dataset: ImageDataset, set_threads) -> None:
    threads = []

    class Watched(EpochOrder):
        def rows(self, start: int, count: int) -> torch.Tensor:
            threads.append(torch.get_num_threads())
            return super().rows(start, count)

    set_threads(3)
    step_images(dataset, Watched(N, 0), BATCH, BATCHES, CPU, 0.0).seek(0)
    assert threads[0] == 1
    assert torch.get_num_threads() == 3


def test_a_streamed_step_takes_a_step_of_memory(dataset: ImageDataset) -> None:
    assert len(made(dataset, 0.0).images) == PER_STEP


def test_the_share_is_of_the_memory(dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrgan_fast.data.resident._memory", lambda device: 2 * N * 64)
    assert isinstance(made(dataset, 0.5), ResidentImages)
    assert isinstance(made(dataset, 0.49), StreamedImages)
