"""``vitlr teach``, ``predict``, ``classes``, ``forget``, ``export`` with every kind of method, and what they print."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.tiny_networks import make_directory

from vitlr import LatentReplayClassifier
from vitlr.app.gallery import Gallery, Shown
from vitlr.cli import main, make_parser

LEVELS = {"dark": 40, "grey": 120, "bright": 210}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny network in ``vit`` and three pictures of each level below ``shown``."""
    folder = tmp_path_factory.mktemp("place")
    make_directory(folder / "vit", "vit")
    for label, level in LEVELS.items():
        (folder / "shown" / label).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng([level, number]).normal(level, 8, (40, 40, 3)).clip(0, 255)
            Image.fromarray(noise.astype(np.uint8)).save(folder / "shown" / label / f"{number}.png")
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints; nothing on stderr."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def taught(place: Path, robot: Path, *more: str) -> Path:
    for label in LEVELS:
        line = [
            "teach",
            robot,
            "--label",
            label,
            place / "shown" / label,
            "--backbone",
            place / "vit",
            "--quiet",
        ]
        assert main([*map(str, line), *more]) == 0
    return robot


@pytest.mark.parametrize("method", ["complementary", "latent_replay", "slda", "class_mean", "ranpac"])
def test_a_classifier_of_any_method_is_taught_asked_and_made_to_forget(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, method: str
) -> None:
    replays = method in ("complementary", "latent_replay")
    robot = taught(place, tmp_path / "robot", "--method", method, "--memory", "1500")
    assert LatentReplayClassifier.load(robot).method == method
    rows = [json.loads(row) for row in said(capsys, "predict", robot, place / "shown", "--json").splitlines()]
    assert len(rows) == 9
    if method != "latent_replay":  # random weights: only what is in closed form is sure to tell levels apart
        assert all(row["label"] == Path(row["path"]).parent.name for row in rows)
    known = json.loads(said(capsys, "classes", robot, "--json"))
    assert known["classes"] == dict.fromkeys(LEVELS, 3)
    assert known["latents"] == dict.fromkeys(LEVELS, 3 if replays else 0)
    assert known["bytes"] > 0 and known["capacity"] == (1500 if replays else None)
    forgotten = said(capsys, "forget", robot, "grey")
    removed = 3 if replays else 0
    assert forgotten.startswith(f"grey: forgotten, {removed} latents removed")
    assert ("; what remains: " in forgotten) == (method != "class_mean")
    assert set(json.loads(said(capsys, "classes", robot, "--json"))["classes"]) == {"dark", "bright"}


