"""A stream as text, one line a frame: what ``vitlr data list`` prints."""

from __future__ import annotations

from collections.abc import Iterator

from vitlr.data.experience import TEST, Experience, Stream
from vitlr.data.names import shown
from vitlr.errors import DataError

__all__ = ["list_lines"]


def list_lines(stream: Stream, *, experience: int | None = None, test: bool = False) -> Iterator[str]:
    """One line a frame: ``I<TAB>path<TAB>label``, with ``test`` in place of I for the test set.

    Neither argument: all experiences. ``experience``: that one. ``test``: the test set, alone or after the
    experience asked for.
    """
    chosen: list[Experience] = []
    if experience is not None:
        chosen = [part for part in stream.experiences if part.index == experience]
        if not chosen:
            last = stream.experiences[-1].index
            if 0 <= experience < last:
                raise DataError(f"experience {experience} of {stream.name} has no images; choose another")
            raise DataError(f"experience must be 0 to {last} in {stream.name}, got {experience}")
    elif not test:
        chosen = list(stream.experiences)
    return _lines([*chosen, stream.test] if test else chosen)


def _lines(parts: list[Experience]) -> Iterator[str]:
    for part in parts:
        tag = "test" if part.index == TEST else str(part.index)
        for path, label in zip(part.paths, part.labels.tolist(), strict=True):
            yield f"{tag}\t{shown(path)}\t{label}"
