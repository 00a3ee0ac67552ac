"""Learning without Forgetting: the head as it was before an experience teaches its own answers on the new images.

Li & Hoiem, "Learning without Forgetting", TPAMI 2018 (arXiv 1606.09282), equations 2 and 3. With z the logits of the
known classes now and t those that head and classifier gave before the experience, at temperature T = 2,

    loss = CE(new labels) + lambda_o * ( - sum_c softmax(t / T)_c  log softmax(z / T)_c )

as means over the mini-batch. Nothing is stored: the teacher is what was learned so far.

Two deviations, both for one classifier over all classes in place of a classifier a task: the cross-entropy ranges over
all classes seen so far, and the teacher speaks of those it knows alone. The paper's step that first trains only the new
output weights is left out.

Shapes: B mini-batch, C class indices known so far.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vitlr.learning.method import Hook, HookState, Step, Student

__all__ = ["LearningWithoutForgetting", "distillation"]


def distillation(logits_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the teacher's softened answers under the student's, mean over the mini-batch."""
    target_BC = (teacher_BC / temperature).softmax(dim=1)
    return functional.cross_entropy(logits_BC / temperature, target_BC)


class LearningWithoutForgetting(Hook):
    """Distillation from the head and classifier as they were, weighted by ``learner.lwf_lambda``."""

    def begin(self, student: Student, state: HookState) -> None:
        self._teacher = student.before
        self._known = student.known_C.nonzero().flatten()
        self._weight_CD = student.classifier_CD[self._known]

    def loss(self, step: Step) -> Tensor:
        loss = super().loss(step)
        if len(self._known) < 2:  # one answer alone is always the same
            return loss
        with torch.no_grad():
            teacher_BC = self._teacher(step.tokens_BTD).float() @ self._weight_CD.T
        logits_BC = step.logits_BC[:, self._known]
        return loss + self.config.lwf_lambda * distillation(
            logits_BC, teacher_BC, self.config.lwf_temperature
        )
