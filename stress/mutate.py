"""Damage to files: blind (bits, lengths, cuts, splices) and with knowledge of the format (JSON values, chunks)."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["damage", "damage_json", "damage_png", "damage_text"]

_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**16, 9000, 30000, 2**31 - 1, 2**31, 2**32 - 1]
_LONG = [*_NUMBERS, 2**33, 2**63 - 1, 2**63, 2**64 - 1]

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 255, 10**6, 2**31, 2**63, -(2**63), 10**30, 10**400),
    *(0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "a",
        "0",
        "-1",
        "1e3",
        "null",
        "\x00",
        "\ud800",
        "ä" * 40,
        "x" * 5000,
        "%s%n",
        "{0.__class__}",
    ),
    *(
        "/etc/passwd",
        "../../../etc/passwd",
        "..\\..\\x",
        "C:\\x",
        "~",
        "$HOME",
        "file:///etc/passwd",
        "a/b/c",
    ),
    *([], {}, [[]], [0], [None] * 50, {"a": {}}, {"": ""}, [1.5, "x", None], [[[[[[]]]]]]),
]


def _pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def damage(content: bytes, rng: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """One to four blind changes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        data = _CHANGES[int(rng.integers(len(_CHANGES)))](data, rng, others)
    return bytes(data)


def _at(data: bytearray, rng: np.random.Generator) -> int:
    # Half of the changes are near the beginning, because headers contain the lengths.
    limit = len(data) if rng.random() < 0.5 else min(len(data), 64)
    return int(rng.integers(limit)) if limit else 0


def _flip(data: bytearray, rng: np.random.Generator, _: Any) -> bytearray:
    for _ in range(int(rng.integers(1, 9))):
        if data:
            data[_at(data, rng)] ^= 1 << int(rng.integers(8))
    return data


def _bytes(data: bytearray, rng: np.random.Generator, _: Any) -> bytearray:
    at = _at(data, rng)
    new = rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
    data[at : at + len(new)] = new
    return data


def _number(data: bytearray, rng: np.random.Generator, _: Any) -> bytearray:
    size = int(_pick(rng, [1, 2, 4, 4, 8, 8]))
    value = int(_pick(rng, _LONG)) % (1 << 8 * size)
    at = _at(data, rng)
    data[at : at + size] = value.to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return data


def _cut(data: bytearray, rng: np.random.Generator, _: Any) -> bytearray:
    return data[: _at(data, rng)]


def _remove(data: bytearray, rng: np.random.Generator, _: Any) -> bytearray:
    at = _at(data, rng)
    del data[at : at + int(rng.integers(1, 65))]
    return data


def _repeat(data: bytearray, rng: np.random.Generator, _: Any) -> bytearray:
    at = _at(data, rng)
    part = data[at : at + int(rng.integers(1, 65))]
    return data[:at] + part * int(rng.integers(2, 9)) + data[at:]


def _splice(data: bytearray, rng: np.random.Generator, others: Sequence[bytes]) -> bytearray:
    if not others:
        return data
    other = _pick(rng, others)
    return data[: _at(data, rng)] + bytearray(other[int(rng.integers(len(other) + 1)) :])


def _fill(data: bytearray, rng: np.random.Generator, _: Any) -> bytearray:
    at = _at(data, rng)
    data[at : at + 32] = bytes([int(_pick(rng, [0, 0xFF, 0x20]))]) * len(data[at : at + 32])
    return data


_CHANGES: list[Callable[[bytearray, np.random.Generator, Sequence[bytes]], bytearray]] = [
    *(_flip, _flip, _bytes, _number, _number, _cut, _remove, _repeat, _splice, _fill)
]


