"""The server around the routes: its start, its signals and its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from vitlr.app.connections import HEADER_SECONDS, Connection, Gate, Listener
from vitlr.errors import RunError

__all__ = ["listen", "serve_until_stopped"]


def listen(host: str, port: int) -> Listener:
    """A bound socket; ``port`` 0 takes a free one. Nobody can connect before the page answers.

    Raises:
        RunError: the address or port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = Listener(family, socket.SOCK_STREAM)
    bound.gate = Gate()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"{host}:{port} is not available ({reason}); choose another --port or --host"
        ) from error
    return bound


class _Server(uvicorn.Server):
    """Says when it answers, closes slow connections, and leaves signals to whoever called it."""

    def __init__(self, config: uvicorn.Config, gate: Gate, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gate, self._ready = gate, ready
        self.stopped_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.is_ssl:  # uvicorn leaves asyncio's minute for a handshake
            loop: Any = asyncio.get_running_loop()
            loop.create_server = partial(loop.create_server, ssl_handshake_timeout=HEADER_SECONDS)
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._gate.sweep()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self.stopped_by = number
            self.should_exit = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve_until_stopped(
    app: ASGIApp,
    bound: Listener,
    ready: Callable[[], None],
    certificate: tuple[Path, Path] | None = None,
) -> int:
    """Answer until SIGINT or SIGTERM, whose number is returned.

    Args:
        ready: called once it answers.
        certificate: files of a certificate and its key, for HTTPS.
    """
    connection: Any = partial(Connection, bound.gate)
    settings = uvicorn.Config(
        app,
        loop="asyncio",
        http=connection,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        ssl_certfile=None if certificate is None else certificate[0],
        ssl_keyfile=None if certificate is None else certificate[1],
    )
    server = _Server(settings, bound.gate, ready)
    server.run(sockets=[bound])
    return server.stopped_by or 0
