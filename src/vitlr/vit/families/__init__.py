"""The families of vision transformers that can be cut in two, by the ``model_type`` of their
``config.json``."""

from __future__ import annotations

from vitlr.errors import BackboneError
from vitlr.vit.families.deit import DEIT
from vitlr.vit.families.dinov2 import DINOV2
from vitlr.vit.families.dinov2_with_registers import DINOV2_WITH_REGISTERS
from vitlr.vit.families.family import BlockParts, Family
from vitlr.vit.families.vit import VIT

__all__ = ["FAMILIES", "BlockParts", "Family", "family_of"]

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        VIT,
        DEIT,
        DINOV2,
        DINOV2_WITH_REGISTERS,
    )
}


def family_of(model_type: str, name: str) -> Family:
    """The family of a checkpoint called ``name``.

    Raises:
        BackboneError: ``model_type`` is not supported.
    """
    if model_type not in FAMILIES:
        supported = ", ".join(FAMILIES)
        raise BackboneError(
            f"{name}: networks of type {model_type!r} are not supported; these are: {supported}"
        )
    return FAMILIES[model_type]
