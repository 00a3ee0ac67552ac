"""Rendered objects, checked by what a file system, an independent classifier and a second run say of them."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlr.errors import DataError
from vitlr.rendered import dataset as synthetic
from vitlr.rendered.categories import BUILDERS
from vitlr.rendered.dataset import (
    CATEGORIES,
    contact_sheet,
    ensure_rendered,
    frame_numbers,
    pretraining_views,
    render_dataset,
    render_frame,
    render_pretraining,
)
from vitlr.rendered.families import FAMILIES
from vitlr.rendered.scene import SESSION_SCENES, random_scene


def bytes_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def histogram(image: np.ndarray) -> np.ndarray:
    """Colours in 6 x 6 x 6 cells, of each quarter of the picture: enough to know a session by."""
    cells = (image // 43).astype(int) @ np.array([36, 6, 1])
    quarters = [part for half in np.split(cells, 2) for part in np.split(half, 2, axis=1)]
    return np.concatenate(
        [np.sqrt(np.bincount(part.ravel(), minlength=216) / part.size) for part in quarters]
    )


# -- layout -----------------------------------------------------------------------------------------


def test_categories_are_core50s_in_its_order() -> None:
    assert (
        *("plug_adapter", "mobile_phone", "scissor", "light_bulb", "can"),
        *("glass", "ball", "marker", "cup", "remote_control"),
    ) == CATEGORIES


def test_frame_numbers_spread_evenly_over_a_video() -> None:
    assert frame_numbers(300) == tuple(range(300))
    assert frame_numbers(6) == (25, 75, 125, 175, 225, 275)
    for frames in (1, 2, 7, 40, 299):
        numbers = np.array(frame_numbers(frames))
        assert len(set(numbers)) == frames and numbers.min() >= 0 and numbers.max() <= 299
        assert frames == 1 or np.ptp(np.diff(numbers)) <= 1


def test_files_are_named_and_sized_as_core50s(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    assert render_dataset(root, 2, sessions=[1, 11], objects=[1, 50], processes=1) == 8
    names = sorted(str(path.relative_to(root).as_posix()) for path in root.rglob("*.png"))
    assert names == sorted(
        f"s{s}/o{o}/C_{s:02d}_{o:02d}_{f:03d}.png" for s in (1, 11) for o in (1, 50) for f in (75, 225)
    )
    assert all(re.fullmatch(r"s\d+/o\d+/C_\d\d_\d\d_\d\d\d\.png", name) for name in names)
    for name in names:
        with Image.open(root / name) as image:
            assert (image.size, image.mode) == ((128, 128), "RGB")
    assert not [path for path in root.rglob("*") if path.is_file() and path.suffix != ".png"]


def test_files_hold_the_frames_that_render_frame_gives(tmp_path: Path) -> None:
    render_dataset(tmp_path / "frames", 1, sessions=[3], objects=[7], processes=1)
    with Image.open(tmp_path / "frames/s3/o7/C_03_07_150.png") as image:
        np.testing.assert_array_equal(np.asarray(image), render_frame(3, 7, 150))


# -- the same and not the same ----------------------------------------------------------------------


def test_bytes_depend_on_neither_processes_nor_order(tmp_path: Path) -> None:
    render_dataset(tmp_path / "one", 1, sessions=[2, 5], objects=[4, 33], processes=1)
    render_dataset(tmp_path / "two", 1, sessions=[5, 2], objects=iter([33, 4]), processes=2)
    assert len(bytes_below(tmp_path / "one")) == 4
    assert bytes_below(tmp_path / "one") == bytes_below(tmp_path / "two")


def test_denser_rendering_keeps_the_frames_of_a_sparser_one() -> None:
    assert set(frame_numbers(6)) < set(frame_numbers(300))
    again = {frame: render_frame(2, 8, frame) for frame in range(148, 153)}
    np.testing.assert_array_equal(again[150], render_frame(2, 8, 150))


@pytest.mark.parametrize("change", [{"session": 2}, {"object_": 2}, {"frame": 151}, {"seed": 1}])
def test_any_number_changes_the_frame(change: dict[str, int]) -> None:
    base = {"session": 1, "object_": 1, "frame": 150, "seed": 0}
    assert (render_frame(**base) != render_frame(**base | change)).mean() > 0.2


def test_neighbouring_frames_are_close_and_distant_ones_are_not() -> None:
    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.astype(float) - b).mean())

    for session, object_ in ((1, 3), (4, 22), (9, 38), (10, 50)):
        start = render_frame(session, object_, 100)
        near = difference(start, render_frame(session, object_, 101))
        far = np.mean([difference(start, render_frame(session, object_, f)) for f in (0, 200, 299)])
        assert near < 10
        assert near < 0.5 * far


def test_the_background_tells_sessions_apart() -> None:
    objects, sessions = (1, 12, 23, 34, 45), range(1, 12)
    means = np.stack(
        [np.mean([histogram(render_frame(s, o, 60)) for o in objects], axis=0) for s in sessions]
    )
    found = [
        int(((means - histogram(render_frame(s, o, 240))) ** 2).sum(axis=1).argmin()) + 1 == s
        for s in sessions
        for o in (6, 18, 30)
    ]
    assert np.mean(found) > 0.7  # by chance .09


def test_what_is_learned_in_one_session_serves_another_worse() -> None:
    objects = range(2, 51, 4)

    def features(session: int, frame: int) -> np.ndarray:
        return np.stack([histogram(render_frame(session, o, frame)) for o in objects])

    same, other = [], []
    for session, unlike in ((1, 4), (2, 7), (5, 10), (8, 11)):
        known = features(session, 100)
        for held_out, score in ((features(session, 112), same), (features(unlike, 112), other)):
            nearest = ((held_out[:, None] - known) ** 2).sum(axis=-1).argmin(axis=1)
            score.append((nearest == np.arange(len(known))).mean())
    assert np.mean(same) > np.mean(other) + 0.3


@pytest.mark.parametrize("name", CATEGORIES)
def test_objects_of_a_category_differ_in_shape_and_colour(name: str) -> None:
    meshes = [BUILDERS[name](np.random.default_rng([0, 303, i]), i).normalised() for i in range(5)]
    assert len({mesh.vertices.tobytes() for mesh in meshes}) == (1 if name == "ball" else 5)
    assert len({b"".join(m.texels.tobytes() for m in mesh.materials) for mesh in meshes}) == 5
    colours = np.stack([synthetic.colour_histogram(mesh) for mesh in meshes])
    assert np.abs(colours[:, None] - colours).sum(axis=-1)[~np.eye(5, dtype=bool)].min() > 0.1
    # Not told by one flat colour: most show several.
    assert sum((row > 0.01).sum() >= 2 for row in colours) >= 3


@pytest.mark.parametrize("category", range(10))
def test_an_object_covers_a_fair_part_of_its_frames(category: int) -> None:
    from vitlr.rendered.draw import CANVAS

    shares = []
    for object_ in range(5 * category + 1, 5 * category + 6):
        video = np.random.default_rng([0, 404, 1, object_])
        grip, scene = int(video.integers(synthetic.GRIPS)), synthetic._scene(1, 0)
        view = synthetic._view(video, 7.5, scene)
        hand = synthetic._hand(1, grip, 0)
        _, coverage = synthetic._draw(synthetic._object(object_, 0), hand, view, scene, video)
        shares.append(coverage.mean() / 255)
        assert 0.15 < view.size * 2 / CANVAS < 1.1
    assert min(shares) > 0.01 and 0.03 < np.mean(shares) < 0.6


# -- pretraining ------------------------------------------------------------------------------------


def test_pretraining_shows_other_shapes_before_other_scenes() -> None:
    assert not set(FAMILIES) & set(CATEGORIES)
    assert len(FAMILIES) >= 20
    sessions = [render_frame(s, 1, 0) for s in range(1, 12)]
    for index in range(6):
        scene = random_scene(index, 1000)
        assert all(
            (np.asarray(scene.background) != np.asarray(synthetic._scene(s, 0).background)).any()
            for s in range(1, 12)
        )
    assert len({scene[:2] for scene in SESSION_SCENES}) == 11
    picture, coverage = render_pretraining(0, 0)
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
    assert coverage.shape == (8, 8) and coverage.max() > 0
    assert all((picture != frame).any() for frame in sessions)


def test_every_family_builds_a_sound_mesh() -> None:
    for name, build in FAMILIES.items():
        mesh = build(np.random.default_rng(3)).normalised()
        assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.normals).all(), name
        assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1, abs=1e-4), name
        assert mesh.faces.max() < len(mesh.vertices) and mesh.material.max() < len(mesh.materials), name
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1).clip(0.5), 1, atol=1e-3, err_msg=name)


def test_solids_face_outwards() -> None:
    # A closed skin whose faces turn outwards encloses a positive volume (divergence theorem).
    from vitlr.rendered.mesh import ellipsoid, extrude, outline, revolve, torus, tube
    from vitlr.rendered.textures import plain

    paint = plain((0.5, 0.5, 0.5))
    y = np.linspace(-1, 1, 9)
    solids = {
        "ellipsoid": (ellipsoid((1, 1, 1), paint, segments=40), 4 / 3 * np.pi),
        "revolve": (revolve([(0, -1), (0.5, -1), (0.5, 1), (0, 1)], paint, segments=40), np.pi / 2),
        "extrude": (extrude(outline(0.5, 1, 0.06), 0.3, paint, paint, bevel=0.01), 1.2),
        "tube": (tube(np.stack([0 * y, y, 0 * y], -1), 0.3, paint, segments=40), np.pi * 0.09 * 2),
        "torus": (torus(1, 0.2, paint, points=40), 2 * np.pi**2 * 0.04),
    }
    for name, (mesh, expected) in solids.items():
        corner = mesh.vertices[mesh.faces].astype(float)
        volume = (
            sum(
                np.einsum("fi,fi->f", corner[:, 0], np.cross(corner[:, i], corner[:, i + 1])).sum()
                for i in (1, 2)
            )
            / 6
        )
        assert volume == pytest.approx(expected, rel=0.12), name


def test_pretraining_views_are_those_of_render_pretraining_by_object() -> None:
    seen: list[tuple[int, int]] = []
    views = pretraining_views(
        2, 2, seed=5, processes=1, progress=lambda done, total: seen.append((done, total))
    )
    assert views.labels.tolist() == [0, 0, 1, 1] and seen == [(2, 4), (4, 4)]
    for row, (object_, view) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        image, coverage = render_pretraining(object_, view, 5)
        np.testing.assert_array_equal(views.images[row], image)
        np.testing.assert_array_equal(views.coverage[row], coverage)
    np.testing.assert_allclose(views.colours.sum(axis=1), 1)
    np.testing.assert_allclose(views.shapes.sum(axis=1), 1)


def test_contact_sheet_shows_each_object_in_each_session(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def frame(session: int, object_: int, frame: int, seed: int = 0) -> np.ndarray:
        asked.append((session, object_))
        return np.zeros((128, 128, 3), dtype=np.uint8)

    monkeypatch.setattr(synthetic, "render_frame", frame)
    sheet = contact_sheet(thumb=16)
    assert sheet.width >= 2 * 11 * 16 and sheet.height >= 25 * 16
    assert sorted(asked) == [(s, o) for s in range(1, 12) for o in range(1, 51)]


# -- what can go wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda root: render_dataset(root, 0), "frames must be 1 to 300 a video, got 0"),
        (lambda root: render_dataset(root, 301), "frames must be 1 to 300 a video, got 301"),
        (lambda root: render_dataset(root, 1, sessions=[12]), "sessions are 1 to 11"),
        (lambda root: render_dataset(root, 1, objects=[0]), "objects 1 to 50"),
        (lambda root: render_dataset(root, 1, sessions=[]), "no video"),
        (lambda root: render_dataset(root, 1, processes=0), "processes must be >= 1, got 0"),
        (lambda root: render_dataset(root, 1, seed=-1), "seed must be >= 0, got -1"),
        (lambda root: render_frame(0, 1, 0), "session must be 1 to 11, got 0"),
        (lambda root: render_frame(1, 51, 0), "object must be 1 to 50, got 51"),
        (lambda root: render_frame(1, 1, 300), "frame must be 0 to 299, got 300"),
        (lambda root: render_frame(1, 1, 0, -1), "seed must be >= 0, got -1"),
        (lambda root: pretraining_views(0, 1), "objects must be >= 1, got 0"),
        (lambda root: pretraining_views(1, 1, cells=7), "cells must divide 192"),
    ],
)
def test_bad_numbers_are_named_and_nothing_is_written(tmp_path: Path, call, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        call(tmp_path / "frames")
    assert not list(tmp_path.iterdir())


def test_a_tree_that_holds_anything_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "mine.txt").write_text("kept")
    with pytest.raises(DataError, match="exists and is not empty"):
        render_dataset(tmp_path / "frames", 1, sessions=[1], objects=[1], processes=1)
    assert bytes_below(tmp_path) == {str(Path("frames/mine.txt")): b"kept"}


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    assert render_dataset(tmp_path / "frames", 1, sessions=[1], objects=[1], processes=1) == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_half_written_tree_is_never_seen(tmp_path: Path, failure: type[BaseException]) -> None:
    root = tmp_path / "frames"

    def stop_after_the_first(done: int, total: int) -> None:
        assert not root.exists()
        raise failure

    with pytest.raises(failure):
        render_dataset(root, 1, sessions=[1], objects=[1, 2], processes=1, progress=stop_after_the_first)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        render_dataset(tmp_path / "file" / "frames", 1, sessions=[1], objects=[1], processes=1)


def test_of_several_that_need_a_tree_one_renders_it_and_the_others_show_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, rendered = tmp_path / "frames", []
    begin, real = threading.Barrier(3), synthetic.render_dataset

    def slowly(root: Path, frames: int, *, seed: int, progress) -> int:
        rendered.append(root)
        threading.Event().wait(0.2)
        return real(root, frames, seed=seed, sessions=[1], objects=[1, 2], processes=1, progress=progress)

    monkeypatch.setattr(synthetic, "render_dataset", slowly)
    shown: list[tuple[int, int]] = []

    def need() -> None:
        begin.wait()
        ensure_rendered(root, 2, progress=lambda *counts: shown.append(counts))

    threads = [threading.Thread(target=need) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(rendered) == 1 and len(bytes_below(root)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
    assert {total for _, total in shown} == {
        4,
        1100,
    }  # who renders, and who waits for 50 objects by 11 sessions
    ensure_rendered(root, 2)
    assert len(rendered) == 1


def test_a_tree_that_another_process_finished_first_is_not_replaced(tmp_path: Path) -> None:
    root = tmp_path / "frames"

    def another(done: int, total: int) -> None:
        root.mkdir()
        (root / "theirs").write_text("")

    with pytest.raises(DataError, match="cannot be written: Directory not empty"):
        render_dataset(root, 1, sessions=[1], objects=[1], processes=1, progress=another)
    assert [path.name for path in tmp_path.rglob("*")] == ["frames", "theirs"]


def test_progress_counts_frames_up_to_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    render_dataset(
        tmp_path / "frames",
        2,
        sessions=[1],
        objects=[1, 2],
        processes=1,
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(2, 4), (4, 4)]
