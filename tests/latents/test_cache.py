"""Latents on disk: the bits that went in come out, or nothing does, whatever happens to disk and processes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vitlr.errors import RunError
from vitlr.latents import cache as cache_module
from vitlr.latents.cache import LatentCache, batch_kind, cache_entries, clear_cache
from vitlr.latents.record import Latents
from vitlr.storage import files
from vitlr.vit import load_backbone, split

IDENTITY = {"weights": "w", "cut": 2}
SHAPE = (3, 4)


def image(number: int) -> bytes:
    return b"image %10d" % number


def latents(numbers: list[int]) -> torch.Tensor:
    """What the trunk would make of these images; every bit pattern is different."""
    return torch.stack(
        [torch.randn(SHAPE, generator=torch.Generator().manual_seed(number)) for number in numbers]
    )


def opened(root: Path, *, bfloat16: bool = False) -> LatentCache:
    cache = LatentCache(root, IDENTITY, "tiny")
    cache.describe(SHAPE, bfloat16=bfloat16)
    return cache


def keys(cache: LatentCache, numbers: list[int]) -> list[bytes | None]:
    if cache.kind(len(numbers)) is None:
        cache.set_kind(len(numbers), "any")
    return cache.keys([image(number) for number in numbers])


def put(cache: LatentCache, numbers: list[int]) -> None:
    if not numbers:
        return
    cache.put(keys(cache, numbers), Latents(latents(numbers)))


def present(cache: LatentCache, numbers: list[int]) -> list[int]:
    """Which of the images the cache has; each of them must have come back bit by bit."""
    found = []
    for number in numbers:
        got = cache.get(keys(cache, [number]))
        if got is not None:
            assert torch.equal(got.tokens_NTD, latents([number])), number
            found.append(number)
    return found


# -- what goes in comes out ---------------------------------------------------------------------------


def test_latents_come_back_bit_by_bit_also_in_another_process_s_order(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    put(cache, [1, 2, 3])
    assert present(cache, [1, 2, 3, 4]) == [1, 2, 3]  # before they are on the disk
    cache.commit()
    again = LatentCache(tmp_path, IDENTITY)
    assert again.shape == SHAPE and again.kind(3) == "any"
    got = again.get(keys(again, [3, 1]))
    assert got is not None and torch.equal(got.tokens_NTD, latents([3, 1]))
    assert not again.notes and not cache.notes


def test_special_numbers_keep_their_bits(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0xFFC00000, 0x80000000, 0x00000001, 0x7F800000, 0xFF800000] * 2, np.uint32)
    odd = torch.from_numpy(bits.view(np.float32).reshape(1, *SHAPE).copy())
    cache = opened(tmp_path)
    cache.put(keys(cache, [1]), Latents(odd))
    cache.commit()
    got = LatentCache(tmp_path, IDENTITY).get(keys(cache, [1]))
    assert got is not None and np.array_equal(got.tokens_NTD.numpy().view(np.uint32).ravel(), bits)


def test_latents_of_a_bfloat16_trunk_take_half_the_bytes_and_lose_nothing(tmp_path: Path) -> None:
    exact = latents([1, 2]).bfloat16().float()
    for name, bfloat16 in (("half", True), ("whole", False)):
        cache = opened(tmp_path / name, bfloat16=bfloat16)
        cache.put(keys(cache, [1, 2]), Latents(exact))
        cache.commit()
        got = LatentCache(tmp_path / name, IDENTITY).get(keys(cache, [1, 2]))
        assert got is not None and torch.equal(got.tokens_NTD, exact)
    sizes = [next((tmp_path / name).glob("*/latents")).stat().st_size for name in ("half", "whole")]
    assert sizes == [2 * 12 * 2, 2 * 12 * 4]


def test_numbers_that_bfloat16_cannot_hold_are_never_rounded(tmp_path: Path) -> None:
    cache = opened(tmp_path, bfloat16=True)
    put(cache, [1])
    cache.commit()
    assert present(LatentCache(tmp_path, IDENTITY), [1]) == []
    assert len(cache.notes) == 1 and "bfloat16" in cache.notes[0]


def test_a_trunk_in_bfloat16_gives_numbers_that_bfloat16_holds(directories: dict[str, Path]) -> None:
    backbone = load_backbone(directories["vit"])
    noise = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator())
    for cut in range(backbone.num_blocks + 1):
        out = split(backbone, cut, precision="bfloat16")[0](noise)
        assert torch.equal(out.bfloat16().float(), out)


def test_class_tokens_come_back_beside_the_tokens_at_the_cut(tmp_path: Path) -> None:
    identity = IDENTITY | {"class_tokens": [2, 10**9]}
    made = Latents(latents([1, 2]), torch.stack([latents([3])[0][:2], latents([4])[0][:2]]))
    cache = LatentCache(tmp_path, identity, "tiny")
    cache.describe((SHAPE[0] + 2, SHAPE[1]), bfloat16=False, class_tokens=2)
    cache.put(keys(cache, [1, 2]), made)
    cache.commit()
    got = LatentCache(tmp_path, identity).get(keys(cache, [1, 2]))
    assert got is not None and torch.equal(got.tokens_NTD, made.tokens_NTD)
    assert torch.equal(got.class_tokens_NKD, made.class_tokens_NKD)


def test_another_identity_finds_nothing(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    put(cache, [1])
    cache.commit()
    assert LatentCache(tmp_path, IDENTITY | {"cut": 1}).shape is None


def test_the_newest_latents_reach_the_disk_without_being_asked_to(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cache_module, "COMMIT_SECONDS", 0.0)
    put(opened(tmp_path), [1])
    assert present(LatentCache(tmp_path, IDENTITY), [1]) == [1]


# -- keys ---------------------------------------------------------------------------------------------


def test_keys_tell_apart_what_a_latent_s_bits_depend_on(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for size, kind in ((1, "any"), (2, "any"), (3, "size"), (4, "size"), (5, "exact")):
        cache.set_kind(size, kind)
    a, b, c, d, e = (image(number) for number in range(5))
    assert cache.keys([a]) == cache.keys([a, b])[:1]  # the same latent in both
    assert cache.keys([a, b, c])[0] not in cache.keys([a]) + cache.keys([a, b, c, d])
    assert cache.keys([a, b, c])[0] == cache.keys([c, a, d])[1]
    here, there = cache.keys([a, b, c, d, e]), cache.keys([b, a, c, d, e])
    assert not set(here) & set(there) and len(set(here)) == 5
    assert cache.keys([a, None])[1] is None and cache.keys([a, None, b, c, d]) == [None] * 5
    assert cache.keys([a] * 6) == [None] * 6  # not measured yet


def test_batch_kind_finds_what_the_bits_depend_on() -> None:
    def pure(images: torch.Tensor) -> Latents:
        return Latents(images[:, :1, :1, 0].float() / 7)

    def by_size(images: torch.Tensor) -> Latents:
        return Latents(pure(images).tokens_NTD + len(images))

    def by_place(images: torch.Tensor) -> Latents:
        return Latents(pure(images).tokens_NTD + torch.arange(len(images))[:, None, None])

    def by_company(images: torch.Tensor) -> Latents:
        tokens = pure(images).tokens_NTD
        return Latents(tokens + tokens.mean() * torch.linspace(1, 2, len(images))[:, None, None])

    for size in (1, 5, 8):
        assert batch_kind(pure, 8, size, 8) == "any"
        assert batch_kind(by_size, 8, size, 8) == ("any" if size == 8 else "size")
    assert batch_kind(by_place, 8, 5, 8) == batch_kind(by_place, 8, 8, 8) == "exact"
    assert batch_kind(by_company, 8, 5, 8) == "exact"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_this_machine_company_and_place_change_no_bit(
    directories: dict[str, Path], precision: str
) -> None:
    """The measurement against another one: real batches of a real trunk, in several arrangements."""
    trunk, _ = split(load_backbone(directories["vit"]), 2, precision=precision)  # type: ignore[arg-type]
    noise = torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator())
    for size in (1, 3, 16):
        kind = batch_kind(lambda images: Latents(*trunk.latents(images)), 32, size, 16)
        assert kind in ("any", "size")
        assert torch.equal(trunk(noise[:size]).flip(0), trunk(noise[:size].flip(0)))
        if kind == "any":
            assert torch.equal(trunk(noise[:size]), trunk(noise)[:size])


# -- crashes ------------------------------------------------------------------------------------------


class PowerCutError(BaseException):
    """Not an Exception: nothing may catch it and go on."""


def break_at(patch: pytest.MonkeyPatch, number: int, error: BaseException) -> list[str]:
    """Let the ``number``-th call to the disk raise; returns the names of the calls made."""
    made: list[str] = []

    def watched(name: str):
        real = getattr(os, name)

        def call(*arguments, **options):
            made.append(name)
            if len(made) - 1 == number:
                if name == "write" and not isinstance(arguments[1], int):
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])  # half of it got there
                raise error
            return real(*arguments, **options)

        return call

    for name in ("open", "write", "fsync", "replace"):
        patch.setattr(files.os, name, watched(name))
    return made


def calls_of_a_commit(root: Path, earlier: list[int]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        cache = opened(root)
        put(cache, earlier)
        cache.commit()
        put(cache, [1, 2])
        made = break_at(patch, -1, PowerCutError())
        cache.commit()
    assert {"open", "write", "fsync", "replace"} <= set(made)
    return len(made)


@pytest.mark.parametrize("earlier", [[], [5, 6]])
@pytest.mark.parametrize("error", [PowerCutError(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_crash_at_any_call_leaves_whole_rows_only(
    tmp_path: Path, earlier: list[int], error: BaseException
) -> None:
    for number in range(calls_of_a_commit(tmp_path / "count", earlier)):
        root = tmp_path / f"crash{number}"
        if earlier:
            cache = opened(root)
            put(cache, earlier)
            cache.commit()
        cache = opened(root)
        put(cache, [1, 2])
        with pytest.MonkeyPatch.context() as patch:
            break_at(patch, number, error)
            if isinstance(error, OSError):
                cache.commit()  # goes on without
                assert len(cache.notes) <= 1
            else:
                with pytest.raises(PowerCutError):
                    cache.commit()
        after = opened(root)
        found = present(after, [1, 2, 5, 6])
        assert found in (earlier, [1, 2, *earlier]), (number, found)
        assert not after.notes, number
        put(after, [1, 2])
        put(after, [7])
        after.commit()
        assert present(opened(root), [1, 2, 5, 6, 7]) == sorted([1, 2, *earlier, 7])


def test_a_full_disk_is_one_sentence_and_the_latents_are_given_back_to_be_computed(
    tmp_path: Path, monkeypatch
) -> None:
    usage = cache_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    cache = opened(tmp_path)
    put(cache, [1])
    cache.commit()
    put(cache, [2])
    cache.commit()
    assert not cache.writable and len(cache.notes) == 1 and "No space left" in cache.notes[0]
    assert present(cache, [1, 2]) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = opened(tmp_path / "file" / "latents")
    put(cache, [1])
    cache.commit()
    assert not cache.writable and len(cache.notes) == 1


# -- damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["header.json", "index", "latents"])
@pytest.mark.parametrize("harm", ["gone", "empty", "half", "flipped", "zeros", "directory"])
def test_damaged_files_are_noticed_once_and_replaced(tmp_path: Path, name: str, harm: str) -> None:
    cache = opened(tmp_path)
    put(cache, [1, 2, 3])
    cache.commit()
    path = cache.directory / name
    content = path.read_bytes()
    middle = len(content) // 2
    if harm in ("gone", "directory"):
        path.unlink()
    if harm == "directory":
        path.mkdir()
    elif harm != "gone":
        flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
        changed = {"empty": b"", "half": content[:middle], "flipped": flipped, "zeros": bytes(len(content))}
        path.write_bytes(changed[harm])
    again = opened(tmp_path)
    assert set(present(again, [1, 2, 3])) < {1, 2, 3} or name == "header.json"
    assert len(again.notes) <= 1
    put(again, [1, 2, 3])
    again.commit()
    assert len(again.notes) <= 2
    if harm != "directory":  # someone's own directory is left alone
        assert present(LatentCache(tmp_path, IDENTITY), [1, 2, 3]) == [1, 2, 3]


def test_every_flipped_byte_of_the_index_is_noticed(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    put(cache, [1, 2])
    cache.commit()
    path = cache.directory / "index"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert present(opened(tmp_path), [1, 2]) in ([], [1, 2])


def test_a_header_of_another_shape_is_dropped(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    put(cache, [1])
    cache.commit()
    header = json.loads((cache.directory / "header.json").read_text())
    (cache.directory / "header.json").write_text(json.dumps(header | {"shape": [4, 4]}))
    again = opened(tmp_path)
    assert len(again.notes) == 1 and present(again, [1]) == []
    put(again, [1])
    again.commit()
    assert present(LatentCache(tmp_path, IDENTITY), [1]) == [1]


# -- several processes --------------------------------------------------------------------------------


def _write(root: str, numbers: list[int], barrier) -> None:
    torch.set_num_threads(1)
    cache = opened(Path(root))
    barrier.wait()
    for start in range(0, len(numbers), 3):
        put(cache, numbers[start : start + 3])
        cache.commit()
    assert not cache.notes, cache.notes


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    shares = [list(range(0, 60)), list(range(45, 105))]
    processes = [context.Process(target=_write, args=(str(tmp_path), share, barrier)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    cache = LatentCache(tmp_path, IDENTITY)
    assert present(cache, list(range(105))) == list(range(105))
    data = cache.directory / "latents"
    assert data.stat().st_size == 105 * cache.row_bytes  # what both had is there once


def test_a_reader_keeps_to_what_it_opened_while_another_writes(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    put(writer, [1])
    writer.commit()
    reader = LatentCache(tmp_path, IDENTITY)
    put(writer, [2])
    writer.commit()
    assert present(reader, [1, 2]) == [1]
    put(reader, [3])
    reader.commit()  # and with its own addition sees those of others
    assert present(reader, [1, 2, 3]) == [1, 2, 3]


def test_a_writer_that_waits_in_vain_says_so(tmp_path: Path, monkeypatch, held_elsewhere) -> None:
    monkeypatch.setattr(cache_module, "LOCK_SECONDS", 0.05)
    cache = opened(tmp_path)
    put(cache, [1])
    with held_elsewhere(tmp_path):
        cache.commit()
    assert len(cache.notes) == 1 and "in use" in cache.notes[0]


def test_clearing_under_a_run_takes_nothing_but_time_from_it(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    put(cache, [1, 2])
    cache.commit()
    assert [entry["images"] for entry in clear_cache(tmp_path)] == [2]
    assert cache_entries(tmp_path) == [] and present(cache, [1, 2]) == []
    put(cache, [1, 3])
    cache.commit()
    assert present(LatentCache(tmp_path, IDENTITY), [1, 2, 3]) == [1, 3]


# -- the cache as a whole -----------------------------------------------------------------------------


def test_list_and_clear_know_entries_by_their_keys(tmp_path: Path) -> None:
    assert cache_entries(tmp_path / "nowhere") == [] and clear_cache(tmp_path / "nowhere") == []
    for cut in (1, 2):
        cache = LatentCache(tmp_path, {"cut": cut}, f"net{cut}")
        cache.describe(SHAPE, bfloat16=False)
        put(cache, list(range(cut)))
        cache.commit()
        os.utime(cache.directory / "header.json", (cut, cut))
        for name in ("index", "latents"):
            os.utime(cache.directory / name, (cut, cut))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("not a latent")
    entries = cache_entries(tmp_path)
    assert [(entry["backbone"], entry["images"], entry["last_used"]) for entry in entries] == [
        ("net2", 2, 2),
        ("net1", 1, 1),
    ]
    with pytest.raises(RunError, match="nothing under 'mine'"):
        clear_cache(tmp_path, ["mine"])
    clear_cache(tmp_path, [entries[0]["key"]])
    assert [entry["backbone"] for entry in cache_entries(tmp_path)] == ["net1"]
    clear_cache(tmp_path)
    assert cache_entries(tmp_path) == [] and (tmp_path / "mine" / "letter.txt").exists()
