"""How a latent is kept in the replay memory: as it is, or in fewer bits.

Shape letters: N rows, T tokens a latent, D width, G groups a token.

Bytes of one latent of T tokens and width D:

========  ===================================  =============================
codec     stored for each token                bytes a latent
========  ===================================  =============================
float32   D numbers of 4 bytes                 4 T D
bfloat16  D numbers of 2 bytes                 2 T D
int8      D codes of 1 byte, a float32 scale   T D + 4 T
int4      D codes of half a byte, a float16    T D / 2 + 2 T D / g
          scale for each group of g = 64
========  ===================================  =============================

ViT-B/32 at 128 pixels has T = 17 and D = 768: 52,224, 26,112, 13,124 and 6,936 bytes, beside 49,152 for
the raw image. A cut at the last block keeps the class token alone: T = 1.

Quantisation is symmetric and uniform, q = round(x / s) with s = max|x| / q_max over a token (int8,
q_max = 127) or a group of a token (int4, q_max = 7). Ravaglia et al. 2021 (arXiv 2110.10486, section IV)
quantise CNN latents with one scale a layer; a transformer's tokens differ too much in size for that, and
four bits need smaller groups still: one outlier channel would leave its whole token a few levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitlr.errors import ConfigError

__all__ = ["CODECS", "PIXELS", "Codec", "codec_named"]

Fields = dict[str, Tensor]  # a code: named tensors that share their first dimension, the rows


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A pair of pure functions between latents and what is stored.

    ``encode`` takes latents (N, T, D) and gives named tensors of N rows; ``decode`` gives float32
    latents of the same shape back; ``bytes_per_latent(T, D)`` is what a row of them occupies.
    """

    name: str
    encode: Callable[[Tensor], Fields]
    decode: Callable[[Fields], Tensor]
    bytes_per_latent: Callable[[int, int], int]


def _encode_int8(latents_NTD: Tensor) -> Fields:
    latents = latents_NTD.float()
    scale_NT = latents.abs().amax(dim=-1) / 127
    # A token of zeros has scale 0: any divisor gives its zero codes.
    divisor = torch.where(scale_NT > 0, scale_NT, torch.ones_like(scale_NT))
    codes = torch.round(latents / divisor.unsqueeze(-1)).to(torch.int8)
    return {"codes": codes, "scale": scale_NT}


def _decode_int8(fields: Fields) -> Tensor:
    return fields["codes"].float().mul_(fields["scale"].unsqueeze(-1))


def group_size(width: int) -> int:
    """Largest even divisor of ``width`` that is at most 64: what shares one int4 scale.

    Raises ConfigError where the width is odd, since two codes share a byte.
    """
    if width % 2:
        raise ConfigError(
            f"memory.codec int4 packs two numbers a byte and the width {width} is odd; use int8"
        )
    return next(size for size in range(min(64, width), 0, -1) if width % size == 0 and size % 2 == 0)


def _encode_int4(latents_NTD: Tensor) -> Fields:
    num, tokens, width = latents_NTD.shape
    size = group_size(width)
    groups = latents_NTD.float().reshape(num, tokens, width // size, size)
    # The scale is rounded to float16 first, so that encoding and decoding divide and multiply by the same one.
    # Latents are O(1..100), well inside float16; the clamp keeps a freak value from becoming infinite.
    scale_NTG = (groups.abs().amax(dim=-1) / 7).clamp(max=torch.finfo(torch.float16).max).to(torch.float16)
    divisor = torch.where(scale_NTG > 0, scale_NTG, torch.ones_like(scale_NTG)).float()
    codes = (
        torch.round(groups / divisor.unsqueeze(-1)).clamp_(-7, 7).to(torch.int8).reshape(num, tokens, width)
    )
    low, high = codes[..., 0::2] & 0x0F, codes[..., 1::2] & 0x0F
    return {"codes": (low | (high << 4)).view(torch.uint8), "scale": scale_NTG}


def _decode_int4(fields: Fields) -> Tensor:
    packed, scale_NTG = fields["codes"], fields["scale"].float()
    signed = packed.view(torch.int8)
    # Arithmetic shifts carry the sign of each half byte.
    pairs = torch.stack([(signed << 4) >> 4, signed >> 4], dim=-1).float()
    num, tokens, groups = scale_NTG.shape
    latents = pairs.reshape(num, tokens, groups, -1) * scale_NTG.unsqueeze(-1)
    return latents.reshape(num, tokens, -1)


def _plain(name: str, dtype: torch.dtype, size: int) -> Codec:
    return Codec(
        name=name,
        encode=lambda latents: {"codes": latents.to(dtype)},
        decode=lambda fields: fields["codes"].float(),
        bytes_per_latent=lambda tokens, width: size * tokens * width,
    )


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        _plain("float32", torch.float32, 4),
        _plain("bfloat16", torch.bfloat16, 2),
        Codec(
            name="int8",
            encode=_encode_int8,
            decode=_decode_int8,
            bytes_per_latent=lambda tokens, width: tokens * width + 4 * tokens,
        ),
        Codec(
            name="int4",
            encode=_encode_int4,
            decode=_decode_int4,
            bytes_per_latent=lambda tokens, width: (
                tokens * width // 2 + 2 * tokens * (width // group_size(width))
            ),
        ),
    )
}

# Of images, which native replay keeps in place of latents: a byte a colour, nothing lost. Latents are no whole
# numbers 0..255, so that it is no choice for them.
PIXELS = _plain("uint8", torch.uint8, 1)


def codec_named(name: str) -> Codec:
    """The codec of that name; ConfigError lists the known ones."""
    if name not in CODECS:
        raise ConfigError(f"memory.codec must be one of {', '.join(CODECS)}, got {name!r}")
    return CODECS[name]
