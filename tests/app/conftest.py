"""A tiny network and one process of the page for all tests of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.pages import Page, serving
from tests.tiny_networks import make_directory


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")


@pytest.fixture(scope="session")
def page(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    for module in ("starlette", "uvicorn", "segno", "cryptography"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("page")
    with serving(network, folder, str(folder / "robot")) as page:
        assert page.get("/live/state").status == 200  # at once: the address is printed only when it answers
        yield page
