"""DeiT (Touvron et al., ICML 2021): a ViT with a distillation token beside the class token.

The stored classifier reads only the class token (``DeiTForImageClassification``).
"""

from __future__ import annotations

from vitlr.vit.families.family import Family

__all__ = ["DEIT"]

DEIT = Family(
    model_type="deit",
    model_class="DeiTModel",
    classifier_class="DeiTForImageClassification",
    classifier_prefix="deit",
    model_options={"add_pooling_layer": False},
    positioned_tokens=2,
    resample=3,
)
