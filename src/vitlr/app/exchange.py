"""Import of labelled pictures and export of what was taught, as archives."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vitlr.classifier import LatentReplayClassifier

if TYPE_CHECKING:
    from vitlr.app.session import LiveSession

__all__ = ["FORMATS", "learn_archive", "pack"]

FORMATS = ("onnx", "huggingface", "model")
_KEPT = 2  # exports that stay on the disk


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


def learn_archive(session: LiveSession, archive: Path, report: Callable[[float], None]) -> str:
    """Learn the pictures of an archive, class by class; a sentence about them."""
    raise NotImplementedError
    shutil.rmtree(archive)
