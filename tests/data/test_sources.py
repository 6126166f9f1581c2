"""Tables, archives and folders with pitfalls: what is read, and what is named as a problem."""

import io
import os
import stat
import struct
import time
import zipfile
from pathlib import Path

import pytest

from cxrgan_fast.data.sources import Source, Unused, open_source, select, store
from cxrgan_fast.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def zipped(path: Path, *names: str, **contents: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name)
        for name, content in contents.items():
            archive.writestr(name.replace("_csv", ".csv"), content)
    return path


def names(source: Source) -> list[str]:
    return [file.name for file in source.files]


def test_a_table_with_everything(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "x/2.png", "z.png")
    (tmp_path / "set.csv").write_text(
        "Split,path,age,label,patient\ntest,x/2.png,3,ill,p2\ntrain,x/1.png,4,well,\n"
        '\nval,"z.png",5,ill,p2\n'
    )
    source = open_source(tmp_path / "set.csv")
    assert source.name == "set"
    assert source.classes == source.default_classes == ("ill", "well")
    assert source.has_splits
    shown = [(f.name, f.class_name, f.patient, f.split) for f in source.files]
    assert shown == [
        ("x/1.png", "well", "x/1.png", "train"),
        ("x/2.png", "ill", "p2", "test"),
        ("z.png", "ill", "p2", "val"),
    ]
    assert source.read(source.files[1]) == b"x/2.png"


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_of_spreadsheets(tmp_path: Path, separator: str) -> None:
    touch(tmp_path, "1.png", "2.png", "10.png")
    rows = [("path", "label"), ("1.png", "10"), ("2.png", "9"), ("10.png", "9")]
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "set.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    source = open_source(tmp_path / "set.csv")
    assert source.classes == ("9", "10")  # numbers in the order of numbers
    assert not source.has_splits
    assert names(source) == ["1.png", "10.png", "2.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\n1.png,a\n", r"no column 'path' \(it has name, label\)"),
        ("path,label,label\n1.png,a,b\n", "column 'label' more than once"),
        ("path,label\n1.png\n", "line 2: has 1 values, the header 2"),
        ("path,label\n1.png,\n", "line 2: the label is empty"),
        ("path,label\n,a\n", "line 2: the path is empty"),
        ("path,label,split\n1.png,a,hold\n", "line 2: split 'hold': expected one of train"),
        ('path,label\n"1.png,a\n', "not a table that can be read"),
        ("path,label\nnone.png,a\n", r"names no image that is there \(first problem: none\.png: "),
        ("", "no column 'path'"),
    ],
)
def test_tables_that_cannot_work(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "1.png")
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        open_source(tmp_path / "set.csv")
    assert "\n" not in str(caught.value)


def test_numbers_of_very_many_digits(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    long = "9" * 5000  # more than int() takes
    (tmp_path / "set.csv").write_text(f"path,label\n1.png,{long}\n2.png,10\n3.png,010\n")
    assert open_source(tmp_path / "set.csv").classes == ("010", "10", long)


def test_class_names_that_cannot_be_printed(tmp_path: Path) -> None:
    for name in (b"a\nb", b"\xff"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), name))
        with open(os.path.join(os.fsencode(tmp_path), name, b"1.png"), "wb"):
            pass
    source = open_source(tmp_path)
    for name in source.classes:
        with pytest.raises(UserError, match="a name that cannot be printed"):
            select(source, None, [name])


def test_tables_in_other_encodings_are_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes("path,label\n1.png,a\n2.png,gesünder\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 3: not UTF-8"):
        open_source(tmp_path / "set.csv")


def test_missing_and_repeated_files_of_a_table_are_problems(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "sub/x")
    (tmp_path / "set.csv").write_text("path,label\n1.png,a\n1.png,b\nno.png,a\nsub,b\n")
    source = open_source(tmp_path / "set.csv")
    assert names(source) == ["1.png"]
    assert [name for name, _ in source.problems] == ["1.png", "no.png", "sub"]
    assert source.problems[0][1] == "is named more than once"
    assert "No such file" in source.problems[1][1]


