"""Which folders hold the splits, the parts and the classes of a source, by how they lie."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from cxrgan_fast.data.sources.listing import enumerate_names
from cxrgan_fast.data.sources.names import (
    SPLITS,
    base,
    is_container,
    is_mask_folder,
    is_part,
    is_patient_folder,
    is_wrapper,
    parent,
    split_and_rest,
    split_of,
    suffix,
)
from cxrgan_fast.data.sources.store import Tree
from cxrgan_fast.errors import UserError


def above(path: str) -> Iterator[str]:
    """Yield the folders that a path lies in, from the outermost to the innermost."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


class Folders:
    """The folders of a source that may hold data, with the number of images below each."""

    def __init__(self, tree: Tree, images: Sequence[str], left_out: Mapping[str, str]) -> None:
        self.images = images
        self.inside: dict[str, list[str]] = {}
        self.without_data = {each for folder in left_out for each in (folder, *above(folder))}
        self.direct = {parent(name) for name in images}
        self.weight = Counter(each for name in images for each in above(name))
        self.suffixes: dict[str, Counter[str]] = {}
        for name in tree.stamps:
            self.suffixes.setdefault(parent(name), Counter())[suffix(name)] += 1
        for folder in sorted(tree.folders):
            if folder not in left_out and not any(each in left_out for each in above(folder)):
                self.inside.setdefault(parent(folder), []).append(folder)

    def children(self, folder: str) -> list[str]:
        return self.inside.get(folder, [])

    def classes(self, top: str) -> list[str]:
        """Find the class folders of a folder; empty ones too, so that this is reported."""
        inside = self.children(top)
        beside_images = any(is_container(base(each)) for each in inside)
        return [
            each
            for each in inside
            if self.weight[each]
            or not (each in self.without_data or (beside_images and is_mask_folder(base(each))))
        ]

    def root(self, name: str) -> str:
        """Return the folder that holds the folders of splits, or the class folders."""
        folder = ""
        while True:
            inside = self.children(folder)
            full = [each for each in inside if self.weight[each]] or inside
            # A lone folder may be a mere wrapper, or the only class with a folder a patient.
            if len(full) != 1 or self.splits(folder):
                return folder
            if not self._is_wrapper(full[0], base(folder) or name):
                return folder
            folder = full[0]

    def splits(self, root: str) -> dict[str, str]:
        """Find the folders of splits, each with the split that it is."""
        inside = self.children(root)
        found = {each: split for each in inside if (split := split_of(base(each))) is not None}
        usual = {each: split for each, split in found.items() if base(each).casefold() in SPLITS}
        # "valid" beside "invalid" is a class; beside "train" it is a split.
        others = [each for each in inside if self.weight[each] and each not in found]
        if "train" in found.values() or not others:
            return found
        return usual or self._splits_by_parts_of_names(inside)

    @staticmethod
    def _splits_by_parts_of_names(inside: Sequence[str]) -> dict[str, str]:
        """Read 01_train and 02_test, stage_2_train_images: names that differ in the split alone."""
        told: dict[str, dict[str, str]] = {}
        for each in inside:
            meant = split_and_rest(base(each))
            if meant is not None:
                told.setdefault(meant[1], {})[each] = meant[0]
        groups = [group for group in told.values() if {"train"} < set(group.values())]
        return groups[0] if len(groups) == 1 else {}

    def entered(self, top: str) -> str:
        """Find the folder of the class folders below a split or a part: train/images/CLASS."""
        while True:
            full = [each for each in self.children(top) if self.weight[each]]
            if len(full) != 1 or not is_wrapper(base(full[0])):
                return top
            if not self._is_wrapper(full[0], base(top)):
                return top
            top = full[0]

    def parts(self, root: str, where: str) -> list[str]:
        """Find the folders that hold the class folders where parts of a set lie above them.

        Args:
            root: the folder that holds the parts, fold1 and fold2 or images_001 and images_002.
            where: the source, for messages.

        Returns:
            None of them where the folders of the root are no parts, or are the classes.

        Raises:
            UserError: the parts have splits of their own, or no classes in them.
        """
        inside = [each for each in self.children(root) if self.weight[each]]
        names = [base(each) for each in inside]
        if len(inside) < 2 or not all(is_part(name) or is_wrapper(name) for name in names):
            return []
        if all(is_container(name) for name in names):  # PA and lateral
            return []
        if any("train" in self.splits(each).values() for each in inside):
            raise UserError(
                f"{where}: its folders {enumerate_names(names)} have splits of their own: an image "
                "may be in train of one and in test of another; name one of these folders"
            )
        tops = [self.entered(each) for each in inside]
        classes = [{base(each).casefold() for each in self.children(top)} for top in tops]
        common = {name for name in set.intersection(*classes) if not name[-1].isdigit()}
        if len(common) > 1:
            return tops
        if not all(is_part(name) for name in names):
            raise UserError(
                f"{where}: its folders {enumerate_names(names)} are parts of a set and no classes: "
                "name the table that has the classes of the images, or put each class's images in "
                "its own folder"
            )
        return []

    def _is_wrapper(self, inner: str, outer_name: str) -> bool:
        if inner in self.direct:
            return False
        inside = [each for each in self.children(inner) if self.weight[each]] or self.children(
            inner
        )
        names = [base(folder) for folder in inside]
        folded = {name.casefold() for name in names}
        if not names:
            return False
        if base(inner).casefold() == outer_name.casefold() or self.splits(inner):
            return True
        if folded & {"normal", "pneumonia"}:
            return True
        kinds = [name for name in names if is_wrapper(name) or is_mask_folder(name)]
        if len(kinds) == len(names):
            # CLASS/images/1.png is a class; below x/images/CLASS there is one more wrapper.
            return len(names) == 1 and self._is_wrapper(inside[0], base(inner))
        if is_wrapper(base(inner)):
            return not all(is_patient_folder(name) or name[1:].isdigit() for name in names)
        # Names of patients have digits; most names of classes have none.
        wordy = [name for name in names if not any(char.isdigit() for char in name)]
        return len(names) > 1 and 2 * len(wordy) > len(names)
