"""The int8 trunk: products checked against exact integers, the whole against the float32 network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vitlr import LatentReplayClassifier
from vitlr.errors import ConfigError
from vitlr.runs.settings import parse
from vitlr.vit import Trunk, random_backbone
from vitlr.vit.compute import int8
from vitlr.vit.compute.int8 import Int8Linear, int8_is_fast

fast = pytest.mark.skipif(not int8_is_fast(), reason="this processor has no int8 products")


def noise(num: int, side: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (num, side, side, 3), dtype=np.uint8))


@fast
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_the_product_of_rounded_rows_and_weights_exactly(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(192, 70, bias=bias)
    inputs = torch.randn(3, 5, 192) * torch.tensor([0.01, 1.0, 300.0])[:, None, None]
    rows, weights = inputs.double().numpy(), linear.weight.detach().double().numpy()
    row_scale, weight_scale = abs(rows).max(-1) / 127, abs(weights).max(-1) / 127
    levels = np.rint(rows / row_scale[..., None]) @ np.rint(weights / weight_scale[:, None]).T
    expected = levels * row_scale[..., None] * weight_scale
    if bias:
        expected += linear.bias.detach().double().numpy()
    found = Int8Linear(linear.weight, linear.bias)(inputs).double().numpy()
    # A number half-way between two levels may go either way in float32: one level of one input at most.
    step = row_scale[..., None] * abs(weights).max()
    assert (abs(found - expected) <= 2 * step + 1e-6).all()
    assert np.median(abs(found - expected) / abs(expected)) < 1e-6


@fast
def test_a_row_of_zeros_gives_the_bias() -> None:
    linear = nn.Linear(64, 8)
    assert torch.equal(
        Int8Linear(linear.weight, linear.bias)(torch.zeros(2, 64)), linear.bias.detach().expand(2, 8)
    )


@fast
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_latents_are_near_those_of_the_float32_network_and_the_network_is_left_as_it_was(cut: int) -> None:
    backbone = random_backbone("Ti_32", blocks=3, image_size=64)
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    images = noise(150, 64)  # more than go through the blocks at once
    exact, found = Trunk(backbone, cut)(images), Trunk(backbone, cut, precision="int8")(images)
    assert found.shape == exact.shape and found.dtype == torch.float32
    assert (found - exact).norm() < 0.05 * exact.norm()
    assert all(torch.equal(value, before[key]) for key, value in backbone.model.state_dict().items())


@fast
def test_the_latent_of_an_image_does_not_depend_on_its_batch() -> None:
    trunk = Trunk(random_backbone("Ti_32", blocks=3, image_size=64), 2, precision="int8")
    images = noise(130, 64)
    together = trunk(images)
    assert torch.equal(trunk(images), together)
    assert torch.allclose(trunk(images[97:98])[0], together[97], atol=1e-5)


@fast
def test_a_classifier_with_an_int8_trunk_learns_and_comes_back_the_same(tmp_path) -> None:
    images = noise(12, 48).numpy()
    model = LatentReplayClassifier(precision="int8", memory=8, epochs=1, random_state=0)
    model.partial_fit(images, ["a", "b"] * 6)
    model.save(tmp_path / "robot")
    again = LatentReplayClassifier.load(tmp_path / "robot")
    assert np.array_equal(again.predict_proba(images), model.predict_proba(images))


def test_without_the_instructions_int8_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "int8_is_fast", lambda: False)
    with pytest.raises(ConfigError, match="VNNI"):
        Trunk(random_backbone("Ti_32", blocks=2, image_size=32), 1, precision="int8")


@pytest.mark.parametrize("words", [["--trunk", "int8"], ["--trunk=int8"], ["--backbone.precision", "int8"]])
def test_the_flag_has_a_short_name(words: list[str]) -> None:
    assert parse(words).backbone.precision == "int8"
