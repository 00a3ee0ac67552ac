"""DINOv2 with registers (Darcet et al., ICLR 2024): extra tokens after the class token, without positions."""

from __future__ import annotations

from dataclasses import replace

from vitlr.vit.families.dinov2 import DINOV2

__all__ = ["DINOV2_WITH_REGISTERS"]

DINOV2_WITH_REGISTERS = replace(
    DINOV2,
    model_type="dinov2_with_registers",
    model_class="Dinov2WithRegistersModel",
    classifier_class="Dinov2WithRegistersForImageClassification",
    classifier_prefix="dinov2_with_registers",
    unpositioned_tokens="num_register_tokens",
)
