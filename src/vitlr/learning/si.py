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

import torch
from torch import Tensor, nn

__all__ = [
    "EPSILON",
    "OMEGA_MAX",
    "SCALE",
    "PathIntegral",
    "grown_importance",
    "path_step",
    "penalty_gradient",
]

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


class PathIntegral:
    """Synaptic Intelligence around the optimizer's steps of one experience; does nothing at strength 0."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        importance: dict[str, Tensor],
        anchor: dict[str, Tensor],
        strength: float,
    ) -> None:
        self._parameters = parameters if strength > 0 else {}
        self._strength = strength
        self._importance = importance
        self._anchor = anchor
        self._start = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._path = {name: torch.zeros_like(p) for name, p in self._parameters.items()}

    def around_step(self) -> PathIntegral:
        return self

    def __enter__(self) -> None:
        # The loss's own gradient goes into the path integral; the penalty joins it only for the step.
        self._gradient, self._before = {}, {}
        for name, parameter in self._parameters.items():
            assert parameter.grad is not None
            self._gradient[name] = parameter.grad.clone()
            self._before[name] = parameter.detach().clone()
            if name in self._importance:
                parameter.grad += penalty_gradient(
                    self._importance[name], parameter.detach(), self._anchor[name], self._strength
                )

    def __exit__(self, *exception: object) -> None:
        for name, parameter in self._parameters.items():
            self._path[name] += path_step(self._gradient[name], self._before[name], parameter.detach())

    def finish(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Importances and anchors for the next experience."""
        importance = {
            name: grown_importance(
                self._importance.get(name, torch.zeros_like(parameter)),
                self._path[name],
                self._start[name],
                parameter.detach(),
            )
            for name, parameter in self._parameters.items()
        }
        return importance, {name: p.detach().clone() for name, p in self._parameters.items()}
