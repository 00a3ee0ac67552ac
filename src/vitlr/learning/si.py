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

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitlr.errors import RunError
from vitlr.learning.method import Hook, HookState, Step, Student
from vitlr.storage.saved import saved_tensor

__all__ = [
    "EPSILON",
    "OMEGA_MAX",
    "SCALE",
    "SynapticIntelligence",
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


class SynapticIntelligence(Hook):
    """Adds the penalty's gradient to each step of another hook and accounts for each parameter's path.

    State, for each trained parameter: ``importance.NAME`` (Omega) and ``anchor.NAME`` (theta*).
    """

    def __init__(self, inner: Hook) -> None:
        super().__init__(inner.config)
        self._inner, self._strength = inner, inner.config.si_lambda

    def begin(self, student: Student, state: HookState) -> None:
        own, others = _split(state)
        self._inner.begin(student, others)
        self._parameters = student.blocks
        self._importance, self._anchor = own["importance"], own["anchor"]
        self._start = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._path = {name: torch.zeros_like(p) for name, p in self._parameters.items()}

    def loss(self, step: Step) -> Tensor:
        return self._inner.loss(step)

    @contextmanager
    def around_step(self) -> Iterator[None]:
        # The loss's own gradient goes into the path integral; the penalty joins it only for the step.
        gradients, before = {}, {}
        for name, parameter in self._parameters.items():
            assert parameter.grad is not None
            gradients[name], before[name] = parameter.grad.clone(), parameter.detach().clone()
            if name in self._importance:
                parameter.grad += penalty_gradient(
                    self._importance[name], parameter.detach(), self._anchor[name], self._strength
                )
        with self._inner.around_step():
            yield
        for name, parameter in self._parameters.items():
            self._path[name] += path_step(gradients[name], before[name], parameter.detach())

    def end(self) -> HookState:
        state = self._inner.end()
        for name, parameter in self._parameters.items():
            end = parameter.detach()
            importance = self._importance.get(name, torch.zeros_like(end))
            state[f"importance.{name}"] = grown_importance(
                importance, self._path[name], self._start[name], end
            )
            state[f"anchor.{name}"] = end.clone()
        return state

    def check(self, state: HookState, blocks: dict[str, nn.Parameter]) -> None:
        own, others = _split(state)
        self._inner.check(others, blocks)
        if own["importance"].keys() != own["anchor"].keys() or own["anchor"].keys() not in (
            {}.keys(),
            blocks.keys(),
        ):
            raise RunError("the saved state has importances of another head; use the settings it began with")
        for kind in own.values():
            for name in kind:
                saved_tensor(kind, name, blocks[name].shape, blocks[name].dtype)


def _split(state: HookState) -> tuple[dict[str, HookState], HookState]:
    """Importances and anchors by the parameter's name, and what belongs to the other hook."""
    own: dict[str, HookState] = {"importance": {}, "anchor": {}}
    others = {}
    for key, tensor in state.items():
        kind, _, name = key.partition(".")
        if kind in own:
            own[kind][name] = tensor
        else:
            others[key] = tensor
    return own, others
