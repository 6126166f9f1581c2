"""Grids can be read: pictures whole, names complete, nothing over anything else."""

import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cxrgan_fast.errors import UserError
from cxrgan_fast.sampling.grid import (
    animate,
    grid_path,
    image_grid,
    rows_shown,
    write_gif,
    write_grid,
)

LONG = "consolidation of the right lower lobe with effusion, seen from behind, again and again"


def gray(n: int, size: int = 64, value: int = 0) -> torch.Tensor:
    return torch.full((n, 1, size, size), value, dtype=torch.uint8)


# -------------------------------------------------------------------------------- pictures


def test_every_picture_is_there_whole_and_in_order():
    images = torch.randint(90, 160, (6, 1, 64, 64), dtype=torch.uint8)  # no paper, no ink
    grid = np.asarray(image_grid(images, ["normal", "bacterial"]))
    for i, image in enumerate(images[:, 0].numpy()):
        enlarged = image.repeat(2, 0).repeat(2, 1)  # 64 pixels become 128, each of them 2x2
        windows = np.lib.stride_tricks.sliding_window_view(grid, (2, 8))
        found = np.argwhere((windows == enlarged[:2, :8]).all((2, 3)))
        places = [(y, x) for y, x in found if (grid[y : y + 128, x : x + 128] == enlarged).all()]
        assert len(places) == 1
        y, x = places[0]
        assert (y // 132, (x - 80) // 132) == divmod(i, 3)


@pytest.mark.parametrize(("size", "side"), [(32, 128), (64, 128), (128, 128), (256, 256)])
def test_small_images_are_enlarged_by_a_whole_factor(size, side):
    grid = np.asarray(image_grid(gray(2, size, 100), [""]))
    assert (grid == 100).sum() == 2 * side * side


def test_color_images_stay_colored():
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    images[:, 0] = 200
    grid = image_grid(images, ["a"])
    assert grid.mode == "RGB"
    assert (200, 0, 0) in {color for _, color in grid.getcolors(1 << 20)}


def test_a_gray_grid_is_gray():
    assert image_grid(gray(4), ["a", "b"]).mode == "L"


def test_images_on_any_layout(tmp_path):
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    expected = image_grid(images, ["a", "b"])
    given = image_grid(images.contiguous(memory_format=torch.channels_last), ["a", "b"])
    assert np.array_equal(given, expected)


# ------------------------------------------------------------------------------------ text


@pytest.fixture
def drawn(monkeypatch):
    """The box and the words of each text that is drawn."""
    texts = []
    draw_text = ImageDraw.ImageDraw.text

    def spy(self, xy, text, **options):
        box = {key: options[key] for key in ("font", "anchor", "align") if key in options}
        texts.append((self.textbbox(xy, text, **box), text))
        with monkeypatch.context() as plain:  # Pillow may draw lines by calling itself
            plain.setattr(ImageDraw.ImageDraw, "text", draw_text)
            draw_text(self, xy, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    return texts


@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize(
    "rows", [["normal", "bacterial"], ["i", LONG], [LONG, LONG], ["W" * 99] * 2]
)
@pytest.mark.parametrize("columns", [(), ("0", "0.5", "bacterial"), ("x", LONG, LONG)])
def test_no_text_is_cut_or_meets_a_picture_or_another_text(drawn, size, rows, columns):
    red = torch.zeros(6, 3, size, size, dtype=torch.uint8)  # a colour that no text has
    red[:, 0] = 200
    grid = image_grid(red, rows, columns)
    words = ["".join(text.split()) for _, text in drawn]
    assert words == ["".join(text.split()) for text in [*columns, *rows]]  # all of every name
    pictures = (np.asarray(grid) == (200, 0, 0)).all(2)
    assert pictures.sum() == 6 * max(size, 128) ** 2  # no ink on them
    taken = np.zeros(pictures.shape, bool)
    for (left, top, right, bottom), _ in drawn:
        assert 0 <= left < right <= grid.width
        assert 0 <= top < bottom <= grid.height
        area = np.s_[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
        assert not (pictures | taken)[area].any()
        taken[area] = True


def test_names_are_really_drawn_beside_their_row():
    grid = np.asarray(image_grid(gray(2, 64, 100), ["normal", ""]))
    left = grid[:, : np.argmax((grid == 100).any(0))]
    ink = np.flatnonzero((left < 100).any(1))
    assert len(ink) > 8  # as high as letters are
    assert abs((ink[0] + ink[-1]) / 2 - 4 - 64) < 12  # the middle of the first row


# ----------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("images", "rows", "columns", "error", "message"),
    [
        (torch.zeros(2, 1, 8, 8), ["a"], (), TypeError, "images: expected torch.uint8, got"),
        (gray(2)[0], ["a"], (), ValueError, r"images: expected \(N, 1 or 3, H, W\)"),
        (gray(2).expand(2, 2, 64, 64), ["a"], (), ValueError, r"got \(2, 2, 64, 64\)"),
        (gray(3), ["a", "b"], (), ValueError, "expected a multiple of 2 rows, got 3"),
        (gray(0), ["a"], (), ValueError, "got 0 images"),
        (gray(2), [], (), ValueError, "0 rows"),
        (gray(2), ["a"], ("1", "2", "3"), ValueError, "column_names: expected 2"),
    ],
)
def test_what_does_not_fit_is_named(images, rows, columns, error, message):
    with pytest.raises(error, match=message):
        image_grid(images, rows, columns)


# ------------------------------------------------------------------------------------ files


def test_a_grid_is_written_as_it_is_drawn(tmp_path):
    images = torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)
    write_grid(tmp_path / "grid.png", images, ["a", "b"])
    with Image.open(tmp_path / "grid.png") as written:
        assert np.array_equal(written, image_grid(images, ["a", "b"]))
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_a_grid_that_cannot_be_written_is_a_line(tmp_path):
    with pytest.raises(UserError, match=r"^cannot write .*gone/grid\.png"):
        write_grid(tmp_path / "gone" / "grid.png", gray(1), ["a"])


def grids(folder, steps, value=lambda step: 100):
    paths = [grid_path(folder, step) for step in steps]
    for path, step in zip(paths, steps, strict=True):
        write_grid(path, gray(2, 64, value(step)), ["a"])
    return paths


def test_the_animation_shows_the_steps_in_order(tmp_path):
    steps = [100, 0, 1_000_000, 50]  # the name of the third sorts before that of the first
    paths = grids(tmp_path, steps, value=lambda step: {0: 40, 50: 80, 100: 120}.get(step, 160))
    write_gif(tmp_path / "progress.gif", paths)
    with Image.open(tmp_path / "progress.gif") as gif:
        assert gif.n_frames == 4
        values, durations, captions = [], [], []
        for i in range(4):
            gif.seek(i)
            frame = np.asarray(gif.convert("L"))
            values.append(int(np.median(frame[:128, 100:])))
            durations.append(gif.info["duration"])
            captions.append(frame[140:].tobytes())
    assert values == pytest.approx([40, 80, 120, 160], abs=3)
    assert len(set(captions)) == 4  # the step is drawn
    assert durations[3] > 2 * durations[0]


def test_a_single_grid_is_an_animation_too(tmp_path):
    write_gif(tmp_path / "progress.gif", grids(tmp_path, [0]))
    with Image.open(tmp_path / "progress.gif") as gif:
        assert gif.n_frames == 1


def test_a_long_run_of_large_grids_makes_a_small_animation(tmp_path):
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (20, 1, 256, 256), dtype=torch.uint8, generator=rng)
    write_grid(grid_path(tmp_path, 0), noise, ["normal", "bacterial"])
    paths = [grid_path(tmp_path, step) for step in range(0, 100_000, 500)]
    for path in paths[1:]:
        path.hardlink_to(paths[0])
    write_gif(tmp_path / "progress.gif", paths)
    with Image.open(tmp_path / "progress.gif") as gif:
        assert gif.n_frames <= 48
        assert gif.width > 500
    assert (tmp_path / "progress.gif").stat().st_size < 5_000_000  # noise: nothing is larger


