"""One encoder: each image through the trunk once, rows and latents paired, the same bits in every order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_networks import random_images

from vitlr.data.video import Video
from vitlr.errors import ConfigError, DataError
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.record import Latents
from vitlr.latents.settings import BackboneConfig
from vitlr.vit import Trunk, load_backbone
from vitlr.vit.compute.precision import resolved

IMAGES = random_images(11, 32).numpy()


@pytest.fixture
def network(directories: dict[str, Path]) -> Network:
    return in_memory(directories["vit"])


@pytest.fixture
def folder(tmp_path: Path) -> list[str]:
    """The images as files, in their order."""
    (tmp_path / "images").mkdir()
    paths = [tmp_path / "images" / f"{number:02}.png" for number in range(len(IMAGES))]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    return [str(path) for path in paths]


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Every image that goes through a trunk."""
    seen: list[np.ndarray] = []
    real = Trunk.latents

    def counted(trunk: Trunk, images_NHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.extend(images_NHWC.numpy().copy())
        return real(trunk, images_NHWC)

    monkeypatch.setattr(Trunk, "latents", counted)
    return seen


def equal(one: Latents, other: Latents) -> bool:
    return torch.equal(one.tokens_NTD, other.tokens_NTD) and torch.equal(
        one.class_tokens_NKD, other.class_tokens_NKD
    )


def in_memory(directory: Path, kind: type[Network] = Network) -> Network:
    return kind(load_backbone(directory), cut=2, class_tokens=(2, 10**9), compute=resolved("cpu", "float32"))


def cached(directory: Path, root: Path, **settings: Any) -> Network:
    """A network with its latents on disk below ``root``."""
    config = BackboneConfig(name=str(directory), cut=2, precision="float32", cache=str(root), **settings)
    return Network.open(config, cached=True, class_tokens=(2, 10**9))


# -- latents ----------------------------------------------------------------------------------------------


def test_latents_are_the_trunks_in_the_order_of_the_sources(network: Network) -> None:
    encoded = Encoder(network, batch_size=4)(list(IMAGES))
    tokens, class_tokens = network.trunk.latents(torch.from_numpy(IMAGES))
    assert encoded.rows_N.tolist() == list(range(11)) and encoded.rows_N.dtype == np.int64
    assert encoded.latents.tokens_NTD.dtype == torch.float32
    torch.testing.assert_close(encoded.latents.tokens_NTD, tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoded.latents.class_tokens_NKD, class_tokens, rtol=1e-5, atol=1e-5)
    assert encoded.latents.class_tokens_NKD.shape == (11, 2, 32)


def test_each_image_goes_through_the_trunk_exactly_once(
    network: Network, folder: list[str], through: list[np.ndarray]
) -> None:
    Encoder(network, batch_size=4)(folder)
    assert np.array_equal(np.stack(through), IMAGES)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_batch_size_changes_rounding_only(network: Network, batch_size: int) -> None:
    expected = Encoder(network, batch_size=4)(list(IMAGES)).latents
    found = Encoder(network, batch_size=batch_size)(list(IMAGES)).latents
    torch.testing.assert_close(found.tokens_NTD, expected.tokens_NTD, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.class_tokens_NKD, expected.class_tokens_NKD, rtol=1e-5, atol=1e-5)


def film(path: Path, images: np.ndarray) -> Path:
    """An animation without loss."""
    first, *others = [Image.fromarray(image) for image in images]
    first.save(path, save_all=True, append_images=others, default_image=False, disposal=1, blend=0)
    return path


@pytest.mark.parametrize("groups", [[11], [5, 6], [3, 1, 4, 2, 1], [1, 10]])
def test_how_images_are_grouped_into_sources_changes_no_bit(
    network: Network, tmp_path: Path, groups: list[int]
) -> None:
    expected = Encoder(network, batch_size=4)(list(IMAGES)).latents
    sources, rows, start = [], [], 0
    for number, size in enumerate(groups):
        part = IMAGES[start : start + size]
        one = size == 1
        sources.append(part[0] if one else Video(film(tmp_path / f"{number}.apng", part), every=1))
        rows += [number] * size
        start += size
    encoded = Encoder(network, batch_size=4)(sources)
    assert encoded.rows_N.tolist() == rows
    assert equal(encoded.latents, expected)


def test_arrays_paths_pil_images_and_videos_may_be_mixed(network: Network, tmp_path: Path) -> None:
    Image.fromarray(IMAGES[0]).save(tmp_path / "still.png")
    video = Video(film(tmp_path / "film.apng", IMAGES[2:5]), every=1)
    sources = [
        str(tmp_path / "still.png"),
        Image.fromarray(IMAGES[1]),
        video,
        tmp_path / "still.png",
        IMAGES[5],
    ]
    encoded = Encoder(network)(sources)
    assert encoded.rows_N.tolist() == [0, 1, 2, 2, 2, 3, 4]
    same = Encoder(network)([*IMAGES[[0, 1, 2, 3, 4, 0, 5]]])
    assert equal(encoded.latents, same.latents)


def test_no_sources_are_no_latents_of_the_right_shape(network: Network) -> None:
    encoded = Encoder(network)([])
    assert len(encoded) == 0 and encoded.latents.tokens_NTD.shape == (0, *network.latent_shape)
    assert encoded.latents.class_tokens_NKD.shape == (0, 2, 32)


def test_images_of_native_replay_are_their_own_latents(directories: dict[str, Path]) -> None:
    network = Network(load_backbone(directories["vit"]), images=True)
    latents = Encoder(network, batch_size=4)(list(IMAGES)).latents
    assert latents.tokens_NTD.dtype == torch.uint8
    assert np.array_equal(latents.tokens_NTD.reshape(11, 32, 32, 3).numpy(), IMAGES)
    assert latents.class_tokens_NKD.numel() == 0


# -- what cannot be read ------------------------------------------------------------------------------------


def broken(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:40])


