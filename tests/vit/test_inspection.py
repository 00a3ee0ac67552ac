"""A network's directory is looked at before anything is built from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_networks import make_directory

from vitlr.errors import BackboneError
from vitlr.vit import load_backbone


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "vit", "vit")


def change(network: Path, **settings: Any) -> None:
    path = network / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_an_untouched_directory_is_loaded(network: Path) -> None:
    assert load_backbone(str(network)).num_blocks >= 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden_size": 10**9}, "hidden_size must be a whole number"),
        ({"hidden_size": -16}, "hidden_size must be a whole number"),
        ({"num_hidden_layers": "12"}, "num_hidden_layers must be a whole number"),
        ({"num_hidden_layers": 10**6}, "more blocks"),
        ({"num_channels": 4}, "3 are supported"),
        ({"num_attention_heads": 7}, "cannot be shared among 7"),
        ({"num_attention_heads": None}, "num_attention_heads must be a whole number"),
        ({"intermediate_size": 2**20}, "describes a network of"),
        ({"quantization_config": {"quant_method": "x"}}, "quantization_config"),
        ({"transformers_weights": "/etc/passwd"}, "transformers_weights"),
        ({"compression_config": {}}, "compression_config"),
    ],
)
def test_a_configuration_that_asks_for_what_is_not_there_is_refused(
    network: Path, settings: dict[str, Any], sentence: str
) -> None:
    change(network, **settings)
    with pytest.raises(BackboneError, match=sentence):
        load_backbone(str(network))


@pytest.mark.parametrize(
    "name", ["../elsewhere.safetensors", "/etc/passwd", "model.bin", "a/b.safetensors", ""]
)
def test_an_index_cannot_lead_out_of_its_directory(network: Path, name: str) -> None:
    (network / "model.safetensors").rename(network.parent / "elsewhere.safetensors")
    (network / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(BackboneError, match="not a safetensors file beside it"):
        load_backbone(str(network))


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": [1]}'])
def test_an_index_without_a_map_is_refused(network: Path, content: str) -> None:
    (network / "model.safetensors").unlink()
    (network / "model.safetensors.index.json").write_text(content)
    with pytest.raises(BackboneError, match="no weight_map"):
        load_backbone(str(network))


def test_a_shard_that_is_missing_is_named(network: Path) -> None:
    (network / "model.safetensors").unlink()
    (network / "model.safetensors.index.json").write_text('{"weight_map": {"x": "model-2.safetensors"}}')
    with pytest.raises(BackboneError, match=r"has no model-2\.safetensors"):
        load_backbone(str(network))


def test_an_adapter_is_refused(network: Path) -> None:
    (network / "adapter_config.json").write_text("{}")
    with pytest.raises(BackboneError, match="adapter"):
        load_backbone(str(network))


@pytest.mark.parametrize("keep", [0, 7, 100, 2000])
def test_weights_that_are_cut_off_are_refused(network: Path, keep: int) -> None:
    path = network / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BackboneError, match="damaged or not a safetensors"):
        load_backbone(str(network))
