"""Names that people give to classes, as text that can be compared, printed and written into records."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vitlr.errors import DataError
from vitlr.text import harmless

__all__ = ["checked_name", "counted", "expanded", "same_but_for_case", "shown"]

# Unicode's categories that no line of text can hold. Joiners, emoji, private letters and every space within a
# line are ordinary.
_REFUSED = {
    "Cc": "a control character",
    "Zl": "a line break",
    "Zp": "a line break",
    "Cs": "bytes that are no UTF-8",
}
# Unicode's Bidi_Control: marks that turn the direction of writing, also of what follows the name.
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def checked_name(text: str, what: str = "a label", *, of_a_stranger: bool = False) -> str:
    """The name in Unicode's composed form (NFC), in which equal names are equal text.

    Args:
        what: what the name is of, for the error: ``a label``, ``class folder /data/x``.
        of_a_stranger: refuse marks that turn the direction of writing too, which can disguise a name.

    Raises:
        DataError: the name is empty or only spaces, or holds a control character, a line break or a lone surrogate.
    """
    if not text.strip():
        raise DataError(f"{what} needs at least one visible character, got {text!a}")
    for letter in text:
        reason = _REFUSED.get(unicodedata.category(letter))
        if of_a_stranger and letter in _TURNING:
            reason = "a mark that turns the direction of writing"
        if reason is not None:
            reason = "a line break" if letter in "\n\r\v\f\x1c\x1d\x1e\x85" else reason
            raise DataError(f"{what} has the name {text!a}, which holds {reason}; rename it")
    return unicodedata.normalize("NFC", text)


def same_but_for_case(name: str, known: Iterable[Any]) -> str | None:
    """The first of the known names that differs from this one in upper and lower case only."""
    folded = unicodedata.normalize("NFC", name).casefold()
    for other in map(str, known):
        if other != name and unicodedata.normalize("NFC", other).casefold() == folded:
            return other
    return None


def shown(path: str | os.PathLike[str]) -> str:
    """A path as one line that every UTF-8 output can print: other bytes become ``\\xe9``, a line break ``\\n``."""
    return harmless(os.fsencode(path).decode("utf-8", "backslashreplace"))


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``1,200 images``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` replaced by the home directory, unless a file of that very name exists."""
    path = Path(path)
    if not str(path).startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: a name that begins so
        return path
