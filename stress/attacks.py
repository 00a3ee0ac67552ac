"""What an attacker sends to the live page: shared by its tests and by the load benchmark.

Nothing here needs more than the standard library and Pillow. Files are small; what they stand for is not.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import ssl
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

FROM_PAGE = {"X-VitLR": "1"}


# -- requests -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What came back, and in how many seconds; status 0 if the connection was closed without an answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


def ask(
    port: int,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] = FROM_PAGE,
    *,
    method: str | None = None,
    tls: ssl.SSLContext | None = None,
    timeout: float = 60.0,
) -> Reply:
    """GET, or POST if there is a body."""
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=tls)
    began = time.perf_counter()
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it answered before it had read everything
            connection.request(method or ("GET" if body is None else "POST"), path, body, dict(headers))
        reply = connection.getresponse()
        content = reply.read()
        return Reply(reply.status, content, dict(reply.getheaders()), time.perf_counter() - began)
    except (OSError, http.client.HTTPException):
        return Reply(0, seconds=time.perf_counter() - began)
    finally:
        connection.close()


def raw(port: int, sent: bytes, timeout: float = 15.0) -> Reply:
    """The first answer to these bytes, whatever they are."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        with suppress(OSError):
            connection.sendall(sent)
        try:
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            content = answer.read()
            return Reply(answer.status, content, dict(answer.getheaders()), time.perf_counter() - began)
        except (OSError, http.client.HTTPException):
            return Reply(0, seconds=time.perf_counter() - began)


@contextmanager
def half_sent(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Connections that began to send headers and never end them."""
    connections = []
    try:
        for _ in range(number):
            connection = socket.create_connection(("127.0.0.1", port), timeout=15)
            connection.sendall(b"GET /live/state HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Sl")
            connections.append(connection)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def is_closed(connection: socket.socket) -> bool:
    """True if the other side closed a connection."""
    connection.settimeout(0.2)
    try:
        while connection.recv(65536):
            pass  # an answer to what was sent before
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def memory(pid: int) -> tuple[int, int]:
    """Bytes of memory that a process has, and has had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = [re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM")]
    now, peak = (int(match[1]) * 1024 if match else 0 for match in found)
    return now, peak


# -- pictures -------------------------------------------------------------------------------------------


def picture(level: int = 90, side: int = 64, kind: str = "JPEG") -> bytes:
    """An honest picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side * 3 // 4), (level, 255 - level, 40)).save(buffer, kind)
    return buffer.getvalue()


def one_colour_png(side: int) -> bytes:
    """A square PNG of one colour: a few kilobytes for any number of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    row = b"\0" + bytes(side * 3)
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def slow_gif(side: int, frames: int) -> bytes:
    """An animated GIF of frames of one pixel on a large canvas, which each clears."""
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = (
        b"\x21\xf9\x04\x08\x01\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    )
    return head + frame * frames + b";"


def huge_webp() -> bytes:
    """A WebP that announces a canvas of 16384 x 16384 pixels."""
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\x3f\0" + b"\xff\x3f\0"
    return b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas


def bombs() -> dict[str, bytes]:
    """Files that are pictures, small on the wire and large in memory or time."""
    bits, tiff = io.BytesIO(), io.BytesIO()
    Image.new("1", (9400, 9400)).save(bits, "PNG")
    Image.new("1", (12000, 12000)).save(tiff, "TIFF", compression="group4")
    return {
        "one colour": bits.getvalue(),
        "fax": tiff.getvalue(),
        "canvas": huge_webp(),
        "animation": slow_gif(4000, 900),
    }


def no_pictures() -> dict[str, bytes]:
    """Data that is no picture."""
    return {
        "empty": b"",
        "cut off JPEG": picture()[:400],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n" * 50,
        "html": b"<html><script>alert(1)</script></html>" * 100,
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "json": b'{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}',
    }


def zip_of(entries: Mapping[str, bytes]) -> bytes:
    """A zip archive of these names and contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()
