"""Latents on disk, so that the second run over the same images and trunk computes none.

One directory for each trunk, named by a digest of everything that can change a bit of its latents
(:mod:`vitlr.latents.identity`), with

    header.json   what the digest was taken of, shape and type of a latent
    index         for each latent its key, its row in the data and the row's checksum; sentences about single images
    latents       the rows, all of the same size; read through a memory map

Safe against a crash: rows are flushed to the disk before the index that names them replaces the old index in
one step, so a row that was cut off is never named. Safe against other processes: rows are only ever added,
under a lock and after the index was read again; a reader keeps to the index it has read. Safe against damage:
a row that does not fit its checksum, and an index that does not fit its own, count as absent.

A latent's bits can depend on how many images went through the trunk at once (matrix products of other sizes
add in another order), and on nothing else of their company: both are measured on noise once a batch size
(:func:`batch_kind`) and are part of the key. So a cached latent has the bits that this very batch would give.

Rows of a trunk in bfloat16 hold the upper two bytes of each float32, which is all they have.

Shapes: N images, T tokens at the cut, K class tokens, D width.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.errors import RunError
from vitlr.latents.record import Latents
from vitlr.storage.files import sync_directory, write_all, write_atomically
from vitlr.storage.locks import locked
from vitlr.storage.reading import read_regular

__all__ = ["LatentCache", "batch_kind", "cache_entries", "clear_cache", "entry_name"]

FORMAT = 3
COMMIT_SECONDS = 5.0  # between additions to the disk: what a crash can cost
COMMIT_BYTES = 2**26  # or so much waiting in memory
RESERVE = 2**30  # bytes left free on the disk
LOCK_SECONDS = 30.0  # to wait for another process to finish its addition

_RECORD = np.dtype([("key", "V16"), ("row", "<u4"), ("crc", "<u4")])
_STORED = {"float32": 4, "bfloat16": 2}  # bytes a number
_FILES = ("header.json", "index", "latents")

Entries = dict[bytes, tuple[int, int]]  # key: row, checksum
About = dict[bytes, list[str]]  # key: sentences about the image


def entry_name(identity: Mapping[str, Any]) -> str:
    """The directory of a trunk's latents."""
    return blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()


