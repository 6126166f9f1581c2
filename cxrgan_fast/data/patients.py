"""Whose image it is, and what speaks against what a set tells of it."""

from collections import Counter
from collections.abc import Sequence

from cxrgan_fast.data.sources import ImageFile

_ENOUGH = 10  # images, from which on there is something to say
_LARGE_SHARE = 0.2  # of all images: no patient of a study has so many


def settle_patients(files: Sequence[ImageFile], told: Sequence[str | None]) -> list[str]:
    """Name the patient of each image: the user's column, then DICOM, then folders and names.

    Where DICOM files of one folder all tell the same patient, its other files are of that patient
    too, so that no patient goes by two names.

    Args:
        files: the files of N images.
        told: what each of the files itself tells, None where it tells nothing.
    """
    of_folder: dict[str, set[str]] = {}
    for file, patient in zip(files, told, strict=True):
        if patient is not None and not file.patient_given:
            of_folder.setdefault(file.patient, set()).add(patient)

    def name(file: ImageFile, patient: str | None) -> str:
        if file.patient_given:
            return file.patient
        others = of_folder.get(file.patient, set())
        return patient or (next(iter(others)) if len(others) == 1 else file.patient)

    return [name(file, patient) for file, patient in zip(files, told, strict=True)]


def patient_warnings(patients: Sequence[str]) -> list[str]:
    """Say what makes it doubtful that these are patients, a line each.

    Args:
        patients: the patient of each of N images.
    """
    counts = Counter(patients)
    advice = "tell whose image it is by a table's column patient or a folder a patient"
    if len(counts) == len(patients) >= _ENOUGH:
        return [
            f"no two of the {len(patients)} images share a patient: where patients have several, "
            f"a division by patient does not keep them apart; {advice}"
        ]
    warnings = []
    for patient, images in counts.most_common(3):
        if images > _LARGE_SHARE * len(patients) and len(patients) >= _ENOUGH:
            warnings.append(
                f"{patient} counts as one patient and has {images} of {len(patients)} images: is "
                f"it one? Else {advice}"
            )
    return warnings


def warning_lines(patients: Sequence[str]) -> list[str]:
    """Return `patient_warnings` as notes of a set, each marked as a warning."""
    return [f"warning: {warning}" for warning in patient_warnings(patients)]
