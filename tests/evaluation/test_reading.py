"""A blinded reading through the command: a sheet, its key, and the scores of readers."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from cxrgan_fast.evaluation.reading_scores import agreement, exact_interval, score_reader


@pytest.fixture
def sheet(images, data, evaluate) -> Path:
    """A sheet of 24 different images and 2 repeated ones."""
    code, out, err = evaluate(images, "--data", data, "--reader-sheet", "--reader-images", 24)
    assert (code, err) == (0, "")
    assert out.startswith("26 images to read, 2 of them shown twice.")
    return images.with_name("drawn-reading")


def key_of(sheet: Path) -> list[dict]:
    return json.loads((sheet / "sealed" / "key.json").read_text())["images"]


def fill(sheet: Path, name: str, says: Callable[[dict], str], delimiter: str = ",") -> Path:
    """Answers of a reader who says this of each image of the key."""
    with (sheet / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = sheet / f"{name}.csv"
    with answers.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0], delimiter=delimiter)
        table.writeheader()
        for row, true in zip(rows, key_of(sheet), strict=True):
            table.writerow({**row, "answer": says(true)})
    return answers


def test_the_sheet_is_mixed_and_its_table_tells_nothing(sheet, images):
    key = key_of(sheet)
    first = [row for row in key if row["repeats"] is None]
    assert Counter((row["kind"], row["class"]) for row in first) == {
        (kind, name): 6 for kind in ("real", "generated") for name in ("normal", "bacterial")
    }
    kinds = [row["kind"] for row in first]
    assert kinds != sorted(kinds)
    assert kinds != sorted(kinds, reverse=True)
    again = [row for row in key if row["repeats"] is not None]
    assert {row["kind"] for row in again} == {"real", "generated"}
    for row in again:
        assert {**key[row["repeats"] - 1], "image": 0} == {**row, "image": 0, "repeats": None}
    table = (sheet / "answers.csv").read_text().splitlines()
    assert table[0] == "sheet,image,answer"
    assert all(re.fullmatch(r"[0-9a-f]{8},\d+,", line) for line in table[1:])
    # The picture has, in the order of the numbers, the images of the files that the key names.
    with Image.open(sheet / "sheet.png") as picture:
        shown = np.asarray(picture)
    for number in [row["image"] for row in key if row["kind"] == "generated"][:3]:
        with Image.open(images / key[number - 1]["file"]) as file:
            enlarged = np.asarray(file.resize((128, 128), Image.Resampling.NEAREST))
        height, width = shown.shape[0] // 4, shown.shape[1] // 8
        row, column = divmod(number - 1, 8)
        cell = shown[row * height : (row + 1) * height, column * width : (column + 1) * width + 40]
        assert any(
            np.array_equal(cell[y : y + 128, x : x + 128], enlarged)
            for y in range(cell.shape[0] - 127)
            for x in range(cell.shape[1] - 127)
        )


def test_scores_of_two_readers(sheet, images, evaluate):
    perfect = fill(sheet, "ann", lambda true: true["kind"].upper(), delimiter=";")
    trusting = fill(sheet, "bob", lambda true: "r")
    code, out, err = evaluate(images, "--score-reading", perfect, trusting)
    assert (code, err) == (0, "")
    record = json.loads((sheet / "scores.json").read_text())
    ann, bob = record["readers"]["ann"], record["readers"]["bob"]
    assert (ann["accuracy"]["right"], ann["accuracy"]["of"]) == (24, 24)
    assert (bob["accuracy"]["share"], bob["specificity"]["share"]) == (0.5, 1)
    assert bob["sensitivity"]["right"] == 0
    assert {name: share["of"] for name, share in bob["classes"].items()} == {
        "normal": 12, "bacterial": 12,
    }  # fmt: skip
    assert ann["itself"] == {**ann["itself"], "right": 2, "of": 2}
    (both,) = record["agreement"]
    assert (both["same"]["share"], both["kappa"]) == (0.5, 0)
    assert "bob is not shown to tell them apart" in out
    assert "ann is not shown" not in out
    assert "24/24 = 100% [86%, 100%]" in out
    assert "ann and bob say the same: 12/24" in out


def test_a_run_is_read_and_its_sheet_is_not_written_over(a_run, evaluate):
    assert evaluate(a_run, "--reader-sheet", "--reader-images", 8, "--seed", 3)[0] == 0
    before = (a_run / "reading" / "sealed" / "key.json").read_bytes()
    assert len(json.loads(before)["images"]) == 8  # too few for a repeated one
    code, _, err = evaluate(a_run, "--reader-sheet", "--reader-images", 8)
    assert code == 2
    assert "readers may be at work on its sheet; give another --out" in err
    assert (a_run / "reading" / "sealed" / "key.json").read_bytes() == before


def test_a_sheet_of_more_images_than_there_are(images, data, evaluate):
    options = ("--data", data, "--reader-sheet", "--reader-images")
    for number, told in (
        (200, "50 real images of .* are wanted, there are 30; ask for fewer"),
        (52, "13 generated images of .* are wanted, there are 12; ask for fewer"),
        (3, "expected 4 or more, a real and a generated one of each of 2 classes"),
        (1, "expected 2 to 1000"),
    ):
        code, out, err = evaluate(images, *options, number)
        assert (code, out) == (2, "")
        assert re.search(told, err), err
    assert not (images.with_name("drawn-reading") / "sealed" / "key.json").exists()


def lines_of(sheet: Path) -> list[str]:
    return fill(sheet, "whole", lambda true: "real").read_text().splitlines()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda lines: [*lines[:4], lines[4].replace("real", ""), *lines[5:]],
         r"1 of 26 images have no answer \(4\); a guess counts, too"),
        (lambda lines: lines[:5], r"22 of 26 images have no answer \(5, 6, .*\.\.\.\)"),
        (lambda lines: [*lines, lines[3]], r"line 28: image '3': twice"),
        (lambda lines: [*lines, lines[3].replace(",3,", ",27,")], "image '27': expected 1 to 26"),
        (lambda lines: [*lines, lines[3].replace(",3,", ",three,")], "image 'three': expected 1"),
        (lambda lines: [lines[0], lines[1].replace("real", "maybe")],
         "line 2: answer 'maybe': expected real or generated"),
        (lambda lines: [lines[0], "00000000,1,real"], "of the sheet '00000000', and the key is of"),
        (lambda lines: ["image,says", "1,real"], "expected the columns sheet, image, answer, got"),
        (lambda lines: [], "expected the columns sheet, image, answer, got ''"),
        (lambda lines: [lines[0], lines[1].rpartition(",")[0]], "26 of 26 images have no answer"),
    ],
)  # fmt: skip
def test_bad_tables_are_told(sheet, images, evaluate, spoil, told):
    answers = sheet / "bad.csv"
    answers.write_text("\n".join(spoil(lines_of(sheet))))
    code, out, err = evaluate(images, "--score-reading", answers)
    assert (code, out) == (2, "")
    assert re.search(told, err), err
    assert len(err.splitlines()) == 1


def test_what_else_cannot_be_scored(sheet, images, evaluate, tmp_path):
    answers = fill(sheet, "ann", lambda true: "real")
    for arguments, told in (
        ([images, "--score-reading", tmp_path / "no.csv"], "no.csv: No such file"),
        ([images, "--score-reading", answers, answers], "a file is named twice"),
        (
            [tmp_path / "other", "--score-reading", answers],
            r"other-reading has no sealed/key\.json",
        ),
        ([images, "--score-reading", answers, "--reader-sheet"], "give one of the two"),
    ):
        code, out, err = evaluate(*arguments)
        assert (code, out) == (2, "")
        assert re.search(told, err), err
    (sheet / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in evaluate(images, "--score-reading", sheet / "binary.csv")[2]
    for content in ("{}", "[", '{"format": "cxrgan_fast.reading/1", "images": [1]}'):
        (sheet / "sealed" / "key.json").write_text(content)
        assert "not the key of a reading" in evaluate(images, "--score-reading", answers)[2]


@pytest.mark.parametrize(("right", "of"), [(0, 1), (1, 1), (0, 30), (17, 30), (30, 30), (301, 500)])
def test_the_interval_is_scipys(right, of):
    theirs = binomtest(right, of).proportion_ci(0.95, "exact")
    assert exact_interval(right, of) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(0)
    kinds = rng.choice(["real", "generated"], 40)
    images = [
        {"image": n, "kind": kind, "class": "a", "repeats": None} for n, kind in enumerate(kinds, 1)
    ]
    images.append({"image": 41, "kind": kinds[0], "class": "a", "repeats": 1})
    one, other = (
        {n: str(rng.choice([row["kind"], "real"])) for n, row in enumerate(images, 1)}
        for _ in range(2)
    )
    found = agreement(one, other, {"images": images})
    theirs = cohen_kappa_score(list(one.values())[:40], list(other.values())[:40])
    assert found["kappa"] == pytest.approx(theirs)
    assert found["same"]["of"] == 40  # the second showing is no answer of its own
    always = dict.fromkeys(range(1, 42), "real")
    assert agreement(always, always, {"images": images})["kappa"] is None
    scored = score_reader({**always, 41: "generated"}, {"images": images})
    assert (scored["itself"]["right"], scored["itself"]["of"]) == (0, 1)
    assert scored["accuracy"]["of"] == 40


@pytest.mark.parametrize("option", [["--reader-sheet"], ["--score-reading", "answers.csv"]])
def test_a_reading_is_of_one_generator(a_run, evaluate, option):
    code, out, err = evaluate(a_run, *option, "--all-checkpoints")
    assert (code, out) == (2, "")
    assert f"{option[0]} and --all-checkpoints: give one of the two" in err
