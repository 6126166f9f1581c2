"""Downloads: what came is counted and checked, and each failure is a line that helps."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from cxrgan_fast.data.download import KAGGLE, RECORD, download
from cxrgan_fast.errors import UserError
from image_files import class_folders


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], list[str]]:
    """Puts a function in the place of kagglehub's, and gives the calls."""

    def put(fetch: Callable[[Path], None]) -> list[str]:
        calls: list[str] = []

        def dataset_download(handle: str, *, output_dir: str) -> str:
            if Path(output_dir).exists() and any(Path(output_dir).iterdir()):
                raise FileExistsError(f"output_dir is not empty: {output_dir}")  # as the real one
            calls.append(handle)
            fetch(Path(output_dir))
            return output_dir

        module = ModuleType("kagglehub")
        module.dataset_download = dataset_download  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "kagglehub", module)
        return calls

    return put


def whole(out: Path) -> None:
    for split, n in (("train", 6), ("test", 4), ("val", 2)):
        class_folders(out / "chest_xray", n, split=split)


def failing(error: Exception) -> Callable[[Path], None]:
    def fetch(out: Path) -> None:
        (out / "chest_xray").mkdir(parents=True)
        raise error

    return fetch


def test_what_came_is_counted_recorded_and_not_fetched_again(hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    calls = hub(whole)
    out = tmp_path / "sets/xrays"
    got = download(out, progress=False)
    assert got.path == out
    assert got.counts == {"train": 12, "test": 8, "val": 4}
    assert len(got.sha256) == 64
    assert got.size == sum(path.stat().st_size for path in out.rglob("*.png"))
    assert got.warnings() == [
        "train has 12 images, 5216 were published",
        "test has 8 images, 624 were published",
        "val has 4 images, 16 were published",
    ]
    assert download(out, progress=False) == got
    assert calls == [KAGGLE]
    assert sorted(path.name for path in tmp_path.glob("sets/*")) == ["xrays"]


def test_a_changed_copy_is_told(hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    hub(whole)
    first = download(tmp_path / "xrays", progress=False)
    path = next(iter((tmp_path / "xrays").rglob("*.png")))
    path.write_bytes(path.read_bytes() + b"x")
    again = download(tmp_path / "xrays", progress=False)
    assert again.changed
    assert again.sha256 != first.sha256
    assert again.warnings()[-1] == "the images are not those of the earlier download there"


def response(status: int) -> Exception:
    error = OSError(f"{status} Client Error")  # as requests' HTTPError is one
    error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("Name or service not known"), "is there a network"),
        (OSError("no route"), "is there a network"),  # as requests raises them
        (response(403), r"Kaggle refuses the download \(403\): make an API token"),
        (response(404), "Kaggle answers 404"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left.*free some space"),
        (ValueError("odd"), "cannot be fetched"),
    ],
)
def test_failures(hub, tmp_path: Path, error: Exception, message: str) -> None:  # type: ignore[no-untyped-def]
    hub(failing(error))
    with pytest.raises(UserError, match=message) as caught:
        download(tmp_path / "xrays", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "xrays").exists()  # nothing half that looks whole
    hub(whole)
    assert download(tmp_path / "xrays", progress=False).counts["train"] == 12


def test_a_folder_with_other_things_is_refused(hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    calls = hub(whole)
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(UserError, match="is there, and no earlier download"):
        download(tmp_path, progress=False)
    assert calls == []


def test_a_damaged_record_is_no_earlier_download(hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    hub(whole)
    download(tmp_path / "xrays", progress=False)
    (tmp_path / "xrays" / RECORD).write_text("[]")
    with pytest.raises(UserError, match="no earlier download"):
        download(tmp_path / "xrays", progress=False)


def test_without_kagglehub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(
        UserError, match=r"pip install 'cxrgan_fast\[kaggle\]'; or fetch .*10\.17632"
    ):
        download(tmp_path / "xrays")
