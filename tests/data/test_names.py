"""Names of classes: every language's letters are ordinary; what no line of text can hold is refused by its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitlr.data.names import checked_name, expanded, same_but_for_case, shown
from vitlr.errors import DataError

ORDINARY = (
    *("red", "rote Tasse", r"\frac", "a: cups", "C:", "...", "a/b"),
    *("می‌خواهم", "क्‍ष", "👩‍🚀", "no\u00a0break", "‮rtl", "\ue000"),
)


@pytest.mark.parametrize("name", ORDINARY)
def test_letters_of_every_language_are_ordinary(name: str) -> None:
    assert checked_name(name) == name


def test_equal_names_become_equal_text() -> None:
    assert checked_name("caf\u0065\u0301") == checked_name("caf\u00e9") == "caf\u00e9"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "needs at least one visible character"),
        (" \u00a0\t", "needs at least one visible character"),
        ("a\nb", "holds a line break"),
        ("a\u2028b", "holds a line break"),
        ("a\u0085b", "holds a line break"),
        ("a\tb", "holds a control character"),
        ("a\0b", "holds a control character"),
        ("caf\udce9", "holds bytes that are no UTF-8"),
    ],
)
def test_what_no_line_can_hold_is_refused_by_the_true_reason(name: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as refusal:
        checked_name(name, "the label")
    str(refusal.value).encode()  # it can be printed anywhere
    assert "the label" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("mark", ["\u202e", "\u200f", "\u2066"])
def test_a_mark_that_turns_the_writing_is_refused_in_the_name_of_a_stranger(mark: str) -> None:
    with pytest.raises(DataError, match="turns the direction of writing") as refusal:
        checked_name(f"mug{mark}gpj", of_a_stranger=True)
    assert mark not in str(refusal.value)


def test_a_name_that_differs_in_case_only_is_found() -> None:
    assert same_but_for_case("Red", ["blue", "red"]) == "red"
    assert same_but_for_case("red", ["red"]) is None and same_but_for_case("red", [1, "blue"]) is None


def test_paths_that_are_no_utf_8_can_be_shown() -> None:
    assert shown("a/caf\udce9.png") == r"a/caf\xe9.png" and shown(Path("ü")) == "ü"


def test_the_home_directory_is_expanded_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert expanded("~/robot") == tmp_path / "robot" and expanded("a~") == Path("a~")
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    (tmp_path / "~").mkdir()
    assert expanded("~") == Path("~")
