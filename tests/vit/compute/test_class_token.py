"""The folded last block against transformers' own block: outputs and every gradient."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from vitlr.vit import load_backbone
from vitlr.vit.compute.class_token import class_token_block
from vitlr.vit.families import BlockParts


def one_query_block(parts: BlockParts, latents_BTD: torch.Tensor) -> torch.Tensor:
    """The class token's row of a block by the textbook: keys and values of all tokens, one query."""
    B, _, D = latents_BTD.shape
    x_BTD = parts.norm1(latents_BTD)

    def by_head(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.view(B, -1, parts.heads, D // parts.heads).transpose(1, 2)

    attended = F.scaled_dot_product_attention(
        by_head(parts.query(x_BTD[:, :1])), by_head(parts.key(x_BTD)), by_head(parts.value(x_BTD))
    )
    scale1 = 1.0 if parts.scale1_D is None else parts.scale1_D
    scale2 = 1.0 if parts.scale2_D is None else parts.scale2_D
    class_BD = latents_BTD[:, 0] + scale1 * parts.output(attended.transpose(1, 2).reshape(B, D))
    return class_BD + scale2 * parts.mlp(parts.norm2(class_BD))


def test_folded_block_has_the_plain_blocks_outputs_and_gradients(directory: Path) -> None:
    backbone = load_backbone(directory)
    block = backbone.family.blocks(backbone.model)[-1].double().requires_grad_(True)
    parts = backbone.family.parts(block)
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(3, 7, 32, dtype=torch.float64, generator=generator, requires_grad=True)
    weight_BD = torch.randn(3, 32, dtype=torch.float64, generator=generator)
    named = dict(block.named_parameters()) | {"latents": latents}

    results = {}
    for name, function in {
        "plain": lambda: block(latents, None)[:, 0],
        "one query": lambda: one_query_block(parts, latents),
        "folded": lambda: class_token_block(parts, latents),
    }.items():
        output = function()
        gradients = torch.autograd.grad((output * weight_BD).sum(), list(named.values()))
        results[name] = {"output": output, **dict(zip(named, gradients, strict=True))}

    for name in ("one query", "folded"):
        torch.testing.assert_close(results[name], results["plain"], rtol=1e-11, atol=1e-11)
    if parts.key.bias is not None:  # it adds the same to all scores, and softmax does not see it
        assert results["folded"]["attention.k_proj.bias"].abs().max() < 1e-12


def test_latents_from_memory_are_normalised_without_a_backward_pass(directory: Path) -> None:
    """Gradients of the parameters are the same whether or not the latents have one."""
    backbone = load_backbone(directory)
    block = backbone.family.blocks(backbone.model)[-1].double().requires_grad_(True)
    parts = backbone.family.parts(block)
    stored = torch.randn(3, 7, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def gradients(latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(class_token_block(parts, latents).square().sum(), list(block.parameters()))

    torch.testing.assert_close(gradients(stored), gradients(stored.clone().requires_grad_()), rtol=0, atol=0)
