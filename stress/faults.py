"""Forked children that die, at a given time or at the n-th system call that writes, with or without unflushed data.

A child is a fork of a process that has imported everything and started no thread, so that it costs
milliseconds. Its calls that write below a directory are counted: opening for writing, writing, flushing,
renaming, removing and making directories. In the requested call it kills itself with SIGKILL; a write is cut after
a part of its bytes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Death", "calls_of", "cut_unflushed", "run_child", "snapshot"]


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a child ended: ``seconds`` it lived, ``calls`` it made (if it lived to report them), and ``flushed``, the
    flushed bytes of each file by inode number."""

    killed: bool
    code: int
    seconds: float
    calls: list[str]
    flushed: dict[int, int]


class _Watch:
    """Counts and reports a child's calls; the child dies in call ``at``."""

    def __init__(self, below: Path, log: int, at: int | None) -> None:
        self.below, self.log, self.at = str(below.resolve()), log, at
        self.count = 0
        self.write, self.fsync, self.replace = os.write, os.fsync, os.replace

    def call(self, name: str, die: Callable[[], Any] = lambda: None) -> None:
        self.write(self.log, f"call {name}\n".encode())
        if self.count == self.at:
            die()
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def ours(self, path: Any) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        path = os.path.abspath(os.fsdecode(path))
        return path == self.below or path.startswith(self.below + os.sep)

    def install(self) -> None:
        os.write, os.fsync = self._write, self._fsync
        sys.addaudithook(self._audit)
        from vitlr.storage import files

        exchange = files._exchange

        def watched(one: Path, other: Path) -> bool:
            self.call("exchange")
            return exchange(one, other)

        files._exchange = watched

    def _write(self, descriptor: int, data: Any) -> int:
        if self.ours(descriptor):
            part = bytes(memoryview(data)[: len(data) // 2])
            self.call("write", lambda: self.write(descriptor, part))
        return self.write(descriptor, data)

    def _fsync(self, descriptor: int) -> None:
        if not self.ours(descriptor):
            return self.fsync(descriptor)
        self.call("fsync")
        self.fsync(descriptor)
        status = os.fstat(descriptor)
        self.write(self.log, f"flushed {status.st_ino} {status.st_size}\n".encode())

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, (str, bytes)) and self.ours(path):
                self.call("open")
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") and self.ours(arguments[0]):
            self.call(event.removeprefix("os."))


def run_child(
    work: Callable[[], int | None],
    below: Path,
    *,
    at: int | None = None,
    after: float | None = None,
    output: Path | None = None,
) -> Death:
    """Fork, do ``work``, and die in call ``at``, or ``after`` that many seconds, or not at all."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            if output is not None:
                descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(descriptor, 1)
                os.dup2(descriptor, 2)
            _Watch(below, writer, at).install()
            code = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    began = time.perf_counter()
    log = _read(reader, child, began, after)
    status = os.waitpid(child, 0)[1]
    seconds = time.perf_counter() - began
    lines = [line.split() for line in log.decode().split("\n")[:-1]]
    return Death(
        killed=os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
        code=os.waitstatus_to_exitcode(status),
        seconds=seconds,
        calls=[line[1] for line in lines if line[0] == "call"],
        flushed={int(line[1]): int(line[2]) for line in lines if line[0] == "flushed"},
    )


def _read(reader: int, child: int, began: float, after: float | None) -> bytes:
    """What the child reports until it ends; it is killed after its time."""
    os.set_blocking(reader, False)
    parts, killed = [], False
    while True:
        try:
            part = os.read(reader, 2**16)
            if not part:
                break
            parts.append(part)
        except BlockingIOError:
            time.sleep(0.0005)
        if after is not None and not killed and time.perf_counter() - began >= after:
            os.kill(child, signal.SIGKILL)
            killed = True
    os.close(reader)
    return b"".join(parts)


def cut_unflushed(directory: Path, before: dict[int, int], flushed: dict[int, int]) -> int:
    """Simulate a power cut: cut every file to what had reached the disk. Returns how many were cut.

    ``before``: sizes by inode number when the child began. Names stay as they are, because common file systems
    keep the order of renames.
    """
    cut = 0
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            size = flushed.get(status.st_ino, before.get(status.st_ino, 0))
            if status.st_size > size:
                os.truncate(path, size)
                cut += 1
    return cut


def snapshot(directory: Path) -> dict[int, int]:
    """Sizes of the files below a directory by inode number."""
    found = [path.stat() for path in directory.rglob("*") if path.is_file()]
    return {status.st_ino: status.st_size for status in found}


def calls_of(work: Callable[[], int | None], below: Path, output: Path | None = None) -> list[str]:
    """The calls of a child that is not killed."""
    death = run_child(work, below, output=output)
    if death.code:
        raise SystemExit(f"a run that was not killed ended with code {death.code}")
    return death.calls


def single_threaded() -> None:
    """Called before anything else, because a forked child must not wait for threads that only its parent has."""
    import torch

    torch.set_num_threads(1)
    ctypes.CDLL(None)  # loaded here, not in each child
