"""The part of the page that Gradio draws; the camera's part is in ``static/live.js``."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitlr.app.session import LiveSession
from vitlr.data.video import Video, is_video
from vitlr.errors import VitLRError

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

__all__ = ["build_page", "page_options"]

_LIVE = """
<div id="live-root">
  <div class="stage">
    <video playsinline muted aria-label="camera"></video><canvas hidden></canvas>
    <div class="hint">The camera's picture stays on this machine.</div>
    <div class="counter" hidden></div><div class="said" aria-live="polite"></div>
  </div>
  <div class="row">
    <button type="button" class="start">Start camera</button>
    <label><input type="checkbox"> show attention</label>
  </div>
  <div class="row">
    <input type="text" placeholder="name of the object" maxlength="60" aria-label="name of the object">
    <button type="button" class="teach" disabled>Hold to teach</button>
  </div>
  <div class="message" role="status"></div>
  <div class="bars"></div>
</div>
"""


def static(name: str) -> str:
    """Text of a file beside this one."""
    return resources.files("vitlr.app").joinpath("static", name).read_text(encoding="utf-8")


def page_options() -> dict[str, Any]:
    """Options for mounting the page: a theme that needs no network, and the script."""
    fonts = ["system-ui", "sans-serif"]
    return {
        "theme": gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        "css": static("live.css"),
        "head": '<script src="/live/live.js" defer></script>',
        "footer_links": [],
    }


def build_page(session: LiveSession) -> gr.Blocks:
    """Camera on the left, known objects on the right."""
    limits = session.limits
    with gr.Blocks(title="ViT-LR live", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# Teach it by showing\nShow an object, name it, and it is recognised seconds later.")
        seen = gr.State("")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                gr.HTML(_LIVE)
            with gr.Column(scale=2, min_width=300):
                known = gr.HTML(_class_list([], limits.classes), elem_id="live-classes")
                with gr.Row(equal_height=True):
                    which = gr.Dropdown(
                        choices=[], label="Object to forget", interactive=True, scale=3, min_width=150
                    )
                    forget = gr.Button("Forget", scale=1, min_width=90)
                with gr.Row():
                    save = gr.Button("Save", interactive=session.directory is not None, min_width=90)
                    load = gr.Button("Load", interactive=session.directory is not None, min_width=90)
                status = gr.Markdown(elem_id="live-status")
                with gr.Accordion("From files instead of the camera", open=False):
                    files = gr.File(
                        file_count="multiple",
                        label=f"pictures or a video (up to {limits.upload_bytes / 1e6:.0f} MB each)",
                    )
                    name = gr.Textbox(label="name of the object", max_length=60)
                    with gr.Row():
                        teach = gr.Button("Teach these")
                        look = gr.Button("What is in the first one?")
                    shares = gr.Label(show_label=False, num_top_classes=5, visible=False)
        views = [seen, known, which]

        def refresh(last: str, chosen: str | None = None):
            classes = session.classes()
            now = repr([(name, count, thumbnail is not None) for name, count, thumbnail in classes])
            if now == last:
                return [gr.skip()] * len(views)
            names = [each for each, _, _ in classes]
            value = chosen if chosen in names else None
            return [now, _class_list(classes, limits.classes), gr.Dropdown(choices=names, value=value)]

        def told(act, *values, uploads: Sequence[str] | None = None) -> str:
            """The sentence for the page, about success or the error; uploads appear under the visitor's file names."""
            try:
                return _by_name(act(*values), uploads)
            except VitLRError as error:
                sentence = _by_name(str(error), uploads)
                gr.Warning(sentence)
                return sentence

        def do_forget(chosen: str | None):
            return told(_forget, session, chosen)

        def do_save():
            return told(lambda: f"Saved in {session.save()}.")

        def do_load():
            return told(lambda: f"Loaded from {session.load()}.")

        def do_teach(paths: list[str] | None, label: str):
            return told(_teach, session, paths, label, uploads=paths)

        def do_look(paths: list[str] | None):
            shown: dict[str, float] = {}

            def act() -> str:
                answer = session.answer(_first(paths))
                shown.update(dict(answer.probabilities))
                return (
                    f"**{answer.label}**, score {answer.score:.2f}"
                    if answer.label
                    else "Nothing has been taught yet."
                )

            text = told(act, uploads=paths)
            return text, gr.Label(value=shown or None, visible=bool(shown))

        for button, act, inputs in ((forget, do_forget, [which]), (save, do_save, []), (load, do_load, [])):
            button.click(act, inputs, status, api_visibility="private").then(
                refresh, [seen, which], views, api_visibility="private"
            )
        teach.click(do_teach, [files, name], status, api_visibility="private")
        look.click(do_look, files, [status, shares], api_visibility="private")
        gr.Timer(1.0).tick(refresh, [seen, which], views, show_progress="hidden", api_visibility="private")
    return page


def _class_list(classes: Sequence[tuple[str, int, np.ndarray | None]], most: int) -> str:
    """HTML: a heading, and name, number of images and thumbnail of each class. Names are escaped."""
    cards = []
    for name, count, thumbnail in classes:
        shown = html.escape(name)
        picture = (
            '<div class="none"></div>' if thumbnail is None else f'<img src="{_as_url(thumbnail)}" alt="">'
        )
        number = f"{count} image{'s' * (count != 1)}"
        cards.append(f'<li>{picture}<b title="{shown}">{shown}</b><span>{number}</span></li>')
    listed = f"<ul>{''.join(cards)}</ul>" if cards else "<p>Nothing yet. Show an object and name it.</p>"
    return f"<h2>Known objects <small>{len(classes)} of at most {most}</small></h2>{listed}"


def _as_url(thumbnail_HWC: np.ndarray) -> str:
    """The picture as a data URL, so that the page needs no further request."""
    buffer = io.BytesIO()
    Image.fromarray(thumbnail_HWC).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _forget(session: LiveSession, chosen: str | None) -> str:
    if not chosen:
        return "Choose an object first."
    latents = session.forget(chosen)
    return f"{chosen}: forgotten" + (f", with {latents} latents." if latents else ".")


def _teach(session: LiveSession, paths: list[str] | None, label: str) -> str:
    sources: list[Any] = [
        Video(path, None, session.limits.frames) if is_video(path) else path for path in paths or []
    ]
    if not sources:
        return "Choose pictures or a video first."
    job = session.wait(session.teach(sources, label), seconds=600)
    if job.state == "failed":
        raise VitLRError(job.message)
    return f"{job.label}: learned in {job.seconds:.1f} s. {job.message}".rstrip()


def _first(paths: list[str] | None) -> str:
    if not paths:
        raise VitLRError("Choose a picture first.")
    if is_video(paths[0]):
        raise VitLRError(f"{paths[0]} is a video; choose a picture")
    return paths[0]


def _by_name(sentence: str, uploads: Sequence[str] | None) -> str:
    """The sentence with the visitor's file names instead of paths on this machine."""
    for path in uploads or ():
        sentence = sentence.replace(path, Path(path).name)
    return sentence
