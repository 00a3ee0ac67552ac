"""A real Chromium with a camera that plays rendered objects: two are taught, then both are recognised live."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")
if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
    pytest.skip("no Chromium", allow_module_level=True)

from stress.serve import (
    browser_page,
    camera_file,
    choose_file,
    rendered,
    server,
    start_camera,
    teach,
    wait_for_label,
)

LOSE_CAMERA = """() => {
    const [track] = document.querySelector('#live-root video').srcObject.getVideoTracks();
    track.dispatchEvent(new Event('ended'));
}"""

pytestmark = pytest.mark.filterwarnings("ignore")


def test_two_objects_are_taught_and_both_are_recognised_live_also_after_a_restart(tmp_path: Path) -> None:
    objects = rendered(tmp_path / "objects", [1, 26], frames=6)
    films = [camera_file(tmp_path / f"{each}.mjpeg", images) for each, images in objects.items()]
    names = ["plug adapter", "glasses"]
    with server(str(tmp_path / "robot"), "--quiet") as (port, _):
        for name, film in zip(names, films, strict=True):
            with browser_page(port, film) as page:
                start_camera(page)
                teach(page, name, frames=15)
                assert page.faults == []
    with server(str(tmp_path / "robot"), "--quiet") as (port, _):
        for name, film in zip(names, films, strict=True):
            with browser_page(port, film) as page:
                start_camera(page)
                wait_for_label(page, name)
                page.check("#live-root input[type=checkbox]")
                page.wait_for_function("() => !document.querySelector('#live-root canvas').hidden")
                page.wait_for_function("() => document.querySelectorAll('#live-classes img').length === 2")
                page.set_viewport_size({"width": 390, "height": 844})  # a phone: nothing beyond its edge
                assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
                page.evaluate(LOSE_CAMERA)
                page.wait_for_function(
                    "() => document.querySelector('#live-root .message').textContent.includes('disconnected')"
                )
                assert page.faults == []


def test_a_file_that_is_no_picture_gets_a_sentence_with_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "mug.jpg").write_text("no picture")
    with server("--quiet") as (port, _), browser_page(port, None) as page:
        choose_file(page, tmp_path / "mug.jpg")
        page.get_by_label("name of the object").nth(1).fill("mug")
        page.click("text=Teach these")
        page.wait_for_function(
            "() => document.querySelector('#live-status').innerText.startsWith('mug.jpg is text, not an image')"
        )
        assert page.faults == []


def test_without_a_camera_there_is_a_sentence(tmp_path: Path) -> None:
    with server("--quiet") as (port, _), browser_page(port, None) as page:
        page.click("#live-root button.start")
        page.wait_for_function(
            "() => document.querySelector('#live-root .message').textContent.startsWith('No camera')"
        )
        assert page.faults == []
