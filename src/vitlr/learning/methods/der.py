"""DER++: replayed latents should keep not only their label but the logits they once had.

Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS 2020
(arXiv 2004.07211), equation 6. With z the logits stored with a pair,

    loss = CE(new) + alpha MSE(logits of replayed, z) + beta CE(replayed)

each a mean over its latents, MSE also over classes. Deviations, all for a stream whose classes are not known
in advance and for one loop that serves every method:

* z and MSE range over the classes known when the pair was stored; the paper's network has an output for
  every class from the start and also holds those of classes to come at where they were.
* both replay terms use the replayed latents of one mini-batch; the paper draws two.
* z is that of the network at the end of the pair's experience; the paper's of the step at which the
  reservoir took the pair in.

The policy is the memory's own setting: ``reservoir`` is the published one.

Shape letters: B mini-batch, R of them replayed, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vitlr.learning.method import Hook, Step

__all__ = ["DarkExperience", "dark_loss"]


def dark_loss(logits_BC: Tensor, labels_B: Tensor, stored_RC: Tensor, alpha: float, beta: float) -> Tensor:
    """DER++'s loss of a mini-batch whose last R latents are replayed; cross-entropy of the new ones if R = 0.

    ``stored_RC`` may be narrower than ``logits_BC`` where classes were added since; entries of -inf, on
    either side, are of classes unknown then or now and are left out of the squared error.
    """
    replayed = len(stored_RC)
    num_new = len(labels_B) - replayed
    loss = functional.cross_entropy(logits_BC[:num_new], labels_B[:num_new])
    if replayed == 0:
        return loss
    now_RC = logits_BC[num_new:]
    stored_RC = functional.pad(stored_RC, (0, now_RC.shape[1] - stored_RC.shape[1]), value=float("-inf"))
    known_RC = torch.isfinite(stored_RC) & torch.isfinite(now_RC)
    # Chosen before squaring: the square of an infinite difference would make the gradient NaN.
    change_RC = torch.where(known_RC, now_RC - stored_RC, 0.0)
    drift = change_RC.square().sum() / known_RC.sum().clamp(min=1)
    return loss + alpha * drift + beta * functional.cross_entropy(now_RC, labels_B[num_new:])


class DarkExperience(Hook):
    """The loss above with ``learner.der_alpha`` and ``der_beta``."""

    def loss(self, step: Step) -> Tensor:
        assert step.stored_RC is not None
        alpha, beta = self.config.der_alpha, self.config.der_beta
        return dark_loss(step.logits_BC, step.labels_B, step.stored_RC, alpha, beta)
