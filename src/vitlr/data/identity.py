"""What distinguishes a stream from another one, wherever its files are stored."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.data.clips import split_frame
from vitlr.data.experience import Item, Stream
from vitlr.data.images import resolve
from vitlr.errors import VitLRError

__all__ = ["stream_identity"]


def stream_identity(stream: Stream) -> dict[str, Any]:
    """Counts, and digests of names, labels and file sizes, as data that JSON can hold. No image is opened.

    The sizes are needed because two data sets in the same layout have the same names.
    """
    lists, sizes = hashlib.sha256(), hashlib.sha256()
    for part in (*stream.experiences, stream.test):
        lists.update(f"{part.index} {part.name}\n".encode())
        lists.update("\n".join(part.paths).encode("utf-8", "surrogatepass"))
        lists.update(part.labels.tobytes())
        sizes.update(np.array([_size(stream.root, path) for path in part.paths], "<i8").tobytes())
    return {
        "experiences": len(stream),
        "images": stream.num_train_images,
        "test images": len(stream.test),
        "lists": lists.hexdigest()[:16],
        "sizes of the images": sizes.hexdigest()[:16],
    }


def _size(root: Path | None, path: str) -> int:
    """Of an image's file, of a frame or row that of the file it is in; -1 for what is in no file."""
    try:
        if isinstance(path, Item):
            return -1 if path.file is None else path.file.stat().st_size
        frame = split_frame(path, root)
        return resolve(root, path if frame is None else frame[0]).stat().st_size
    except (OSError, VitLRError):
        return -1
