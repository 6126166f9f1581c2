"""Whose image it is, layout by layout: no patient is in two splits."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxrgan_fast.data import PackedSet, prepare_set
from cxrgan_fast.data.inspection import as_json, as_table, inspect_source
from cxrgan_fast.data.patients import patient_warnings, settle_patients
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.sources import Columns, ImageFile, Source, open_source
from cxrgan_fast.errors import UserError
from image_files import encoded, smooth

PATIENTS, EACH = 12, 3

Write = Callable[[str, int], None]


def writer(root: Path) -> Write:
    """What writes an image of its own of a patient under a name."""

    def write(name: str, patient: int) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth(patient * 100 + len(list(root.rglob("*"))))))

    return write


def prepared(source: Source, out: Path) -> PackedSet:
    return prepare_set(source, out, Preparation(16), progress=False)


def assert_no_patient_crosses(made: PackedSet, whose: Callable[[str], object]) -> None:
    """With patients as the test knows them, from the files' names, not as the set has them."""
    splits: dict[object, set[str]] = {}
    for row in made.rows:
        splits.setdefault(whose(row.file), set()).add(row.split)
    assert len(splits) == PATIENTS
    assert all(len(each) == 1 for each in splits.values())
    assert set().union(*splits.values()) == {"train", "val", "test"}


def number(name: str) -> int:
    """The patient's number, which all names of these tests hold as P and two digits."""
    return int(name[name.index("P") + 1 :][:2])


@pytest.mark.parametrize(
    "layout",
    [
        "{c}/patientP{p:02d}/study{i}/view1_frontal.png",  # CheXpert, MIMIC
        "{c}/P{p:02d}/IM-0001-000{i}.png",  # of a viewer: the same names in each folder
        "{c}/P{p:02d}/00000013_00{i}.png",  # a folder goes before a name
        "{c}/images/P{p:02d}/{i}.png",  # a folder of a kind is no patient
        "{c}/PA/P{p:02d}/study/{i}.png",
        "{c}/personP{p:02d}_bacteria_{i}.png",
        "{c}/IM-P{p:02d}-000{i}.png",
        "{c}/images/0000P{p:02d}0_00{i}.png",  # NIH
        "{c}/subject-P{p:02d}_{i}.png",
    ],
)
@pytest.mark.parametrize("in_both", [False, True])
def test_layouts_of_folders(tmp_path: Path, layout: str, in_both: bool) -> None:
    layout = layout.replace("0000P{p:02d}0", "000000{p:02d}")  # digits alone
    layout = layout.replace("personP", "person").replace("IM-P", "IM-").replace("-P{p", "-{p")
    write, whose = writer(tmp_path / "set"), {}
    for patient in range(PATIENTS):
        for image in range(EACH):
            of_class = image if in_both else patient
            name = layout.format(c="AB"[of_class % 2], p=patient, i=image)
            write(name, patient)
            whose[name] = patient
    made = prepared(open_source(tmp_path / "set"), tmp_path / "out")
    assert_no_patient_crosses(made, whose.__getitem__)
    assert len({row.patient for row in made.rows}) == PATIENTS


HEADERS = [
    ("path,label,patient", {}),
    ("Path,Label,patient_id", {}),
    ("file,class,Patient ID", {}),
    ("Image Index,Finding Labels,PatientID", {}),
    ("image,label,subject_id", {}),
    ("filename;diagnosis;Patient Number", {}),
    ("x,y,z", {"path_column": "x", "label_column": "y", "patient_column": "Z"}),
]


