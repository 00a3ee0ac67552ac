"""The front door for a program: an image classifier that is taught bit by bit."""

from vitlr.classifier.classifier import LatentReplayClassifier, NotFittedError
from vitlr.classifier.parts import Remembered

__all__ = ["LatentReplayClassifier", "NotFittedError", "Remembered"]
