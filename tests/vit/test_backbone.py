"""A network is loaded whole and as it was trained, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny_networks import KINDS, MEAN, STD, make_directory, random_images, transformers_features

from vitlr.errors import BackboneError
from vitlr.vit import load_backbone, random_backbone, split
from vitlr.vit.source import SHORT_NAMES


@pytest.fixture
def copied(directories: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny ViT that may be damaged."""
    return Path(shutil.copytree(directories["vit"], tmp_path / "copied"))


def change_weights(directory: Path, **changes: torch.Tensor | None) -> None:
    """Set or, with None, remove weights; keys have __ for a dot."""
    path = directory / "model.safetensors"
    weights = load_file(path)
    for name, value in changes.items():
        weights.pop(name.replace("__", "."), None)
        if value is not None:
            weights[name.replace("__", ".")] = value
    save_file(weights, path, metadata={"format": "pt"})


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_weight_is_the_files(directory: Path) -> None:
    """Compared as numbers: files have other names, and one tensor for the two projections of SwiGLU."""
    weights = load_file(directory / "model.safetensors")
    from_file = torch.cat([raw.flatten() for name, raw in weights.items() if "pooler" not in name])
    loaded = torch.cat([parameter.flatten() for parameter in load_backbone(directory).model.parameters()])
    assert torch.equal(loaded.sort().values, from_file.sort().values)


def test_classic_names_land_where_they_belong(directories: dict[str, Path]) -> None:
    weights = load_file(directories["vit"] / "model.safetensors")
    block = load_backbone(directories["vit"]).model.layers[1]
    for classic, parameter in {
        "attention.attention.query.weight": block.attention.q_proj.weight,
        "attention.attention.key.bias": block.attention.k_proj.bias,
        "attention.attention.value.weight": block.attention.v_proj.weight,
        "attention.output.dense.weight": block.attention.o_proj.weight,
        "intermediate.dense.weight": block.mlp.fc1.weight,
        "output.dense.bias": block.mlp.fc2.bias,
        "layernorm_before.weight": block.layernorm_before.weight,
        "layernorm_after.weight": block.layernorm_after.weight,
    }.items():
        assert torch.equal(parameter, weights[f"encoder.layer.1.{classic}"]), classic


def test_what_a_backbone_says_of_itself(directory: Path, kind: str) -> None:
    backbone = load_backbone(directory)
    prefix = {"deit": 2, "dinov2_with_registers": 4}.get(kind, 1)
    assert backbone.tokens == prefix + 16
    assert (backbone.width, backbone.num_blocks, backbone.heads) == (32, 3, 4)
    assert (backbone.patch_size, backbone.image_size) == (8, 32)
    assert (backbone.mean, backbone.std, backbone.resample) == (MEAN, STD, 3)
    assert backbone.rescale_factor == pytest.approx(1 / 255)
    assert backbone.source == directory
    assert not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    with torch.no_grad():
        output = backbone.model(torch.zeros(1, 3, 32, 32)).last_hidden_state
    assert output.shape == (1, backbone.tokens, backbone.width)


@pytest.mark.parametrize("image_size", [16, 24, 64])
def test_resized_positions_are_those_transformers_uses(directory: Path, kind: str, image_size: int) -> None:
    resized = load_backbone(directory, image_size=image_size)
    original = load_backbone(directory).model
    pixels = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    options = {} if kind.startswith("dinov2") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        assert torch.equal(resized.model.embeddings(pixels), original.embeddings(pixels, **options))


