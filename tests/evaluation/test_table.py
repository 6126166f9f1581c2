"""The table shows every extractor's numbers side by side, and ends with the verdict."""

import re

from cxrgan_fast.evaluation.findings import Part
from cxrgan_fast.evaluation.floors import Difference
from cxrgan_fast.evaluation.table import _divisions, aligned, number
from cxrgan_fast.metrics.comparison import Comparison
from evaluations import PIXELS, read

METRICS = ["--metrics", "fid", "precision", "recall", "inheritance", "--samples", 20]


def block(out: str, name: str) -> list[str]:
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name} "))
    return lines[start : lines.index("", start)]


def test_two_extractors_stand_side_by_side_and_images_metrics_once(a_run, evaluate):
    code, out, err = evaluate(a_run, "--features", "pixels", "cxr", *METRICS)
    assert (code, err) == (0, "")
    assert "features: pixels, 1024-d, version 1\nfeatures: cxr, 256-d, version " in out
    assert re.search(r"cxr, 256-d, version \w+ \(second opinion\)", out)
    for name in ("all classes", "normal", "bacterial"):
        header, _, *rows = block(out, name)
        assert re.split(r"  +", header)[1:] == [
            "better", "above the floor", "generated images", "floor: other patients",
            "floor: test split",
        ]  # fmt: skip
        titles = [row.split("  ")[0] for row in rows if not row.startswith(("  ", "not computed"))]
        assert titles == [
            "FID (pixels, 1024-d)", "FID (cxr, 256-d)",
            "precision (pixels, 1024-d)", "precision (cxr, 256-d)",
            "recall (pixels, 1024-d)", "recall (cxr, 256-d)",
            "inheritance",
        ]  # fmt: skip
    line = "floor by other patients: mean over 20 divisions of the training images"
    assert line in out.splitlines()
    record = read(a_run / "evaluation")
    assert record["features"]["name"] == "pixels"
    (second,) = record["second_opinions"]
    assert second["features"]["name"] == "cxr"
    assert set(second["all classes"]["generated"]["metrics"]) == {"fid", "precision", "recall"}
    for features, of_features in (("pixels, 1024-d", record), ("cxr, 256-d", second)):
        (row,) = [r for r in block(out, "all classes") if r.startswith(f"FID ({features})")]
        found = of_features["all classes"]["differences"]["other patients"]["fid"]
        low, high = found["interval"]
        assert f"{found['difference']:+.3g} ({low:.3g} to {high:.3g})" in row


def test_a_second_opinion_is_what_its_features_say_alone(a_run, evaluate):
    assert evaluate(a_run, "--features", "pixels", "cxr", *METRICS)[0] == 0
    (second,) = read(a_run / "evaluation")["second_opinions"]
    metrics = ["--metrics", "fid", "precision", "recall", "--samples", 20]
    assert evaluate(a_run, "--features", "cxr", *metrics)[0] == 0
    alone = read(a_run / "evaluation")
    assert alone["second_opinions"] == []
    assert second["all classes"] == alone["all classes"]
    assert second["classes"] == alone["classes"]


def test_the_verdict_ends_the_table_and_stands_in_the_record(a_run, evaluate):
    _, out, _ = evaluate(a_run, *PIXELS, *METRICS)
    table = out[: out.index("written: ")].splitlines()
    assert table[-3:] == read(a_run / "evaluation")["verdict"]
    assert [line.partition(":")[0] for line in table[-3:]] == ["Variety", "Copies", "Distance"]


def test_an_extractor_twice_or_none_is_refused(a_run, evaluate):
    for features, said in (
        (["pixels", "pixels"], "expected each name once"),
        ([], "none named"),
        (["pixels", "pixel"], "did you mean 'pixels'"),
    ):
        code, out, err = evaluate(a_run, "--features", *features, *METRICS)
        assert (code, out) == (2, "")
        assert said in err


def test_numbers_have_four_digits_and_columns_stand_below_each_other():
    assert [number(x) for x in (0, 1.23456, 0.00001234, -0.5)] == ["0", "1.235", "1.2e-05", "-0.5"]
    assert aligned([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "-------", "ccc  d"]


def test_a_floor_of_fewer_divisions_is_named_with_its_number():
    numbers = {"fid": 20, "kid": 20, "fid_infinity": 4, "creativity": 1}
    found = {name: Difference(1.0, 1.0, None, None, n) for name, n in numbers.items()}
    part = Part(Comparison(), differences={"other patients": found})
    assert list(_divisions([part, Part(Comparison())])) == [
        "floor by other patients: mean over 20 divisions of the training images, of creativity "
        "over 1, of FID infinity over 4"
    ]
    assert list(_divisions([Part(Comparison())])) == []