def test_what_cannot_be_read_is_named(network: Network, folder: list[str]) -> None:
    broken(folder[6])
    with pytest.raises(DataError, match=r"06\.png"):
        Encoder(network, batch_size=4)(folder)
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        Encoder(network)([IMAGES[0], "gone.png"])


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("bad", [[0], [10], [4, 5, 6, 7], [0, 3, 9], list(range(11))])
def test_rows_and_latents_stay_paired_if_images_are_left_out_and_those_are_counted(
    directories: dict[str, Path], folder: list[str], tmp_path: Path, bad: list[int], on_disk: bool
) -> None:
    plain = in_memory(directories["vit"])
    alone = Encoder(plain, batch_size=1)(folder).latents
    for number in bad:
        broken(folder[number])
    network = cached(directories["vit"], tmp_path / "cache", batch_size=4) if on_disk else plain
    for again in range(2):
        encoder = Encoder(network, batch_size=4, on_bad="skip")
        encoded = encoder(folder)
        assert encoded.rows_N.tolist() == [number for number in range(11) if number not in bad]
        assert encoder.skipped == [folder[number] for number in bad]
        expected = alone[encoded.rows_N]
        torch.testing.assert_close(encoded.latents.tokens_NTD, expected.tokens_NTD, rtol=1e-5, atol=1e-5)
        whole = sum(
            size for start, size in ((0, 4), (4, 4), (8, 3)) if not {*range(start, start + size)} & {*bad}
        )
        assert encoder.read == (whole if on_disk and again else 0), (
            "a batch with a bad image is encoded again"
        )
        assert encoder.read + encoder.encoded == len(encoded)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"on_bad": "ignore"}, "on_bad must be error or skip"),
        ({"batch_size": 0}, "batch_size"),
        ({"workers": 0}, "workers"),
    ],
)
def test_a_setting_that_is_none_is_named(network: Network, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Encoder(network, **settings)


# -- latents on disk ----------------------------------------------------------------------------------------


def test_what_is_cached_opens_no_image_and_loads_no_trunk(
    directories: dict[str, Path], folder: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached(directories["vit"], tmp_path / "cache")
    expected = Encoder(first)(folder)
    first.keep()

    def never(*_: Any) -> Any:
        raise AssertionError("an image was opened")

    monkeypatch.setattr("vitlr.latents.encoder.read_image", never)
    second = cached(directories["vit"], tmp_path / "cache")
    encoder = Encoder(second)
    found = encoder(folder)
    assert equal(found.latents, expected.latents) and np.array_equal(found.rows_N, expected.rows_N)
    assert (encoder.read, encoder.encoded) == (11, 0) and not second.trunk_is_loaded
    with pytest.raises(AssertionError, match="was opened"):
        Path(folder[3]).touch()  # may have changed
        encoder(folder)


def test_a_batch_is_read_or_encoded_as_a_whole(
    directories: dict[str, Path], folder: list[str], tmp_path: Path, through: list[np.ndarray]
) -> None:
    network = cached(directories["vit"], tmp_path / "cache", batch_size=4)
    expected = Encoder(network, batch_size=4)(folder)
    network.keep()
    Image.fromarray(IMAGES[5][::-1].copy()).save(folder[5])
    through.clear()
    encoder = Encoder(network, batch_size=4)
    found = encoder(folder)
    assert (encoder.read, encoder.encoded) == (7, 4) and len(through) == 4
    others = np.array([0, 1, 2, 3, 8, 9, 10])
    assert equal(found.latents[others], expected.latents[others])
    assert not torch.equal(found.latents.tokens_NTD[5], expected.latents.tokens_NTD[5])


def test_paths_are_relative_to_the_root(network: Network, folder: list[str]) -> None:
    names = [Path(path).name for path in folder]
    encoder = Encoder(network, root=Path(folder[0]).parent)
    assert equal(encoder(names).latents, Encoder(network)(folder).latents)
    with pytest.raises(DataError):
        encoder(["../images/00.png"])  # out of the root and in again


class OnGpu(Network):
    """A trunk on a GPU: its latents are on ``meta``, from where nothing but ``to`` brings them to the host."""

    def encode(self, images_NHWC: torch.Tensor) -> Latents:
        latents, there = super().encode(images_NHWC), torch.device("meta")

        class There(Latents):
            def to(self, device: torch.device) -> Latents:
                return latents.to(device)

        return There(latents.tokens_NTD.to(there), latents.class_tokens_NKD.to(there))


@pytest.mark.parametrize("hold", [False, True])
def test_latents_of_a_gpu_come_to_the_host_where_those_of_the_cache_are(
    directories: dict[str, Path], folder: list[str], tmp_path: Path, hold: bool
) -> None:
    first = cached(directories["vit"], tmp_path / "cache", batch_size=4)
    expected = Encoder(first, batch_size=4)(folder).latents
    first.cache.commit()  # type: ignore[union-attr]
    Path(folder[5]).touch()  # of one batch none is cached any more
    config = BackboneConfig(
        name=str(directories["vit"]), cut=2, precision="float32", cache=str(tmp_path / "cache"), batch_size=4
    )
    encoder = Encoder(OnGpu.open(config, cached=True, class_tokens=(2, 10**9)), batch_size=4)
    if hold:
        encoder.hold(folder)
    assert equal(encoder(folder).latents, expected)
    assert encoder.encoded == 4


# -- held for several streams -------------------------------------------------------------------------------


class InCompany(Network):
    """A trunk whose bits depend on the size of the batch and on an image's place in it, as products' may."""

    def encode(self, images_NHWC: torch.Tensor) -> Latents:
        latents = super().encode(images_NHWC)
        place_N11 = torch.arange(len(images_NHWC))[:, None, None] + 1000 * len(images_NHWC)
        return Latents(latents.tokens_NTD + place_N11, latents.class_tokens_NKD + place_N11)


def orders() -> Iterator[list[int]]:
    yield list(range(11))
    yield list(range(10, -1, -1))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        yield rng.permutation(11)[: 3 + 2 * seed].tolist()
    yield [4, 4, 9, 4]


@pytest.mark.parametrize("on_disk", [False, True])
def test_held_latents_have_the_same_bits_in_every_order(
    directories: dict[str, Path], folder: list[str], tmp_path: Path, through: list[np.ndarray], on_disk: bool
) -> None:
    if on_disk:
        config = BackboneConfig(
            name=str(directories["vit"]), cut=2, precision="float32", cache=str(tmp_path), batch_size=4
        )
        network: Network = InCompany.open(config, cached=True, class_tokens=(2, 10**9))
    else:
        network = in_memory(directories["vit"], InCompany)
    free = Encoder(network, batch_size=4)(folder[::-1]).latents
    through.clear()
    encoder = Encoder(network, batch_size=4)
    encoder.hold([*folder[6:], *folder[:8]])
    assert np.array_equal(np.stack(through), IMAGES), "each of them once, in one order"
    whole = encoder(folder).latents
    assert not torch.equal(whole.tokens_NTD, free.tokens_NTD.flip(0)), "without holding, the order shows"
    for order in orders():
        encoded = encoder([folder[number] for number in order])
        assert encoded.rows_N.tolist() == list(range(len(order)))
        assert equal(encoded.latents, whole[np.array(order)])
    again = Encoder(network, batch_size=4)
    again.hold(folder)
    assert equal(again(folder).latents, whole)
    assert again.encoded == (0 if on_disk else 11)


def test_held_paths_that_cannot_be_read_are_left_out_of_every_order(
    network: Network, folder: list[str]
) -> None:
    for number in (2, 8, 9, 10):  # one of a batch, and a batch with none left
        broken(folder[number])
    encoder = Encoder(network, batch_size=4, on_bad="skip")
    encoder.hold(folder)
    whole = encoder(folder)
    assert whole.rows_N.tolist() == [0, 1, 3, 4, 5, 6, 7]
    encoded = encoder([folder[number] for number in (9, 7, 2, 0, 5)])
    assert encoded.rows_N.tolist() == [1, 3, 4]
    assert equal(encoded.latents, whole.latents[np.array([6, 0, 4])])


def test_what_a_full_disk_does_not_take_is_held_in_memory(
    directories: dict[str, Path], folder: list[str], tmp_path: Path, through: list[np.ndarray]
) -> None:
    network = cached(directories["vit"], tmp_path / "cache", batch_size=4)
    assert network.cache is not None
    network.cache.writable = False
    encoder = Encoder(network, batch_size=4)
    encoder.hold(folder)
    assert len(through) == 11
    assert equal(encoder(folder[::-1]).latents, encoder(folder).latents[np.arange(10, -1, -1)])
    assert len(through) == 11


# -- progress -----------------------------------------------------------------------------------------------


def test_progress_counts_sources_up_to_all_of_them(
    directories: dict[str, Path], network: Network, folder: list[str], tmp_path: Path
) -> None:
    def told(encoder: Encoder, sources: list[Any], *, hold: bool = False) -> list[tuple[int, int]]:
        calls: list[tuple[int, int]] = []
        act = encoder.hold if hold else encoder
        act(sources, lambda done, total: calls.append((done, total)))  # type: ignore[operator]
        return calls

    assert told(Encoder(network, batch_size=4), folder) == [(4, 11), (8, 11), (11, 11)]
    assert told(Encoder(network, batch_size=4), list(IMAGES)) == [(4, 11), (8, 11), (11, 11)]
    assert told(Encoder(network, batch_size=4), folder, hold=True) == [(4, 11), (8, 11), (11, 11)]
    video = Video(film(tmp_path / "film.apng", IMAGES[:6]), every=1)
    assert told(Encoder(network, batch_size=4), [video, IMAGES[0]])[-1] == (2, 2)
    on_disk = cached(directories["vit"], tmp_path / "cache", batch_size=4)
    assert told(Encoder(on_disk, batch_size=4), folder[:8]) == [(4, 8), (8, 8)]
    assert told(Encoder(on_disk, batch_size=4), folder) == [(8, 11), (11, 11)]
    assert told(Encoder(on_disk, batch_size=4), folder)[-1] == (11, 11)
    assert told(Encoder(on_disk, batch_size=4), folder, hold=True)[-1] == (11, 11)
