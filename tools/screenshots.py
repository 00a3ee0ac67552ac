"""Take the pictures of the live page that the documents show: docs/serve.png and docs/serve-dark.png.

    python tools/screenshots.py      # needs playwright and Chromium

A headless Chromium with a fake camera teaches three rendered objects to ``vitlr serve`` with the bundled network. The
second picture is taken on a dark page, with attention.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "stress"))

from serve import browser_page, camera_file, rendered, server, start_camera, teach, wait_for_label  # noqa: E402

OBJECTS = {"ball": 31, "plug adapter": 1, "glasses": 26}  # name on the page: object of the rendered data set
VIEWPORT = {"width": 1280, "height": 910}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = rendered(folder / "objects", list(OBJECTS.values()))
        films = {
            label: camera_file(folder / f"{number}.mjpeg", frames[number])
            for label, number in OBJECTS.items()
        }
        with server(str(folder / "robot"), "--quiet") as (port, _):
            for label, film in films.items():
                with browser_page(port, film) as page:
                    page.set_viewport_size(VIEWPORT)
                    start_camera(page)
                    teach(page, label)
                    page.wait_for_timeout(2500)  # the list on the right is refreshed every second
                    page.screenshot(path=ROOT / "docs" / "serve.png")  # the last one stays
            with browser_page(port, films["plug adapter"], dark=True) as page:
                page.set_viewport_size(VIEWPORT)
                page.check("#live-root input[type=checkbox]")
                start_camera(page)
                wait_for_label(page, "plug adapter")
                page.wait_for_function("() => !document.querySelector('#live-root canvas').hidden")
                page.wait_for_timeout(2500)
                page.screenshot(path=ROOT / "docs" / "serve-dark.png")


if __name__ == "__main__":
    main()