class LatentCache:
    """The latents of one trunk on disk. Whatever goes wrong with the disk ends in a note, never in an error.

    Args:
        name: of the network, for people.

    Attributes:
        directory: where they lie; it is made with the first addition.
        notes: sentences for the user about what could not be read or written.
        writable: whether additions are still made.
    """

    def __init__(self, root: str | Path, identity: Mapping[str, Any], name: str = "") -> None:
        self.root, self.name = Path(root), name
        self.identity = json.loads(json.dumps(identity))
        self.directory = self.root / entry_name(self.identity)
        self.notes: list[str] = []
        self.writable = True
        self.shape: tuple[int, int] | None = None
        self.class_tokens = 0  # of the row, the last ones
        self._stored = "float32"
        self._damage = ""  # the note about it
        self._pending: dict[bytes, np.ndarray] = {}
        self._bad: Entries = {}
        self._committed = time.monotonic()
        self._entries: Entries = {}
        self._kinds: dict[int, str] = {}
        self._new_kinds: dict[int, str] = {}
        self._about: About = {}  # sentences about images
        self._new_about: About = {}
        self._open()

    def __len__(self) -> int:
        return len(self._entries) + len(self._pending)

    @property
    def row_bytes(self) -> int:
        """Bytes of a latent on disk."""
        assert self.shape is not None
        return self.shape[0] * self.shape[1] * _STORED[self._stored]

    def describe(self, shape: tuple[int, int], *, bfloat16: bool, class_tokens: int = 0) -> None:
        """Say what a row is, (T + K, D) with K class tokens, and if all of its numbers are exact in bfloat16."""
        self.class_tokens = class_tokens
        stored = "bfloat16" if bfloat16 else "float32"
        if self.shape is not None and (self.shape, self._stored) != (tuple(shape), stored):
            self._note_damage("its header does not fit the network")
            self._entries, self._kinds = {}, {}
        self.shape, self._stored = (int(shape[0]), int(shape[1])), stored

    # -- keys -----------------------------------------------------------------------------------------

    def kind(self, size: int) -> str | None:
        """What :func:`batch_kind` found for batches of that size; None where it was not yet asked."""
        return self._new_kinds.get(size) or self._kinds.get(size)

    def set_kind(self, size: int, kind: str) -> None:
        """Keep what :func:`batch_kind` found."""
        self._new_kinds[size] = kind

    def keys(self, image_ids: Sequence[bytes | None]) -> list[bytes | None]:
        """One key for each image of a batch; None where the image cannot be told from another one."""
        kind = self.kind(len(image_ids))
        if kind is None or (kind == "exact" and None in image_ids):
            return [None] * len(image_ids)
        if kind == "exact":
            company = _digest(*[image for image in image_ids if image is not None])
            return [_digest(company, str(place).encode()) for place in range(len(image_ids))]
        salt = b"" if kind == "any" else str(len(image_ids)).encode()
        return [None if image is None else _digest(image, salt) for image in image_ids]

    def has(self, keys: Sequence[bytes | None]) -> bool:
        """Whether all of these latents are there, as far as the index knows."""
        return all(key in self._pending or key in self._entries for key in keys)

    # -- rows -----------------------------------------------------------------------------------------

    def get(self, keys: Sequence[bytes | None]) -> Latents | None:
        """The latents in float32, or None if any is absent or damaged."""
        if self.shape is None or not self.has(keys):
            return None
        rows = np.empty((len(keys), self.row_bytes), dtype=np.uint8)
        data, whole = None, True
        for place, key in enumerate(keys):
            assert key is not None
            if key in self._pending:
                rows[place] = self._pending[key]
                continue
            data = self._map() if data is None else data
            row, crc = self._entries[key]
            if row < len(data):
                rows[place] = data[row]
            if row >= len(data) or _checksum(key, rows[place]) != crc:
                self._bad[key] = self._entries.pop(key)
                whole = False
        if not whole:
            self._note_damage("some of its latents do not fit their checksums")
            return None
        return _unpack(rows, self.shape, self._stored, self.class_tokens)

    def about(self, keys: Sequence[bytes | None]) -> list[str]:
        """Sentences that were offered with these latents."""
        known = self._about | self._new_about
        return [sentence for key in keys if key is not None for sentence in known.get(key, ())]

    def put(
        self, keys: Sequence[bytes | None], latents: Latents, about: Sequence[Sequence[str]] | None = None
    ) -> None:
        """Offer latents; those with a key reach the disk within seconds, or with :meth:`commit`.

        Args:
            about: sentences about each image, such as that its last bytes are missing.
        """
        if not self.writable:
            return
        rows = _pack(latents, self._stored)
        if rows is None:
            self._give_up("they are not exact in bfloat16")
            return
        for key, row in zip(keys, rows, strict=True):
            if key is not None and key not in self._entries:
                self._pending[key] = row
        for key, sentences in zip(keys, about or (), strict=False):
            if key is not None and sentences:
                self._new_about[key] = list(sentences)
        waiting = len(self._pending) * self.row_bytes
        if waiting >= COMMIT_BYTES or time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Put everything offered on the disk. Where that fails there is a note, and no further addition."""
        if not self.writable or not (self._pending or self._new_kinds or self._bad):
            return
        try:
            with locked(self.root, wait=LOCK_SECONDS):
                self._add()
        except (OSError, RunError) as error:
            self._give_up(str(getattr(error, "strerror", None) or error))
        self._committed = time.monotonic()

    def _add(self) -> None:
        self._write_header()
        entries, kinds, about = self._read_index(to_add=True)
        for key, entry in self._bad.items():
            if entries.get(key) == entry:
                del entries[key]
        new = {key: row for key, row in self._pending.items() if key not in entries}
        first = 1 + max((row for row, _ in entries.values()), default=-1)
        if new:
            self._write_rows(list(new.values()), first)
        for row, (key, latent) in enumerate(new.items(), first):
            entries[key] = (row, _checksum(key, latent))
        kinds |= self._new_kinds
        about |= {key: sentences for key, sentences in self._new_about.items() if key in entries}
        write_atomically(self.directory / "index", _index_bytes(entries, kinds, about))
        self._entries, self._kinds, self._about = entries, kinds, about
        self._pending, self._new_kinds, self._bad, self._new_about = {}, {}, {}, {}

    def _write_rows(self, rows: list[np.ndarray], first: int) -> None:
        """Behind the last row that the index names; what may lie there is left from a crash."""
        if shutil.disk_usage(self.directory).free < len(rows) * self.row_bytes + RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self.directory / "latents", flags, 0o666)
        try:
            os.lseek(descriptor, first * self.row_bytes, os.SEEK_SET)
            for row in rows:
                write_all(descriptor, memoryview(row))
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, first * self.row_bytes)
            raise
        finally:
            os.close(descriptor)

    def _map(self) -> np.ndarray:
        """The rows on disk, (rows, bytes); mapped anew for each read, so that pages read are not kept."""
        try:
            rows = (self.directory / "latents").stat().st_size // self.row_bytes
            if rows:
                return np.memmap(self.directory / "latents", np.uint8, mode="r", shape=(rows, self.row_bytes))
        except OSError as error:
            self._note_damage(f"its latents cannot be read: {error.strerror}")
        except ValueError:
            pass
        return np.empty((0, self.row_bytes), dtype=np.uint8)

    # -- header and index -----------------------------------------------------------------------------

    def _open(self) -> None:
        header = _read_header(self.directory)
        if header is None or header["identity"] != self.identity:
            if os.path.lexists(self.directory / "header.json"):  # False also where it may not be asked
                self._note_damage("its header cannot be read")
            return
        self.shape, self._stored = tuple(header["shape"]), header["stored"]
        self.class_tokens = header["class_tokens"]
        self._entries, self._kinds, self._about = self._read_index()
        with suppress(OSError):
            os.utime(self.directory / "header.json")  # when it was last used

    def _write_header(self) -> None:
        if not self.directory.is_dir():
            self.directory.mkdir(parents=True, exist_ok=True)
            sync_directory(self.root)
        assert self.shape is not None
        header = {
            "format": FORMAT,
            "name": self.name,
            "identity": self.identity,
            "shape": list(self.shape),
            "class_tokens": self.class_tokens,
            "stored": self._stored,
        }
        found = _read_header(self.directory, to_add=True)
        if found is None or found | {"name": self.name} != header:
            # Rows of another shape, if any, are dropped with their index before the header says otherwise.
            (self.directory / "index").unlink(missing_ok=True)
            write_atomically(self.directory / "header.json", [json.dumps(header, indent=1).encode()])

    def _read_index(self, *, to_add: bool = False) -> tuple[Entries, dict[int, str], About]:
        """What the index names; nothing if it is missing, damaged or, unless ``to_add``, cannot be read."""
        try:
            content = read_regular(self.directory / "index")
        except FileNotFoundError:
            return {}, {}, {}
        except OSError as error:
            if to_add:  # a new index would lose what this one names
                raise
            self._note_damage(f"its index cannot be read: {error.strerror}")
            return {}, {}, {}
        found = _parse_index(content)
        if found is None:
            self._note_damage("its index is damaged")
            return {}, {}, {}
        return found

    def _note_damage(self, what: str) -> None:
        if not self._damage:
            self._damage = f"cached latents in {self.directory} are dropped and computed again: {what}"
            self.notes.append(self._damage)

    def _give_up(self, why: str) -> None:
        self.writable = False
        self._pending, self._new_kinds, self._new_about = {}, {}, {}
        if self._damage:  # one note about one cache
            self.notes.remove(self._damage)
            why = f"{self._damage.partition(': ')[2]}; {why}"
        self.notes.append(f"latents are not kept in {self.directory}: {why}; the run goes on without")


def batch_kind(encode: Callable[[Tensor], Latents], image_size: int, size: int, batch_size: int) -> str:
    """How far the bits of a latent depend on the batch its image was in, measured on noise.

    ``any``: a batch of ``size`` gives each image the bits that a full batch gives it, at whatever place.
    ``size``: only another batch of the same size does. ``exact``: only the same images in the same places do.
    Which it is depends on processor, library, network and number of threads, but on no image, since the way a
    matrix product is computed is chosen by its shape alone.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, image_size, image_size, 3)
    noise_NHWC = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    latents = encode(noise_NHWC[:size])
    places = (np.arange(batch_size) + batch_size // 2 + 1) % batch_size
    # Full and rearranged: every image at another place, beside others.
    full = encode(noise_NHWC[torch.from_numpy(places)])[np.argsort(places)]
    if _same_bits(latents, full[np.arange(size)]):
        return "any"
    places = (np.arange(size) + size // 2 + 1) % size
    if _same_bits(latents, encode(noise_NHWC[:size][torch.from_numpy(places)])[np.argsort(places)]):
        return "size"
    return "exact"


def _same_bits(a: Latents, b: Latents) -> bool:
    bits = [
        torch.cat([each.tokens_NTD, each.class_tokens_NKD], dim=1).contiguous().view(torch.int32)
        for each in (a, b)
    ]
    return torch.equal(*bits)


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.digest()


def _checksum(key: bytes, row: np.ndarray) -> int:
    return zlib.crc32(row, zlib.crc32(key))  # with the key: a whole row of another image is no good either


def _pack(latents: Latents, stored: str) -> np.ndarray | None:
    """Rows of bytes, tokens first and then class tokens, or None if the type cannot hold them exactly."""
    parts = torch.cat([latents.tokens_NTD, latents.class_tokens_NKD], dim=1)
    numbers = parts.detach().cpu().contiguous().numpy().reshape(len(latents), -1)
    bits = numbers.view(np.uint32)
    if stored == "bfloat16":
        if np.any(bits & 0xFFFF):
            return None
        bits = (bits >> 16).astype(np.uint16)
    return bits.view(np.uint8).copy()


def _unpack(rows: np.ndarray, shape: tuple[int, int], stored: str, class_tokens: int) -> Latents:
    bits = rows.view(np.uint32) if stored == "float32" else rows.view(np.uint16).astype(np.uint32) << 16
    numbers = torch.from_numpy(bits.view(np.float32).reshape(len(rows), *shape))
    tokens = shape[0] - class_tokens
    return Latents(numbers[:, :tokens], numbers[:, tokens:])


def _read_header(directory: Path, *, to_add: bool = False) -> dict[str, Any] | None:
    """The header of a cache; None if it is missing, damaged or, unless ``to_add``, cannot be read."""
    try:
        header = json.loads(read_regular(directory / "header.json", 2**24))
        shape = header["shape"]
        good = header["format"] == FORMAT and header["stored"] in _STORED
        good = good and isinstance(header["identity"], dict) and isinstance(header["name"], str)
        good = good and type(header["class_tokens"]) is int and len(shape) == 2
        if (
            good
            and all(type(side) is int and side > 0 for side in shape)
            and 0 <= header["class_tokens"] <= shape[0]
        ):
            return header
    except OSError as error:
        if to_add and not isinstance(error, FileNotFoundError):  # a new one would begin a new index
            raise
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _index_bytes(entries: Entries, kinds: Mapping[int, str], about: About) -> list[bytes]:
    """A line of JSON with a checksum of the rest, then the records."""
    records = np.zeros(len(entries), dtype=_RECORD)
    records["key"] = np.frombuffer(b"".join(entries), dtype="V16")
    if entries:
        records["row"], records["crc"] = np.array(list(entries.values()), dtype=np.int64).T
    head = {
        "sizes": {str(size): kind for size, kind in sorted(kinds.items())},
        "about": {key.hex(): sentences for key, sentences in about.items()},
    }
    body = records.tobytes()
    line = {"format": FORMAT, **head, "sha": _digest(json.dumps(head).encode(), body).hex()}
    return [json.dumps(line).encode() + b"\n", body]


def _parse_index(content: bytes) -> tuple[Entries, dict[int, str], About] | None:
    line, _, body = content.partition(b"\n")
    try:
        head = json.loads(line)
        text = json.dumps({name: head[name] for name in ("sizes", "about")}).encode()
        if head["format"] != FORMAT or head["sha"] != _digest(text, body).hex():
            return None
        kinds = {int(size): str(kind) for size, kind in head["sizes"].items()}
        about = {bytes.fromhex(key): list(map(str, each)) for key, each in head["about"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    records = np.frombuffer(body, dtype=_RECORD)
    keys = [body[start : start + 16] for start in range(0, len(body), _RECORD.itemsize)]
    pairs = zip(records["row"].tolist(), records["crc"].tolist(), strict=True)
    return dict(zip(keys, pairs, strict=True)), kinds, about


# -- the cache as a whole ---------------------------------------------------------------------------------


def cache_entries(root: str | Path) -> list[dict[str, Any]]:
    """What is kept below ``root``, the last used first: key, identity, images, bytes, last_used (seconds)."""
    found = []
    for directory in sorted(Path(root).glob("*/")):
        files = [path for path in directory.glob("*") if os.path.isfile(path)]
        if not any(os.path.isfile(directory / name) for name in _FILES):
            continue
        header = _read_header(directory)
        with suppress(OSError):
            index = (
                _parse_index(read_regular(directory / "index"))
                if os.path.isfile(directory / "index")
                else None
            )
            found.append(
                {
                    "key": directory.name,
                    "backbone": "(damaged)" if header is None else header["name"],
                    "identity": {} if header is None else header["identity"],
                    "images": 0 if index is None else len(index[0]),
                    "bytes": sum(path.stat().st_size for path in files),
                    "last_used": max(path.stat().st_mtime for path in files),
                }
            )
    return sorted(found, key=lambda entry: -entry["last_used"])


def clear_cache(root: str | Path, keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Remove what is kept under these keys (all by default); returns what was removed.

    A run that is using it goes on: what it has opened it can read, what is gone it computes.

    Raises:
        RunError: no such key, or the files cannot be removed.
    """
    root, entries = Path(root), cache_entries(root)
    for key in keys:
        if not any(entry["key"] == key for entry in entries):
            raise RunError(f"{root} keeps nothing under {key!r}; vitlr cache list shows the keys")
    chosen = [entry for entry in entries if not keys or entry["key"] in keys]
    if not chosen:
        return []
    with locked(root, wait=LOCK_SECONDS):
        for entry in chosen:
            directory = root / entry["key"]
            try:
                # The index first: rows that no index names are never read.
                for path in sorted(directory.iterdir(), key=lambda path: path.name != "index"):
                    path.unlink()
                directory.rmdir()
            except OSError as error:
                raise RunError(f"{directory} cannot be removed: {error.strerror}") from error
    return chosen
