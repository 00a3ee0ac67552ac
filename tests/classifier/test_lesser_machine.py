"""A taught model belongs to its data: what was taught on a better machine opens, answers and learns on a lesser one.

The lesser machine is this one, which says that it has no GPU, no bfloat16 and no int8.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.classifier.colours import COLOURS, frames, same, taught

from vitlr import LatentReplayClassifier
from vitlr.classifier import MachineWarning
from vitlr.classifier.saved import KIND, VERSION
from vitlr.cli import main
from vitlr.errors import ConfigError
from vitlr.storage.state import load_state, save_state
from vitlr.vit.compute.int8 import int8_is_fast

needs_int8 = pytest.mark.skipif(not int8_is_fast(), reason="this processor has no int8 products")
MADE = ["bfloat16", pytest.param("int8", marks=needs_int8), "cuda"]

EXPORTED = {"method": "latent_replay", "tokens": "all"}  # a method that every command takes


def made_on_a_gpu(directory: Path) -> None:
    """As it would be saved by a machine whose settings said ``cuda``."""
    tensors, plain = load_state(directory, kind=KIND, version=VERSION)
    for settings in (plain["params"], plain["params_in_use"]):
        settings.update(device="cuda:0", precision=None)
    plain["network"]["taught_in"] = "bfloat16 on cuda:0"
    save_state(directory, tensors, plain, kind=KIND, version=VERSION)


@pytest.fixture(scope="module")
def robots(network: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Saved classifiers by where they were taught; not to be written to."""
    root = tmp_path_factory.mktemp("robots")
    for made in ("bfloat16", "int8", "cuda"):
        if made == "int8" and not int8_is_fast():
            continue
        precision = "bfloat16" if made == "cuda" else made
        taught(network, precision=precision, train_precision="float32", **EXPORTED).save(root / made)
    made_on_a_gpu(root / "cuda")
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def robot(robots: dict[str, Path], made: str, tmp_path: Path) -> Path:
    """A copy of one of them."""
    return Path(shutil.copytree(robots[made], tmp_path / "robot"))