def test_resized_positions_are_bicubic_and_leave_the_class_token_alone(directories: dict[str, Path]) -> None:
    old = load_backbone(directories["deit"]).model.embeddings.position_embeddings
    new = load_backbone(directories["deit"], image_size=48).model.embeddings.position_embeddings
    assert torch.equal(new[:, :2], old[:, :2])
    grid = old[:, 2:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(new[:, 2:], expected.permute(0, 2, 3, 1).reshape(1, 36, 32))


@pytest.mark.parametrize("image_size", [0, 4, 30, -8])
def test_an_image_size_that_patches_do_not_fill_is_refused(
    directories: dict[str, Path], image_size: int
) -> None:
    with pytest.raises(BackboneError, match=r"multiple of the patch size 8, got .*; the nearest are \d+ and"):
        load_backbone(directories["vit"], image_size=image_size)


@pytest.mark.parametrize("blocks", [0, 4, -1])
def test_blocks_out_of_range_are_refused(directories: dict[str, Path], blocks: int) -> None:
    with pytest.raises(BackboneError, match=f"blocks must be from 1 to 3, got {blocks}"):
        load_backbone(directories["vit"], blocks=blocks)


def test_missing_weights_are_listed_up_to_ten_and_counted(copied: Path) -> None:
    change_weights(copied, embeddings__cls_token=None)
    with pytest.raises(BackboneError, match=r"missing: embeddings\.cls_token$"):
        load_backbone(copied)
    names = [name for name in load_file(copied / "model.safetensors") if "layer.1" in name]
    assert len(names) == 16
    change_weights(copied, **{name.replace(".", "__"): None for name in names})
    with pytest.raises(BackboneError, match=r"missing: (\S+, ){9}\S+ and 7 more$"):
        load_backbone(copied)


def test_unexpected_weights_are_listed(copied: Path) -> None:
    change_weights(copied, encoder__layer__3__output__dense__bias=torch.zeros(32), surprise=torch.zeros(1))
    with pytest.raises(BackboneError, match=r"unexpected: \S*3\S*bias, surprise$"):
        load_backbone(copied)


def test_weights_of_another_shape_are_listed(copied: Path) -> None:
    change_weights(copied, layernorm__weight=torch.zeros(31))
    with pytest.raises(BackboneError, match=r"layernorm\.weight \(31,\) instead of \(32,\)"):
        load_backbone(copied)


def test_unused_classifier_pooler_and_mask_token_are_no_error(copied: Path) -> None:
    change_weights(
        copied,
        classifier__weight=torch.zeros(5, 32),
        classifier__bias=torch.zeros(5),
        pooler__dense__weight=torch.zeros(32, 32),
        pooler__dense__bias=torch.zeros(32),
        embeddings__mask_token=torch.zeros(1, 1, 32),
    )
    load_backbone(copied)


def test_a_missing_mask_token_is_no_error(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "dinov2", "dinov2")
    change_weights(directory, embeddings__mask_token=None)
    load_backbone(directory)


def test_half_precision_checkpoints_are_read_as_float32(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    halves = {name: value.half() for name, value in weights.items()}
    save_file(halves, copied / "model.safetensors", metadata={"format": "pt"})
    change_json(copied / "config.json", dtype="float16")
    backbone = load_backbone(copied)
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}


def test_weights_in_several_files_are_read(directories: dict[str, Path], tmp_path: Path) -> None:
    whole = load_backbone(directories["vit"])
    whole.model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    shutil.copy(directories["vit"] / "preprocessor_config.json", tmp_path / "parts")
    assert (tmp_path / "parts" / "model.safetensors.index.json").exists()
    parts = load_backbone(tmp_path / "parts").model.state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.model.state_dict().items())


def test_directories_that_hold_no_network_are_refused_in_a_sentence(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no such directory"):
        load_backbone(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackboneError, match=r"has no config\.json"):
        load_backbone(tmp_path / "empty")
    weights = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BackboneError, match=r"cannot be (read|used)"):
        load_backbone(copied)
    (copied / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"has no model\.safetensors"):
        load_backbone(copied)
    (copied / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BackboneError, match=r"pickle.*never read.*safetensors.*save_pretrained"):
        load_backbone(copied)


def test_broken_and_foreign_configurations_are_refused_in_a_sentence(copied: Path) -> None:
    change_json(copied / "config.json", model_type="bert")
    with pytest.raises(
        BackboneError, match=r"'bert' are not supported.*vit, deit, dinov2, dinov2_with_registers"
    ):
        load_backbone(copied)
    change_json(copied / "config.json", model_type="vit", patch_size="large")
    with pytest.raises(BackboneError, match=r"cannot be (read|used)"):
        load_backbone(copied)
    (copied / "config.json").write_text("[1]")
    with pytest.raises(BackboneError, match="must hold a JSON object"):
        load_backbone(copied)
    (copied / "config.json").write_text('{"model_type": ')
    with pytest.raises(BackboneError, match="cannot be read as JSON"):
        load_backbone(copied)


