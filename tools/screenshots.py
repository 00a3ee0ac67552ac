"""Take the pictures of the live page that the documents show: docs/serve*.png.

    python tools/screenshots.py      # needs playwright and Chromium

A headless Chromium, in front of whose camera rendered objects are held, teaches ``vitlr serve`` with the bundled
network.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "stress"))

from browser import browser, live_page, press, rendered, show, start_camera, teach, wait, wait_for_label  # noqa: E402
from serve import server  # noqa: E402

OBJECTS = {
    "ball": 31,
    "plug adapter": 1,
    "glasses": 26,
    "mug": 41,
    "remote control": 46,
}  # name: rendered object
STRANGER = 36  # a rendered object that is not taught
WIDE, PHONE = (1280, 880), (390, 844)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = rendered(folder / "objects", [*OBJECTS.values(), STRANGER])
        pictures = {label: frames[number] for label, number in OBJECTS.items()}
        with server(str(folder / "robot"), "--quiet") as (port, _), browser() as started:
            with live_page(started, port, held=True, size=WIDE) as page:
                teach_all(page, pictures)
                check(page, pictures, frames[STRANGER])
            with live_page(started, port, held=True, size=WIDE, dark=True) as page:
                see(page, "glasses", pictures["glasses"][5])
                page.click("#attention")
                page.wait_for_selector("#overlay:not([hidden])")
                take(page, "serve-dark")
            with live_page(started, port, held=True, size=PHONE) as page:
                see(page, "mug", pictures["mug"][4])
                take(page, "serve-phone")


def teach_all(page: Any, pictures: dict[str, list[Path]]) -> None:
    """Teach every object, turning it; the last one is photographed meanwhile, and the first one afterwards."""
    *others, last = pictures
    for label in others:
        for part in (pictures[label][:6], pictures[label][6:]):
            show(page, part[0])
            start_camera(page)
            teach(page, label, frames=8)
    show(page, pictures[last][0])
    press(page, last, 1)
    for number, picture in enumerate(pictures[last], start=1):
        show(page, picture)
        wait(page, "n => Number(document.querySelector('#ringText').textContent) >= n", 2 * number)
    take(page, "serve-teaching")
    page.mouse.up()
    wait_for_label(page, last)
    page.locator(".toast button[aria-label=Close]").first.click()
    see(page, "ball", pictures["ball"][3])
    take(page, "serve")


def check(page: Any, pictures: dict[str, list[Path]], stranger: list[Path]) -> None:
    """Judge an answer for three pictures of each object and for one that was never taught."""
    page.click("#tabCheck")
    shown = [(label, frames[index]) for index in (2, 7, 10) for label, frames in pictures.items()]
    for label, picture in [*shown, ("unknown", stranger[0])]:
        show(page, picture)
        for _ in range(2):  # the first answer may be about the picture before
            with page.expect_response("**/live/answer*"):
                pass
        page.wait_for_timeout(100)
        if page.inner_text("#said") == label:
            page.click("#right")
        else:
            page.click("#wrong")
            what = "Something never taught" if label == "unknown" else label
            page.get_by_role("group", name="What it really is").get_by_text(what, exact=True).click()
    page.locator(".toast button[aria-label=Close]").first.click()
    page.wait_for_selector("#right[aria-disabled=false]")
    take(page, "serve-check")


def see(page: Any, label: str, picture: Path) -> None:
    """Hold a picture in front of the camera until it is recognised."""
    show(page, picture)
    start_camera(page)
    wait_for_label(page, label)
    page.wait_for_timeout(1500)  # the average of the last frames settles, and so do the bars


def take(page: Any, name: str) -> None:
    """docs/NAME.png."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(ROOT / "docs" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
