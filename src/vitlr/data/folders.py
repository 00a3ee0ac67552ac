"""Any folder of class folders as a class-incremental stream.

    ROOT/cat/*.jpg  ROOT/dog/indoors/*.png  ...      a share of each class is held out for testing
    ROOT/train/cat/...  ROOT/test/cat/...            the same with a test folder of its own (or val, valid)

Classes are numbered by name, whatever the order in which they are learned, so labels of two streams over one
folder agree.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vitlr.data.experience import TEST, Experience, Stream
from vitlr.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "ORDERS", "class_images", "folder_stream", "image_files"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
ORDERS = ("seed", "name")
_TEST_FOLDERS = ("test", "val", "valid", "validation")  # the first that is there

ByClass = dict[str, list[str]]  # class -> its images, sorted


def folder_stream(
    root: str | Path,
    classes_per_experience: int,
    seed: int = 0,
    held_out: float = 0.2,
    test_root: str | Path | None = None,
    first_classes: int | None = None,
    order: str = "seed",
    run: int = 0,
) -> Stream:
    """Classes of ``root`` as experiences of new classes; images are found at any depth in a class's folder.

    Args:
        classes_per_experience: new classes in each experience; the last may have fewer.
        seed: draws the order of the classes (0 shuffles as well) and the images held out.
        held_out: share of each class kept for the test set, 0 < share < 1: at least one image of a class
            that has two, never all. Not used where there is a test folder.
        test_root: a folder with the same class folders to test on, in place of held-out images.
        first_classes: classes in the first experience, where it shall be another number.
        order: ``seed``, or ``name``: alphabetical.
        run: another order of the classes for each number >= 0, drawn from seed and run; the images held out
            are the seed's, whatever the run, so that runs are judged on the same images.

    Raises:
        DataError: a folder is missing, unreadable or without class folders, a class has no image, the test
            folder has other classes, no class has two images to hold one out, or an argument is out of range.
    """
    first = classes_per_experience if first_classes is None else first_classes
    if classes_per_experience < 1 or first < 1:
        raise DataError(
            f"classes_per_experience and first_classes must be >= 1, got {classes_per_experience} and {first}"
        )
    if order not in ORDERS:
        raise DataError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    for name, number in (("seed", seed), ("run", run)):
        if number < 0:
            raise DataError(f"{name} must be >= 0, got {number}")
    train_root, test_root, notes = _layout(Path(root).expanduser(), test_root)
    base = _common(train_root, test_root)
    rng = np.random.default_rng(seed)
    train = _images_by_class(train_root, base, leave_out=test_root)
    names = sorted(train)
    drawn = rng.permutation(len(names))  # whatever is done with it: the images held out are drawn next
    if run:
        drawn = np.random.default_rng((seed, run)).permutation(len(names))
    learned = names if order == "name" else [names[i] for i in drawn]
    if test_root is None:
        train, test = _hold_out(train, held_out, rng, train_root)
    else:
        test = _images_by_class(test_root, base)
        _same_classes(train, test, train_root, test_root)
    label_of = {name: label for label, name in enumerate(names)}
    groups = [learned[:first]]
    for start in range(first, len(learned), classes_per_experience):
        groups.append(learned[start : start + classes_per_experience])
    return Stream(
        name=f"folder {train_root.name if train_root == base else base.name}",
        root=base,
        experiences=tuple(
            _experience(i, f"experience {i}", group, train, label_of) for i, group in enumerate(groups)
        ),
        test=_experience(TEST, "test", names, test, label_of),
        class_names=tuple(names),
        notes=notes,
    )


def class_images(root: str | Path) -> ByClass:
    """Paths of the images in each class folder of ``root``, at any depth; both sorted.

    Raises:
        DataError: a folder is missing, unreadable or without class folders, or a class has no image.
    """
    root = Path(root).expanduser()
    found = _images_by_class(root, root)
    return {name: [str(root / path) for path in images] for name, images in found.items()}


def image_files(paths: Iterable[str | Path], also: tuple[str, ...] = ()) -> list[str]:
    """Image files among the paths, in their order; a folder stands for all images below it, sorted.

    ``also``: further suffixes that count, such as those of videos.

    Raises:
        DataError: a folder holds no image.
    """
    found: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                str(p)
                for p in path.rglob("*")
                if p.suffix.lower() in (*IMAGE_SUFFIXES, *also) and p.is_file()
            )
            if not inside:
                raise DataError(
                    f"{path} holds no image{' or video' if also else ''}; give files or folders of them"
                )
            found += inside
        else:
            found.append(str(path))
    return found


def _experience(
    index: int, name: str, classes: list[str], images: ByClass, label_of: dict[str, int]
) -> Experience:
    return Experience(
        index=index,
        name=name,
        paths=tuple(path for class_ in classes for path in images[class_]),
        labels=np.array([label_of[class_] for class_ in classes for _ in images[class_]], dtype=np.int64),
    )


def _layout(root: Path, test_root: str | Path | None) -> tuple[Path, Path | None, tuple[str, ...]]:
    """Folder to learn from, folder to test on if any, notes for the user."""
    if test_root is not None:
        test = Path(test_root).expanduser()
        if test.resolve() == root.resolve():
            raise DataError(f"{test} cannot be both learned from and tested on; leave test_root out")
        return root, test, ()
    inside = set(_folders(root))
    tests = [name for name in _TEST_FOLDERS if name in inside]
    if "train" not in inside or not tests or inside - {"train", *_TEST_FOLDERS}:
        return root, None, ()
    unused = tuple(f"{root / name} is not used" for name in tests[1:])
    return root / "train", root / tests[0], unused


def _common(train_root: Path, test_root: Path | None) -> Path:
    """The folder that paths of the stream are relative to."""
    if test_root is None:
        return train_root
    try:
        return Path(os.path.commonpath([train_root.resolve(), test_root.resolve()]))
    except ValueError:
        raise DataError(f"{train_root} and {test_root} are on different drives; put them on one") from None


def _folders(root: Path) -> list[str]:
    """Names of the folders in ``root``, sorted, hidden ones left out."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}; give a folder that holds one folder of images for each class")
    try:
        with os.scandir(root) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        _refuse(error)
        raise