@pytest.fixture
def lesser(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, no native bfloat16, no int8."""

    def no(*_: object) -> bool:
        return False

    for place in ("vitlr.device", "vitlr.vit.compute.precision", "vitlr.learning.gradient"):
        monkeypatch.setattr(f"{place}.has_bfloat16", no)
    for place in ("vitlr.vit.compute.int8", "vitlr.vit.compute.precision"):
        monkeypatch.setattr(f"{place}.int8_is_fast", no)
    monkeypatch.setattr(torch.cuda, "is_available", no)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def quietly(load: Callable[[], LatentReplayClassifier]) -> LatentReplayClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MachineWarning)
        return load()


@pytest.mark.usefixtures("lesser")
@pytest.mark.parametrize("made", MADE)
def test_it_opens_says_so_once_answers_and_goes_on_learning(robot: Path, made: str, network: Path) -> None:
    with pytest.warns(MachineWarning) as caught:
        model = LatentReplayClassifier.load(robot)
    assert len(caught) == 1 and "computes in float32 from now on" in str(caught[0].message)
    assert f"taught in {'bfloat16 on cuda:0' if made == 'cuda' else made}" in str(caught[0].message)
    exact = taught(network, train_precision="float32", **EXPORTED)
    probe = np.concatenate([frames(colour, 5, seed=3) for colour in COLOURS])
    assert np.allclose(model.predict_proba(probe), exact.predict_proba(probe), atol=0.1)
    model.partial_fit(frames("grey"), "grey").forget("red")
    assert model.classes_.tolist() == ["green", "blue", "grey"]
    assert model.score(frames("grey", 10, seed=5), "grey") > 0.8


@pytest.mark.usefixtures("lesser")
@pytest.mark.parametrize("made", MADE)
def test_what_it_saves_holds_the_networks_weights_bit_for_bit_and_opens_without_a_word(
    robot: Path, made: str, tmp_path: Path
) -> None:
    (before,) = robot.glob("backbone-*")
    content = before.read_bytes()
    model = quietly(lambda: LatentReplayClassifier.load(robot))
    model.partial_fit(frames("grey"), "grey")
    for place in (robot, tmp_path / "other"):
        model.save(place)
        (after,) = place.glob("backbone-*")
        assert after.name == before.name and after.read_bytes() == content
        again = LatentReplayClassifier.load(place)  # a warning would be an error here
        assert same(model, again)


@pytest.mark.parametrize("made", ["bfloat16", pytest.param("int8", marks=needs_int8)])
def test_back_on_its_own_machine_it_computes_as_it_was_made(
    robot: Path, made: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitlr.vit.compute.precision.has_bfloat16", lambda device: True)
    first = LatentReplayClassifier.load(robot)
    with monkeypatch.context() as patch:
        patch.setattr("vitlr.vit.compute.precision.has_bfloat16", lambda device: False)
        patch.setattr("vitlr.vit.compute.precision.int8_is_fast", lambda: False)
        quietly(lambda: LatentReplayClassifier.load(robot)).save(robot)
    with pytest.warns(MachineWarning, match=f"taught in float32 and computes in {made}"):
        assert same(first, LatentReplayClassifier.load(robot))


@pytest.mark.usefixtures("lesser")
@pytest.mark.parametrize("made", ["cuda"])
def test_without_its_trunk_it_opens_too(
    robots: dict[str, Path], network: Path, made: str, tmp_path: Path
) -> None:
    quietly(lambda: LatentReplayClassifier.load(robots[made])).save(tmp_path / "robot", include_trunk=False)
    assert not list((tmp_path / "robot").glob("backbone-*"))
    made_on_a_gpu(tmp_path / "robot")
    with pytest.warns(MachineWarning, match="bfloat16 on cuda:0 and computes in float32"):
        model = LatentReplayClassifier.load(tmp_path / "robot", backbone=network)
    assert model.classes_.tolist() == ["red", "green", "blue"]


@pytest.mark.parametrize("made", MADE)
def test_device_and_precision_asked_for_are_taken_and_kept(robot: Path, made: str, network: Path) -> None:
    model = quietly(lambda: LatentReplayClassifier.load(robot, device="cpu", precision="float32"))
    assert (model.device, model.precision) == ("cpu", "float32")
    exact = taught(network, train_precision="float32", **EXPORTED)
    probe = frames("blue", 4, seed=8)
    assert np.allclose(model.predict_proba(probe), exact.predict_proba(probe), atol=0.1)
    model.save(robot)
    again = LatentReplayClassifier.load(robot)
    assert (again.device, again.precision) == ("cpu", "float32") and same(model, again)


@pytest.mark.usefixtures("lesser")
@pytest.mark.parametrize("made", ["bfloat16"])
@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"device": "cuda"}, "sees 0 GPUs here"),
        ({"precision": "int8"}, "needs an x86 processor with VNNI"),
        ({"precision": "int4"}, "precision must be"),
        ({"device": "tpu"}, "device must be cpu"),
    ],
)
def test_what_is_asked_for_and_not_there_is_refused(robot: Path, asked: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        LatentReplayClassifier.load(robot, **asked)


# -- the commands -----------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(frames("red", 1, seed=4)[0]).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def lines_of(command: str, robot: Path, picture: Path) -> list[str]:
    others = {
        "teach": [picture, "--label", "red"],
        "predict": [picture],
        "forget": ["green"],
        "export": [picture.parent / "hf"],
        "rollout": [picture, "--out", picture.parent / "page.png"],
    }
    return [command, str(robot), *map(str, others.get(command, [])), "--json"]


@pytest.mark.usefixtures("lesser")
@pytest.mark.parametrize("made", ["cuda"])
@pytest.mark.parametrize("command", ["teach", "predict", "classes", "forget", "export", "rollout"])
def test_a_command_says_it_in_one_line_on_stderr_and_does_its_work(
    capsys: pytest.CaptureFixture[str], robot: Path, made: str, picture: Path, command: str
) -> None:
    assert main(lines_of(command, robot, picture)) == 0
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and captured.err.startswith("vitlr: note: ")
    assert "taught in bfloat16 on cuda:0 and computes in float32" in captured.err
    json.loads(captured.out)
    made_on_a_gpu(robot)
    shutil.rmtree(picture.parent / "hf", ignore_errors=True)
    if command != "forget":
        assert main([*lines_of(command, robot, picture), "--quiet"]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("made", ["bfloat16"])
@pytest.mark.parametrize("command", ["teach", "predict", "classes", "forget", "export", "rollout"])
def test_flags_of_a_command_take_the_place_of_what_it_was_made_with(
    capsys: pytest.CaptureFixture[str], robot: Path, made: str, picture: Path, command: str
) -> None:
    line = lines_of(command, robot, picture)
    assert main([*line, "--device", "cpu", "--precision", "float32"]) == 0
    assert "taught in bfloat16 and computes in float32" in capsys.readouterr().err
    if command in ("teach", "forget"):  # those save
        assert LatentReplayClassifier.load(robot).precision == "float32"
    assert main([*line, "--precision", "int4"]) == 2
    assert "precision must be auto or one of" in capsys.readouterr().err
