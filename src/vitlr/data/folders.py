"""Any folder of class folders as a class-incremental stream.

    ROOT/cat/*.jpg  ROOT/dog/indoors/*.png  ...      a share of each class is held out for testing
    ROOT/train/cat/...  ROOT/test/cat/...            the same with a test folder of its own
    ROOT/cat/clip.mp4                                frames of the clip, all of them learned or all held out

Which folders are classes and splits is in :mod:`vitlr.data.layout`. Classes are numbered by name, whatever the
order in which they are learned, so labels of two streams over one folder agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitlr.data.class_folders import ClassFolders, read_class_folders
from vitlr.data.experience import TEST, Experience, Stream
from vitlr.data.formats import IMAGE_SUFFIXES, MAX_FRAMES
from vitlr.data.names import counted, expanded, shown
from vitlr.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "ORDERS", "folder_stream"]

ORDERS = ("seed", "name")

ByClass = dict[str, list[str]]  # class -> its images, sorted
Units = dict[str, list[list[str]]]  # class -> what is held out as a whole: an image, or the frames of a clip


def folder_stream(
    root: str | Path,
    classes_per_experience: int,
    seed: int = 0,
    held_out: float = 0.2,
    test_root: str | Path | None = None,
    first_classes: int | None = None,
    order: str = "seed",
    run: int = 0,
    *,
    class_level: str | int = "auto",
    every: int | None = None,
    max_frames: int = MAX_FRAMES,
) -> Stream:
    """Classes of ``root`` as experiences of new classes; images are found at any depth in a class's folder.

    Args:
        classes_per_experience: new classes in each experience; the last may have fewer.
        seed: draws the order of the classes (0 shuffles as well) and the images held out.
        held_out: share of each class kept for the test set, 0 < share < 1: at least one image of a class
            that has two, never all. Not used if there is a test folder.
        test_root: a folder with the same class folders to test on, in place of held-out images.
        first_classes: classes in the first experience, if that is another number.
        order: ``seed``, or ``name``: alphabetical.
        run: another order of the classes for each number >= 0, drawn from seed and run; the images held out
            are the seed's, whatever the run, so that runs are judged on the same images.
        class_level: which folders are classes: auto, top, leaf or a number; see :mod:`vitlr.data.layout`.
        every, max_frames: frames taken of a clip, as :class:`vitlr.data.video.Video` takes them.

    Raises:
        DataError: a folder is missing, unreadable or without class folders, a class has no image that can be
            read, the test folder has none of the classes, no class has two images to hold one out, or an
            argument is out of range.
    """
    first = classes_per_experience if first_classes is None else first_classes
    _check(classes_per_experience, first, order, {"seed": seed, "run": run})
    for name, value in (("every", every), ("max_frames", max_frames)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be >= 1, got {value}")
    folders = read_class_folders(root, test_root, class_level, videos=True)
    rng = np.random.default_rng(seed)
    train = _units(folders.train.images, folders, every, max_frames)
    names = sorted(train)
    drawn = rng.permutation(len(names))  # whatever is done with it: the images held out are drawn next
    if run:
        drawn = np.random.default_rng((seed, run)).permutation(len(names))
    learned = names if order == "name" else [names[i] for i in drawn]
    if folders.test is None:
        train, test, notes = _hold_out(train, held_out, rng, expanded(root))
    else:
        test = _units(folders.test.images, folders, every, max_frames)
        test, notes = _of_known_classes(train, test, expanded(root))
    label_of = {name: label for label, name in enumerate(names)}
    groups = [learned[:first]]
    for start in range(first, len(learned), classes_per_experience):
        groups.append(learned[start : start + classes_per_experience])
    return Stream(
        name=f"folder {folders.base.name or folders.base.resolve().name}",
        root=folders.base,
        experiences=tuple(
            _experience(i, f"experience {i}", group, train, label_of) for i, group in enumerate(groups)
        ),
        test=_experience(TEST, "test", [name for name in names if name in test], test, label_of),
        class_names=tuple(names),
        notes=(*folders.notes, *notes),
        facts=(*folders.facts, *_clips(folders, train, test)),
        left_out=folders.left_out,
    )


def _check(classes_per_experience: int, first: int, order: str, numbers: dict[str, int]) -> None:
    if classes_per_experience < 1 or first < 1:
        raise DataError(
            f"classes_per_experience and first_classes must be >= 1, got {classes_per_experience} and {first}"
        )
    if order not in ORDERS:
        raise DataError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    for name, number in numbers.items():
        if number < 0:
            raise DataError(f"{name} must be >= 0, got {number}")


def _units(images: ByClass, folders: ClassFolders, every: int | None, max_frames: int) -> Units:
    if not folders.videos:  # so that Pillow is not imported
        return {name: [[path] for path in paths] for name, paths in images.items()}
    from vitlr.data.clips import frame_paths

    return {
        name: [
            frame_paths(folders.base, path, every, max_frames) if path in folders.videos else [path]
            for path in paths
        ]
        for name, paths in images.items()
    }


def _clips(folders: ClassFolders, *parts: Units) -> tuple[str, ...]:
    """A sentence about the frames of clips, if there are clips."""
    clips = [unit for units in parts for each in units.values() for unit in each if "/" in unit[0]]
    frames = [len(unit) for unit in clips if unit[0].rpartition("/")[0] in folders.videos]
    if not frames:
        return ()
    some = "1 clip is" if len(frames) == 1 else f"{len(frames):,} clips are"
    return (f"{some} learned from or tested on as a whole, by {sum(frames):,} frames",)


def _experience(
    index: int, name: str, classes: list[str], units: Units, label_of: dict[str, int]
) -> Experience:
    paths = {class_: [path for unit in units[class_] for path in unit] for class_ in classes}
    return Experience(
        index=index,
        name=name,
        paths=tuple(path for class_ in classes for path in paths[class_]),
        labels=np.array([label_of[class_] for class_ in classes for _ in paths[class_]], dtype=np.int64),
    )


def _hold_out(
    units: Units, share: float, rng: np.random.Generator, root: Path
) -> tuple[Units, Units, tuple[str, ...]]:
    """Split every class; both parts keep the order of the names. Notes on classes with nothing to hold out."""
    if not 0 < share < 1:
        raise DataError(
            f"held_out must be above 0 and below 1, got {share}; to test on other images give test_root"
        )
    train: Units = {}
    test: Units = {}
    for name in sorted(units):
        each = units[name]
        number = min(max(1, round(share * len(each))), len(each) - 1)
        chosen = set(rng.permutation(len(each))[:number].tolist())
        train[name] = [unit for row, unit in enumerate(each) if row not in chosen]
        test[name] = [unit for row, unit in enumerate(each) if row in chosen]
    whole = [name for name in test if not test[name]]
    if len(whole) == len(test):
        raise DataError(
            f"no class in {shown(root)} has two images, so none can be held out; add images or give test_root"
        )
    if not whole:
        return train, test, ()
    some = "1 class has" if len(whole) == 1 else f"{len(whole):,} classes have"
    return train, test, (f"{some} one image or clip and so no test image: {_some(whole)}",)


def _of_known_classes(train: Units, test: Units, root: Path) -> tuple[Units, tuple[str, ...]]:
    """Test images of the classes that are learned, and notes on the others."""
    missing, extra = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    if len(missing) == len(train):
        raise DataError(
            f"the test folder has the classes {_some(extra)} and {shown(root)} has {_some(missing)}, none of them the"
            " same; give a test_root with the same class folders"
        )
    notes = []
    if missing:
        notes.append(f"the test folder has no images of {_some(missing)}: accuracy is over the other classes")
    if extra:
        number = sum(len(unit) for name in extra for unit in test[name])
        notes.append(
            f"the test folder has {counted(number, 'image')} of classes that are not learned, left out: {_some(extra)}"
        )
    return {name: units for name, units in test.items() if name in train}, tuple(notes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