def test_an_archive_of_class_folders(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", "set/a/1.png", "set/b/2.JPG", "set/readme.md", "__MACOSX/x")
    source = open_source(path)
    assert source.name == "set"
    assert source.classes == ("a", "b")
    assert names(source) == ["set/a/1.png", "set/b/2.JPG"]
    assert source.read(source.files[0]) == b"set/a/1.png"
    assert source.unused == [Unused("no image by name or content", "set", ".md", 1)]


def test_an_archive_with_a_table_at_the_top(tmp_path: Path) -> None:
    rows = "path,label,patient\ni/1.png,b,p\nno.png,b,p\n"
    path = zipped(tmp_path / "set.zip", "i/1.png", table_csv=rows)
    source = open_source(path)
    assert [(f.name, f.class_name, f.patient) for f in source.files] == [("i/1.png", "b", "p")]
    assert source.problems == [("no.png", "is not in the archive")]


def test_a_table_of_something_else_in_an_archive_is_passed_over(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", "a/1.png", notes_csv="when,who\n1,2\n")
    assert names(open_source(path)) == ["a/1.png"]


def test_names_that_lead_out_of_an_archive_are_problems(tmp_path: Path) -> None:
    bad = ["../a/1.png", "/etc/2.png", "a/../../3.png", "c:/x.png", "a//4.png"]
    path = zipped(tmp_path / "set.zip", "a/ok.png", "a\\windows.png", *bad)
    source = open_source(path)
    assert names(source) == ["a/ok.png", "a/windows.png"]
    assert sorted(name for name, _ in source.problems) == sorted(bad)
    assert {reason for _, reason in source.problems} == {"a name that leads out of the archive"}


def test_names_in_very_many_folders_are_problems(tmp_path: Path) -> None:
    deep = "a/" * 20_000 + "x.png"
    source = open_source(zipped(tmp_path / "a.zip", "a/ok.png", deep))
    assert names(source) == ["a/ok.png"]
    assert source.problems == [(deep, "lies in 20000 folders: pack it anew")]
    wrapped = open_source(zipped(tmp_path / "w.zip", "a/" * 60 + "ok.png"))
    assert len(wrapped.files) == 1


def test_very_many_class_folders_take_no_time(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", *(f"p{number}/{number}.png" for number in range(4000)))
    start = time.perf_counter()
    assert len(open_source(path).classes) == 4000
    assert time.perf_counter() - start < 5  # a tenth of it where nothing else runs


def test_links_and_repetitions_in_an_archive_are_problems(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", "a/1.png")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/1.png", "again")
    source = open_source(path)
    assert names(source) == ["a/1.png"]
    assert source.problems == [
        ("a/1.png", "is in the archive more than once"),
        ("a/link.png", "is a link, not a file"),
    ]


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    """The construction of D. Fifield, "A better zip bomb", WOOT 2019, at its smallest."""
    path = zipped(tmp_path / "set.zip", "a/1.png", "a/2.png")
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 3)  # its local header's offset
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"entry 'a/2\.png' overlaps another"):
        open_source(path)


def test_large_entries_are_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "set.zip", "a/1.png")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/bomb.png", bytes(1 << 20))
    monkeypatch.setattr(store, "MAX_FILE_BYTES", 1 << 16)
    source = open_source(path)
    assert source.read(source.files[0]) == b"a/1.png"
    with pytest.raises(UserError, match=r"a/bomb\.png: has 1,048,576 bytes, more than the 65,536"):
        source.read(source.files[1])


def test_damaged_and_encrypted_entries_are_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", "a/1.png", "a/2.png")
    content = bytearray(path.read_bytes())
    content[content.index(b"a/1.png") + 9] ^= 0xFF  # in the compressed bytes
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 8] |= 1  # the flag of encryption
    path.write_bytes(content)
    source = open_source(path)
    with pytest.raises(UserError, match=r"^a/1\.png: damaged in the archive"):
        source.read(source.files[0])
    with pytest.raises(UserError, match=r"^a/2\.png: is encrypted"):
        source.read(source.files[1])


@pytest.mark.parametrize("share", [0, 0.3, 0.95])
def test_archives_cut_off(tmp_path: Path, share: float) -> None:
    path = zipped(tmp_path / "set.zip", "a/1.png", "b/2.png")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"set\.zip: not a zip archive that can be read"):
        open_source(path)


def test_an_archive_that_changes_is_noticed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", "a/1.png")
    source = open_source(path)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=r"set\.zip: changed while it was read"):
        source.read(source.files[0])


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.png", "deep/2.png")
    touch(tmp_path / "set", "a/0.png")
    (tmp_path / "set/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/a/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/a/again").symlink_to(tmp_path / "set/b")
    (tmp_path / "set/a/gone.png").symlink_to("nowhere.png")
    (tmp_path / "set/a/self.png").symlink_to("self.png")
    (tmp_path / "set/a/notes.txt").symlink_to("nowhere.txt")  # no image is lost with it
    source = open_source(tmp_path / "set")
    assert names(source) == ["a/0.png", "b/1.png", "b/deep/2.png"]
    problems = dict(source.problems)
    assert set(problems) == {"a/loop", "a/again", "a/gone.png", "a/self.png"}
    assert problems["a/loop"] == "leads to the folder itself again: its files count once"
    assert problems["a/again"] == "leads to b again: its files count once"
    assert "cannot be opened" in problems["a/self.png"]


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png")
    os.mkfifo(tmp_path / "a/pipe.png")
    source = open_source(tmp_path)
    assert source.problems == [("a/pipe.png", "is a device or a pipe, not a file")]
    (tmp_path / "a/2.png").unlink()
    os.mkfifo(tmp_path / "a/2.png")
    with pytest.raises(UserError, match=r"a/2\.png: changed while it was read"):
        source.read(source.files[1])


def test_files_that_change_or_go_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "a/3.png")
    source = open_source(tmp_path)
    (tmp_path / "a/1.png").write_bytes(b"longer than before")
    os.utime(tmp_path / "a/2.png", ns=(0, 0))
    (tmp_path / "a/3.png").unlink()
    reasons = []
    for file in source.files:
        with pytest.raises(UserError) as caught:
            source.read(file)
        reasons.append(str(caught.value))
    assert reasons[0].startswith("a/1.png: changed while it was read")
    assert reasons[1].startswith("a/2.png: changed while it was read")
    assert reasons[2] == "a/3.png: no such file"


def test_names_of_every_kind(tmp_path: Path) -> None:
    odd = [
        "a/with space.png",
        "a/quo'te\".png",
        "a/größe ß.png",
        "a/line\nbreak.png",
        "a/\udcff.png",
    ]
    touch_bytes = [os.fsencode(tmp_path / name) for name in odd]
    (tmp_path / "a").mkdir()
    for path in touch_bytes:
        with open(path, "wb") as file:
            file.write(b"x")
    source = open_source(tmp_path)
    assert sorted(names(source)) == sorted(odd)
    for file in source.files:
        assert source.read(file) == b"x"
        (tmp_path / file.name).unlink()
        with pytest.raises(UserError) as caught:
            source.read(file)
        assert "\n" not in str(caught.value)
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8").write(str(caught.value))  # can be printed
