"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import hypothesis
import pytest

# The same examples every time, on a busy machine too; to look for new ones: --hypothesis-profile default.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")

# Real weights and photographs to measure with are no part of the project: tests that use them look beside
# the checkout, or where VITLR_REAL points, and are skipped where they are absent.
REAL = Path(os.environ.get("VITLR_REAL", Path(__file__).resolve().parents[2] / "shared" / "real"))


@pytest.fixture(scope="session")
def real_vit() -> Path:
    """Directory of a ViT-Ti/16 pretrained on ImageNet, in Hugging Face format."""
    path = REAL / "vit-tiny-patch16-224"
    if not path.is_dir():
        pytest.skip("no real weights beside the checkout (set VITLR_REAL)")
    return path


@pytest.fixture(scope="session")
def real_objects() -> Path:
    """Root of 50 real objects in CORe50's layout, six frames a video."""
    path = REAL / "objects" / "core50_128x128"
    if not path.is_dir():
        pytest.skip("no real objects beside the checkout (set VITLR_REAL)")
    return path


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache, or another test's."""
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VITLR_CACHE", str(directory))
    return directory


@contextmanager
def _without_privileges() -> Iterator[None]:
    """As an ordinary user, whom the system refuses what it never refuses root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def without_privileges() -> Callable[[], AbstractContextManager[None]]:
    """``with without_privileges()``: what may not be read or written cannot be, also for root."""
    return _without_privileges


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user can enter and write into, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory(prefix="vitlr-test-") as place:
        os.chmod(place, 0o777)
        yield Path(place)


@contextmanager
def _held_elsewhere(directory: Path) -> Iterator[None]:
    script = (
        "import sys\nfrom vitlr.storage.locks import locked\n"
        f"with locked({str(directory)!r}):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        yield


@pytest.fixture
def held_elsewhere() -> Callable[[Path], AbstractContextManager[None]]:
    """``with held_elsewhere(directory)``: another process holds it, as ``locked`` does."""
    return _held_elsewhere
