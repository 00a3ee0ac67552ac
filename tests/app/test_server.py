"""The live page's routes, asked over HTTP as its own front end does."""

from __future__ import annotations

import base64
import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from stress.attacks import picture, raw, zip_of
from tests.app.pages import ME, Page

JOB = {"number", "kind", "label", "frames", "state", "progress", "seconds", "message", "download"}


@pytest.fixture
def two(page: Page) -> Page:
    """Two objects are known, and nothing else."""
    for label in page.labels():
        assert page.wait(page.post("/live/forget", {"label": label}))["state"] == "done"
    for label, level in (("dark", 20), ("bright", 220)):
        assert page.teach(label, level)["state"] == "done"
    return page


def image_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_what_was_taught_over_http_is_recognised(two: Page) -> None:
    for label, level in (("dark", 25), ("bright", 225)):
        answer = two.post(f"/live/answer?{ME}&smooth=0", picture(level)).json
        assert answer["label"] == label and 0 <= answer["known"] <= 1 and answer["attention"] is None
        assert answer["probabilities"][0][0] == label
        assert sum(share for _, share in answer["probabilities"]) == pytest.approx(1, abs=1e-3)
    drawn = two.post(f"/live/answer?{ME}&attention=1&smooth=1", picture(25, 200)).json["attention"]
    kind, _, content = drawn.partition(",")
    assert kind == "data:image/jpeg;base64" and image_of(base64.b64decode(content)).shape == (288, 384, 3)


def test_the_state_says_all_that_the_page_shows(two: Page) -> None:
    state = two.get("/live/state").json
    assert [(each["label"], each["images"], each["pictures"]) for each in state["classes"]] == [
        ("dark", 2, 0),
        ("bright", 2, 0),
    ]
    shown = two.get(state["classes"][1]["thumbnail"])
    assert shown.headers["content-type"] == "image/jpeg" and image_of(shown.body).shape == (96, 96, 3)
    assert state["undo"] == {"what": "the lesson bright"} and state["save"] == {
        "directory": True,
        "autosave": True,
    }
    assert not state["network"]["bundled"] and state["network"]["warning"] is None and state["url"] is None
    assert state["limits"]["upload_bytes"] == 10**6 and state["limits"]["name"] == 60
    assert set(state["jobs"][-1]) == JOB and state["jobs"][-1]["kind"] == "teach"
    assert two.post("/live/keep", {"on": False}).json == {}
    assert two.get("/live/state").json["revision"] > state["revision"]
    assert two.get("/live/job?number=x").status == two.get("/live/job?number=999999").status == 404


def test_changes_over_http(two: Page) -> None:
    def job(path: str, **body: object) -> dict:
        return two.wait(two.post(f"/live/{path}", dict(body)))

    assert job("rename", label="dark", name="night")["state"] == "done"
    assert job("merge", label="night", into="bright")["state"] == "done"
    assert two.labels() == ["bright"]
    assert job("undo")["message"] == "making night part of bright was taken back"
    assert two.labels() == ["night", "bright"]
    assert job("save")["state"] == job("load")["state"] == "done"
    two.post("/live/keep", {"on": True})
    two.teach("cup", 120)
    two.post("/live/keep", {"on": False})
    first, second = two.get("/live/pictures?label=cup").json["pictures"]
    assert image_of(two.get(first["url"]).body).shape == (48, 64, 3)
    assert job("discard", id=first["id"])["state"] == "done"
    assert two.get("/live/pictures?label=cup").json["pictures"] == [second]
    assert two.get(first["url"]).status == 404
    assert two.post("/live/threshold", {"value": 0.5}).json == {}
    assert two.get("/live/state").json["threshold"]["value"] == 0.5
    assert two.post("/live/threshold", {"value": 0}).json == {}


def test_a_case_only_name_is_asked_about(two: Page) -> None:
    two.post(f"/live/frame?{ME}", picture(30))
    asked = two.post(f"/live/release?{ME}", {"label": "DARK"})
    assert asked.status == 409 and asked.json["same_as"] == "dark"
    assert two.wait(two.post(f"/live/release?{ME}", {"label": "DARK", "same_as": "dark"}))["state"] == "done"
    assert two.get("/live/state").json["classes"][0]["images"] == 3


def test_files_are_taught_like_frames_and_errors_name_them_as_their_owner_does(two: Page) -> None:
    for name, kind in (("a.png", "PNG"), ("b.jpg", "WEBP")):  # a file is known by its content
        assert two.post(f"/live/upload?{ME}&name={name}", picture(120, kind=kind)).status == 200
    refused = two.post(f"/live/upload?{ME}&name=..%2Fholiday%0A.jpg", b"no picture")
    assert refused.status == 400 and refused.error.startswith("holiday\\n.jpg is text, not an image")
    job = two.wait(two.post(f"/live/release?{ME}", {"label": "cup"}))
    assert (job["state"], job["frames"]) == ("done", 2)


def test_an_archive_goes_in_and_comes_out(two: Page) -> None:
    entries = {
        f"{name}/{n}.jpg": picture(level + n)
        for name, level in (("cup", 120), ("mug", 160))
        for n in range(2)
    }
    job = two.wait(two.post(f"/live/import?{ME}", zip_of(entries)))
    assert job["state"] == "done" and "4 images" in job["message"] and two.labels()[-2:] == ["cup", "mug"]
    job = two.wait(two.post("/live/export", {"format": "model"}))
    packed = two.get(job["download"])
    assert packed.headers["content-disposition"] == 'attachment; filename="vitlr-model.zip"'
    with zipfile.ZipFile(io.BytesIO(packed.body)) as archive:
        assert "vitlr-model/state.safetensors" in archive.namelist() and archive.testzip() is None


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/live/answer", b"no picture", 400, "not an image"),
        ("/live/answer", b"", 400, "empty"),
        (f"/live/frame?{ME}", b"GIF8", 400, "damaged"),
        ("/live/frame?visitor=../../etc", b"", 400, "reload the page"),
        ("/live/answer?smooth=1", b"", 400, "reload the page"),
        (f"/live/release?{ME}", b"[" * 9999, 400, "not a JSON object"),
        ("/live/release?visitor=visitor-4", b'{"label": "mug"}', 400, "no frame was taken"),
        ("/live/forget", b"{}", 400, "name first"),
        ("/live/keep", b'{"on": 1}', 400, "true or false"),
        ("/live/threshold", b'{"value": "high"}', 400, "threshold must be"),
        ("/live/export", b'{"format": "zip"}', 400, "choose one of"),
        ("/live/nothing", b"{}", 404, "nothing here"),
    ],
)
def test_bad_requests_get_a_sentence(page: Page, path: str, body: bytes, status: int, sentence: str) -> None:
    reply = page.post(path, body)
    assert reply.status == status and sentence in reply.error


def test_several_requests_use_one_connection(page: Page) -> None:
    asked = b"GET /live/state HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(page.port, asked + asked).json == page.get("/live/state").json