def _images_by_class(root: Path, base: Path, leave_out: Path | None = None) -> ByClass:
    prefix = "" if root == base else root.resolve().relative_to(base).as_posix()
    skipped = None if leave_out is None else leave_out.resolve()
    classes = [name for name in _folders(root) if (root / name).resolve() != skipped]
    if not classes:
        what = "holds no class folders" if any(root.iterdir()) else "is empty"
        raise DataError(f"{root} {what}; put the images of each class into a folder of its own there")
    found = {}
    for name in classes:
        if not name.isprintable():  # bytes that are no UTF-8, too: they could be written into no record
            raise DataError(f"class folder {root / name!a} has a name that cannot be shown; rename it")
        images = sorted(_images(root, name))
        if not images:
            endings = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
            raise DataError(f"class folder {root / name} holds no image ({endings}); add some or remove it")
        found[name] = [f"{prefix}/{path}" if prefix not in ("", ".") else path for path in images]
    return found


def _images(root: Path, class_name: str) -> Iterator[str]:
    for folder, inside, names in os.walk(root / class_name, onerror=_refuse):
        inside[:] = [name for name in inside if not name.startswith(".")]
        below = Path(folder).relative_to(root).as_posix()
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield f"{below}/{name}"


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); check permissions") from None


def _hold_out(images: ByClass, share: float, rng: np.random.Generator, root: Path) -> tuple[ByClass, ByClass]:
    """Split every class; both parts keep the order of the names."""
    if not 0 < share < 1:
        raise DataError(
            f"held_out must be above 0 and below 1, got {share}; to test on other images give test_root"
        )
    train: ByClass = {}
    test: ByClass = {}
    for name in sorted(images):
        paths = images[name]
        number = min(max(1, round(share * len(paths))), len(paths) - 1)
        chosen = set(rng.permutation(len(paths))[:number].tolist())
        train[name] = [path for row, path in enumerate(paths) if row not in chosen]
        test[name] = [path for row, path in enumerate(paths) if row in chosen]
    if not any(test.values()):
        raise DataError(
            f"no class in {root} has two images, so none can be held out; add images or give test_root"
        )
    return train, test


def _same_classes(train: ByClass, test: ByClass, train_root: Path, test_root: Path) -> None:
    missing, extra = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    for names, where, other in ((missing, train_root, test_root), (extra, test_root, train_root)):
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise DataError(f"{shown}: in {where} but not in {other}; both must hold the same class folders")
