"""A zip is unpacked whole or not at all, and nothing outside its folder is touched."""

from __future__ import annotations

import os
import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitlr.data.unpack import Limits, unpack
from vitlr.errors import DataError, RunError
from vitlr.storage import files

module = sys.modules["vitlr.data.unpack"]
NOISE = bytes(range(256)) * 40


def packed(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return file.getvalue()


GOOD = {"top/": b"", "top/s1/o1/a.png": NOISE, "top/s1/o2/b.png": b"b", "top/s2/empty.png": b""}


def place(tmp_path: Path, content: bytes) -> tuple[Path, Path]:
    """An archive, and a folder in a folder of its own to unpack it to."""
    archive, into = tmp_path / "archive.zip", tmp_path / "around" / "into"
    archive.write_bytes(content)
    into.mkdir(parents=True)
    return archive, into


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_archive_gives_its_files_byte_by_byte(tmp_path: Path, compression: int) -> None:
    archive, into = place(tmp_path, packed(GOOD, compression))
    calls: list[tuple[int, int]] = []
    assert unpack(archive, into, "top", progress=lambda *call: calls.append(call)) == (3, 0)
    assert tree(into) == {name: content for name, content in GOOD.items() if not name.endswith("/")}
    assert [path.name for path in into.iterdir()] == ["top"] and calls == [(1, 3), (2, 3), (3, 3)]


def test_files_outside_the_folder_are_left_out_and_counted(tmp_path: Path) -> None:
    archive, into = place(tmp_path, packed({**GOOD, "README": b"r", "__MACOSX/top/a": b"m"}))
    assert unpack(archive, into, "top") == (3, 2)
    assert set(tree(into)) == {name for name in GOOD if not name.endswith("/")}


def test_a_whole_archive_is_unpacked_without_what_macs_add(tmp_path: Path) -> None:
    archive, into = place(tmp_path, packed({**GOOD, "README": b"r", "__MACOSX/top/a": b"m"}))
    assert unpack(archive, into / "all", None) == (4, 1)
    assert tree(into / "all").keys() == {*(name for name in GOOD if not name.endswith("/")), "README"}
    with pytest.raises(DataError, match="exists already"):
        unpack(archive, into, None)


def link(name: str, to: str) -> bytes:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("top/a.png", b"a")
        opened.writestr(info, to)
    return file.getvalue()


def device(name: str) -> bytes:
    return link(name, "").replace(
        struct.pack("<I", (stat.S_IFLNK | 0o777) << 16), struct.pack("<I", (stat.S_IFIFO | 0o666) << 16)
    )


def twice(first: str, second: str) -> bytes:
    """Two entries, renamed in the finished archive where zipfile would warn of a second one of one name."""
    return packed({first: b"first", "X" * len(second): b"second"}).replace(
        b"X" * len(second), second.encode()
    )


def renamed(name: str) -> bytes:
    """An entry with a name that zipfile would mend while writing."""
    return packed({"top/a.png": b"a", "X" * len(name.encode()): b"b"}).replace(
        b"X" * len(name.encode()), name.encode()
    )


def encrypted() -> bytes:
    content = bytearray(packed({"top/a.png": b"a"}))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + at] |= 1
    return bytes(content)


