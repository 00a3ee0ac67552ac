"""One table of people's folders, with their right values, through every command that takes pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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
