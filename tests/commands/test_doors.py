"""One table of people's folders, with their right values, through every command that takes pictures."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.tiny_networks import make_directory

from vitlr.cli import main
from vitlr.data import formats

CASES = Path(__file__).parents[1] / "data" / "cases" / "folders"
HEIC = "4 HEIC files are left out"

# folder: images of each class that are read without pillow-heif, sentence about the others
TABLE = {
    "phone": ({"blue": 8, "red": 8}, HEIC),
    "appledouble": ({"blue": 6, "red": 6}, "leave behind"),
    "hidden": ({"mug": 4}, "1 hidden file or folder is left out"),
    "unzipped": ({"blue": 6, "red": 6}, "leave behind"),
}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")


@pytest.fixture(autouse=True)
def without_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(formats, "has_heif", lambda: False)
    formats.readable.cache_clear()
    yield
    formats.readable.cache_clear()


def run(capsys: pytest.CaptureFixture[str], *line: object) -> tuple[str, str]:
    """What a command prints to stdout and to stderr."""
    capsys.readouterr()
    code = main([str(word) for word in line])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out, said.err


# -- train, inspect -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["phone", "appledouble", "unzipped", "Train-Test"])
def test_train_reads_every_image_and_says_what_it_found(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path, case: str
) -> None:
    flags = ["train", "--data.dataset=folder", f"--data.root={CASES / case}", f"--backbone.name={vit}"]
    flags += ["--memory.capacity=8", "--learner.epochs=1", f"--out={tmp_path / 'run'}"]
    _, said = run(capsys, *flags)
    images, sentence = TABLE.get(case, ({"blue": 6, "red": 6}, ""))
    number = sum(images.values())
    found = said.index(f"2 classes of {number} images found in ")
    assert found < said.index("encoding the test set")
    assert sentence in said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["classes"] == 2 and summary["experiences"] == 1
    assert bool(summary["left_out"]) == (case != "Train-Test")
    if case == "Train-Test":
        assert summary["test_images"] == 6


def test_inspect_counts_the_images_of_a_folder(capsys: pytest.CaptureFixture[str], vit: Path) -> None:
    flags = ["inspect", "--data.dataset=folder", f"--data.root={CASES / 'phone'}", f"--backbone.name={vit}"]
    report = json.loads(run(capsys, *flags, "--json")[0])
    assert report["data"]["facts"][0].startswith("2 classes of 16 images found in ")
    assert report["data"]["left_out"]["HEIC"]["count"] == 4
    assert "2 classes of 16 images" in run(capsys, *flags)[1]


def test_inspect_of_a_name_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "robot"]) == 2
    assert "give --backbone.name robot" in capsys.readouterr().err


# -- teach, predict, export, rollout ------------------------------------------------------------------


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory, vit: Path) -> Path:
    """A classifier that knows red and blue, from class folders in one call."""
    robot = tmp_path_factory.mktemp("taught") / "robot"
    line = ["teach", robot, CASES / "Train-Test", "--backbone", vit, "--method", "class_mean", "--quiet"]
    assert main([str(word) for word in line]) == 0
    return robot


@pytest.mark.parametrize("case", [*TABLE, "Train-Test"])
def test_the_names_of_class_folders_are_the_labels(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path, case: str
) -> None:
    images, sentence = TABLE.get(case, ({"blue": 6, "red": 6}, "images to test on are not taught"))
    line = ["teach", tmp_path / "robot", CASES / case, "--backbone", vit, "--method", "class_mean", "--json"]
    out, said = run(capsys, *line)
    answer = json.loads(out)
    assert answer["classes"] == images and answer["images"] == sum(images.values())
    assert sentence in said and bool(answer["found"]["left_out"]) == (case in TABLE)


@pytest.mark.parametrize("case", TABLE)
def test_one_label_for_a_folder_takes_every_image_and_says_what_it_left_out(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path, case: str
) -> None:
    images, sentence = TABLE[case]
    line = ["teach", tmp_path / "robot", "--label", "x", CASES / case, "--backbone", vit]
    out, said = run(capsys, *line, "--method", "class_mean")
    assert out == f"x: {sum(images.values())} images learned; 1 class known\n" and sentence in said


@pytest.mark.parametrize("case", TABLE)
def test_predict_answers_for_every_image_and_rollout_looks_at_it(
    capsys: pytest.CaptureFixture[str], vit: Path, robot: Path, tmp_path: Path, case: str
) -> None:
    images, sentence = TABLE[case]
    out, said = run(capsys, "predict", robot, CASES / case, "--json")
    *rows, last = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == sum(images.values()) and sentence in said
    assert last["skipped"] == [] and last["found"]["left_out"]
    out, said = run(capsys, "rollout", vit, CASES / case, "--out", tmp_path / "x.png", "--json")
    report = json.loads(out)
    assert len(report["images"]) == len(rows) and report["found"] == last["found"] | {} and sentence in said


def test_the_colours_are_told_apart(capsys: pytest.CaptureFixture[str], robot: Path) -> None:
    out, _ = run(capsys, "predict", robot, CASES / "Train-Test" / "Test", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["label"] for row in rows] == [Path(row["path"]).parent.name for row in rows]


def test_predict_reads_names_from_standard_input(
    capsys: pytest.CaptureFixture[str], robot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((CASES / "Train-Test" / "Test" / "red").glob("*.jpg"))
    text = io.TextIOWrapper(io.BytesIO("".join(f"{path}\n" for path in paths).encode()))
    monkeypatch.setattr("sys.stdin", text)
    out, _ = run(capsys, "predict", robot, "-")
    assert [line.split("\t")[:2] for line in out.splitlines()] == [[str(path), "red"] for path in paths]


def test_a_missing_picture_is_said_before_the_network_is_loaded(
    capsys: pytest.CaptureFixture[str], robot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("vitlr.classifier.LatentReplayClassifier.load", load)
    for command in (["predict"], ["teach", "--label", "x"]):
        assert main([*command, str(robot), "no/such.jpg"]) == 2
        assert "no/such.jpg does not exist" in capsys.readouterr().err


def test_what_cannot_be_read_is_left_out_if_asked(
    capsys: pytest.CaptureFixture[str], vit: Path, robot: Path, tmp_path: Path
) -> None:
    shutil.copytree(CASES / "Train-Test" / "Test", tmp_path / "photos")
    bad = tmp_path / "photos" / "red" / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no image")
    photos = tmp_path / "photos"
    commands = {
        "teach": ["teach", tmp_path / "new", photos, "--backbone", vit, "--method", "slda", "--json"],
        "predict": ["predict", robot, photos, "--json"],
    }
    for line in commands.values():
        assert main([str(word) for word in line]) == 2
        assert "bad.jpg" in capsys.readouterr().err
        out, said = run(capsys, *line, "--on-bad-image", "skip")
        assert json.loads(out.splitlines()[-1])["skipped"] == [str(bad)]
        assert f"1 image could not be read and was left out ({bad})" in said
    export = ["export", tmp_path / "new", tmp_path / "hf", "--test", photos, "--json"]
    assert main([str(word) for word in export]) == 2 and not (tmp_path / "hf").exists()
    answer = json.loads(run(capsys, *export, "--on-bad-image", "skip")[0])
    assert (
        answer["skipped"] == [str(bad)]
        and "accuracy on the 6 images of 2 classes in photos" in answer["figures"]
    )


def test_a_class_that_the_classifier_does_not_know_is_left_out_of_the_figure_and_said(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path
) -> None:
    red = CASES / "Train-Test" / "Train" / "red"
    run(capsys, "teach", tmp_path / "robot", "--label", "red", red, "--backbone", vit, "--method", "slda")
    line = ["export", tmp_path / "robot", tmp_path / "hf", "--test", CASES / "Train-Test", "--json"]
    answer = json.loads(run(capsys, *line)[0])
    name = "accuracy on the 3 images of 1 class in Train-Test (1 class it does not know left out)"
    assert answer["figures"] == {name: "100.0%"} and answer["classes_left_out"] == ["blue"]


def test_a_run_s_own_model_predicts(capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path) -> None:
    flags = [
        "train",
        "--data.dataset=folder",
        f"--data.root={CASES / 'Train-Test'}",
        f"--backbone.name={vit}",
    ]
    flags += ["--learner.method=slda", "--backbone.precision=float32", f"--out={tmp_path / 'run'}", "--quiet"]
    run(capsys, *flags)
    learned = json.loads((tmp_path / "run" / "predictions.json").read_text())
    for place in (tmp_path / "run", tmp_path / "run" / "model"):
        out, _ = run(
            capsys, "predict", place, CASES / "Train-Test" / "Test", "--precision", "float32", "--json"
        )
        rows = [json.loads(line) for line in out.splitlines()]
        names = [learned["class_names"][index] for index in learned["predictions"]]
        assert [row["label"] for row in rows] == names
        np.testing.assert_allclose([row["probability"] for row in rows], learned["confidence"], atol=1e-4)


def test_a_run_that_left_no_model_is_said_with_its_method(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path
) -> None:
    flags = ["--data.dataset=folder", f"--data.root={CASES / 'Train-Test'}", f"--backbone.name={vit}"]
    run(capsys, "train", *flags, f"--out={tmp_path / 'run'}", "--quiet")
    for command in ("predict", "rollout"):
        test = CASES / "Train-Test" / "Test"
        assert main([command, str(tmp_path / "run"), str(test)]) == 2
        (line,) = [each for each in capsys.readouterr().err.splitlines() if "error" in each]
        assert "holds no model" in line and "learner.method complementary" in line
        assert "train with learner.method latent_replay or slda" in line


def test_an_exported_classifier_predicts_as_the_classifier_does(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path
) -> None:
    robot, test = tmp_path / "robot", CASES / "Train-Test" / "Test"
    line = ["teach", robot, CASES / "Train-Test", "--backbone", vit, "--method", "latent_replay"]
    run(capsys, *line, "--precision", "float32", "--quiet")
    run(capsys, "export", robot, tmp_path / "hf", "--quiet")
    rows = []
    for model in (robot, tmp_path / "hf"):
        out, _ = run(capsys, "predict", model, test, "--precision", "float32", "--json")
        rows.append([json.loads(line) for line in out.splitlines()])
    for one, other in zip(*rows, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["teach", "NEW", "FILE"], "whose label nobody can tell; give --label NAME"),
        (["teach", "NEW", "CLASS"], "or give --label NAME for all of them"),
        (["teach", "NEW", "CLASS", "--lable", "x"], "did you mean --label?"),
        (["export", "ROBOT", "x.onxx"], "did you mean x.onnx?"),
    ],
)
def test_slips_are_named(
    capsys: pytest.CaptureFixture[str], robot: Path, tmp_path: Path, line: list[str], sentence: str
) -> None:
    places = {
        "NEW": tmp_path / "new",
        "ROBOT": robot,
        "CLASS": CASES / "Train-Test" / "Test" / "red",
        "FILE": CASES / "Train-Test" / "Test" / "red" / "red20.jpg",
    }
    assert main([str(places.get(word, word)) for word in line]) == 2
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())


# -- names --------------------------------------------------------------------------------------------


def test_a_label_that_differs_in_case_only_is_said(
    capsys: pytest.CaptureFixture[str], robot: Path, tmp_path: Path
) -> None:
    shutil.copytree(robot, tmp_path / "robot")
    red = CASES / "Train-Test" / "Test" / "red"
    _, said = run(capsys, "teach", tmp_path / "robot", "--label", "Red", red)
    assert "label Red differs from red in upper and lower case only; both are classes" in said


def test_a_tilde_in_a_flag_is_the_home_directory(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copytree(CASES / "Train-Test", tmp_path / "photos")
    run(capsys, "teach", "~/robot", "~/photos", "--backbone", vit, "--method", "latent_replay", "--quiet")
    run(capsys, "export", "~/robot", "~/hf", "--test", "~/photos", "--quiet")
    assert (tmp_path / "robot").is_dir() and (tmp_path / "hf").is_dir()
    flags = [
        "--data.dataset=folder",
        "--data.root=~/photos",
        f"--backbone.name={vit}",
        "--learner.method=slda",
    ]
    run(capsys, "train", *flags, "--out=~/run", "--quiet")
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_and_terminals_that_are_none_give_no_traceback(
    robot: Path, tmp_path: Path
) -> None:
    photo = CASES / "Train-Test" / "Test" / "red" / "red20.jpg"
    shutil.copy(photo, os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    shutil.copy(photo, tmp_path / "कप.jpg")
    line = [sys.executable, "-m", "vitlr", "predict", str(robot), str(tmp_path)]
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(line, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        rows = done.stdout.splitlines()
        assert len(rows) == 2 and all(row.split(b"\t")[1] == b"red" for row in rows)
        assert any(b"caf\\xe9.jpg" in row for row in rows)