def test_classes_are_printed_with_their_images_and_with_latents_if_any_are_kept(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    replay = taught(place, tmp_path / "replay", "--memory", "4")
    lines = said(capsys, "classes", replay).splitlines()
    assert [line.split("\t")[:2] for line in lines] == [[label, "3 images"] for label in LEVELS]
    latents = [line.split("\t")[2] for line in lines]
    assert sorted(latents) == ["1 latent", "1 latent", "2 latents"]
    slda = taught(place, tmp_path / "slda", "--method", "slda")
    assert said(capsys, "classes", slda) == "".join(f"{label}\t3 images\n" for label in LEVELS)


def test_teach_counts_the_images_taught_of_each_class(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    robot = taught(place, tmp_path / "robot", "--memory", "2")
    line = ["teach", robot, "--label", "dark", place / "shown" / "dark" / "0.png", "--json"]
    answer = json.loads(said(capsys, *line))
    assert answer["images"] == 1 and answer["classes"] == {"dark": 4, "grey": 3, "bright": 3}


def test_forget_as_json_has_the_latents_removed_and_what_remains(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    robot = taught(place, tmp_path / "robot")
    answer = json.loads(said(capsys, "forget", robot, "grey", "--json"))
    assert answer["label"] == "grey" and answer["latents"] == 3 and "blocks" in answer["remains"]


@pytest.mark.parametrize("method", ["slda", "latent_replay", "class_mean", "complementary"])
def test_only_a_linear_classifier_is_exported(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, method: str
) -> None:
    robot, linear = taught(place, tmp_path / "robot", "--method", method), ("slda", "latent_replay")
    code = main(["export", str(robot), str(tmp_path / "hf"), "--quiet"])
    error = capsys.readouterr().err
    assert code == (0 if method in linear else 2)
    if method in linear:
        card = (tmp_path / "hf" / "README.md").read_text()
        assert ("in closed form" in card, "were trained" in card) == (method == "slda", method != "slda")
    else:
        assert error.count("\n") == 1 and f"method {method} " in error
        assert "teach with latent_replay or slda" in error and not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("method", "sentence"),
    [("native", "method native keeps images"), ("sldda", "did you mean slda?")],
)
def test_a_method_that_cannot_be_taught_is_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, method: str, sentence: str
) -> None:
    robot = tmp_path / "robot"
    line = ["teach", robot, "--label", "dark", place / "shown" / "dark", "--backbone", place / "vit"]
    assert main([*map(str, line), "--method", method]) == 2
    assert sentence in capsys.readouterr().err and not robot.exists()


def test_another_method_for_a_classifier_that_is_there_is_refused(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    robot = taught(place, tmp_path / "robot", "--method", "slda")
    line = ["teach", robot, "--label", "dark", place / "shown" / "dark", "--method", "latent_replay"]
    assert main([*map(str, line)]) == 2
    assert "made with --method slda: leave out --method latent_replay" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["teach", "predict", "classes", "forget", "export", "rollout", "serve"])
def test_every_command_that_opens_a_classifier_takes_device_and_precision(command: str) -> None:
    others = {"teach": ["x.png", "--label", "x"], "predict": ["x.png"], "forget": ["x"], "export": ["out"]}
    line = [command, "robot", *others.get(command, []), *(["x.png"] if command == "rollout" else [])]
    options = make_parser().parse_args([*line, "--device", "cuda:1", "--precision", "int8"])
    assert (options.device, options.precision) == ("cuda:1", "int8")
    if command in ("teach", "serve"):
        assert make_parser().parse_args([*line, "--method", "slda"]).method == "slda"


def test_a_class_is_renamed_made_part_of_another_and_nothing_changes_if_that_is_refused(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    robot = taught(place, tmp_path / "robot")
    dark, grey, light = LEVELS
    assert "is night now, 3 images" in said(capsys, "rename", robot, dark, "night")
    before = (robot / "state.safetensors").read_bytes()
    assert main(["rename", str(robot), grey, light]) == 2
    assert "make both one with --merge" in capsys.readouterr().err
    assert main(["rename", str(robot), "nobody", "x"]) == 2
    assert "no class 'nobody' to rename" in capsys.readouterr().err
    assert (robot / "state.safetensors").read_bytes() == before
    merged = json.loads(said(capsys, "rename", robot, grey, light, "--merge", "--json"))
    assert merged["classes"] == {"night": 3, light: 6}
    LatentReplayClassifier.load(robot).rename("night", 3).save(robot)
    said(capsys, "rename", robot, "3", "3")
    assert LatentReplayClassifier.load(robot).classes_.tolist() == [3, light], "a number stays one"


def test_classifiers_taught_apart_are_put_together_in_a_new_directory(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    robots = []
    for label in LEVELS:
        robots.append(tmp_path / f"robot-{label}")
        line = ["teach", robots[-1], "--label", label, place / "shown" / label, "--backbone", place / "vit"]
        assert main([*map(str, line), "--quiet"]) == 0
    found = said(capsys, "merge", *robots, "--out", tmp_path / "fleet")
    assert "3 classes, 9 images, of 3 classifiers" in found
    rows = said(capsys, "predict", tmp_path / "fleet", place / "shown", "--json").splitlines()
    assert all(row["label"] == Path(row["path"]).parent.name for row in map(json.loads, rows))
    for line, sentence in (
        ((robots[0], robots[0]), "1 of the 1 lessons were taught to both"),
        ((robots[0],), "two or more classifiers"),
        ((robots[0], tmp_path / "fleet"), "1 of the 3 lessons"),
    ):
        assert main(["merge", *map(str, line), "--out", str(tmp_path / "other")]) == 2
        assert sentence in capsys.readouterr().err and not (tmp_path / "other").exists()
    assert main(["merge", *map(str, robots), "--out", str(robots[0])]) == 2
    assert "holds a classifier already" in capsys.readouterr().err


def test_pictures_of_one_sequence_get_one_answer_from_all_of_them(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    robot, shown = taught(place, tmp_path / "robot"), place / "shown" / "grey"
    each = [json.loads(row) for row in said(capsys, "predict", robot, shown, "--json").splitlines()]
    one = json.loads(said(capsys, "predict", robot, shown, "--sequence", "--json"))
    assert one["label"] == "grey" and one["frames"] == 3 == len(one["files"])
    assert one["path"] == str(shown) and one["probability"] >= np.mean([row["probability"] for row in each])
    assert one["score"] == pytest.approx(np.mean([row["score"] for row in each]), abs=1e-5)
    assert "3 frames of 3 files" in said(capsys, "predict", robot, shown, "--sequence")
    assert LatentReplayClassifier.load(robot).predict_sequence(str(shown)) == "grey"


def test_pictures_that_the_page_saved_go_with_their_class(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    robot = taught(place, tmp_path / "robot")
    dark, grey, light = LEVELS
    gallery, frames = Gallery(tmp_path / "gallery", 10**6), [np.full((32, 32, 3), 9, dtype=np.uint8)]
    shown = Shown()
    for name in LEVELS:
        shown = gallery.taught(shown, name, frames, keep=True)
    gallery.save(shown, robot)
    said(capsys, "forget", robot, dark)
    said(capsys, "rename", robot, grey, dark)
    found = Gallery(tmp_path / "again", 10**6).load(robot)
    assert found.pictures == {dark: shown.pictures[grey], light: shown.pictures[light]}
    assert set(found.thumbnails) == {dark, light}
    kept = {path.stem for path in (robot / "pictures").iterdir()}
    assert kept == {*shown.pictures[grey], *shown.pictures[light]}, "what was forgotten is not on the disk"
