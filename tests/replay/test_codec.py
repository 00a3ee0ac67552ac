"""Codecs: sizes, rounding errors, and what must be exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlr.errors import ConfigError
from vitlr.replay.codec import CODECS, codec_named


def stored_bytes(fields: dict[str, torch.Tensor]) -> int:
    return sum(codes.numel() * codes.element_size() for codes in fields.values())


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", [(3, 17, 768), (2, 1, 192), (1, 65, 10), (4, 5, 2)])
def test_bytes_per_latent_is_what_the_tensors_occupy(name: str, shape: tuple[int, int, int]) -> None:
    codec = codec_named(name)
    fields = codec.encode(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert stored_bytes(fields) == shape[0] * codec.bytes_per_latent(*shape[1:])


def test_bytes_of_vit_b32_at_128_pixels_are_the_published_ones() -> None:
    sizes = {name: codec.bytes_per_latent(17, 768) for name, codec in CODECS.items()}
    assert sizes == {"float32": 52_224, "bfloat16": 26_112, "int8": 13_124, "int4": 6_936}


def test_float32_is_exact_and_bfloat16_is_torchs_own_rounding() -> None:
    latents = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(1))
    float32, bfloat16 = codec_named("float32"), codec_named("bfloat16")
    assert torch.equal(float32.decode(float32.encode(latents)), latents)
    assert torch.equal(bfloat16.decode(bfloat16.encode(latents)), latents.bfloat16().float())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), tokens=st.integers(1, 5))
def test_int8_error_is_at_most_half_a_step_of_its_token(seed: int, scale: float, tokens: int) -> None:
    latents = scale * torch.randn(2, tokens, 64, generator=torch.Generator().manual_seed(seed))
    codec = codec_named("int8")
    error = (codec.decode(codec.encode(latents)) - latents).abs()
    step = latents.abs().amax(dim=-1, keepdim=True) / 127
    assert bool((error <= 0.5001 * step).all())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-2, 1e3))
def test_int4_error_is_at_most_about_half_a_step_of_its_group(seed: int, scale: float) -> None:
    latents = scale * torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(seed))
    codec = codec_named("int4")
    error = (codec.decode(codec.encode(latents)) - latents).abs().reshape(2, 3, 2, 64)
    step = latents.abs().reshape(2, 3, 2, 64).amax(dim=-1, keepdim=True) / 7
    assert bool((error <= 0.51 * step).all())  # the float16 scale adds a little to half a step


@pytest.mark.parametrize("name", CODECS)
def test_zeros_stay_zeros(name: str) -> None:
    codec = codec_named(name)
    zeros = torch.zeros(2, 3, 64)
    assert torch.equal(codec.decode(codec.encode(zeros)), zeros)


def test_int4_of_small_integers_in_range_is_exact() -> None:
    latents = torch.arange(-7, 7).float().reshape(1, 1, 14)
    codec = codec_named("int4")
    assert torch.equal(codec.decode(codec.encode(latents)), latents)


def test_one_outlier_costs_int4_its_own_group_only() -> None:
    latents = torch.randn(1, 1, 128, generator=torch.Generator().manual_seed(0))
    spoiled = latents.clone()
    spoiled[..., 0] = 1000.0
    codec = codec_named("int4")
    plain, rest = codec.decode(codec.encode(latents)), codec.decode(codec.encode(spoiled))
    assert torch.equal(plain[..., 64:], rest[..., 64:])


def test_int4_refuses_an_odd_width_and_names_int8() -> None:
    with pytest.raises(ConfigError, match="int8"):
        codec_named("int4").encode(torch.zeros(1, 1, 7))


def test_an_unknown_codec_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="float32, bfloat16, int8, int4"):
        codec_named("int2")
