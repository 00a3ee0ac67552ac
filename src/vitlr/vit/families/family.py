"""Description of a family of vision transformers: where its parts are, and how its classifiers are stored.

Every family is the same network under different names in transformers: an embedding of class token and
patches plus positions, L blocks of

    h = h + scale1 * attention(norm1(h))
    h = h + scale2 * mlp(norm2(h))

and a final norm. A :class:`Family` is data: the names of those parts inside transformers' own modules. A new
one is a file with one :class:`Family` in it and one line in ``families/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from vitlr.errors import BackboneError

__all__ = ["BlockParts", "Family"]


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """The parts of one block, as references to its own modules and parameters."""

    norm1: nn.LayerNorm
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    heads: int
    scale1_D: Tensor | None
    norm2: nn.LayerNorm
    mlp: nn.Module
    scale2_D: Tensor | None

    @property
    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]:
        """Query, key, value and output projection."""
        return self.query, self.key, self.value, self.output


@dataclass(frozen=True, kw_only=True)
class Family:
    """Names of a family's classes and parts in transformers.

    ``positioned_tokens`` are the tokens before the patches that own a position (the class token, DeiT's
    distillation token); ``unpositioned_tokens`` names the setting that counts those put in after positions
    are added (registers). ``classifier_inputs`` is 1 if a stored classifier reads the class token, and 2
    if it reads the class token joined with the mean of the patch tokens.
    """

    model_type: str
    model_class: str
    classifier_class: str
    classifier_prefix: str
    classifier_inputs: int = 1
    model_options: Mapping[str, Any] = field(default_factory=dict)
    positioned_tokens: int = 1
    unpositioned_tokens: str | None = None
    resample: int = 2  # Pillow's bilinear: the default of the family's image processor if its file names none
    embeddings_at: str = "embeddings"
    blocks_at: str = "layers"
    final_norm_at: str = "layernorm"
    norm1_at: str = "layernorm_before"
    attention_at: str = "attention"
    norm2_at: str = "layernorm_after"
    scale1_at: str | None = None
    scale2_at: str | None = None

    def embeddings(self, model: nn.Module) -> nn.Module:
        """The module from pixels to tokens; owns ``position_embeddings`` and ``patch_embeddings``."""
        return _part(model, self.embeddings_at)

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        blocks = _part(model, self.blocks_at)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def final_norm(self, model: nn.Module) -> nn.LayerNorm:
        """The norm after the last block."""
        return _part(model, self.final_norm_at)

    def prefix_tokens(self, config: Any) -> int:
        """Number of tokens before the patch tokens: class, distillation, registers."""
        return self.positioned_tokens + (
            getattr(config, self.unpositioned_tokens) if self.unpositioned_tokens else 0
        )

    def parts(self, block: nn.Module) -> BlockParts:
        """The parts of one of the blocks."""
        attention = _part(block, self.attention_at)
        return BlockParts(
            norm1=_part(block, self.norm1_at),
            query=_part(attention, "q_proj"),
            key=_part(attention, "k_proj"),
            value=_part(attention, "v_proj"),
            output=_part(attention, "o_proj"),
            heads=attention.num_attention_heads,
            scale1_D=None if self.scale1_at is None else block.get_parameter(self.scale1_at),
            norm2=_part(block, self.norm2_at),
            mlp=_part(block, "mlp"),
            scale2_D=None if self.scale2_at is None else block.get_parameter(self.scale2_at),
        )


def _part(module: nn.Module, path: str) -> Any:
    try:
        return module.get_submodule(path)
    except AttributeError:
        import transformers

        raise BackboneError(
            f"{type(module).__name__} of transformers {transformers.__version__} has no part {path!r}: "
            "install transformers 5.19 or later"
        ) from None
