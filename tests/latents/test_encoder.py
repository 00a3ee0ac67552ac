"""From sources of every kind to latents: one picture each in a stream, all frames of a video elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitlr.data.clips import frame_paths
from vitlr.data.experience import Item
from vitlr.errors import DataError
from vitlr.latents.cache import cache_entries
from vitlr.latents.encoder import Encoder
from vitlr.latents.identity import image_ids
from vitlr.latents.network import Network
from vitlr.latents.settings import BackboneConfig
from vitlr.latents.views import ViewPlan

CASES = Path(__file__).parents[1] / "data" / "cases"


@pytest.fixture
def network(directories: dict[str, Path], tmp_path: Path) -> Network:
    config = BackboneConfig(
        name=str(directories["vit"]), cache=str(tmp_path / "latents"), precision="float32"
    )
    return Network.open(config, cached=True)


def clip_folder(tmp_path: Path) -> tuple[Path, list[str]]:
    """A class folder with a clip and a photo, and the names of its pictures."""
    root = tmp_path / "photos"
    (root / "cat").mkdir(parents=True)
    shutil.copy(CASES / "videos" / "plain.mp4", root / "cat" / "clip.mp4")
    Image.new("RGB", (20, 30), (200, 10, 10)).save(root / "cat" / "z.png")
    return root, [*frame_paths(root, "cat/clip.mp4", None, 4), "cat/z.png"]


def animation(path: Path) -> Path:
    pictures = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in (10, 120, 250)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=50)
    return path


def test_frames_of_a_clip_are_read_from_the_cache_the_second_time(network: Network, tmp_path: Path) -> None:
    pytest.importorskip("av")
    root, names = clip_folder(tmp_path)
    first, second = Encoder(network, root=root), Encoder(network, root=root)
    made, again = first(names), second(names)
    assert (first.encoded, first.read) == (len(names), 0)
    assert (second.encoded, second.read) == (0, len(names))
    assert torch.equal(made.latents.tokens_NTD, again.latents.tokens_NTD)
    alone = Encoder(
        Network.open(BackboneConfig(name=str(network.backbone.name), precision="float32")), root=root
    )
    apart = torch.cat([alone([name]).latents.tokens_NTD for name in names])
    torch.testing.assert_close(
        made.latents.tokens_NTD, apart
    )  # a frame is the same with and without the others


def test_a_frame_is_identified_by_its_clip_and_number(tmp_path: Path) -> None:
    root, names = clip_folder(tmp_path)
    paths = [root / name for name in names]
    ids = image_ids(paths)
    assert None not in ids and len(set(ids)) == len(names)
    later = time.time() - 10
    os.utime(root / "cat" / "clip.mp4", (later, later))
    changed = image_ids(paths)
    assert all(a != b for a, b in zip(ids[:-1], changed[:-1], strict=True)) and changed[-1] == ids[-1]
    assert image_ids([root / "cat" / "z.mp4" / "000001", root / "cat" / "z.png" / "x"]) == [None, None]


def test_a_damaged_clip_is_left_out_frame_by_frame(network: Network, tmp_path: Path) -> None:
    pytest.importorskip("av")
    root, names = clip_folder(tmp_path)
    (root / "cat" / "clip.mp4").write_bytes(b"no video at all")
    encoder = Encoder(network, root=root, on_bad="skip")
    assert encoder(names).rows_N.tolist() == [len(names) - 1]
    assert encoder.skipped == names[:-1]
    with pytest.raises(DataError, match=r"clip\.mp4"):
        Encoder(network, root=root)(names)


def test_an_animation_is_one_picture_in_a_stream_and_its_frames_elsewhere(
    network: Network, tmp_path: Path
) -> None:
    path = str(animation(tmp_path / "a.gif"))
    assert Encoder(network, stream=True)([path]).rows_N.tolist() == [0]
    assert Encoder(network)([path]).rows_N.tolist() == [0, 0, 0]


def test_items_of_a_data_set_are_fetched_and_never_cached(network: Network) -> None:
    items = [
        Item(f"0/{level}", lambda level=level: np.full((8, 8, 3), level, np.uint8)) for level in (0, 200)
    ]
    for _ in range(2):
        encoder = Encoder(network, stream=True)
        latents = encoder(items).latents.tokens_NTD
        assert encoder.encoded == 2 and not torch.equal(latents[0], latents[1])


def test_a_photo_without_its_last_bytes_is_noted_or_refused(network: Network) -> None:
    root = CASES / "pictures"
    encoder = Encoder(network, root=root)
    assert len(encoder(["no-eoi.jpg"])) == 1
    assert len(encoder.notes) == 1 and "lacks its last bytes" in encoder.notes[0]
    network.keep()
    with pytest.raises(DataError, match=r"no-eoi\.jpg"):  # whatever is in the cache
        Encoder(network, root=root, strict=True)(["no-eoi.jpg"])


def test_notes_on_single_images_are_given_again_when_their_latents_come_from_the_cache(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    shutil.copy(CASES / "pictures" / "no-eoi.jpg", root / "a.jpg")
    Image.new("RGB", (9, 9)).save(root / "b.png")
    animation(root / "c.gif")
    names = ["a.jpg", "b.png", "c.gif"]
    wanted = [
        f"{root / 'a.jpg'} lacks its last bytes: it is read as far as it goes",
        f"{root / 'c.gif'} has several frames, of which the first is read",
    ]
    config = BackboneConfig(
        name=str(directories["vit"]), cache=str(tmp_path / "latents"), precision="float32"
    )
    for encoded in (3, 0):
        network = Network.open(config, cached=True)
        encoder = Encoder(network, root=root)
        encoder(names)
        assert encoder.encoded == encoded and sorted(encoder.notes) == wanted
        network.keep()
    encoder = Encoder(Network.open(config, cached=True), root=root)
    encoder.hold(names)
    assert encoder.encoded == 0 and sorted(encoder.notes) == wanted
    (root / "d.png").symlink_to("b.png")
    encoder = Encoder(network, root=root, batch_size=2)  # another batch has other notes
    encoder(["b.png", "d.png", "c.gif", "b.png"])
    assert encoder.notes == wanted[1:]


def test_progress_counts_pictures_and_their_views(with_views: Network, tmp_path: Path) -> None:
    names = [noise(tmp_path / f"{seed}.png", seed).name for seed in range(5)]
    seen: list[tuple[int, int]] = []
    encoder = Encoder(with_views, root=tmp_path, batch_size=2, views=ViewPlan(views=2, budget=64))
    encoder.progress = lambda done, total: seen.append((done, total))
    encoder(names, views_by=np.zeros(5, int))
    assert seen[:3] == [(2, 15), (4, 15), (5, 15)] and seen[-1] == (15, 15)
    assert seen == sorted(seen)


@pytest.mark.parametrize("fault", ["", "root", "entry", "header.json", "index", "latents"])
def test_a_cache_that_may_not_be_read_or_written_costs_one_note_and_no_more(
    directories: dict[str, Path],
    open_place: Path,
    without_privileges: Callable[[], AbstractContextManager[None]],
    fault: str,
) -> None:
    vit, root, cache = (open_place / name for name in ("vit", "photos", "latents"))
    shutil.copytree(directories["vit"], vit)
    root.mkdir()
    for path in vit.iterdir():
        path.chmod(0o644)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(root / name)
    config = BackboneConfig(name=str(vit), cache=str(cache), precision="float32")
    network = Network.open(config, cached=True)
    wanted = Encoder(network, root=root)(["a.png"]).latents
    network.keep()
    assert network.cache is not None
    place = {"": cache, "root": cache, "entry": network.cache.directory}.get(
        fault, network.cache.directory / fault
    )
    place.chmod(0o555 if not fault else 0)
    cache.chmod(0 if fault == "root" else 0o555)
    network.cache.directory.chmod(0 if fault == "entry" else 0o555)
    with without_privileges():
        network = Network.open(config, cached=True)
        encoder = Encoder(network, root=root)
        found = encoder(["a.png"]).latents
        encoder(["b.png"])
        network.keep()
        assert torch.equal(found.tokens_NTD, wanted.tokens_NTD)
        assert network.cache is not None and len(network.cache.notes) == 1
        assert (
            "latents are not kept in" in network.cache.notes[0]
            and "goes on without" in network.cache.notes[0]
        )
        assert encoder.read == (0 if fault else 1)
    assert len(cache_entries(cache)) == 1


# -- random views ---------------------------------------------------------------------------------------


@pytest.fixture
def with_views(directories: dict[str, Path], tmp_path: Path) -> Network:
    """One that keeps the class tokens of two blocks."""
    config = BackboneConfig(
        name=str(directories["vit"]), cache=str(tmp_path / "latents"), precision="float32"
    )
    return Network.open(config, cached=True, class_tokens=(2, 10**9))


def noise(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_views_are_those_of_the_picture_whether_it_comes_alone_in_a_folder_or_as_an_array(
    with_views: Network, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    paths = [noise(tmp_path / "photos" / f"{seed}.png", seed) for seed in range(3)]
    encode = Encoder(with_views, views=ViewPlan(views=4, budget=64))
    alone = encode(paths, views_by=["cat"] * 3).latents
    assert alone.views_MKD.shape[:2] == (12, 2) and alone.view_rows_M.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    arrays = [np.asarray(Image.open(path)) for path in paths]
    for sources, labels in (([tmp_path / "photos"], ["cat"]), (arrays, ["cat"] * 3)):
        others = encode(sources, views_by=labels).latents
        assert others.view_rows_M.tolist() == alone.view_rows_M.tolist()
        torch.testing.assert_close(others.views_MKD, alone.views_MKD)
    assert not torch.equal(alone.views_MKD[0], alone.views_MKD[1])  # one view is not the next


def test_frames_of_a_video_have_views_within_the_budget_of_its_class(
    with_views: Network, tmp_path: Path
) -> None:
    moving = animation(tmp_path / "moving.gif")
    encode = Encoder(with_views, views=ViewPlan(views=8, budget=2))
    latents = encode([moving, noise(tmp_path / "still.png", 7)], views_by=["cat", "dog"]).latents
    assert len(latents) == 4 and latents.view_rows_M.tolist() == [0, 2, 3, 3]
    plain = Encoder(with_views)([moving], views_by=["cat"]).latents
    assert len(plain) == 3 and len(plain.views_MKD) == 0


def test_views_come_from_the_cache_the_second_time_and_are_the_same(
    with_views: Network, tmp_path: Path
) -> None:
    paths = [noise(tmp_path / f"{seed}.png", seed).name for seed in range(3)]
    encode = Encoder(with_views, root=tmp_path, views=ViewPlan(views=2, budget=64))
    first = encode(paths, views_by=np.zeros(3)).latents
    with_views.keep()
    again = Network.open(with_views._config, cached=True, class_tokens=(2, 10**9))
    encode = Encoder(again, root=tmp_path, views=ViewPlan(views=2, budget=64))
    second = encode(paths, views_by=np.zeros(3)).latents
    assert torch.equal(first.views_MKD, second.views_MKD) and not again.trunk_is_loaded


def test_a_file_that_vanishes_before_its_views_are_drawn_is_skipped_as_asked(
    with_views: Network, tmp_path: Path
) -> None:
    names = [noise(tmp_path / f"{seed}.png", seed).name for seed in range(3)]
    plan = ViewPlan(views=2, budget=64)

    def vanishing(encoder: Encoder, name: str) -> Encoder:
        encoder.progress = lambda done, total: (tmp_path / name).unlink(missing_ok=True)
        return encoder

    encoder = vanishing(Encoder(with_views, root=tmp_path, views=plan, on_bad="skip"), "1.png")
    latents = encoder(names, views_by=np.zeros(3, int)).latents
    assert len(latents) == 3 and latents.view_rows_M.tolist() == [0, 0, 2, 2] and encoder.skipped == []
    assert len(latents.views_MKD) == 4 and "1.png does not exist" in encoder.notes[0]
    noise(tmp_path / "1.png", 1)
    with pytest.raises(DataError, match=r"1\.png does not exist"):
        vanishing(Encoder(with_views, root=tmp_path, views=plan), "1.png")(names, views_by=np.zeros(3, int))
    encoder = vanishing(Encoder(with_views, root=tmp_path, views=plan, on_bad="skip"), "0.png")
    latents = encoder(["0.png"], views_by=np.zeros(1, int)).latents
    assert len(latents) == 1 and len(latents.views_MKD) == 0  # none is left
