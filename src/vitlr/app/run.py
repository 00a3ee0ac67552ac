"""The server around the routes: the socket, the connections, the start and the end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from vitlr.errors import RunError

__all__ = ["listen", "serve_until_stopped"]


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; ``port`` 0 takes a free one.

    Raises:
        RunError: the address or port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
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
    """Says when it answers, and leaves signals to whoever called it."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self.stopped_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

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


def serve_until_stopped(app: ASGIApp, bound: socket.socket, ready: Callable[[], None]) -> int:
    """Answer until SIGINT or SIGTERM, whose number is returned; ``ready`` is called once it answers."""
    settings = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    server = _Server(settings, ready)
    server.run(sockets=[bound])
    return server.stopped_by or 0
