"""The live page in a real Chromium: taught, undone, checked, from files, by keyboard, without a camera or a server.

One server and one browser for all of it. One test uses Chromium's own camera; in the others a program holds rendered
objects in front of the camera.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("playwright")

from stress import browser as hands
from stress.browser import live_page, press, show, start_camera, teach, text, wait, wait_for_label
from stress.serve import post, server

if hands.chromium() is None:
    pytest.skip("no Chromium", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")

PLUG, GLASSES, BALL = 1, 26, 31
KNOWN = {"plug": PLUG, "glasses": GLASSES}  # before each test
CARDS = "() => [...document.querySelectorAll('.cardName span')].map(each => each.textContent)"


@dataclass
class Stage:
    browser: Any
    port: int
    pictures: dict[int, list[Path]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A page on which two objects were taught and saved."""
    folder = tmp_path_factory.mktemp("live")
    pictures = hands.rendered(folder / "objects", [*KNOWN.values(), BALL], frames=3)
    film = hands.camera_file(folder / "ball.mjpeg", pictures[BALL])
    flags = [str(folder / "robot"), "--quiet", "--no-autosave"]
    with server(*flags) as (port, _), hands.browser(film) as started:
        for name, number in KNOWN.items():
            for picture in pictures[number]:
                _post(port, "/live/frame?visitor=the-fixture", picture.read_bytes())
            _finish(port, "/live/release?visitor=the-fixture", {"label": name})
        _finish(port, "/live/save", {})
        yield Stage(started, port, pictures)


def _post(port: int, path: str, body: bytes) -> dict:
    status, content = post(port, path, body)
    assert status == 200, content
    return content


def _finish(port: int, path: str, content: dict) -> None:
    job = _post(port, path, json.dumps(content).encode())
    while job["state"] in ("waiting", "learning"):
        time.sleep(0.02)
        with urlopen(f"http://127.0.0.1:{port}/live/job?number={job['number']}") as reply:
            job = json.load(reply)
    assert job["state"] == "done", job


@pytest.fixture(autouse=True)
def saved_objects(stage: Stage) -> None:
    """Every test begins with what was saved."""
    _finish(stage.port, "/live/load", {})


@pytest.fixture
def page(stage: Stage) -> Iterator[Any]:
    """The page with a held camera that runs; afterwards it must have had no fault."""
    with live_page(stage.browser, stage.port, held=True) as opened:
        show(opened, stage.pictures[PLUG][0])
        start_camera(opened)
        wait_for_label(opened, "plug")
        yield opened
        assert opened.faults == []


def cards_are(page: Any, *names: str) -> None:
    wait(page, f"names => JSON.stringify(({CARDS})()) === JSON.stringify(names)", list(names))


def test_a_lesson_by_the_browsers_own_camera_is_recognised_and_undo_takes_it_back(stage: Stage) -> None:
    with live_page(stage.browser, stage.port) as page:
        start_camera(page)
        teach(page, "ball", frames=8)
        cards_are(page, "plug", "glasses", "ball")
        page.click("#undo")
        cards_are(page, "plug", "glasses")
        assert page.faults == []


def test_a_held_object_has_its_own_name_on_the_picture_and_a_tap_teaches_nothing(
    stage: Stage, page: Any
) -> None:
    show(page, stage.pictures[BALL][0])
    page.fill("#name", "ball")
    page.click("#hold")
    wait(page, "() => document.querySelector('#message').textContent.startsWith('A tap teaches nothing')")
    cards_are(page, "plug", "glasses")
    press(page, "ball", frames=8)
    assert text(page, "#said") == "ball" and text(page, "#badge") == "Teaching"
    assert page.locator("#strip canvas").count() >= 8
    assert page.evaluate("() => document.querySelectorAll('.card.seen').length") == 0, "an old answer"
    page.mouse.up()
    wait_for_label(page, "ball")
    cards_are(page, "plug", "glasses", "ball")
    show(page, stage.pictures[PLUG][1])
    wait_for_label(page, "plug")
    page.click("#attention")
    page.wait_for_selector("#overlay:not([hidden])")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390, "wider than a phone"