@pytest.mark.parametrize(("header", "columns"), HEADERS)
def test_tables_by_what_their_columns_are_called(
    tmp_path: Path, header: str, columns: dict[str, str]
) -> None:
    write, rows = writer(tmp_path), [header]
    separator = ";" if ";" in header else ","
    for patient in range(PATIENTS):
        for image in range(EACH):
            name = f"img/P{patient:02d}x{image}.png"
            write(name, patient)
            rows.append(separator.join((name, "AB"[patient % 2], f"id{patient}")))
    (tmp_path / "t.csv").write_text("\n".join(rows))
    source = open_source(tmp_path / "t.csv", Columns(**columns) if columns else None)
    assert all(file.patient_given for file in source.files)
    made = prepared(source, tmp_path / "out")
    assert_no_patient_crosses(made, number)
    named = [note for note in source.notes() if "is read as the patient" in note]
    assert bool(named) == (not columns and "patient" not in header.lower().split(separator))


def test_paths_of_a_table_tell_patients_where_no_column_does(tmp_path: Path) -> None:
    write, rows = writer(tmp_path), ["Path,Sex,Label"]
    for patient in range(PATIENTS):
        for image in range(EACH):
            name = f"CheXpert/train/patient0P{patient:02d}".replace("P", "")
            name += f"/study{image}/view1_frontal.png"
            write(name, patient)
            rows.append(f"{name},F,{'AB'[patient % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    made = prepared(open_source(tmp_path / "t.csv"), tmp_path / "out")
    assert_no_patient_crosses(made, lambda name: name.split("/")[2])


def test_a_column_that_is_near_and_not_read_is_named(tmp_path: Path) -> None:
    writer(tmp_path)("1.png", 0)
    (tmp_path / "t.csv").write_text("path,label,patient_key\n1.png,a,7\n")
    assert open_source(tmp_path / "t.csv").notes() == [
        "no column is read as the patient (near: patient_key): call it patient, or say "
        "which by --patient-column NAME"
    ]
    columns = Columns(patient_column="patient_key")
    assert open_source(tmp_path / "t.csv", columns).files[0].patient == "7"


def test_one_finding_of_many_as_the_label(tmp_path: Path) -> None:
    write = writer(tmp_path)
    for name in ("1.png", "2.png", "3.png"):
        write(name, 0)
    (tmp_path / "t.csv").write_text("Path,No Finding,Edema\n1.png,1.0,\n2.png,,1.0\n3.png,,0.0\n")
    source = open_source(tmp_path / "t.csv", Columns(label_column="Edema"))
    assert [(file.name, file.class_name) for file in source.files] == [
        ("2.png", "1.0"),
        ("3.png", "0.0"),
    ]
    (line,) = source.notes()
    assert line.startswith("not used, without a value in the column Edema: 1 file")


def test_columns_that_cannot_work(tmp_path: Path) -> None:
    writer(tmp_path)("a/1.png", 0)
    (tmp_path / "t.csv").write_text("path,label,patient\na/1.png,a,7\n")
    with pytest.raises(UserError, match=r"no column 'patent' \(it has .*did you mean 'patient'\?"):
        open_source(tmp_path / "t.csv", Columns(patient_column="patent"))
    with pytest.raises(UserError, match="is no table, and --patient-column names a column"):
        open_source(tmp_path, Columns(patient_column="patient"))
    assert len(open_source(tmp_path, Columns()).files) == 1


# --------------------------------------------------------------------------------------- DICOM


def dicom(patient: str, pixels: np.ndarray) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.PatientID = patient
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_dicom_goes_before_folders_and_the_users_column_before_dicom(tmp_path: Path) -> None:
    rows = ["path,label,patient"]
    for patient in range(PATIENTS):
        for image in range(EACH):
            # A folder a date, in which several patients lie.
            name = f"{'AB'[patient % 2]}/day{image}/{patient:02d}.dcm"
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(dicom(f"ID{patient}", smooth(patient * 10 + image)))
            rows.append(f"{name},{'AB'[patient % 2]},mine{(patient + 1) // 2}")
    made = prepared(open_source(tmp_path / "set"), tmp_path / "out")
    assert_no_patient_crosses(made, lambda name: name[-6:-4])
    assert all(row.patient.startswith("patient-") for row in made.rows)
    (tmp_path / "set/t.csv").write_text("\n".join(rows))
    source = open_source(tmp_path / "set/t.csv")
    by_column = prepared(source, tmp_path / "by_column")
    assert {row.patient for row in by_column.rows} == {f"mine{n}" for n in range(7)}
    found = inspect_source(source, progress=False)
    assert {seen.patient for seen in found.images} == {f"mine{n}" for n in range(7)}


def test_other_files_of_a_dicom_patients_folder_are_of_that_patient() -> None:
    def file(name: str, patient: str, given: bool = False) -> ImageFile:
        return ImageFile(name, "a", patient, "train", patient_given=given)

    files = [file("1.dcm", "p1"), file("1.png", "p1"), file("2.dcm", "p2"), file("3.dcm", "p2"),
             file("2.png", "p2"), file("4.dcm", "p4", True), file("4.png", "p4")]  # fmt: skip
    told = ["x", None, "y", "z", None, "w", None]
    assert settle_patients(files, told) == ["x", "x", "y", "z", "p2", "p4", "p4"]


# ------------------------------------------------------------------------------------ warnings


def test_what_makes_patients_doubtful() -> None:
    (none,) = patient_warnings([str(n) for n in range(12)])
    assert none.startswith("no two of the 12 images share a patient")
    (large,) = patient_warnings([*["batch1"] * 8, *map(str, range(12))])
    assert large.startswith("batch1 counts as one patient and has 8 of 20 images")
    (all_of,) = patient_warnings(["anonymous"] * 12)
    assert "has 12 of 12 images" in all_of
    assert patient_warnings([str(n // 2) for n in range(20)]) == []
    assert patient_warnings(["a", "b"]) == []


def test_doubtful_patients_are_told_by_inspect_and_when_data_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxrgan_fast.data import load_dataset

    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    write = writer(tmp_path / "set")
    for image in range(12):
        write(f"{'AB'[image % 2]}/{image}.png", image)
    found = inspect_source(open_source(tmp_path / "set"), progress=False)
    (warning,) = as_json(found)["patient_warnings"]
    assert f"warning: {warning}" in as_table(found)
    dataset = load_dataset(tmp_path / "set", resolution=16, progress=False)
    assert f"warning: {warning}" in dataset.notes


@pytest.mark.parametrize("kinds", [("portable", "standing"), ("batch1", "batch2"), ("PA", "AP")])
def test_folders_that_recur_in_every_class_are_no_patients(
    tmp_path: Path, kinds: tuple[str, str]
) -> None:
    write = writer(tmp_path)
    for image in range(8):
        for of_class in "AB":
            write(f"{of_class}/{kinds[image % 2]}/{image}.png", image)
    assert len({file.patient for file in open_source(tmp_path).files}) == 16


@pytest.mark.parametrize("names", ["PA{0}", "img{0}", "{0}", "20{0}", "p{0}"])
def test_patients_who_recur_in_every_class_stay_whole(tmp_path: Path, names: str) -> None:
    write = writer(tmp_path)
    for patient in range(6):
        for image in range(24):
            write(f"{'AB'[image % 2]}/{names.format(patient + 11)}/{image}.png", patient)
    assert len({file.patient for file in open_source(tmp_path).files}) == 6


def test_many_folders_of_words_are_patients(tmp_path: Path) -> None:
    write = writer(tmp_path)
    for patient in ("ann", "bob", "cyd", "dan", "eve"):
        for of_class in "AB":
            write(f"{of_class}/{patient}/1.png", 1)
    assert len({file.patient for file in open_source(tmp_path).files}) == 5


def test_a_folder_of_a_kind_in_one_class_alone_is_no_patient(tmp_path: Path) -> None:
    write = writer(tmp_path)
    for image in range(4):
        write(f"A/images/{image}.png", image)
        write(f"B/{image}.png", image)
    assert len({file.patient for file in open_source(tmp_path).files}) == 8
