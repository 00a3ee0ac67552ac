"""An exported model, or that of a run, as something that answers: it recognises and cannot be taught.

Shapes: N images, C classes, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from vitlr.classifier.knowledge import answered
from vitlr.classifier.labels import checked_images
from vitlr.errors import RunError
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.record import Latents
from vitlr.latents.settings import BackboneConfig
from vitlr.learning.learner import COSINE_THRESHOLD
from vitlr.vit.compute.precision import resolved
from vitlr.vit.source import read_json

__all__ = ["Exported", "exported_in"]


def exported_in(directory: Path) -> Path | None:
    """The model in a directory or, if that is a run's, in its ``model``; None if there is none."""
    for place in (directory, directory / "model"):
        if (place / "config.json").is_file() and (place / "model.safetensors").is_file():
            return place
    return None


class Exported:
    """A network and a linear classifier as ``LatentReplayClassifier.export`` and ``vitlr train`` write them.

    Attributes:
        threshold_: of scores, as a new classifier has it.
    """

    threshold_ = COSINE_THRESHOLD

    def __init__(self, directory: Path, device: str | None = None, precision: str | None = None) -> None:
        """Raises RunError if the model has no linear classifier on its class token."""
        self.network = Network.open(
            BackboneConfig(name=str(directory)), compute=resolved(device or "cpu", precision)
        )
        self._head = self.network.new_head()
        self.labels, self._weight_CD, self._bias_C = _classifier(directory, self.network.skeleton.width)

    def answers(
        self, X: Any, *, on_bad_image: str = "error"
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """See ``LatentReplayClassifier.answers``; the score is the largest cosine with a row of the classifier."""
        encoder = Encoder(self.network, on_bad=on_bad_image)
        _, logits_NC, scores_N = answered(encoder, checked_images(X), len(self.labels), self._answer)
        return self.labels, logits_NC.double().softmax(dim=1).numpy(), scores_N.numpy()

    @torch.no_grad()
    def _answer(self, latents: Latents) -> tuple[Tensor, Tensor]:
        parts = [
            self._head(part.to(self.network.device)).float().cpu() for part in latents.tokens_NTD.split(64)
        ]
        features_ND = torch.cat(parts)
        cosines_NC = functional.normalize(features_ND) @ functional.normalize(self._weight_CD).T
        return features_ND @ self._weight_CD.T + self._bias_C, cosines_NC.amax(dim=1)


def _classifier(directory: Path, width: int) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Labels (C), weight (C, D) and bias (C)."""
    try:
        names = read_json(directory / "config.json")["id2label"]
        labels = tuple(str(names[str(index)]) for index in range(len(names)))
        with safe_open(directory / "model.safetensors", "pt") as file:
            weight, bias = (file.get_tensor(f"classifier.{name}").float() for name in ("weight", "bias"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:100]
        raise RunError(
            f"{directory} holds a network without a classifier ({reason}); give a taught one"
        ) from None
    if (
        weight.ndim != 2
        or weight.shape[0] != len(labels)
        or weight.shape[1] < width
        or bias.shape != weight.shape[:1]
    ):
        raise RunError(f"{directory} has a classifier that does not fit its network; export it again")
    if bool(weight[:, width:].any()):
        raise RunError(
            f"{directory} has a classifier that reads more than the class token; export it with vitlr"
        )
    return labels, weight[:, :width].contiguous(), bias
