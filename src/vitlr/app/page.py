"""The page as Gradio draws it; the camera's half is in ``static/live.js``."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

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
    """What is given where the page is mounted: looks that need no network, and the script."""
    fonts = ["system-ui", "sans-serif"]
    return {
        "theme": gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        "css": static("live.css"),
        "head": '<script src="/live/live.js" defer></script>',
        "footer_links": [],
    }


def build_page(session: LiveSession) -> gr.Blocks:
    """Camera on the left, what is known on the right."""
    limits = session.limits
    with gr.Blocks(title="ViT-LR live", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# Teach it by showing\nShow an object, name it, and it is known seconds later.")
        seen = gr.State("")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                gr.HTML(_LIVE)
            with gr.Column(scale=2, min_width=300):
                known = gr.Markdown("## Known objects")
                gallery = gr.Gallery(
                    show_label=False, columns=4, height="auto", object_fit="contain", interactive=False,
                    allow_preview=False, buttons=[], elem_id="live-classes",
                )  # fmt: skip
                with gr.Row():
                    which = gr.Dropdown(choices=[], label="Object", interactive=True, scale=2)
                    forget = gr.Button("Forget", scale=1)
                with gr.Row():
                    save = gr.Button("Save", interactive=session.directory is not None)
                    load = gr.Button("Load", interactive=session.directory is not None)
                status = gr.Markdown(elem_id="live-status")
                with gr.Accordion("From files instead of the camera", open=False):
                    files = gr.File(
                        file_count="multiple",
                        label=f"pictures or a video (up to {limits.upload_bytes / 1e6:.0f} MB each)",
                    )
                    name = gr.Textbox(label="name of the object", max_length=60)
                    with gr.Row():
                        teach = gr.Button("Teach these")
                        look = gr.Button("What is on the first?")
                    shares = gr.Label(show_label=False, num_top_classes=5, visible=False)
        views = [seen, known, gallery, which]

        def refresh(last: str, chosen: str | None = None):
            classes = session.classes()
            now = repr([(name, count) for name, count, _ in classes])
            if now == last:
                return [gr.skip()] * 4
            names = [each for each, _, _ in classes]
            pictures = [
                (thumbnail if thumbnail is not None else _blank(), f"{each} · {count} latents")
                for each, count, thumbnail in classes
            ]
            heading = f"## Known objects ({len(classes)} of at most {limits.classes})"
            value = chosen if chosen in names else None
            return [now, heading, pictures, gr.Dropdown(choices=names, value=value)]

        def told(act, *values) -> str:
            """The sentence for the page, of success or of what was wrong."""
            try:
                return act(*values)
            except VitLRError as error:
                gr.Warning(str(error))
                return str(error)

        def do_forget(chosen: str | None):
            return told(_forget, session, chosen)

        def do_save():
            return told(lambda: f"Saved in {session.save()}.")

        def do_load():
            return told(lambda: f"Loaded from {session.load()}.")

        def do_teach(paths: list[str] | None, label: str):
            return told(_teach, session, paths, label)

        def do_look(paths: list[str] | None):
            shown: dict[str, float] = {}

            def act() -> str:
                answer = session.answer(_first(paths))
                shown.update(dict(answer.probabilities))
                return (
                    f"**{answer.label}**, score {answer.score:.2f}"
                    if answer.label
                    else "Nothing was taught yet."
                )

            text = told(act)
            return text, gr.Label(value=shown or None, visible=bool(shown))

        for button, act, inputs in ((forget, do_forget, [which]), (save, do_save, []), (load, do_load, [])):
            button.click(act, inputs, status, api_visibility="private").then(
                refresh, [seen, which], views, api_visibility="private"
            )
        teach.click(do_teach, [files, name], status, api_visibility="private")
        look.click(do_look, files, [status, shares], api_visibility="private")
        gr.Timer(1.0).tick(refresh, [seen, which], views, show_progress="hidden", api_visibility="private")
    return page


def _blank():
    import numpy as np

    return np.full((96, 96, 3), 128, dtype=np.uint8)


def _forget(session: LiveSession, chosen: str | None) -> str:
    if not chosen:
        return "Choose an object first."
    return f"{chosen}: forgotten, with {session.forget(chosen)} latents."


def _teach(session: LiveSession, paths: list[str] | None, label: str) -> str:
    sources: list[Any] = [
        Video(path, None, session.limits.frames) if is_video(path) else path for path in paths or []
    ]
    if not sources:
        return "Choose pictures or a video first."
    job = session.wait(session.teach(sources, label), seconds=600)
    if job.state == "failed":
        return job.message
    return f"{job.label}: learned in {job.seconds:.1f} s. {job.message}"


def _first(paths: list[str] | None) -> str:
    if not paths:
        raise VitLRError("Choose a picture first.")
    return str(Path(paths[0]))
