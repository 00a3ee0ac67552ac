"""Names that would command a terminal, break a line or turn a sentence around are shown as what they are."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_networks import make_directory
from vitlr.cli import main
from vitlr.data.names import shown
from vitlr.errors import DataError, VitLRError
from vitlr.report.figures import literal
from vitlr.report.page import Part, Table, html_page
from vitlr.text import harmless
from vitlr.vit.exports.card import markdown, model_card

HOSTILE = "a\x1b]0;x\x07\x1b[31mb\rc\nd\u2028e\u202ef\u2066g\u200fh\x9bi"
SAFE = r"a\x1b]0;x\x07\x1b[31mb\rc\nd\u2028e\u202ef\u2066g\u200fh\x9bi"
PEACEFUL = ("tasse à café", "کتاب\u200cخانه", "कुर्सी", "👩\u200d🚀", "a\u00a0b", "100 % [x]", "")


def is_harmless(text: str) -> bool:
    return not any(
        unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs") or letter in "\u202e\u2066\u200f"
        for letter in text
    )


def test_only_what_commands_breaks_or_turns_is_written_out() -> None:
    assert harmless(HOSTILE) == SAFE and harmless("\udc80") == r"\udc80" and shown(HOSTILE) == SAFE
    for name in PEACEFUL:
        assert harmless(name) == name


def test_errors_pages_figures_and_cards_show_names_harmlessly() -> None:
    assert str(DataError(f"no {HOSTILE}")) == f"no {SAFE}" and issubclass(DataError, VitLRError)
    page = html_page(
        HOSTILE,
        HOSTILE,
        [
            Part(
                title=HOSTILE,
                text=HOSTILE,
                warnings=(HOSTILE,),
                tables=(Table(headings=(HOSTILE,), rows=((HOSTILE,),)),),
                figures=((b"<svg width='1pt'></svg>", HOSTILE),),
                folded=((HOSTILE, f"first\nsecond {HOSTILE}"),),
            )
        ],
    )
    assert page.count(SAFE) >= 9 and is_harmless(page.replace("\n", ""))
    assert "first\nsecond a\\x1b" in page  # lines that are ours stay
    assert is_harmless(literal(HOSTILE))
    card = model_card(
        [HOSTILE, "[click](javascript:x)", "<img src=x>"],
        backbone=HOSTILE,
        cut=1,
        num_blocks=2,
        image_size=32,
        settings={"backbone": HOSTILE},
        data=HOSTILE,
        figures={HOSTILE: HOSTILE},
    )
    assert is_harmless(card.replace("\n", "")) and "\n\nd" not in card
    assert r"\[click\](javascript:x)" in card and r"\<img src=x\>" in card
    assert markdown("tasse à café_1") == "tasse à café_1"


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")


def test_commands_show_names_harmlessly(
    vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turning = "red\u202eder"  # a label may hold it, and a file's name anything
    name = "a\x1b[31m\nb\u202e.png"
    photos = tmp_path / "photos"
    for label in (turning, "blue"):
        (photos / label).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (99 * number, 0, 0)).save(photos / label / f"{number}{name}")
    (photos / "blue" / f"x{name}").write_text("no image")
    robot, out = tmp_path / f"robot{turning}\x1b[0m", tmp_path / "out"
    picture = photos / "blue" / f"0{name}"
    network = tmp_path / f"network{turning}"
    shutil.copytree(vit, network)
    recipe = tmp_path / "recipe.yaml"
    base = {"data": {"dataset": "folder", "root": str(photos), "on_bad_image": "skip"}}
    base |= {"backbone": {"name": str(network)}, "learner": {"method": "class_mean"}}
    plan = {"title": f"t {HOSTILE}", "base": base, "variants": {f"v {turning}": {}}}
    recipe.write_text(json.dumps(plan))
    for code, line in (
        (0, ["teach", robot, photos, "--backbone", network, "--method", "slda", "--on-bad-image", "skip"]),
        (0, ["predict", robot, picture]),
        (0, ["classes", robot]),
        (2, ["predict", robot, photos / "blue" / f"gone{name}"]),
        (2, ["teach", robot, "--label", HOSTILE, picture]),
        (2, ["forget", robot, HOSTILE]),
        (0, ["export", robot, out / "hf", "--test", photos, "--on-bad-image", "skip"]),
        (0, ["compare", recipe, "--out", out / f"runs{turning}"]),
        (0, ["report", out / f"runs{turning}", "--out", out / "page"]),
        (0, ["cache", "list"]),
        (2, ["inspect", f"--backbone.name={tmp_path / HOSTILE}"]),
        (2, ["compare", tmp_path / HOSTILE, "--out", out / "x"]),
        (2, ["train", "--data.dataset=folder", f"--data.root={tmp_path / HOSTILE}"]),
    ):
        assert main([str(word) for word in line]) == code, line[0]
        said = capsys.readouterr()
        for text in (said.out, said.err):
            assert is_harmless(text.replace("\n", "").replace("\t", "")), (line[0], text)
        assert len(said.err.splitlines()) == 1 or code == 0
    for path in (out / "hf" / "README.md", out / "page" / "report.html", *out.rglob("table.md")):
        assert is_harmless(path.read_text(encoding="utf-8").replace("\n", "")), path
    assert r"red\u202eder" in (out / "hf" / "README.md").read_text(encoding="utf-8")
    recipe.write_text(json.dumps(plan | {"variants": {HOSTILE: {}}}))
    assert main(["compare", str(recipe), "--out", str(out / "y")]) == 2
    assert "holds a control character; rename it" in capsys.readouterr().err