def test_a_subsample_keeps_the_first_and_the_last_grid(tmp_path):
    paths = grids(tmp_path, range(60), value=lambda step: 60 + 2 * step)
    write_gif(tmp_path / "progress.gif", paths)
    with Image.open(tmp_path / "progress.gif") as gif:
        assert gif.n_frames == 48
        first = np.median(np.asarray(gif.convert("L"))[:64, 100:])
        gif.seek(47)
        last = np.median(np.asarray(gif.convert("L"))[:64, 100:])
    assert (first, last) == pytest.approx((60, 178), abs=3)


def test_an_animation_of_nothing_or_of_other_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_gif(tmp_path / "progress.gif", [])
    with pytest.raises(ValueError, match=r"names like grid-000100\.png, got sample\.png"):
        write_gif(tmp_path / "progress.gif", [tmp_path / "sample.png"])


def test_a_damaged_grid_is_named(tmp_path):
    paths = grids(tmp_path, [0, 10])
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    with pytest.raises(UserError, match=rf"^cannot read the sample grid {paths[1]}"):
        write_gif(tmp_path / "progress.gif", paths)


def test_other_and_cut_pictures_do_not_end_a_training(tmp_path):
    folder = tmp_path / "grids"
    folder.mkdir()
    (good,) = grids(folder, [100])
    (folder / "grid-abc.png").write_bytes(good.read_bytes())
    (folder / "grid-000200.png").write_bytes(good.read_bytes()[:-200])
    (folder / "grid-000300.png").write_bytes(b"no picture")
    (folder / f"grid-{'9' * 30}.png").write_bytes(good.read_bytes())
    (folder / "grid-000400.png").mkdir()
    os.mkfifo(folder / "grid-000500.png")
    Image.new("1", (20000, 20000)).save(folder / "grid-000600.png")  # a bomb
    animate(tmp_path)
    with Image.open(tmp_path / "progress.gif") as gif:
        assert gif.n_frames == 1
    good.unlink()
    (tmp_path / "progress.gif").unlink()
    animate(tmp_path)
    assert not (tmp_path / "progress.gif").exists()


@pytest.mark.parametrize("classes", [1, 39, 40, 41, 970, 5000])
def test_a_grid_has_at_most_40_rows_with_the_first_and_the_last_class(classes):
    rows = rows_shown(classes)
    assert len(rows) == min(classes, 40) == len(set(rows))
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (0, classes - 1)
