"""Fixtures of the classifier's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.classifier.colours import classifier
from tests.tiny_networks import make_directory
from tests.vit.conftest import one_thread

from vitlr import LatentReplayClassifier

__all__ = ["model", "network", "one_thread"]


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT with random weights in Hugging Face format; not to be written to."""
    return make_directory(tmp_path_factory.mktemp("networks") / "tiny", "vit")


@pytest.fixture
def model(network: Path) -> LatentReplayClassifier:
    """One that has learned nothing yet."""
    return classifier(network)
