"""The live page's session, without a page: teaching, answers, limits, and what others do meanwhile."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.tiny_networks import make_directory

from vitlr import LatentReplayClassifier
from vitlr.app.session import THUMBNAILS, BusyError, Limits, LiveSession
from vitlr.data.video import Video
from vitlr.errors import ConfigError, DataError


def picture(level: int, seed: int = 0, side: int = 40) -> bytes:
    rng = np.random.default_rng([level, seed])
    buffer = io.BytesIO()
    pixels = np.clip(rng.normal(level, 8, (side, side, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")


@pytest.fixture
def session(network: Path, tmp_path: Path):
    model = LatentReplayClassifier(str(network), lr=0.01, first_lr=0.01, threshold=-1.0)
    made = LiveSession(model, tmp_path / "robot", limits=Limits(classes=3, frames=10, waiting=2, holds=2))
    yield made
    made.close()


def show(session: LiveSession, name: str, level: int, frames: int = 6, visitor: str = "me"):
    for seed in range(frames):
        session.take(visitor, picture(level, seed))
    return session.wait(session.release(visitor, name), seconds=300)  # a busy machine is no failure


def test_two_objects_are_taught_and_told_apart_and_the_second_answer_is_no_worse(
    session: LiveSession,
) -> None:
    assert session.answer(picture(40)).label is None
    assert show(session, "dark", 40).state == "done"
    job = show(session, "bright", 210)
    assert job.state == "done" and job.frames == 6 and job.seconds > 0
    for name, level in (("dark", 40), ("bright", 210)):
        answer = session.answer(picture(level, seed=99))
        assert answer.label == name and answer.probabilities[0][0] == name
        assert sum(p for _, p in answer.probabilities) == pytest.approx(1)


def test_names_of_every_language_are_ordinary_and_compared_as_unicode_composes_them(
    session: LiveSession,
) -> None:
    assert show(session, "cafe\u0301 \u06a9\u200c\u0628", 40, 2).label == "caf\u00e9 \u06a9\u200c\u0628"
    job = show(session, "Caf\u00e9 \u06a9\u200c\u0628", 210, 2)
    assert job.state == "done" and "differs from caf\u00e9" in job.message
    session.forget("cafe\u0301 \u06a9\u200c\u0628")
    assert session.known == ["Caf\u00e9 \u06a9\u200c\u0628"]


def test_a_score_below_the_threshold_is_unknown(session: LiveSession) -> None:
    show(session, "dark", 40)
    show(session, "bright", 210)
    session.model.set_params(threshold=1.1)
    assert session.answer(picture(40)).label == "unknown"


def test_attention_is_the_rollout_scaled_to_one(session: LiveSession) -> None:
    show(session, "dark", 40)
    map_hw = session.answer(picture(40), attention=True).attention_hw
    assert map_hw is not None and map_hw.max() == pytest.approx(1) and map_hw.min() >= 0


def test_classes_have_thumbnails_and_counts_and_can_be_forgotten(session: LiveSession) -> None:
    show(session, "dark", 40)
    show(session, "bright", 210)
    (first, count, thumbnail), (second, _, _) = session.classes()
    assert (first, second, count) == ("dark", "bright", 6)
    assert thumbnail is not None and thumbnail.shape == (96, 96, 3) and abs(thumbnail.mean() - 40) < 10
    assert session.forget("dark") == 6
    assert [name for name, _, _ in session.classes()] == ["bright"]
    with pytest.raises(DataError, match="no class 'dark'"):
        session.forget("dark")


def test_what_was_saved_comes_back_with_its_thumbnails(session: LiveSession, tmp_path: Path) -> None:
    show(session, "dark", 40)
    show(session, "bright", 210)
    before = session.model.predict_proba([np.full((32, 32, 3), 40, np.uint8)])
    session.save()
    session.forget("dark")
    session.load()
    assert np.array_equal(session.model.predict_proba([np.full((32, 32, 3), 40, np.uint8)]), before)
    assert all(thumbnail is not None for _, _, thumbnail in session.classes())
    (tmp_path / "robot" / THUMBNAILS).write_bytes(b"\xff" * 100)
    session.load()
    assert [thumbnail for _, _, thumbnail in session.classes()] == [None, None]


def test_what_is_loaded_again_is_opened_as_the_page_was_started(session: LiveSession, tmp_path: Path) -> None:
    show(session, "dark", 40)
    session.save()
    opened = LatentReplayClassifier.load(tmp_path / "robot")
    asked = LiveSession(session.model, tmp_path / "robot", reopen=lambda: opened)
    asked.load()
    asked.close()
    assert asked.model is opened


def test_a_class_taught_by_a_video_has_its_first_frame_as_thumbnail(
    session: LiveSession, tmp_path: Path
) -> None:
    film = [Image.new("RGB", (64, 48), (level, level, level)) for level in (200, 60, 90)]
    film[0].save(tmp_path / "film.gif", save_all=True, append_images=film[1:])
    job = session.wait(session.teach([Video(tmp_path / "film.gif", None, 10)], "lamp"))
    assert job.state == "done"
    ((name, count, thumbnail),) = session.classes()
    assert (name, count) == ("lamp", 3)
    assert thumbnail is not None and thumbnail.shape == (96, 96, 3) and abs(thumbnail.mean() - 200) < 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"GIF89a nonsense", "damaged|not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "in EPS format, which is not read here"),
        (bytes(5 * 2**20), "at most"),
    ],
)
def test_hostile_frames_are_refused_in_a_sentence_and_nothing_is_kept(
    session: LiveSession, content: bytes, message: str
) -> None:
    for ask in (session.answer, lambda frame: session.take("me", frame)):
        with pytest.raises(DataError, match=message):
            ask(content)
    with pytest.raises(DataError, match="no frame was taken"):
        session.release("me", "mug")


def test_a_decompression_bomb_is_refused_before_its_pixels_are_made(session: LiveSession) -> None:
    buffer = io.BytesIO()
    Image.new("1", (30000, 30000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 4 * 2**20
    with pytest.raises(DataError, match="pixels"):
        session.take("me", buffer.getvalue())


def test_limits_of_classes_frames_names_and_visitors(session: LiveSession) -> None:
    for name, level in (("a", 30), ("b", 120), ("c", 210)):
        show(session, name, level, frames=2)
    session.take("me", picture(60))
    with pytest.raises(DataError, match="3 classes are known"):
        session.release("me", "d")
    for name in ("", "  ", None, "x" * 61, "a\x00b", "Unknown"):
        session.take("me", picture(60))
        with pytest.raises(DataError, match=r"name|unknown"):
            session.release("me", name)
    for seed in range(10):
        session.take("me", picture(60, seed))
    with pytest.raises(DataError, match="10 frames are enough"):
        session.take("me", picture(60))
    session.take("you", picture(60))
    with pytest.raises(BusyError):
        session.take("a third", picture(60))


def test_two_visitors_do_not_mix_their_frames(session: LiveSession) -> None:
    for seed in range(4):
        session.take("me", picture(40, seed))
        session.take("you", picture(210, seed))
    jobs = [session.release("me", "dark"), session.release("you", "bright")]
    assert [session.wait(job).state for job in jobs] == ["done", "done"]
    assert (
        session.answer(picture(210, 50)).label == "bright" and session.answer(picture(40, 50)).label == "dark"
    )


def test_answers_come_while_learning_waits_and_the_queue_is_bounded(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(session, "dark", 40)
    gate, partial_fit = threading.Event(), session.model.partial_fit

    def slow(X, y):
        assert gate.wait(30)
        return partial_fit(X, y)

    monkeypatch.setattr(session.model, "partial_fit", slow)
    first = session.teach([picture(200)], "bright")
    while session.job(first.number).state != "learning":
        pass
    assert session.answer(picture(40)).label == "dark"
    waiting = [session.teach([picture(200)], "bright") for _ in range(2)]
    with pytest.raises(BusyError, match="too many experiences are waiting"):
        session.teach([picture(200)], "bright")
    gate.set()
    assert [session.wait(job).state for job in (first, *waiting)] == ["done"] * 3


def test_an_experience_that_fails_is_told_and_the_next_one_is_learned(
    session: LiveSession, tmp_path: Path
) -> None:
    failed = session.wait(session.teach([tmp_path / "absent.png"], "ghost"))
    assert failed.state == "failed" and "does not exist" in failed.message
    assert show(session, "dark", 40).state == "done"


def test_autosave_keeps_every_experience(network: Path, tmp_path: Path) -> None:
    session = LiveSession(LatentReplayClassifier(str(network)), tmp_path / "robot", autosave=True)
    show(session, "dark", 40)
    session.close()
    assert LatentReplayClassifier.load(tmp_path / "robot").classes_.tolist() == ["dark"]


def test_autosave_keeps_that_the_last_class_was_forgotten(network: Path, tmp_path: Path) -> None:
    session = LiveSession(LatentReplayClassifier(str(network)), tmp_path / "robot", autosave=True)
    show(session, "face", 60)
    assert session.forget("face") == 6
    session.close()
    assert LatentReplayClassifier.load(tmp_path / "robot").remember().latents == {}


def test_without_a_directory_nothing_is_saved(network: Path) -> None:
    session = LiveSession(LatentReplayClassifier(str(network)))
    for act in (session.save, session.load):
        with pytest.raises(ConfigError, match="no directory was given"):
            act()
    session.close()
