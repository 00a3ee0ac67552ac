"""ViT-LR: latent replay for vision transformers.

Importing this package is cheap: PyTorch and transformers are loaded when a name that needs them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitlr.errors import VitLRError

if TYPE_CHECKING:
    from vitlr.classifier import LatentReplayClassifier

__version__ = "0.2.0"  # the only place; the package's metadata is made from it

__all__ = ["LatentReplayClassifier", "VitLRError", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "LatentReplayClassifier":
        from vitlr.classifier import LatentReplayClassifier

        return LatentReplayClassifier
    raise AttributeError(f"module 'vitlr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
