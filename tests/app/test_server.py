"""The live page's server answers frames, and refuses what does not come from the page."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.tiny_networks import make_directory

from vitlr import LatentReplayClassifier
from vitlr.app.session import Limits, LiveSession

pytest.importorskip("gradio")
testclient = pytest.importorskip("starlette.testclient")

pytestmark = pytest.mark.filterwarnings("ignore")
FROM_PAGE = {"X-Vitlr": "1"}


def jpeg(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), level, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory):
    from vitlr.app.server import make_app

    network = make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")
    model = LatentReplayClassifier(str(network), lr=0.01, first_lr=0.01, threshold=-1.0)
    session = LiveSession(model, limits=Limits(frame_bytes=200_000))

    async def in_a_loop():  # where none is running, Gradio makes some, and leaves them open
        return make_app(session)

    yield testclient.TestClient(asyncio.run(in_a_loop()), base_url="http://localhost")
    session.close()


def teach(client, label: str, level: int) -> None:
    for number in range(4):
        reply = client.post("/live/frame?visitor=visitor-1", content=jpeg(level + number), headers=FROM_PAGE)
        assert reply.json() == {"taken": number + 1}
    job = client.post(
        "/live/release?visitor=visitor-1", content=json.dumps({"label": label}), headers=FROM_PAGE
    )
    number = job.json()["number"]
    for _ in range(3000):
        state = client.get(f"/live/job?number={number}").json()["state"]
        if state not in ("waiting", "learning"):
            break
        time.sleep(0.02)
    assert state == "done"


def test_what_was_taught_over_http_is_recognised(client) -> None:
    teach(client, "dark", 20)
    teach(client, "bright", 220)
    for label, level in (("dark", 25), ("bright", 225)):
        answer = client.post("/live/answer?attention=1", content=jpeg(level), headers=FROM_PAGE).json()
        assert answer["label"] == label and len(answer["probabilities"]) == 2
        assert np.array(answer["attention"]).max() == pytest.approx(1)
    classes = client.get("/live/classes").json()["classes"]
    assert classes == [{"label": "dark", "images": 4}, {"label": "bright", "images": 4}]


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/live/answer", b"no picture", 400, "not an image"),
        ("/live/answer", b"", 400, "empty"),
        ("/live/answer", bytes(300_000), 413, "at most"),
        ("/live/frame?visitor=visitor-2", b"GIF8", 400, "damaged"),
        ("/live/frame?visitor=../../etc", jpeg(9), 400, "reload the page"),
        ("/live/release?visitor=visitor-2", b"{}", 400, "name first"),
        ("/live/release?visitor=visitor-2", b"[" * 9999, 400, "name first"),
        ("/live/release?visitor=visitor-2", b'{"label": "mug"}', 400, "no frame was taken"),
    ],
)
def test_bad_requests_get_a_sentence(client, path: str, body: bytes, status: int, sentence: str) -> None:
    reply = client.post(path, content=body, headers=FROM_PAGE)
    assert reply.status_code == status and sentence in reply.json()["error"]


def test_names_and_files_of_visitors_are_shown_as_text_without_this_machines_folders() -> None:
    from vitlr.app.page import _by_name, _class_list

    thumbnail = np.full((96, 96, 3), 80, np.uint8)
    drawn = _class_list([("<img src=x>", 1, thumbnail), ("a & b", 7, None)], 9)
    assert "<img src=x>" not in drawn and "&lt;img src=x&gt;" in drawn and "a &amp; b" in drawn
    assert "1 image<" in drawn and "7 images" in drawn and "2 of at most 9" in drawn
    assert drawn.count("data:image/jpeg;base64,") == 1
    uploads = ["/tmp/gradio/0a1b/mug.jpg", "/tmp/gradio/2c3d/cup.jpg"]
    assert _by_name(f"{uploads[1]} is not an image", uploads) == "cup.jpg is not an image"


def test_other_sites_cannot_use_it(client) -> None:
    assert client.post("/live/answer", content=jpeg(9)).status_code == 403
    assert (
        client.post(
            "/live/answer", content=jpeg(9), headers={**FROM_PAGE, "Host": "evil.example"}
        ).status_code
        == 400
    )
    preflight = client.options(
        "/live/answer",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "x-vitlr"},
    )  # fmt: skip
    assert "access-control-allow-origin" not in preflight.headers


def test_the_page_loads_nothing_from_elsewhere(client) -> None:
    reply = client.get("/")
    assert reply.status_code == 200 and "default-src 'self'" in reply.headers["content-security-policy"]
    assert "/live/live.js" in reply.text and "fonts.googleapis" not in reply.text
    assert client.get("/live/live.js").text.startswith("// The camera's part")
    assert not list(Path(".").glob("flagged"))
