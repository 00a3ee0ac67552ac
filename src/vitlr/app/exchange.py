"""Import of labelled pictures and export of what was taught, as archives."""

from __future__ import annotations

import os
import secrets
import tempfile
import zipfile
from pathlib import Path

from vitlr.classifier import LatentReplayClassifier
from vitlr.data.class_folders import read_class_folders
from vitlr.data.unpack import Limits, unpack
from vitlr.errors import DataError

__all__ = ["FORMATS", "pack", "pictures_of"]

FORMATS = ("onnx", "huggingface", "model")
_KEPT = 2  # exports that stay on the disk
_UNPACKED = Limits(entries=20_000, directory=2**23, entry=2**24, total=6 * 10**8)


def pack(model: LatentReplayClassifier, folder: Path, form: str) -> str:
    """Write the classifier as an archive into the folder; the name of the file. Errors as of its ``export``."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        inside = Path(name, "vitlr-model")
        if form == "model":
            model.save(inside)
        elif form == "onnx":
            inside.mkdir()
            model.export(inside / "model.onnx", "onnx")
        else:
            model.export(inside, "hf")
        packed = folder / f"export-{secrets.token_hex(8)}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
            for path in sorted(inside.rglob("*")):
                if path.is_file() and path.name != ".lock":
                    archive.write(path, path.relative_to(inside.parent))
    old = sorted(folder.glob("export-*.zip"), key=os.path.getmtime)[:-_KEPT]
    for path in old:
        path.unlink(missing_ok=True)
    return packed.name


def pictures_of(archive: Path, into: Path, most: int) -> tuple[dict[str, list[Path]], list[str]]:
    """Files of each class of an archive, at most ``most`` of each, unpacked to ``into``; and what to tell about them.

    Raises:
        DataError: not a zip, out of bounds, or without class folders.
    """
    try:
        unpack(archive, into, None, limits=_UNPACKED)
        found = read_class_folders(into)
    except DataError as error:
        sentence = str(error).replace(str(archive), "the archive").replace(str(into), "the archive")
        raise DataError(sentence) from None
    classes = dict(found.train.images)
    for name, paths in found.test.images.items() if found.test else ():
        classes[name] = [*classes.get(name, []), *paths]
    notes = [note.replace(str(into), "the archive") for note in (*found.facts[:1], *found.notes)]
    many = [name for name, paths in classes.items() if len(paths) > most]
    if many:
        notes.append(f"of {', '.join(many[:5])} the first {most} pictures are taken")
    return {name: [into / path for path in paths[:most]] for name, paths in classes.items()}, notes