def damage_png(content: bytes, rng: np.random.Generator) -> bytes:
    """Change chunks and give them right checksums, so that their readers are reached."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(int(rng.integers(1, 4))):
        row = int(rng.integers(len(chunks)))
        kind, body = chunks[row]
        what = rng.random()
        if what < 0.6:
            if kind == b"IDAT" and rng.random() < 0.5:  # inside the compression
                pixels = _unpacked(body)
                body = zlib.compress(damage(pixels, rng))
            else:
                body = damage(body, rng)
            chunks[row] = (kind, body)
        elif what < 0.75:
            del chunks[row]
        elif what < 0.9:
            chunks.insert(row, chunks[int(rng.integers(len(chunks)))])
        else:
            names = [b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"gAMA", b"pHYs"]
            bomb = b"x\0\0" + zlib.compress(b"\0" * 10**6)
            chunks.insert(row, (_pick(rng, names), bomb if rng.random() < 0.5 else damage(body, rng)))
        if not chunks:
            break
    parts = [content[:8]]
    for kind, body in chunks:
        parts += [len(body).to_bytes(4, "big"), kind, body, zlib.crc32(kind + body).to_bytes(4, "big")]
    return b"".join(parts)


def _unpacked(body: bytes) -> bytes:
    """The decompressed data, or the bytes themselves if they are already damaged."""
    try:
        return zlib.decompressobj().decompress(body, 10**6)
    except zlib.error:
        return body


def damage_json(content: Any, rng: np.random.Generator, changes: int = 3) -> Any:
    """A copy with one to ``changes`` of its values replaced, removed, doubled or added."""
    content = copy.deepcopy(content)
    for _ in range(int(rng.integers(1, changes + 1))):
        places = list(_places(content))
        if not places:
            return _pick(rng, VALUES)
        parent, key = _pick(rng, places)
        what = rng.random()
        if what < 0.7:
            old = parent[key]
            parent[key] = _near(old, rng) if rng.random() < 0.4 else copy.deepcopy(_pick(rng, VALUES))
        elif what < 0.85:
            del parent[key]
        elif isinstance(parent, dict):
            parent[str(_pick(rng, ["x", "", "__class__", "../x", key]))] = copy.deepcopy(_pick(rng, VALUES))
        else:
            parent.insert(key, copy.deepcopy(_pick(rng, [*parent, *VALUES])))
    return content


def _places(node: Any) -> Any:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield node, key
        yield from _places(value)


def _near(value: Any, rng: np.random.Generator) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return int(_pick(rng, [-value, value + 1, value - 1, value * 2, value * 1000, 0, value // 2]))
    if isinstance(value, float):
        return float(_pick(rng, [-value, value * 1e6, 0.0, value + 1]))
    if isinstance(value, str):
        return damage(value.encode("utf-8", "replace"), rng).decode("utf-8", "replace")
    return value


_WORDS = [
    *(
        "null",
        "true",
        "-1",
        "0x10",
        "1e999",
        ".nan",
        ".inf",
        "9" * 5000,
        "&a",
        "*a",
        "<<: *a",
        "!!binary",
        "? ",
    ),
    *(
        "!!python/object/apply:os.system [id]",
        "!!python/name:os.system",
        "!!int x",
        "!!float",
        "!!timestamp 0",
    ),
    *("__import__('os').system('id')", "%(x)s", "${HOME}", "[" * 300, "{" * 300, "(" * 300, "- " * 300, "\t"),
    *(
        "--- ",
        "...",
        "#",
        "'",
        '"',
        "\\",
        "\x00",
        "\ufeff",
        "\x85",
        "2001-01-01",
        "1_000",
        "0o17",
        "60:60:60",
    ),
    *("data:", "data.root=/etc", "../../x", "[DEFAULT]\n", "[x]\n", "a = b\n", " = ", ": ", "\n", "\r", ","),
    *("1" + "+1" * 500, "-" * 2000 + "1", "lambda: 0", "f'{x}'", "b'x'", "{1: 2}", "9**9**9", "\\N{DASH}"),
]


def damage_text(content: str, rng: np.random.Generator) -> bytes:
    """Insert words; double, move and remove lines; sometimes add blind damage."""
    lines = content.split("\n")
    for _ in range(int(rng.integers(1, 5))):
        row = int(rng.integers(len(lines)))
        what = rng.random()
        if what < 0.5:
            line, word = lines[row], str(_pick(rng, _WORDS))
            at = int(rng.integers(len(line) + 1))
            lines[row] = line[:at] + word + (line[at:] if rng.random() < 0.5 else "")
        elif what < 0.65:
            key = lines[row].partition(":")[0].partition("=")[0]
            lines[row] = f"{key}{': ' if ':' in lines[row] else ' = '}{_pick(rng, _WORDS)}"
        elif what < 0.8:
            lines.insert(row, _pick(rng, lines))
        elif len(lines) > 1:
            del lines[row]
    data = "\n".join(lines).encode("utf-8", "replace")
    return damage(data, rng) if rng.random() < 0.3 else data


def dumps(content: Any) -> bytes:
    """JSON, with numbers that JSON lacks (nan, infinity) as Python writes them."""
    return json.dumps(content).encode("utf-8", "replace")
