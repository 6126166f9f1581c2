"""``evaluate A B``: several runs or folders in one table."""

import re

from evaluations import PIXELS, QUICK, fid, read, write_images, write_noise

FID = [*PIXELS, "--metrics", "fid", "precision", "--samples", 20]


def test_a_row_a_subject_with_the_numbers_of_each_alone(a_run, images, data, evaluate, tmp_path):
    assert evaluate(a_run, "--data", data, *FID)[0] == 0
    alone = fid(read(a_run / "evaluation"))
    code, out, err = evaluate(a_run, images, "--data", data, *FID)
    assert (code, err) == (0, "")
    assert fid(read(a_run / "evaluation")) == alone
    first, *table = out.splitlines()
    assert first.startswith("features: pixels, 1024-d")
    assert table[0].split()[:2] == ["FID", "precision"]
    for subject, folder in ((a_run, a_run / "evaluation"), (images, tmp_path / "drawn-evaluation")):
        (row,) = [line for line in table if line.startswith(f"{subject} ")]
        value = fid(read(folder))["value"]
        assert float(row.split()[1]) == float(f"{value:.4g}")
        assert row.endswith("20/20")
        assert f"written: {folder / 'evaluation.json'}" in table
    assert sum(line.startswith("  floor: other patients") for line in table) == 2


def test_a_table_of_each_extractor(a_run, images, data, evaluate):
    options = ["--data", data, "--features", "pixels", "cxr", "--metrics", "fid", "--samples", 20]
    code, out, _ = evaluate(a_run, images, *options)
    assert code == 0
    first, second = re.split("^features: cxr, 256-d", out, flags=re.MULTILINE)
    assert first.startswith("features: pixels, 1024-d")
    (opinion,) = read(a_run / "evaluation")["second_opinions"]
    for table, value in ((first, fid(read(a_run / "evaluation"))), (second, fid(opinion))):
        (row,) = [line for line in table.splitlines() if line.startswith(f"{a_run} ")]
        assert float(row.split()[1]) == float(f"{value['value']:.4g}")


def test_one_that_fails_costs_the_others_nothing(a_run, data, images, evaluate, tmp_path):
    for seed, path in enumerate((images / "normal").iterdir()):
        write_noise(path, seed)
        path.write_bytes(path.read_bytes()[:20])
    code, out, err = evaluate(images, a_run, "--data", data, *QUICK)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(f"error: {images}: ")
    assert re.search(rf"^{re.escape(str(a_run))} +[\d.]+", out, re.MULTILINE)
    assert (a_run / "evaluation" / "evaluation.json").exists()
    assert "Traceback" not in err


def test_each_has_a_folder_of_its_own(a_run, data, images, evaluate, tmp_path):
    out = tmp_path / "results"
    assert evaluate(a_run, images, "--data", data, *QUICK, "--out", out)[0] == 0
    folders = sorted(path.parent.name for path in out.rglob("evaluation.json"))
    assert folders == sorted([a_run.name, images.name])
    twin = write_images(tmp_path / "elsewhere" / images.name, "val", 24)
    code, said, err = evaluate(images, twin, "--data", data, *QUICK, "--out", out)
    assert (code, said) == (2, "")
    assert f"{images} and {twin}: the files of both would lie in" in err
    assert evaluate(a_run, a_run, "--data", data, *QUICK)[0] == 2


def test_none_or_every_checkpoint_of_several_is_refused(a_run, images, evaluate):
    code, _, err = evaluate(*QUICK)
    assert (code, "RUN|FOLDER is missing" in err) == (2, True)
    code, _, err = evaluate(a_run, images, *QUICK, "--all-checkpoints")
    assert (code, "expected one run, got 2" in err) == (2, True)
