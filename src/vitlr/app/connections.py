"""Bounds on connections, which uvicorn does not have: their number, of one address too, and the time for headers.

A connection that has not sent whole headers within ten seconds is closed, and gives way to a new one where there are
too many. One that does not read what it asked for is closed as well.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["HEADER_SECONDS", "Connection", "Gate", "Listener"]

HEADER_SECONDS = 10.0
_STALLED_SECONDS = 30.0  # in which nothing of an answer is read
_MOST, _MOST_OF_ONE = 512, 32


class Gate:
    """Counts connections. Used by the event loop's thread alone.

    Args:
        most: connections at the same time; fewer if the system allows fewer open files.
        most_of_one: of them from one address, or from one /64 of IPv6. This machine's own is exempt: a proxy or a
            tunnel may stand there.
    """

    def __init__(self, most: int = _MOST, most_of_one: int = _MOST_OF_ONE) -> None:
        self._most, self._most_of_one = min(most, _open_files() // 2), most_of_one
        self._of_one: Counter[str] = Counter()
        self._connections: dict[Connection, None] = {}  # in the order of their arrival
        self._new: dict[int, socket.socket] = {}  # by file number: accepted, perhaps within a TLS handshake

    def enter(self, address: str) -> str | None:
        """The key to ``leave`` with, if one more connection from there may be open."""
        key = _network_of(address)
        if key != "" and self._of_one[key] >= self._most_of_one:
            return None
        if self._of_one.total() >= self._most and not self._make_room():
            return None
        self._of_one[key] += 1
        return key

    def accepted(self, connection: socket.socket) -> None:
        """A connection is open."""
        self._new[connection.fileno()] = connection

    def leave(self, key: str, number: int = -1) -> None:
        """A connection ends; ``number`` is that of its file."""
        self._new.pop(number, None)
        self._of_one[key] -= 1
        if not self._of_one[key]:
            del self._of_one[key]

    def add(self, connection: Connection) -> None:
        """A connection waits for headers."""
        self._new.pop(connection.transport.get_extra_info("socket").fileno(), None)
        self._connections[connection] = None

    def remove(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def sweep(self) -> None:
        """Close connections that are too slow; called every second."""
        now = time.monotonic()
        for connection in list(self._connections):
            if connection.is_overdue(now):
                connection.transport.abort()

    def _make_room(self) -> bool:
        """Close the oldest connection that is not being answered."""
        oldest = next((each for each in self._connections if each.waiting_since is not None), None)
        if oldest is not None:
            self.remove(oldest)
            oldest.transport.abort()
        elif self._new:
            with suppress(OSError):
                self._new.pop(next(iter(self._new))).shutdown(socket.SHUT_RDWR)
        else:
            return False
        return True


class Connection(H11Protocol):
    """HTTP/1.1 that knows since when it waits for headers."""

    def __init__(self, gate: Gate, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = gate
        self.waiting_since: float | None = time.monotonic()
        self._stalled_since: float | None = None

    def is_overdue(self, now: float) -> bool:
        """True if headers, or the rest of a body that nobody wants, or reading take too long."""
        waiting, stalled = self.waiting_since, self._stalled_since
        return (waiting is not None and now - waiting > HEADER_SECONDS) or (
            stalled is not None and now - stalled > _STALLED_SECONDS
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._gate.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self.waiting_since = None  # whole headers are there, and no answer yet

    def on_response_complete(self) -> None:
        self.waiting_since = time.monotonic()
        super().on_response_complete()
        if not self.cycle.response_complete:  # the next request was there already
            self.waiting_since = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_since = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_since = None


class Listener(socket.socket):
    """A listening socket that lets in what its gate allows, also before a TLS handshake."""

    gate: Gate

    def accept(self) -> tuple[socket.socket, Any]:
        """As that of a socket; connections that are too many are closed at once."""
        while True:
            accepted, address = super().accept()
            key = self.gate.enter(address[0])
            if key is not None:
                counted = _Counted(self.family, self.type, self.proto, fileno=accepted.detach())
                counted.gate, counted.key = self.gate, key
                self.gate.accepted(counted)
                return counted, address
            accepted.close()


class _Counted(socket.socket):
    gate: Gate
    key: str | None

    def close(self) -> None:
        if self.key is not None:
            self.gate.leave(self.key, self.fileno())
            self.key = None
        super().close()


def _network_of(address: str) -> str:
    """What is counted as one address; empty for this machine's own."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address or "-"
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if parsed.is_loopback:
        return ""
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _open_files() -> int:
    """Files that this process may have open."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft > 0:
            return soft
    return 2 * _MOST
