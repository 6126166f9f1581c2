"""``evaluate A --against B``: any two runs or folders of images against each other."""

import json

from cxrgan_fast.data import load_dataset
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS
from evaluations import PIXELS, QUICK, fid, read, write_images, write_noise

FID = ["--metrics", "fid", "precision"]


def test_a_folder_against_another_is_that_of_the_images_alone(images, data, evaluate, tmp_path):
    other = write_images(tmp_path / "other", "test", 40)
    code, out, err = evaluate(images, "--against", other, *PIXELS, *FID, "--samples", 24)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith(f"{images} against the images of other (")
    record = read(tmp_path / "drawn-evaluation")
    assert record["evaluated_with"]["settings"]["against"] == str(other)
    assert record["data"]["test"] is None
    code, _, _ = evaluate(images, "--data", other, *PIXELS, *FID, "--samples", 24)
    as_data = read(tmp_path / "drawn-evaluation")
    assert fid(record)["value"] == fid(as_data)["value"]
    # Noise is farther from it.
    for seed, path in enumerate(images.rglob("*.png")):
        write_noise(path, seed)
    evaluate(images, "--against", other, *PIXELS, *FID, "--samples", 24)
    assert fid(read(tmp_path / "drawn-evaluation"))["value"] > 5 * fid(record)["value"]


def test_a_run_against_itself_is_at_the_floor_of_other_latents(a_run, evaluate):
    code, _, err = evaluate(a_run, "--against", a_run, *PIXELS, *FID, "--samples", 24)
    assert (code, err) == (0, "")
    record = read(a_run / "evaluation")
    assert record["data"]["train"] == {"normal": 24, "bacterial": 24}  # halves of them are a floor
    floor = record["all classes"]["floors"][OTHER_PATIENTS]["metrics"]["fid"]
    assert (floor["n_real"], floor["n_fake"]) == (24, 24)
    assert 0.4 < fid(record)["value"] / floor["value"] < 2.5
    assert fid(record)["value"] > 0  # other latents, not the same images


def test_a_folder_against_a_run_takes_its_classes_and_size(images, data, a_run, evaluate, tmp_path):
    code, _, err = evaluate(images, "--against", a_run, *PIXELS, *FID, "--samples", 20)
    assert (code, err) == (0, "")
    of_run = read(tmp_path / "drawn-evaluation")
    assert list(of_run["images"]) == ["normal", "bacterial"]  # in the order of the run's labels
    assert of_run["data"]["resolution"] == 32


def test_classes_are_as_often_as_the_run_saw_them(make_run, data, evaluate):
    run = make_run()
    counts = {"normal": 30, "bacterial": 10}
    (run / "dataset.json").write_text(
        json.dumps({"name": "x", "fingerprint": "0", "images": counts, "skipped": []})
    )
    assert evaluate(run, "--against", run, *QUICK)[0] == 0
    assert read(run / "evaluation")["data"]["train"] == {"normal": 30, "bacterial": 10}


def test_what_cannot_be_compared_is_said(images, data, make_run, a_run, evaluate, tmp_path):
    def refused(*arguments: object) -> str:
        code, out, err = evaluate(*arguments)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        return line

    assert "give one of the two" in refused(a_run, "--against", images, "--data", data, *QUICK)
    assert "nowhere" in refused(a_run, "--against", tmp_path / "nowhere", *QUICK)
    some = tmp_path / "some"
    some.mkdir()
    (images / "normal").rename(some / "normal")
    assert "bacterial" in refused(a_run, "--against", some, *QUICK)


def test_its_images_are_other_ones_than_those_of_the_subject(a_run, evaluate):
    # The same latents on both sides would be copies: 1-NN and FID would say so.
    assert evaluate(a_run, "--against", a_run, *PIXELS, "--samples", 20)[0] == 0
    record = read(a_run / "evaluation")
    assert record["duplicates"]["of_training_images"] == []


def test_the_data_of_a_run_need_not_be_there(a_run, data, evaluate, tmp_path):
    assert load_dataset(data, resolution=32, progress=False) is not None
    data.rename(tmp_path / "moved far away")
    try:
        assert evaluate(a_run, "--against", a_run, *QUICK)[0] == 0
    finally:
        (tmp_path / "moved far away").rename(data)
