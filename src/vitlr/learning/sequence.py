"""Several frames of one object, one answer.

Frames of a video are not independent: N of them tell more than one and less than N. Their log-probabilities are
averaged and multiplied by the square root of N, as images of one experience count in ``learning.statistics``.

Shapes: N frames, C classes.
"""

from __future__ import annotations

import numpy as np

__all__ = ["together"]

_LEAST = 1e-6  # probability: no single frame can rule a class out


def together(proba_NC: np.ndarray) -> np.ndarray:
    """Probabilities (C,) of the one object that N >= 1 frames with these probabilities show."""
    logs_NC = np.log(np.clip(proba_NC, _LEAST, None))
    logs_C = logs_NC.mean(axis=0) * np.sqrt(len(logs_NC))
    shares_C = np.exp(logs_C - logs_C.max())
    return shares_C / shares_C.sum()
