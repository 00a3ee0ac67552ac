"""Fixtures of the network's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.tiny_networks import KINDS, make_directory


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads, up to fifty times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory of each kind."""
    root = tmp_path_factory.mktemp("networks")
    return {kind: make_directory(root / kind, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind in turn."""
    return request.param


@pytest.fixture
def directory(directories: dict[str, Path], kind: str) -> Path:
    """The directory of that kind; not to be written to."""
    return directories[kind]
