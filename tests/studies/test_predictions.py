"""Predictions are kept to the bit with their patients, and damaged files are said in a line."""

from pathlib import Path

import numpy as np
import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.predictions import (
    Predictions,
    read_predictions,
    write_predictions,
)

NAMES = ("normal", "bac,terial")


def some(seed: int, n: int = 20) -> Predictions:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, 2)) * 10.0 ** rng.integers(-6, 6, (n, 2))).astype(np.float32)
    labels = rng.integers(0, 2, n)
    # Names that a file system may give: a line break, a quote, a byte that is no text.
    patients = tuple(['a"b', "c\nd", "e\udcff", ""][row % 4] for row in range(n))
    return Predictions(NAMES, logits, labels, patients, tuple(f"x/{row}.png" for row in range(n)))


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    parts = {"validation": some(0), "test": some(1, 7)}
    write_predictions(tmp_path / "p.csv", parts)
    found = read_predictions(tmp_path / "p.csv")
    assert list(found) == ["validation", "test"]
    for part, before in parts.items():
        after = found[part]
        assert after.logits.tobytes() == before.logits.tobytes()
        assert (after.patients, after.files) == (before.patients, before.files)
        np.testing.assert_array_equal(after.labels, before.labels)
        assert after.class_names == NAMES
    assert found["test"].diseased(0).tolist() == (parts["test"].labels == 1).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda text: "", "is no table of predictions"),
     (lambda text: text.replace("logit normal", "logits"), "is no table of predictions"),
     (lambda text: text + "test,f,p,normal,1\n", "row .*is no prediction; train"),
     (lambda text: text + "test,f,p,viral,1,2\n", "row .*viral"),
     (lambda text: text + "test,f,p,normal,1,nan\n", "row .*nan"),
     (lambda text: text + 'test,"f', "is damaged"),
     (lambda text: text + "test,f,p,normal,1,b\n", "row .*b")],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_its_row(tmp_path: Path, change, message) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, {"test": some(1)})
    path.write_bytes(change(path.read_bytes().decode("utf-8", "replace")).encode())
    with pytest.raises(UserError, match=message):
        read_predictions(path)
    with pytest.raises(UserError, match="cannot read"):
        read_predictions(tmp_path / "missing.csv")
