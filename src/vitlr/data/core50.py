"""CORe50 as streams, from published facts alone: frames, labels, six scenarios of ten runs, two test sets.

Lomonaco & Maltoni, "CORe50: a New Dataset and Benchmark for Continuous Object Recognition", CoRL 2017
(arXiv 1705.03550); NICv2: Lomonaco, Maltoni & Pellegrini, CLVision 2020 (arXiv 1907.03799). The facts are
carried in ``core50_protocols.json`` (CC BY 4.0, see its ``about``): which frames exist, which videos make up
each experience, the ten orders of every scenario.

A video is (session 1..11, object 1..50); its frames are ``sS/oO/C_SS_OO_FFF.png``, 000..299 less the missing
ones. In every scenario and run each of the 400 training videos belongs to exactly one experience.

Order of the frames within an experience:

* ``ni``, ``nc``, ``nic``: sessions ascending, objects in string order (o1, o10, o11, ...), frames ascending.
  So the authors' generator writes them, and so the published test lists are.
* ``nicv2_*``: videos as the facts give them, which is the published order (ascending by session and object);
  the published lists shuffle the frames within each video, here they ascend. This is a choice: the shuffle is
  not among the facts, and whoever learns from an experience shuffles it again.
* test sets: as for ``ni``; the reduced one agrees with the published list, frame by frame.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.data.experience import TEST, Experience, Stream
from vitlr.data.lists import list_lines
from vitlr.errors import DataError

__all__ = [
    "LABELS",
    "NUM_RUNS",
    "SCENARIOS",
    "TEST_SETS",
    "core50_list_lines",
    "core50_lists",
    "core50_stream",
    "find_root",
    "frame_path",
    "parse_frame",
    "published_frames",
]

SCENARIOS = ("ni", "nc", "nic", "nicv2_79", "nicv2_196", "nicv2_391")
NUM_RUNS = 10
NUM_SESSIONS, NUM_OBJECTS = 11, 50
LABELS = ("object", "category", "appearance")
TEST_SETS = ("full", "reduced")
REDUCED_STEP = 20  # the reduced test set is every 20th frame of the full one

PROTOCOLS_SHA256 = "a719ee85b18efde9c995e478d8401a9fc4274e8ef4fdb418f4ec812f91b829f2"

Video = tuple[int, int]  # session, object
_FRAME = re.compile(r"s(\d{1,2})/o(\d{1,2})/C_(\d\d)_(\d\d)_(\d{3})\.png", re.ASCII)
_LAYOUT = "frames are named like s1/o1/C_01_01_000.png"


# -- the facts --------------------------------------------------------------------------------------


@cache
def protocols() -> dict[str, Any]:
    """The published facts, read once. Not to be changed by the caller.

    Raises:
        DataError: the file is not the one that belongs to this version.
    """
    content = resources.files("vitlr.data").joinpath("core50_protocols.json").read_bytes()
    if hashlib.sha256(content).hexdigest() != PROTOCOLS_SHA256:
        raise DataError("core50_protocols.json of this package is damaged; install vitlr again")
    return json.loads(content)


def frame_path(session: int, object_: int, frame: int) -> str:
    """``s1/o1/C_01_01_000.png`` for (1, 1, 0)."""
    return f"s{session}/o{object_}/C_{session:02d}_{object_:02d}_{frame:03d}.png"


def parse_frame(path: str) -> tuple[int, int, int]:
    """(session, object, frame) of a path, undoing :func:`frame_path`; DataError where it is not one."""
    match = _FRAME.fullmatch(path)
    if match is None or match[1] != str(int(match[3])) or match[2] != str(int(match[4])):
        raise DataError(f"{path!r} is not a CORe50 frame; {_LAYOUT}")
    return int(match[3]), int(match[4]), int(match[5])


@cache
def video_frames(session: int, object_: int) -> tuple[str, ...]:
    """Published frames of a video, ascending."""
    facts = protocols()
    missing = set(facts["missing_frames"].get(f"s{session}/o{object_}", ()))
    numbers = [frame for frame in range(facts["frames_per_video"]) if frame not in missing]
    return tuple(frame_path(session, object_, frame) for frame in numbers)


def published_videos() -> list[Video]:
    """All 550 videos, by session and object."""
    return [(s, o) for s in range(1, NUM_SESSIONS + 1) for o in range(1, NUM_OBJECTS + 1)]


def published_frames() -> Iterator[str]:
    """All 164,866 frames, by session, object and number."""
    for video in published_videos():
        yield from video_frames(*video)


def _by_name(videos: Iterable[Video]) -> list[Video]:
    """Sessions ascending, objects in string order: the order of the published lists."""
    return sorted(videos, key=lambda video: (video[0], f"o{video[1]}"))


def _test_videos() -> list[Video]:
    """Every object in sessions 3, 7 and 10, in published order."""
    return _by_name((s, o) for s in protocols()["sessions"]["test"] for o in range(1, NUM_OBJECTS + 1))


def experience_videos(scenario: str, run: int) -> list[list[Video]]:
    """Videos of each experience in published order; DataError for an unknown scenario or run."""
    if scenario not in SCENARIOS:
        raise DataError(f"scenario must be one of {', '.join(SCENARIOS)}, got {scenario!r}")
    if run not in range(NUM_RUNS):
        raise DataError(f"run must be 0 to {NUM_RUNS - 1} (CORe50 publishes ten orders), got {run!r}")
    facts = protocols()
    published = facts["scenarios"][scenario]
    order = published["runs"][run]
    if scenario == "ni":
        return [_by_name((session, o) for o in range(1, NUM_OBJECTS + 1)) for session in order]
    if scenario == "nc":
        train, groups = facts["sessions"]["train"], published["groups"]
        return [_by_name((session, o) for session in train for o in groups[group]) for group in order]
    if scenario == "nic":
        units = [published["units"][unit] for unit in order]
        return [_by_name((session, o) for o in objects) for session, objects in units]
    texts = [published["units"][unit] for unit in order] if scenario == "nicv2_391" else order
    return [[_video(video) for video in text.split()] for text in texts]


def _video(text: str) -> Video:
    session, object_ = text.split(".")
    return int(session), int(object_)


def labelling(labels: str, videos: list[list[Video]]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Label of each object number, and the class names by label.

    Objects are named by category and number in it, ``plug_adapter_1`` .. ``remote_control_5`` (object O is
    number (O-1) % 5 + 1 of category (O-1) // 5; the authors write the same without the last underscore).
    """
    if labels not in LABELS:
        raise DataError(f"labels must be one of {', '.join(LABELS)}, got {labels!r}")
    categories, objects = protocols()["categories"], range(1, NUM_OBJECTS + 1)
    if labels == "category":
        return {o: (o - 1) // 5 for o in objects}, tuple(categories)
    order = list(objects)
    if labels == "appearance":
        order = list(dict.fromkeys(o for group in videos for o in sorted(o for _, o in group)))
    names = tuple(f"{categories[(o - 1) // 5]}_{(o - 1) % 5 + 1}" for o in order)
    return {object_: label for label, object_ in enumerate(order)}, names


# -- streams ----------------------------------------------------------------------------------------


def core50_lists(scenario: str, run: int, labels: str = "object", test: str = "full") -> Stream:
    """The published lists as a stream without images (``root`` is None).

    Args:
        scenario: ``ni`` (8 experiences), ``nc`` (9), ``nic`` (79), ``nicv2_79``, ``nicv2_196`` or
            ``nicv2_391``.
        run: which of the ten published orders, 0..9.
        labels: ``object`` (object - 1, 50 classes), ``category`` ((object - 1) // 5, ten) or ``appearance``:
            objects numbered by the experience of the run that first shows them, those of one experience by
            object number. For ``nc`` that is the numbering of the original lists.
        test: ``full``, 44,972 frames, or ``reduced``, every 20th of those in published order: 2,249.

    Raises:
        DataError: unknown scenario, run, labelling or test set.
    """
    if test not in TEST_SETS:
        raise DataError(f"test must be one of {', '.join(TEST_SETS)}, got {test!r}")
    videos = experience_videos(scenario, run)
    label_of, names = labelling(labels, videos)
    test_set = _experience(TEST, "test", _test_videos(), label_of)
    if test == "reduced":
        test_set = replace(
            test_set, paths=test_set.paths[::REDUCED_STEP], labels=test_set.labels[::REDUCED_STEP].copy()
        )
    return Stream(
        name=f"core50 {scenario} run {run}",
        root=None,
        experiences=tuple(
            _experience(index, f"experience {index}", group, label_of) for index, group in enumerate(videos)
        ),
        test=test_set,
        class_names=names,
    )


def _experience(index: int, name: str, videos: list[Video], label_of: dict[int, int]) -> Experience:
    frames = [video_frames(*video) for video in videos]
    labels = np.repeat([label_of[object_] for _, object_ in videos], [len(video) for video in frames])
    paths = tuple(path for video in frames for path in video)
    return Experience(index=index, name=name, paths=paths, labels=labels)


def core50_stream(
    root: str | Path, scenario: str, run: int, labels: str = "object", test: str = "full"
) -> Stream:
    """The published stream as far as its frames exist in the folder ``root`` (or its ``core50_128x128``).

    Trees with fewer frames work as they are: every list keeps the frames found, an experience left without
    any is skipped (the others keep their published ``index``), and both are said in ``notes``. Labels and
    class names stay those of the whole data set. The reduced test set stays the published one, so a sparse
    tree may hold few of its frames or none: there ``test="full"`` is the better choice.

    Raises:
        DataError: no such folder, not CORe50's layout, no training or no test frame left, or what
            :func:`core50_lists` refuses.
    """
    lists = core50_lists(scenario, run, labels, test)
    root = find_root(root)
    found = frames_on_disk(root)
    experiences = [_present(experience, found) for experience in lists.experiences]
    kept = tuple(experience for experience in experiences if len(experience))
    test_set = _present(lists.test, found)
    if not kept:
        raise DataError(
            f"{root} holds no training frame of CORe50 (sessions 1, 2, 4, 5, 6, 8, 9, 11); {_LAYOUT}"
        )
    if not len(test_set):
        remedy = "use test=full" if test == "reduced" else "add frames of sessions 3, 7 and 10"
        raise DataError(
            f"{root} holds none of the {len(lists.test):,} frames of the {test} test set; {remedy}"
        )
    notes = []
    total = sum(1 for _ in published_frames())
    if len(found) < total:
        notes.append(f"{len(found):,} of {total:,} frames found")
    if test == "reduced" and len(test_set) < len(lists.test):
        notes.append(f"{len(test_set):,} of the {len(lists.test):,} frames of the reduced test set found")
    empty = [experience.index for experience in experiences if not len(experience)]
    if empty:
        shown = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        notes.append(f"{len(empty)} of {len(experiences)} experiences have no frame and are skipped: {shown}")
    sessions = tuple(parse_frame(path)[0] for path in test_set.paths)
    return replace(
        lists, root=root, experiences=kept, test=test_set, notes=tuple(notes), test_sessions=sessions
    )


def find_root(root: str | Path) -> Path:
    """The folder that holds s1 .. s11, ``root`` or its child ``core50_128x128``; DataError if neither."""
    root = Path(root).expanduser()
    wanted = "the folder that holds CORe50's s1 .. s11, with o1 .. o50 in each"
    if root.is_file():
        raise DataError(f"{root} is a file; unpack it and give {wanted}")
    if not root.is_dir():
        raise DataError(f"{root} does not exist; give {wanted}")
    try:
        for candidate in (root, root / "core50_128x128"):
            if any((candidate / f"s{s}" / f"o{o}").is_dir() for s, o in published_videos()):
                return candidate
        what = "holds no folders s1/o1 .. s11/o50" if any(root.iterdir()) else "is empty"
    except PermissionError:
        raise DataError(f"{root} may not be read; change its permissions") from None
    raise DataError(f"{root} {what}; give {wanted}")


def frames_on_disk(root: Path) -> set[str]:
    """Paths of the published frames that exist below ``root``."""
    found = set()
    for session, object_ in published_videos():
        folder = f"s{session}/o{object_}"
        try:
            with os.scandir(root / folder) as entries:
                names = {f"{folder}/{entry.name}" for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DataError(f"{root / folder} cannot be read ({error.strerror}); check permissions") from None
        found.update(names.intersection(video_frames(session, object_)))
    return found


def _present(experience: Experience, found: set[str]) -> Experience:
    rows = [row for row, path in enumerate(experience.paths) if path in found]
    if len(rows) == len(experience):
        return experience
    paths = tuple(experience.paths[row] for row in rows)
    return replace(experience, paths=paths, labels=experience.labels[rows])


def core50_list_lines(
    scenario: str, run: int, *, experience: int | None = None, test: str | None = None, labels: str = "object"
) -> Iterator[str]:
    """The published lists as :func:`list_lines`; ``test`` is None, ``full`` or ``reduced``.

    Neither ``experience`` nor ``test``: the training frames of all experiences; ``test`` alone: only the
    test frames.
    """
    stream = core50_lists(scenario, run, labels, test or "full")
    return list_lines(stream, experience=experience, test=test is not None)
