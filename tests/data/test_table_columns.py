"""Columns of a table under names of their own: one command trains, resumes and evaluates."""

import yaml

from evaluations import write_images

TINY = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
        "--latent-size", "8", "--batch-size", "4"]  # fmt: skip
COLUMNS = ["--path-column", "where", "--label-column", "which", "--patient-column", "who"]


def table(root):
    """A table of 24 images whose columns nobody can guess."""
    write_images(root, "train", 24)
    files = sorted(path.relative_to(root) for path in root.rglob("*.png"))
    rows = [f"{file},{file.parent.name},p{number // 2}" for number, file in enumerate(files)]
    (root / "t.csv").write_text("\n".join(["where,which,who", *rows]) + "\n")
    return root / "t.csv"


def test_a_table_is_trained_on_by_the_columns_that_are_named(train, fails, evaluate, tmp_path):
    data, out = table(tmp_path / "set"), tmp_path / "runs"
    line = fails("--data", data, *TINY, "--steps", 2, "--out", out)
    assert "has no column 'path' (it has where, which, who)" in line
    assert line.endswith("or say which they are by --path-column and --label-column")
    code, _, err = train("--data", data, *COLUMNS, *TINY, "--steps", 2, "--out", out)
    assert code == 0, err
    (run,) = out.iterdir()
    stored = yaml.safe_load((run / "config.yaml").read_text())["dataset"]["columns"]
    assert stored == {
        "path_column": "where", "label_column": "which", "patient_column": "who",
        "split_column": "",
    }  # fmt: skip
    # The run knows its columns: neither a resume nor an evaluation has to be told.
    assert train("--resume", run, "--steps", 3)[0] == 0
    for words in ([run], [run, "--data", data]):
        code, shown, err = evaluate(
            *words, "--samples", 10, "--metrics", "fid", "--features", "pixels"
        )
        assert code == 0, err
        assert "fid" in shown.lower()
    # Other data are described anew.
    moved = data.with_name("other.csv")
    moved.write_text(data.read_text().replace("where,which", "path,kind"))
    evaluation = ["--samples", 10, "--metrics", "fid", "--features", "pixels", "--data", moved]
    assert "has no column 'label'" in evaluate(run, *evaluation)[2]
    assert evaluate(run, *evaluation, "--label-column", "kind")[0] == 0


def test_columns_do_nothing_without_a_table(fails):
    assert "--label-column does nothing with --data phantom" in fails("--label-column", "dx")
