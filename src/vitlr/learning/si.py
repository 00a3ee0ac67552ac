"""Synaptic Intelligence, the part of AR1* that holds important parameters still.

Zenke, Poole & Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017 (arXiv 1703.04200),
equations 3-5; clipping and constants as in AR1 (Maltoni & Lomonaco 2019, arXiv 1806.08568, section 4).

For each trained parameter, element by element:

    per step         s     += g (theta' - theta)       g: gradient of the loss alone, theta': after the step
    per experience   Omega += c max(0, -s / ((theta_end - theta_start)^2 + eps)),  at most Omega_max
    penalty          (lambda / 2) sum Omega (theta - theta*)^2,  theta*: theta after the last experience

A step downhill has g (theta' - theta) < 0, so -s is how much this parameter lowered the loss.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["EPSILON", "OMEGA_MAX", "SCALE", "grown_importance", "path_step", "penalty_gradient"]

SCALE = 1.0  # c
EPSILON = 1e-7
OMEGA_MAX = 1e-3


def path_step(gradient: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """What one step adds to the path integral s, of the parameter's shape."""
    return gradient * (after - before)


def grown_importance(
    importance: Tensor,
    path: Tensor,
    start: Tensor,
    end: Tensor,
    *,
    scale: float = SCALE,
    epsilon: float = EPSILON,
    maximum: float = OMEGA_MAX,
) -> Tensor:
    """Omega after an experience in which the parameter went from ``start`` to ``end``; within [0, maximum]."""
    gained = scale * (-path / ((end - start) ** 2 + epsilon)).clamp(min=0)
    return (importance + gained).clamp(max=maximum)


def penalty_gradient(importance: Tensor, parameter: Tensor, anchor: Tensor, strength: float) -> Tensor:
    """Gradient of the penalty: lambda Omega (theta - theta*)."""
    return strength * importance * (parameter - anchor)
