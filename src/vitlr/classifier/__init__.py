"""The front door for a program: an image classifier that is taught bit by bit."""

from vitlr.classifier.classifier import LatentReplayClassifier, MachineWarning, NotFittedError
from vitlr.classifier.knowledge import MemorySummary

__all__ = ["LatentReplayClassifier", "MachineWarning", "MemorySummary", "NotFittedError"]