def overlapping() -> bytes:
    """Every entry of the directory leads to the same packed bytes."""
    content = bytearray(packed({f"top/{n:03}.png": os.urandom(3000) for n in range(4)}, zipfile.ZIP_STORED))
    whole = packed({"top/000.png": os.urandom(3000)}, zipfile.ZIP_STORED)
    start = whole.index(b"PK\x01\x02")
    entry = whole[start : whole.index(b"PK\x05\x06")]
    many = b"".join(entry.replace(b"000.png", f"{n:03}.png".encode()) for n in range(50))
    del content
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, len(many), start, 0)
    return whole[:start] + many + end


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent": (lambda: packed({**GOOD, "top/../../escaped": b"x"}), "leaves its folder"),
    "parent outside the folder": (lambda: packed({**GOOD, "../escaped": b"x"}), "leaves its folder"),
    "parent as a folder": (lambda: packed({**GOOD, "top/../../escaped/": b""}), "leaves its folder"),
    "absolute": (lambda: renamed("/tmp/escaped-absolute"), "leaves its folder"),
    "two slashes": (lambda: renamed("top//escaped"), "leaves its folder"),
    "here": (lambda: renamed("top/./escaped"), "leaves its folder"),
    "no name": (lambda: renamed("\0escaped"), "leaves its folder"),
    "drive": (lambda: renamed("C:escaped"), "not safe"),
    "stream": (lambda: renamed("top/a.png:escaped"), "not safe"),
    "backslashes": (lambda: renamed("top\\..\\..\\escaped"), "not safe"),
    "zero byte": (lambda: renamed("top/b.png\0../../escaped"), "not safe"),
    "control": (lambda: renamed("top/\x1b[2Jescaped"), "not safe"),
    "right to left": (lambda: packed({**GOOD, "top/\u202egnp.exe": b"x"}), "not safe"),
    "dot at the end": (lambda: packed({**GOOD, "top/escaped.": b"x"}), "not safe"),
    "long": (lambda: packed({**GOOD, "top/" + "e" * 300: b"x"}), "too long"),
    "deep": (lambda: packed({**GOOD, "top/" + "e/" * 600 + "e": b"x"}), "too long"),
    "link out": (lambda: link("top/escaped", "/etc"), "link"),
    "link and below it": (lambda: link("top/s1", "../.."), "link"),
    "pipe": (lambda: device("top/pipe"), "link or a device"),
    "same name": (lambda: twice("top/a.png", "top/a.png"), "one place"),
    "other case": (lambda: packed({"top/a.png": b"1", "top/A.png": b"2"}), "one place"),
    "composed": (lambda: packed({"top/\u00e9": b"1", "top/e\u0301": b"2"}), "one place"),
    "file and folder": (lambda: packed({"top/a": b"1", "top/a/b": b"2"}), "one place"),
    "folder and file": (lambda: packed({"top/a/": b"", "top/a": b"2"}), "one place"),
    "bomb": (lambda: packed({"top/a.png": bytes(2**24)}), "would unpack from"),
    "large": (lambda: packed({"top/a.png": bytes(2**24 + 1)}), "more than it may have"),
    "many small bombs": (lambda: packed({f"top/{n}": bytes(2**16) for n in range(50)}), "would unpack from"),
    "overlapping": (overlapping, "would unpack|overlap"),
    "encrypted": (encrypted, "encrypted"),
    "bzip2": (lambda: packed({"top/a.png": NOISE}, zipfile.ZIP_BZIP2), "unusual way"),
    "other folder": (lambda: packed({"bottom/a.png": b"a"}), "no file in a folder top"),
    "empty": (lambda: packed({}), "no file in a folder top"),
    "no zip": (lambda: NOISE, "not a zip archive or is damaged"),
    "nothing": (lambda: b"", "not a zip archive or is damaged"),
    "truncated": (lambda: packed(GOOD)[:-30], "not a zip archive or is damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing(tmp_path: Path, kind: str) -> None:
    make, named = HOSTILE[kind]
    archive, into = place(tmp_path, make())
    with pytest.raises(DataError, match=named) as refusal:
        unpack(archive, into, "top")
    assert "\x1b" not in str(refusal.value) and "\n" not in str(refusal.value)
    assert tree(tmp_path) == {"archive.zip": archive.read_bytes()} and not list(into.iterdir())
    assert not Path("/tmp/escaped-absolute").exists()


def test_counts_and_sizes_have_bounds(tmp_path: Path) -> None:
    archive, into = place(tmp_path, packed(GOOD))
    for limits, named in (
        (Limits(entries=3), "4 entries, more than 3"),
        (Limits(entry=1000), "10,240 bytes, more"),
        (Limits(total=1000), "would unpack"),
        (Limits(directory=100), "list of .* of entries"),
    ):
        with pytest.raises(DataError, match=named):
            unpack(archive, into, "top", limits=limits)
        assert not list(into.iterdir())


def test_a_file_that_is_longer_than_announced_is_never_written_beyond_it(tmp_path: Path) -> None:
    content = packed({"top/a.png": bytes(60_000)})
    lying = content.replace(struct.pack("<I", 60_000), struct.pack("<I", 10))
    archive, into = place(tmp_path, lying)
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, into, "top")
    assert not list(into.iterdir())


@pytest.mark.parametrize("at", ["data", "local name", "local header"])
def test_damage_behind_a_sound_directory_is_found_and_nothing_is_left(tmp_path: Path, at: str) -> None:
    content = bytearray(packed({"top/a.png": NOISE, "top/b.png": os.urandom(5000)}, zipfile.ZIP_STORED))
    where = {"data": 4000, "local name": 32, "local header": 1}[at]
    content[where] ^= 1
    archive, into = place(tmp_path, bytes(content))
    with pytest.raises(DataError, match="not a zip archive or is damaged"):
        unpack(archive, into, "top")
    assert not list(into.iterdir())


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    archive, into = place(tmp_path, packed(GOOD))
    (into / "top").mkdir()
    with pytest.raises(DataError, match="exists already"):
        unpack(archive, into, "top")
    (into / "top").rmdir()
    (into / "top").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="exists already"):
        unpack(archive, into, "top")


def test_too_little_space_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, into = place(tmp_path, packed(GOOD))
    usage = type("Usage", (), {"free": 20_000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="20,000 bytes free and 22,529 bytes are needed to unpack archive"):
        unpack(archive, into, "top")
    assert not list(into.iterdir())


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    archive, into = place(tmp_path, packed(GOOD))

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    if call == "write":
        monkeypatch.setattr(module, "_write", refuse)
    else:
        monkeypatch.setattr(files.os, call, refuse)
    with pytest.raises(RunError, match="No space left on device"):
        unpack(archive, into, "top")
    assert not list(into.iterdir())


def test_ctrl_c_leaves_nothing_and_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    archive, into = place(tmp_path, packed(GOOD))

    def interrupt(done: int, total: int) -> None:
        assert any(path.name.endswith(".tmp") for path in into.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, into, "top", progress=interrupt)
    assert not list(into.iterdir())
    (into / ".top.0123abcd.tmp" / "top").mkdir(parents=True)
    unpack(archive, into, "top")
    assert [path.name for path in into.iterdir()] == ["top"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_archives_with_changed_bytes_are_unpacked_as_they_were_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(packed(GOOD))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    archive, into = place(tmp_path_factory.mktemp("fuzz"), bytes(content))
    try:
        unpack(archive, into, "top")
    except DataError:
        assert not list(into.iterdir())
    else:  # names may have changed, contents may not: each has a checksum
        assert set(tree(into).values()) <= set(GOOD.values())
    assert {path.name for path in into.parent.iterdir()} == {"into"}
