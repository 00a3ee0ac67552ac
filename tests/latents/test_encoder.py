"""From sources of every kind to latents: one picture each in a stream, all frames of a video elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitlr.data.clips import frame_paths
from vitlr.data.experience import Item
from vitlr.errors import DataError
from vitlr.latents.encoder import Encoder
from vitlr.latents.identity import image_ids
from vitlr.latents.network import Network
from vitlr.latents.settings import BackboneConfig

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
    with pytest.raises(DataError, match=r"no-eoi\.jpg"):  # whatever is in the cache
        Encoder(network, root=root, strict=True)(["no-eoi.jpg"])
