"""The folders in which a data set has its classes, for who writes images beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrgan_fast.data.load import open_data
from cxrgan_fast.data.sources import check_folder_name, folder_names
from cxrgan_fast.errors import UserError, did_you_mean, printable


@dataclass(frozen=True)
class ClassFolders:
    """How a data set names the folders of its classes.

    Attributes:
        where: the data set, for messages.
        folders: for each class, the names of the folders that hold its images.
    """

    where: str
    folders: dict[str, list[str]]

    def of(self, name: str) -> str:
        """Return the folder of a class; case does not matter.

        Args:
            name: name of a class of the data, or of one of its folders.

        Raises:
            UserError: there is none, or several.
        """
        for known, folders in self.folders.items():
            if known.casefold() == name.casefold():
                if len(folders) > 1:
                    raise UserError(
                        f"{self.where}: has the class {printable(name)!r} in several folders "
                        f"({printable(', '.join(folders))}): name one by --class-folders "
                        f"{printable(name)}=FOLDER"
                    )
                return folders[0]
        for folder in self.all():
            if folder.casefold() == name.casefold():
                return folder
        hint = did_you_mean(name, self.folders)
        raise UserError(
            f"{self.where}: has no class {printable(name)!r} (it has "
            f"{printable(', '.join(self.folders))}){hint}; name its folder by --class-folders "
            f"{printable(name)}=FOLDER"
        )

    def all(self) -> list[str]:
        """Return the names of all folders, sorted."""
        return sorted({folder for folders in self.folders.values() for folder in folders})


def class_folders(data: str | Path) -> ClassFolders:
    """Look up the folders in which a data set has its classes.

    Args:
        data: a source, a packed set, or "phantom". Of a packed set those of its source; where
            there are no class folders (a table), those that the classes' names give.

    Raises:
        UserError: there is no such data.
    """
    return ClassFolders(str(data), open_data(data).class_folders())


def choose_folders(
    classes: Sequence[str], given: Sequence[str], like: str | None
) -> tuple[dict[str, str], list[str]]:
    """Choose the folders of generated images, as far as a user names them.

    Args:
        classes: names of what is generated.
        given: NAME=FOLDER of some of them; case of names does not matter.
        like: data whose folders the other classes go into; None for those of their names.

    Returns:
        The folder of each class that is named or has one in `like`; and what to warn of.

    Raises:
        UserError: an unknown class, one that is named twice, a name that is none of a folder, two
            that differ in case alone, or data without such a class.
    """
    folders = _given_folders(given, classes)
    warnings = []
    if like is not None:
        data = class_folders(like)
        for name in classes:
            if name not in folders:
                folders[name] = check_folder_name(data.of(name), f"{like}: folder")
        missing = sorted(set(data.all()) - set(folders.values()))
        if missing:
            warnings.append(
                f"nothing goes into {printable(', '.join(missing))}, which {like} has: who numbers "
                "folders by name numbers those after it differently"
            )
    spelled: dict[str, str] = {}
    for folder in {**folder_names(classes), **folders}.values():
        if spelled.setdefault(folder.casefold(), folder) != folder:
            raise UserError(
                f"--class-folders: {folder} and {spelled[folder.casefold()]} are one folder on "
                "some systems; name them differently"
            )
    return folders, warnings


def _given_folders(given: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """The folder of each class that is named."""
    known = {name.casefold(): name for name in classes}
    found: dict[str, str] = {}
    for text in given:
        # A class's own name may hold "=" as well.
        cuts = [place for place, char in enumerate(text) if char == "="]
        pairs = [(text[:cut].strip().casefold(), text[cut + 1 :]) for cut in cuts]
        name, folder = next((pair for pair in pairs if pair[0] in known), ("", ""))
        if not name:
            hint = did_you_mean(text.partition("=")[0], classes)
            raise UserError(
                f"--class-folders {printable(text)}: expected NAME=FOLDER with a name of "
                f"{printable(', '.join(classes))}{hint}"
            )
        if known[name] in found:
            raise UserError(f"--class-folders: {known[name]!r} is named more than once")
        found[known[name]] = check_folder_name(folder, "--class-folders: folder")
    return found
