"""A real ``vitlr serve`` process with a tiny network, and requests to it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from stress.attacks import FROM_PAGE, Reply, ask, picture
from stress.serve import server

ME = "visitor=visitor-1"


@dataclass
class Page:
    """A process that serves the page.

    Attributes:
        folder: of its temporary files.
        token: of its address, which is given with every request; empty without one.
    """

    port: int
    process: Popen
    folder: Path
    address: str

    @property
    def token(self) -> str:
        return self.address.partition("?token=")[2]

    def get(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        return self._ask(path, None, headers, **more)

    def post(
        self, path: str, body: bytes | dict = b"", headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        sent = json.dumps(body).encode() if isinstance(body, dict) else body
        return self._ask(path, sent, FROM_PAGE if headers is None else headers, **more)

    def _ask(self, path: str, body: bytes | None, headers: Any, **more: Any) -> Reply:
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return ask(self.port, path, body, {**own, **(headers or {})}, tls=self.tls, **more)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Trusts the certificate that was made for this page, and nothing else."""
        if not self.address.startswith("https"):
            return None
        made = self.folder.parent / "cache" / "certificate" / "certificate.pem"
        return ssl.create_default_context(cafile=str(made))

    def files(self) -> list[str]:
        """Files of visitors on the disk."""
        return [str(path) for path in self.folder.glob(".vitlr-live.*/uploads/*")]

    def teach(self, label: str, level: int, visitor: str = ME) -> dict:
        """Show two frames, name them and wait."""
        for step in range(2):
            reply = self.post(f"/live/frame?{visitor}", picture(level + step))
            assert reply.json == {"taken": step + 1}
        return self.wait(self.post(f"/live/release?{visitor}", {"label": label}))

    def wait(self, reply: Reply) -> dict:
        """The job once it is over."""
        assert reply.status == 200, reply
        until = time.monotonic() + 60
        while time.monotonic() < until:
            job = self.get(f"/live/job?number={reply.json['number']}").json
            if job["state"] in ("done", "failed"):
                return job
            time.sleep(0.02)
        raise AssertionError(f"not over: {job}")

    def labels(self) -> list[str]:
        """Known classes."""
        return [each["label"] for each in self.get("/live/state").json["classes"]]


@contextmanager
def serving(network: Path, folder: Path, *flags: str) -> Iterator[Page]:
    """The page of a new classifier; its files are below ``folder``."""
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "VITLR_CACHE": str(folder / "cache")}
    own = ("--backbone", str(network), "--max-upload", "1", "--threshold", "0", "--method", "latent_replay")
    with server(*own, *flags, environment=environment) as (port, process):
        yield Page(port, process, temporary, process.address)  # type: ignore[attr-defined]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait, for twenty seconds at most."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
