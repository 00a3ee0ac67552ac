"""What a cut costs: parameters, bytes of a latent, floating-point operations.

A multiply-add counts as 2 FLOP; elementwise work (norms, softmax, activations) is not counted. For
one image of T tokens, with width D, H heads and, per block, A weights in its four projections (4 D^2) and M in
its MLP:

    embedding     2 * (number of patches) * (3 P^2 D)    P the side of a patch
    block         2 T (A + M) + 4 T^2 D                  queries by keys, attention by values
    last block    2 (A + M) + 4 H T D                    for the class token, folded (class_token.py)

ViT-B/32 at 128 px: 16 patches, T = 17: 0.076 + 12 * 0.2415 = 2.97 GFLOP with every block whole.

A training step also needs the gradient of each product with respect to both its factors: three times the
forward pass. If the last block is also the first one above the cut, its latents need no gradient, and
the products with the latents need only one of the two: 2 * 4 H T D instead of 3 * 4 H T D.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vitlr.vit.backbone import Backbone
from vitlr.vit.compute.cut import check_cut

__all__ = ["Account", "account"]


@dataclass(frozen=True, kw_only=True)
class Account:
    """Costs of a backbone at one cut; FLOP are for one image."""

    cut: int
    num_blocks: int
    frozen_parameters: int
    trained_parameters: int
    trained_names: tuple[str, ...]  # as in Head.named_parameters()
    network_tokens: int  # tokens inside the network
    tokens: int  # T of a stored latent: 1 at the last cut
    width: int
    latent_elements: int
    latent_bytes: dict[str, int]
    image_bytes: int  # of the raw image, to compare with
    network_flop: int  # the whole network, every block whole
    trunk_flop: int
    head_flop: int
    head_step_flop: int  # forward and backward
    plain_head_step_flop: int  # the same with every block whole
    note: str


def account(backbone: Backbone, cut: int) -> Account:
    """The costs of ``backbone`` cut after block ``cut``.

    Raises:
        BackboneError: there is no such cut.
    """
    check_cut(backbone, cut)
    family, L, D = backbone.family, backbone.num_blocks, backbone.width
    blocks = family.blocks(backbone.model)
    trained = {f"blocks.{i}.{name}": p for i in range(cut, L) for name, p in blocks[i].named_parameters()}
    trained |= {f"norm.{name}": p for name, p in family.final_norm(backbone.model).named_parameters()}
    frozen = [*family.embeddings(backbone.model).parameters(), *blocks[:cut].parameters()]

    tokens = 1 if cut == L else backbone.tokens
    embedding = _embedding_flop(backbone)
    whole = [_block_flop(backbone, block) for block in blocks]
    folded, of_latents = _last_block_flop(backbone, blocks[-1])
    spent = [*whole[:-1], folded]
    head = sum(spent[cut:])
    return Account(
        cut=cut,
        num_blocks=L,
        frozen_parameters=sum(p.numel() for p in frozen),
        trained_parameters=sum(p.numel() for p in trained.values()),
        trained_names=tuple(trained),
        network_tokens=backbone.tokens,
        tokens=tokens,
        width=D,
        latent_elements=tokens * D,
        latent_bytes={"float32": 4 * tokens * D, "bfloat16": 2 * tokens * D},
        image_bytes=3 * backbone.image_size**2,
        network_flop=embedding + sum(whole),
        trunk_flop=embedding + sum(spent[:cut]),
        head_flop=head,
        head_step_flop=3 * head - (of_latents if cut == L - 1 else 0),
        plain_head_step_flop=3 * sum(whole[cut:]),
        note="int8 and int4 rows of the replay memory take fewer bytes, plus a scale per group; "
        "the classifier is not counted (2 D FLOP a class)",
    )


def _embedding_flop(backbone: Backbone) -> int:
    patches = (backbone.image_size // backbone.patch_size) ** 2
    return 2 * patches * 3 * backbone.patch_size**2 * backbone.width


def _weights(*modules: nn.Module) -> int:
    linear = [part for module in modules for part in module.modules() if isinstance(part, nn.Linear)]
    return sum(part.weight.numel() for part in linear)


def _block_flop(backbone: Backbone, block: nn.Module) -> int:
    parts, T = backbone.family.parts(block), backbone.tokens
    return 2 * T * _weights(*parts.projections, parts.mlp) + 4 * T**2 * parts.query.out_features


def _last_block_flop(backbone: Backbone, block: nn.Module) -> tuple[int, int]:
    """FLOP of the folded block, and those of its products with the latents."""
    parts = backbone.family.parts(block)
    of_latents = 4 * parts.heads * backbone.tokens * backbone.width
    return 2 * _weights(*parts.projections, parts.mlp) + of_latents, of_latents
