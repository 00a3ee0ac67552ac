"""``vitlr rollout`` and what it stands on: every kind of model in, pictures out, one sentence for bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.runs.conftest import save_tiny_vit, save_tree

from vitlr import LatentReplayClassifier
from vitlr.attention import attention_pages, look, open_untrained, open_view
from vitlr.cli import main
from vitlr.data.images import read_image
from vitlr.errors import BackboneError
from vitlr.vit import load_backbone
from vitlr.vit.views.rollout import attention_rollout


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("network") / "tiny-vit")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tree(tmp_path_factory.mktemp("tree") / "core50")


@pytest.fixture(scope="module", params=["complementary", "latent_replay"])
def robot(
    request: pytest.FixtureRequest, vit: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved classifier that was taught two objects hard, above cut 1."""
    directory = tmp_path_factory.mktemp("robot") / "robot"
    settings = {"method": request.param, "first_lr": 0.3, "memory": 8}
    model = LatentReplayClassifier(vit, cut=1, precision="float32", **settings)
    images = [path for object_ in ("o1", "o6") for path in sorted((tree / "s1" / object_).glob("*.png"))]
    model.fit(images, [path.parent.name for path in images])
    model.save(directory)
    return directory


@pytest.fixture(scope="module")
def run(vit: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--data.dataset=core50", f"--data.root={tree}", f"--backbone.name={vit}", "--memory.capacity=8"]
    more = ["--learner.batch_size=8", "--backbone.cut=1", "--backbone.blocks=2", "--learner.lr=0.1"]
    more += ["--learner.method=latent_replay"]  # a method whose runs leave a model
    assert main(["train", "--quiet", "--tensorboard=false", *flags, *more, f"--out={out}"]) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code = main(["rollout", *map(str, arguments)])
    captured = capsys.readouterr()
    assert code == 2 and captured.out == "", captured
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vitlr: error: "), captured.err
    return lines[0]


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    capsys.readouterr()
    assert main(["rollout", "--json", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_a_picture_and_its_map_are_written_where_it_is_said(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rollout", str(vit), str(tree / "s1" / "o1" / "C_01_01_020.png"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "rollout.png\n" and captured.err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["rollout.png"], "and nothing beside it"
    with Image.open("rollout.png") as image:
        assert image.format == "PNG" and image.width > 2 * image.height * 0.6


def test_maps_are_those_of_the_rollout_of_each_picture(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page.png"
    options = ["--fuse", "max", "--discard", "0.5", "--blocks", "2", "--image-size", "48"]
    said = report(capsys, vit, tree / "s1", *options, "--out", out)
    assert said["out"] == [str(out)] and said["blocks"] == 2 and said["image_size"] == 48
    assert len(said["images"]) == 8
    backbone = load_backbone(vit, blocks=2, image_size=48)
    for entry in said["images"]:
        image = torch.from_numpy(read_image(entry["path"], 48, backbone.resample))[None]
        expected = attention_rollout(backbone, image, fuse="max", discard=0.5)[0].numpy()
        assert np.allclose(entry["maps"], [expected], atol=1e-6) and expected.shape == (6, 6)


def test_many_pictures_make_several_pages(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitlr.attention.PAGE", 4)
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(5):
        Image.new("RGB", (8, 8), (50 * index, 0, 0)).save(folder / f"{index:02d}.png")
    said = report(capsys, vit, folder, "--out", tmp_path / "p.png")
    assert said["out"] == [str(tmp_path / "p.png"), str(tmp_path / "p-2.png")]
    assert Path(said["out"][1]).stat().st_size < Path(said["out"][0]).stat().st_size


def test_a_saved_classifier_is_shown_before_and_after_learning(
    capsys: pytest.CaptureFixture[str], vit: Path, robot: Path, tree: Path, tmp_path: Path
) -> None:
    image, out = tree / "s3" / "o1" / "C_03_01_020.png", tmp_path / "page.png"
    both = report(capsys, robot, image, "--compare", "--out", out)
    before, after = both["images"][0]["maps"]
    assert before == report(capsys, vit, image, "--out", out)["images"][0]["maps"][0]
    assert not np.allclose(before, after)
    model = LatentReplayClassifier.load(robot)
    if model.method == "complementary":  # which is not exported
        return
    model.export(tmp_path / "hf")
    exported = report(capsys, tmp_path / "hf", image, "--before", vit, "--out", out)
    assert exported["images"][0]["maps"][0] == before
    assert np.allclose(exported["images"][0]["maps"][1], after, atol=1e-6)


def test_a_run_and_its_model_tell_what_they_started_from(
    capsys: pytest.CaptureFixture[str], vit: Path, run: Path, tree: Path, tmp_path: Path
) -> None:
    image, out = tree / "s3" / "o1" / "C_03_01_020.png", tmp_path / "page.png"
    both = report(capsys, run, image, "--compare", "--out", out)
    assert both["blocks"] == 2
    before, after = both["images"][0]["maps"]
    assert before == report(capsys, vit, image, "--blocks", 2, "--out", out)["images"][0]["maps"][0]
    assert not np.allclose(before, after)
    assert report(capsys, run / "model", image, "--compare", "--out", out)["images"] == both["images"]


def test_the_package_gives_the_same_pages(vit: Path, robot: Path, tree: Path) -> None:
    network = open_view(robot)
    rows = list(look([network.before, network], [tree / "s3" / "o1"]))
    assert [row.name for row in rows] == ["C_03_01_020.png", "C_03_01_120.png"]
    (page_HWC,) = attention_pages([network.before, network], [tree / "s3" / "o1"])
    assert page_HWC.dtype == np.uint8 and page_HWC.shape[2] == 3
    with pytest.raises(BackboneError, match="has 2 blocks and"):
        open_untrained(robot_with(vit, 2), network)


def robot_with(vit: Path, blocks: int) -> Path:
    """A copy of the network with fewer blocks, beside it."""
    from transformers import ViTModel

    directory = vit.parent / f"vit-{blocks}"
    model = ViTModel.from_pretrained(vit, num_hidden_layers=blocks, add_pooling_layer=False)
    model.save_pretrained(directory)
    shutil.copy(vit / "preprocessor_config.json", directory)
    return directory


def test_names_are_paths_below_what_they_have_in_common(vit: Path, tree: Path) -> None:
    rows = look([open_view(vit)], [tree / "s1" / "o1", tree / "s2" / "o6"])
    assert [row.name for row in rows][::2] == ["s1/o1/C_01_01_020.png", "s2/o6/C_02_06_020.png"]


def test_bad_input_is_one_sentence_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], vit: Path, robot: Path, tree: Path, tmp_path: Path
) -> None:
    image, out = tree / "s1" / "o1" / "C_01_01_020.png", tmp_path / "out" / "p.png"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:100])
    assert "does not exist" in refused(capsys, vit, image, "--out", out)
    out.parent.mkdir()
    for arguments, said in {
        (vit, tmp_path / "gone.png"): "gone.png does not exist",
        (vit, tmp_path / "empty"): "holds no image",
        (vit, image, tmp_path / "broken.png"): "broken.png",
        (tmp_path / "nobody", image): "no such directory",
        (tmp_path / "empty", image): "no config.json",
        (vit, image, "--fuse", "sum"): "mean, max, min",
        (vit, image, "--discard", "1"): "discard",
        (vit, image, "--discard", "much"): "--discard",
        (vit, image, "--blocks", "4"): "blocks must be from 1 to 3",
        (vit, image, "--image-size", "33"): "multiple",
        (vit, image, "--compare"): "--before",
        (vit, image, "--before", vit, "--compare"): "one of them",
        (vit, image, "--before", tmp_path / "nobody"): "no such directory",
        (robot, image, "--image-size", "48"): "--image-size",
        (vit, image, "--device", "cpu"): "no saved classifier",
        (vit, image, "--precision", "float32"): "no saved classifier",
        (vit,): "image",
    }.items():
        assert said in refused(capsys, *arguments, "--out", out), arguments
    assert "ends in .png" in refused(capsys, vit, image, "--out", tmp_path / "out" / "p.jpg")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refused(capsys, vit, image, "--out", tmp_path / "folder.png")
    assert list(out.parent.iterdir()) == []


def test_a_picture_that_is_looked_at_is_never_written_over(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    content = (tmp_path / "mine.png").read_bytes()
    assert "one of the pictures" in refused(capsys, vit, tmp_path, "--out", tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_bytes() == content


def test_an_earlier_page_is_replaced_and_no_other_picture_is(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path
) -> None:
    from vitlr.cli import main

    for name in ("shown", "mine"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    content = (tmp_path / "mine.png").read_bytes()
    told = refused(capsys, vit, tmp_path / "shown.png", "--out", tmp_path / "mine.png")
    assert "is not a page of attention" in told and (tmp_path / "mine.png").read_bytes() == content
    for _ in range(2):
        line = ["rollout", vit, tmp_path / "shown.png", "--out", tmp_path / "page.png", "--quiet"]
        assert main([str(word) for word in line]) == 0


def test_a_run_without_a_model_is_said(
    capsys: pytest.CaptureFixture[str], run: Path, tree: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "unfinished", ignore=shutil.ignore_patterns("model"))
    assert "holds no model" in refused(
        capsys, tmp_path / "unfinished", tree / "s1", "--out", tmp_path / "p.png"
    )


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["rollout", "--help"])
    assert stop.value.code == 0 and "example: vitlr rollout" in capsys.readouterr().out


def test_the_bundled_network_looks_at_the_object_more_than_at_the_rest() -> None:
    """Rendered: a ball in the middle of the frame; the map's centre of mass lies within the inner half."""
    from vitlr.rendered.dataset import render_frame

    backbone = load_backbone("bundled")
    frames = [render_frame(session, 31, 100) for session in (3, 10)]
    images = torch.from_numpy(np.stack([read_image(frame, 128, backbone.resample) for frame in frames]))
    for map_hw in attention_rollout(backbone, images, discard=0.9).numpy():
        assert map_hw[2:6, 2:6].mean() > 2 * (map_hw.sum() - map_hw[2:6, 2:6].sum()) / 48


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("bundled", "bundled"),
        ("google/vit-base-patch32-384", "vit-base-patch32-384"),
        ("runs/demo/latent-replay/run0-seed0", "latent-replay/run0-seed0"),
        ("runs/demo/latent-replay/run0-seed0/model", "latent-replay/run0-seed0/model"),
        ("run1-seed0", "run1-seed0"),
        (".", "."),
    ],
)
def test_a_page_is_titled_by_what_tells_its_network_from_others(name: str, title: str) -> None:
    from vitlr.attention import _title

    assert _title(name) == title
