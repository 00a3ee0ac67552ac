"""A network's directory is looked at before anything is built from it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
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
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps must be a finite number, got inf"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be a finite number, got nan"),
        ({"layer_norm_eps": 10.0}, "layer_norm_eps must be a number from 0 to 1, got 10.0"),
        ({"layer_norm_eps": "1e-6"}, "layer_norm_eps must be a number from 0 to 1"),
        ({"layer_norm_eps": None}, "layer_norm_eps must be a number from 0 to 1"),
        ({"attention_probs_dropout_prob": 1e400}, "attention_probs_dropout_prob must be a finite number"),
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


def test_weights_with_a_header_of_hundreds_of_thousands_of_tensors_are_refused_at_once(network: Path) -> None:
    tensors = {
        f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(20_000)
    }
    header = json.dumps(tensors).encode()
    (network / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    began = time.process_time()
    with pytest.raises(BackboneError, match="its header claims 20001 entries of at most 16384"):
        load_backbone(str(network))
    assert time.process_time() - began < 5
    (network / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(BackboneError, match="bytes of at most"):
        load_backbone(str(network))


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_weights_that_may_not_be_read_are_not_called_damaged(
    open_place: Path, without_privileges: Callable[[], AbstractContextManager[None]]
) -> None:
    network = make_directory(open_place / "vit", "vit")
    (network / "model.safetensors").chmod(0)
    with (
        without_privileges(),
        pytest.raises(BackboneError, match=r"cannot be read \(Permission denied\)") as caught,
    ):
        load_backbone(str(network))
    assert "damaged" not in str(caught.value)