def test_normalisation_is_never_guessed(copied: Path) -> None:
    preprocessor = copied / "preprocessor_config.json"
    change_json(preprocessor, do_normalize=False, do_rescale=False)
    plain = load_backbone(copied)
    assert (plain.mean, plain.std, plain.rescale_factor) == ((0, 0, 0), (1, 1, 1), 1)
    change_json(preprocessor, do_normalize=True, image_std=[0.5, 0.5])
    with pytest.raises(BackboneError, match="std must be 3 numbers"):
        load_backbone(copied)
    change_json(preprocessor, image_std=[0.5, 0.5, 0.0])
    with pytest.raises(BackboneError, match="must be positive"):
        load_backbone(copied)
    preprocessor.write_text("{}")
    with pytest.raises(BackboneError, match="does not say image_mean and image_std"):
        load_backbone(copied)
    preprocessor.unlink()
    with pytest.raises(BackboneError, match=r"no preprocessor_config\.json.*give mean and std"):
        load_backbone(copied)
    assert load_backbone(copied, mean=MEAN, std=STD).mean == MEAN


def test_short_names_are_the_originals_networks() -> None:
    assert SHORT_NAMES["B_32"] == "google/vit-base-patch32-224-in21k"
    assert SHORT_NAMES["B_32_imagenet1k"] == "google/vit-base-patch32-384"
    assert SHORT_NAMES["L_32_imagenet1k"] == "google/vit-large-patch32-384"
    assert len(SHORT_NAMES) == 8


def test_cache_is_asked_before_the_network(
    directories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append((name, options["revision"], options["local_files_only"]))
        return str(directories["vit"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_backbone("some/vit", revision="v1").source == directories["vit"]
    assert asked == [("some/vit", "v1", True)]


def test_an_unreachable_hub_becomes_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append((name, options["local_files_only"]))
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(
        BackboneError, match="could not be reached: download it elsewhere and give its directory"
    ):
        load_backbone("B_32")
    assert asked == [("google/vit-base-patch32-224-in21k", local) for local in (True, False)]


def test_a_cached_network_without_its_preprocessor_file_is_completed_or_used_as_it_is(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / "preprocessor_config.json").unlink()
    asked = []

    def snapshot_download(name: str, *, local_files_only: bool, **options: object) -> str:
        asked.append(local_files_only)
        if not local_files_only:
            raise ConnectionError("no route to host")
        return str(copied)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_backbone("some/vit", mean=MEAN, std=STD).source == copied
    assert asked == [True, False]


def test_loading_is_silent_and_leaves_transformers_settings_alone(
    copied: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    change_weights(copied, classifier__weight=torch.zeros(5, 32))
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    load_backbone(copied)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_random_networks_come_from_their_generator_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (
        random_backbone("Ti_32", blocks=1, image_size=64, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [backbone.model.layers[0].mlp.fc1.weight for backbone in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    named = load_backbone("random:Ti_32", blocks=2, image_size=64)
    assert (named.num_blocks, named.tokens, named.mean) == (2, 5, (0.5, 0.5, 0.5))
    trunk, head = split(named, 1)
    assert head(trunk(random_images(2, 64))).isfinite().all()
    with pytest.raises(BackboneError, match="no random network 'random:XL_3': choose one of Ti_16"):
        load_backbone("random:XL_3")


def test_loading_draws_nothing_from_the_global_random_state(directory: Path) -> None:
    state = torch.random.get_rng_state()
    load_backbone(directory)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_saved_again_at_another_size_the_model_opens_at_that_size(
    directory: Path, kind: str, tmp_path: Path
) -> None:
    backbone = load_backbone(directory, image_size=48, blocks=2)
    backbone.model.save_pretrained(tmp_path / "again")
    shutil.copy(directory / "preprocessor_config.json", tmp_path / "again")
    again = load_backbone(tmp_path / "again")
    assert (again.image_size, again.num_blocks, again.tokens) == (48, 2, backbone.tokens)
    trunk, head = split(again, 1)
    images = random_images(2, 48)
    expected = transformers_features(directory, kind, images, blocks=2)
    torch.testing.assert_close(head(trunk(images)), expected, rtol=1e-5, atol=1e-5)


def test_importing_the_package_does_not_import_transformers() -> None:
    code = "import sys, vitlr.vit; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_supported_family_is_among_the_tested_kinds() -> None:
    from vitlr.vit.families import FAMILIES

    assert {family.model_class for family in FAMILIES.values()} == {model for _, model, _ in KINDS.values()}
