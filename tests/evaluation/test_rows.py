"""evaluation.csv holds the numbers of evaluation.json, a row each."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from cxrgan_fast.evaluation.rows import COLUMNS
from evaluations import read

METRICS = ["--metrics", "fid", "kid", "inheritance", "--samples", 20]


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "evaluation.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def in_record(record: dict) -> Iterator[tuple[str, ...]]:
    opinions = [record, *record["second_opinions"]]
    for opinion in opinions:
        for name, part in {"all classes": opinion["all classes"], **opinion["classes"]}.items():
            floors = {f"floor: {floor}": found for floor, found in part["floors"].items()}
            for images, comparison in {"generated": part["generated"], **floors}.items():
                for metric, estimate in comparison["metrics"].items():
                    features = opinion["features"]["name"]
                    yield name, metric, features, images, str(estimate["value"])


def test_every_estimate_has_a_row(a_run, evaluate):
    assert evaluate(a_run, "--features", "pixels", "cxr", *METRICS)[0] == 0
    folder = a_run / "evaluation"
    rows, record = read_rows(folder), read(folder)
    assert tuple(rows[0]) == COLUMNS
    keys = ("class", "metric", "features", "images", "value")
    assert sorted(tuple(row[key] for key in keys) for row in rows) == sorted(in_record(record))
    # The image metric is of no features, and there once.
    assert {r["features"] for r in rows if r["metric"] == "inheritance"} == {"pixels"}
    (fid,) = (
        row
        for row in rows
        if (row["class"], row["metric"], row["features"]) == ("all classes", "fid", "cxr")
        and row["images"] == "floor: other patients"
    )
    expected = record["second_opinions"][0]["all classes"]["differences"]["other patients"]["fid"]
    assert float(fid["above_floor"]) == expected["difference"]
    assert [float(fid[f"above_floor_{end}"]) for end in ("low", "high")] == expected["interval"]
    assert not any(row["value"] == "nan" or math.isnan(float(row["value"])) for row in rows)
