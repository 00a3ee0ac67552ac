"""bfloat16 is the default only where the processor is known to multiply it faster than float32."""

from __future__ import annotations

import pytest
import torch

from vitlr import device
from vitlr.vit import default_precision, measure_precisions, random_backbone
from vitlr.vit.compute.int8 import int8_is_fast


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "intel", "expected"),
    [
        (False, False, False, "float32"),
        (True, False, False, "bfloat16"),
        (True, False, True, "float32"),
        (True, True, True, "bfloat16"),
    ],
)
def test_the_processor_decides(
    monkeypatch: pytest.MonkeyPatch, avx512_bf16: bool, amx: bool, intel: bool, expected: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(device, "is_intel", lambda: intel)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert default_precision() == expected


def test_a_pytorch_that_cannot_say_means_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert default_precision() == "float32"


def test_both_precisions_are_timed() -> None:
    times = measure_precisions(random_backbone("Ti_32", blocks=1, image_size=32), 1, batch_size=2, repeats=1)
    assert set(times) == {"float32", "bfloat16"} | ({"int8"} if int8_is_fast() else set())
    assert all(milliseconds > 0 for milliseconds in times.values())
