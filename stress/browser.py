"""A real Chromium on the live page, and hands to use it: for the tests, the latency benchmark and the pictures.

The camera is Chromium's own that plays a film, or one that a program holds pictures in front of (``held=True``), so
that objects can change and the camera can be lost within one page. The page's policy forbids evaluated strings, so
nothing here uses ``wait_for_function``.
"""

from __future__ import annotations

import base64
import io
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

SECONDS = 30.0  # that the page may take for anything; not part of any measurement
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]

_HELD_CAMERA = """
  const canvas = document.createElement("canvas");
  canvas.width = 640;
  canvas.height = 480;
  let image = null, stream = null, there = true;
  setInterval(() => {
    const context = canvas.getContext("2d");
    context.fillStyle = "#808080";
    context.fillRect(0, 0, 640, 480);
    if (image) context.drawImage(image, 0, -80, 640, 640);
  }, 40);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    window.heldCamera.wanted.push(wanted);
    if (!there) throw new DOMException("", "NotFoundError");
    stream = canvas.captureStream(25);
    return stream;
  };
  window.heldCamera = {
    wanted: [],
    show: (address) => new Promise((done) => {
      const next = new Image();
      next.onload = () => { image = next; setTimeout(done, 100); };
      next.src = address;
    }),
    takeAway: () => { there = false; },
    lose: () => { there = false; stream.getVideoTracks()[0].dispatchEvent(new Event("ended")); },
    giveBack: () => { there = true; navigator.mediaDevices.dispatchEvent(new Event("devicechange")); },
  };
"""


def chromium() -> str | None:
    """The installed browser's path."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


def camera_file(path: Path, images: Sequence[Path]) -> Path:
    """A film for Chromium's fake camera: JPEGs one after the other, each shown for a third of a second."""
    content = b""
    for image in images:
        buffer = io.BytesIO()
        with Image.open(image) as picture:
            wide = picture.convert("RGB").resize((640, 640), Image.Resampling.BICUBIC).crop((0, 80, 640, 560))
        wide.save(buffer, "JPEG", quality=92)
        content += buffer.getvalue() * 10
    path.write_bytes(content)
    return path


def rendered(folder: Path, objects: Sequence[int], frames: int = 12) -> dict[int, list[Path]]:
    """Frames of rendered objects."""
    from vitlr.rendered.dataset import render_dataset

    render_dataset(folder, frames, sessions=[1], objects=list(objects), processes=1)
    return {each: sorted((folder / "s1" / f"o{each}").glob("*.png")) for each in objects}


@contextmanager
def browser(film: Path | None = None) -> Iterator[Any]:
    """Chromium without a window; its camera plays the film, over and over."""
    from playwright.sync_api import sync_playwright

    camera = []
    if film is not None:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        camera += [f"--use-file-for-fake-video-capture={film}"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, *camera])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def live_page(
    browser: Any,
    port: int,
    *,
    held: bool = False,
    camera: bool = True,
    dark: bool = False,
    size: tuple[int, int] = (1280, 900),
    **context: Any,
) -> Iterator[Any]:
    """The live page, ready. ``page.faults`` lists errors of its scripts and everything it asked other hosts for.

    Args:
        held: the camera is one that ``show`` holds pictures in front of.
        camera: the page is allowed the camera, and so starts it by itself.
    """
    opened = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        permissions=["camera"] if camera else [],
        **context,
    )
    page = opened.new_page()
    page.set_default_timeout(1000 * SECONDS)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda line: _note_refusal(line, page.faults))
    page.on("request", lambda request: _only_here(request.url, port, page.faults))
    if held:
        page.add_init_script(f"(() => {{{_HELD_CAMERA}}})();")
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("html[data-ready]")
    try:
        yield page
    finally:
        opened.close()


def _note_refusal(line: Any, faults: list[str]) -> None:
    if "Content Security Policy" in line.text:
        faults.append(line.text)


def _only_here(url: str, port: int, faults: list[str]) -> None:
    if not url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:")):
        faults.append(f"asked for {url}")


def wait(page: Any, question: str, argument: Any = None) -> None:
    """Until the JavaScript function answers true."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(question, argument):
        if time.monotonic() > end:
            raise TimeoutError(f"not in {SECONDS:.0f} s: {question}")
        page.wait_for_timeout(30)


def text(page: Any, selector: str) -> str:
    """What stands there now."""
    return page.evaluate("selector => document.querySelector(selector).textContent", selector)


def show(page: Any, image: Path) -> None:
    """Hold a picture in front of the held camera."""
    address = f"data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}"
    page.evaluate("address => window.heldCamera.show(address)", address)


def start_camera(page: Any) -> None:
    """Press the button if the page did not start the camera by itself; wait until it runs."""
    page.wait_for_timeout(200)
    if page.is_visible("#start"):
        page.click("#start")
    wait(page, "() => !document.querySelector('#hold').disabled")


def press(page: Any, name: str, frames: int) -> None:
    """Name the object, and keep the button pressed until that many frames were taken."""
    page.fill("#name", name)
    box = page.locator("#hold").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    wait(page, "n => Number(document.querySelector('#ringText').textContent) >= n", frames)


def teach(page: Any, name: str, frames: int = 30) -> float:
    """Hold the button for that many frames; returns seconds from the release until the label is on the picture."""
    press(page, name, frames)
    began = time.perf_counter()
    page.mouse.up()
    wait_for_label(page, name)
    return time.perf_counter() - began


def wait_for_label(page: Any, name: str) -> None:
    """Until an answer, not a lesson, names that object."""
    wait(
        page,
        "name => document.querySelector('#said').textContent === name"
        " && !document.querySelector('#stage').dataset.lesson && !document.querySelector('#caption').hidden",
        name,
    )
