"""Text of other people as it may be shown: on a terminal, in a message, on a page, in a figure."""

from __future__ import annotations

import unicodedata

__all__ = ["harmless"]

# Unicode's categories of control characters, line and paragraph separators and lone surrogates.
_CONTROLS = ("Cc", "Zl", "Zp", "Cs")
# They change the direction of what follows them, so that a name reads as another one.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def harmless(text: str) -> str:
    """The text as one line that a terminal only shows: ``\\x1b`` in place of the start of an escape sequence.

    Control characters, line breaks, lone surrogates and marks that turn the direction are written out; letters of every
    language, joiners, emoji and spaces stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if letter in _DIRECTIONS or unicodedata.category(letter) in _CONTROLS
        else letter
        for letter in text
    )
