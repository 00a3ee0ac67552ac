"""DINOv2 (Oquab et al., TMLR 2024): a scale for every channel after attention and MLP; SwiGLU in the giant
size.

Its classifier reads the class token joined with the mean of the patch tokens, hence ``classifier_inputs=2``.
"""

from __future__ import annotations

from vitlr.vit.families.family import Family

__all__ = ["DINOV2"]

DINOV2 = Family(
    model_type="dinov2",
    model_class="Dinov2Model",
    classifier_class="Dinov2ForImageClassification",
    classifier_prefix="dinov2",
    classifier_inputs=2,
    resample=3,
    blocks_at="encoder.layer",
    norm1_at="norm1",
    norm2_at="norm2",
    scale1_at="layer_scale1.lambda1",
    scale2_at="layer_scale2.lambda1",
)
