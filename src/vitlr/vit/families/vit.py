"""ViT (Dosovitskiy et al., ICLR 2021), and the first DINO, whose checkpoints have the same model class."""

from __future__ import annotations

from vitlr.vit.families.family import Family

__all__ = ["VIT"]

VIT = Family(
    model_type="vit",
    model_class="ViTModel",
    classifier_class="ViTForImageClassification",
    classifier_prefix="vit",
    model_options={"add_pooling_layer": False},
)
