"""Verification finds what was done to a tree, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlr.data.core50 import frame_path
from vitlr.data.verify import VerifyReport, verify
from vitlr.errors import DataError

module = sys.modules["vitlr.data.verify"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole tree of a data set that publishes four frames of each of three videos."""
    published = {(1, 1): (0, 1, 2, 3), (1, 2): (4, 5, 6, 7), (11, 50): (0, 1, 2, 3)}
    frames = {video: tuple(frame_path(*video, f) for f in numbers) for video, numbers in published.items()}
    monkeypatch.setattr(module, "video_frames", lambda s, o: frames.get((s, o), ()))
    monkeypatch.setattr(module, "published_frames", lambda: (p for paths in frames.values() for p in paths))
    rng = np.random.default_rng(0)
    for path in (p for paths in frames.values() for p in paths):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(tmp_path / path)
    return tmp_path


def test_a_whole_tree_is_ok(tree: Path) -> None:
    report = verify(tree)
    assert report.ok and report.found == report.published == 12
    assert report.videos["s1/o2"] == (4, 4) and report.sessions[1] == (8, 8) and report.sessions[11] == (4, 4)
    assert not (report.missing or report.unexpected or report.damaged or report.wrong_size)
    assert list(report.lines())[-1] == "complete and undamaged"


def test_deleted_truncated_flipped_resized_and_stray_files_are_found(tree: Path) -> None:
    (tree / "s1/o1/C_01_01_002.png").unlink()
    for name, change in (
        ("s1/o2/C_01_02_004.png", lambda b: b[: len(b) // 2]),
        ("s1/o2/C_01_02_005.png", lambda b: b[:-8]),
        ("s1/o2/C_01_02_006.png", lambda b: b""),
        ("s11/o50/C_11_50_000.png", lambda b: b[:30_000] + bytes([b[30_000] ^ 1]) + b[30_001:]),
    ):
        (tree / name).write_bytes(change((tree / name).read_bytes()))
    Image.new("RGB", (64, 32)).save(tree / "s11/o50/C_11_50_003.png")
    (tree / "s1/o1/Thumbs.db").touch()
    (tree / "README").touch()
    report = verify(tree)
    assert not report.ok
    assert report.missing == ("s1/o1/C_01_01_002.png",)
    *damaged, flipped = report.damaged
    assert damaged == [
        ("s1/o2/C_01_02_004.png", "is truncated"),
        ("s1/o2/C_01_02_005.png", "is truncated"),
        ("s1/o2/C_01_02_006.png", "is empty (0 bytes)"),
    ]
    assert flipped[0] == "s11/o50/C_11_50_000.png" and flipped[1].startswith("is damaged")
    assert report.wrong_size == (("s11/o50/C_11_50_003.png", "64x32"),)
    assert report.unexpected == ("README", "s1/o1/Thumbs.db")
    assert report.videos["s1/o1"] == (3, 4) and report.found == 11
    text = "\n".join(report.lines())
    for part in ("11 of 12 frames", "missing: 1", "damaged: 4", "not 128x128: 1", "unexpected: 2"):
        assert part in text
    assert json.loads(json.dumps(report.as_dict()))["wrong_size"][0]["size"] == "64x32"


def test_stray_files_alone_do_no_harm_but_are_said(tree: Path) -> None:
    (tree / "s1/o1/notes.txt").touch()
    report = verify(tree)
    assert report.ok and report.unexpected == ("s1/o1/notes.txt",)


def test_a_tree_with_fewer_frames_is_not_ok(tmp_path: Path) -> None:
    (tmp_path / "s1/o1").mkdir(parents=True)
    Image.new("RGB", (128, 128)).save(tmp_path / "s1/o1/C_01_01_000.png")
    report = verify(tmp_path)
    assert not report.ok and report.found == 1 and len(report.missing) == 164_865
    assert len(list(report.lines())) == 1 + 11 + 1 + 5 + 1 + 1  # the first few of 164,865, then a count


def test_progress_ends_at_the_number_of_frames_there(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 5)
    calls: list[tuple[int, int]] = []
    verify(tree, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(5, 12), (10, 12), (12, 12)]


def test_the_report_is_the_same_with_any_number_of_threads(tree: Path) -> None:
    (tree / "s1/o2/C_01_02_004.png").write_bytes(b"")
    assert verify(tree, workers=1) == verify(tree, workers=4)


def test_what_is_no_core50_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty; give the folder that holds CORe50"):
        verify(tmp_path)


def test_ok_depends_on_missing_damaged_and_wrong_size_only() -> None:
    fields = {"missing": (), "unexpected": (), "damaged": (), "wrong_size": ()}
    for field, value, ok in (
        ("unexpected", ("a",), True),
        ("missing", ("a",), False),
        ("damaged", (("a", "is truncated"),), False),
        ("wrong_size", (("a", "1x1"),), False),
    ):
        assert VerifyReport(root=Path(), videos={}, **{**fields, field: value}).ok is ok
