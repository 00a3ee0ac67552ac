"""Synaptic Intelligence against cases worked out by hand."""

from __future__ import annotations

import torch

from vitlr.learning import si


def test_importance_of_a_straight_descent_is_loss_drop_over_squared_distance() -> None:
    # One parameter, loss gradient 2 throughout, two steps of -0.5: s = 2 * -0.5 * 2 = -2, distance 1.
    path = si.path_step(torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.5))
    path += si.path_step(torch.tensor(2.0), torch.tensor(0.5), torch.tensor(0.0))
    assert path.item() == -2.0
    importance = si.grown_importance(
        torch.tensor(0.25), path, torch.tensor(1.0), torch.tensor(0.0), maximum=100.0, epsilon=1.0
    )
    assert importance.item() == 0.25 + 2 / (1 + 1)


def test_importance_is_never_negative_and_never_above_its_maximum() -> None:
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    assert si.grown_importance(zero, torch.tensor(5.0), one, zero).item() == 0.0
    assert (
        si.grown_importance(zero, torch.tensor(-5.0), one, zero).item() == torch.tensor(si.OMEGA_MAX).item()
    )


def test_penalty_gradient_is_that_of_the_penalty() -> None:
    generator = torch.Generator().manual_seed(0)
    importance, anchor = torch.rand(5, generator=generator), torch.randn(5, generator=generator)
    parameter = torch.randn(5, generator=generator, requires_grad=True)
    (0.5 * 3.0 * (importance * (parameter - anchor) ** 2).sum()).backward()
    assert torch.allclose(parameter.grad, si.penalty_gradient(importance, parameter.detach(), anchor, 3.0))


def test_published_constants() -> None:
    assert (si.SCALE, si.EPSILON, si.OMEGA_MAX) == (1.0, 1e-7, 1e-3)