def test_keyboard_alone_teaches_renames_forgets_and_takes_back(stage: Stage, page: Any) -> None:
    show(page, stage.pictures[BALL][0])
    page.focus("#name")
    page.keyboard.type("PLUG")
    page.keyboard.press("Tab")
    page.keyboard.down(" ")
    wait(page, "() => Number(document.querySelector('#ringText').textContent) >= 7")
    page.keyboard.up(" ")
    page.wait_for_selector("#ask[open]")  # a name that differs in case only is asked about
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    cards_are(page, "plug", "glasses", "PLUG")
    page.locator(".cardName").nth(2).focus()
    page.keyboard.press("Enter")
    page.keyboard.type("ball")
    page.keyboard.press("Enter")
    cards_are(page, "plug", "glasses", "ball")
    page.get_by_label("Forget ball").press("Enter")
    cards_are(page, "plug", "glasses")
    page.locator(".toast", has_text="Forgot “ball”").get_by_text("Undo").press("Enter")
    cards_are(page, "plug", "glasses", "ball")
    assert page.evaluate(
        "() => document.querySelectorAll('button:not([aria-label])').length"
    ) == page.evaluate(
        "() => [...document.querySelectorAll('button:not([aria-label])')].filter(b => b.textContent.trim()).length"
    ), "a button without a name"


def test_the_limit_of_unknown_and_the_check_mode(stage: Stage, page: Any, tmp_path: Path) -> None:
    page.focus("#threshold")
    page.keyboard.press("End")
    wait_for_label(page, "unknown")
    page.keyboard.press("Home")
    wait_for_label(page, "plug")
    page.click("#tabCheck")
    page.locator("#right", has_text="Right, plug").click()
    page.click("#wrong")
    page.locator("#truths button", has_text="glasses").click()
    assert text(page, ".figure") == "50\N{NO-BREAK SPACE}%"
    assert page.evaluate("() => document.querySelectorAll('#matrix td.hit, #matrix td.miss').length") == 4
    page.locator("#mistakeList .icon").click()  # it was a slip
    assert text(page, ".figure") == "100\N{NO-BREAK SPACE}%"
    for name, number in {"Glasses": GLASSES, "plug": PLUG}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "a.png").write_bytes(stage.pictures[number][2].read_bytes())
    (tmp_path / "photos" / "plug" / "b.png").write_text("no picture")
    page.set_input_files("#folderInput", tmp_path / "photos")
    wait(page, "() => document.querySelector('#folderNote').textContent.startsWith('2 pictures checked')")
    assert "1 picture could not be read" in text(page, "#folderNote")
    assert text(page, ".figureNote b") == "3 of 3 answers right"


def test_single_pictures_are_thrown_out_and_classes_merged(stage: Stage, page: Any) -> None:
    page.check("#keep")
    teach(page, "plug", frames=7)
    page.get_by_label("Pictures of plug").click()
    page.wait_for_selector(".pictures img")
    before = page.locator(".pictures img").count()
    page.get_by_label("Throw out picture 1", exact=True).click()
    wait(page, "n => document.querySelectorAll('.pictures img').length === n", before - 1)
    page.keyboard.press("Escape")
    page.get_by_label("Merge glasses with another object").click()
    page.select_option("#ask select", "plug")
    page.click("#ask .primary")
    cards_are(page, "plug")


def test_a_lost_camera_comes_back_by_itself_and_a_silent_server_is_named(stage: Stage, page: Any) -> None:
    page.evaluate("() => window.heldCamera.lose()")
    wait(page, "() => document.querySelector('#message').textContent.includes('disconnected')")
    assert page.is_disabled("#hold")
    page.evaluate("() => window.heldCamera.giveBack()")
    wait_for_label(page, "plug")
    page.route("**/live/answer*", lambda route: route.abort())
    page.wait_for_selector("#stage.stale")
    assert text(page, "#how").startswith("no answer for")
    assert "does not answer" in text(page, "#message")
    page.unroute("**/live/answer*")
    wait(page, "() => !document.querySelector('#stage').classList.contains('stale')")
    assert text(page, "#message") == ""


def test_a_phone_asks_for_its_rear_camera_and_teaches_files_without_one_naming_those_it_cannot_read(
    stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "mug.jpg").write_text("no picture")
    phone = {"size": (390, 844), "is_mobile": True, "has_touch": True}
    with live_page(stage.browser, stage.port, camera=False, held=True, **phone) as page:
        page.evaluate("() => window.heldCamera.takeAway()")
        page.click("#start")
        wait(page, "() => document.querySelector('#message').textContent.startsWith('No camera was found')")
        asked = page.evaluate("() => window.heldCamera.wanted[0].video.facingMode")
        assert asked == {"ideal": "environment"}
        page.set_input_files("#fileInput", [*stage.pictures[BALL], tmp_path / "mug.jpg"])
        page.wait_for_selector("#still:not([hidden])")
        page.fill("#name", "ball")
        page.click("text=Teach 4 files")
        cards_are(page, "plug", "glasses", "ball")
        wait_for_label(page, "ball")
        assert "mug.jpg is text" in text(page, ".toast.bad")
        assert page.faults == []
