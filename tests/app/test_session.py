"""The live page's session, without a page: teaching, answers, limits, changes in order and taken back."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stress.attacks import zip_of

from vitlr import LatentReplayClassifier
from vitlr.app.answers import Smoother
from vitlr.app.gallery import INDEX, PICTURES, THUMBNAILS
from vitlr.app.session import BusyError, Job, Limits, LiveSession, SameNameError
from vitlr.errors import ConfigError, DataError, RunError


def picture(level: int, seed: int = 0, side: int = 40) -> bytes:
    rng = np.random.default_rng([level, seed])
    buffer = io.BytesIO()
    pixels = np.clip(rng.normal(level, 8, (side, side, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def make(network: Path, tmp_path: Path):
    """Makes sessions, of which each is closed at the end."""
    made: list[LiveSession] = []

    def make(directory: Path | None = tmp_path / "robot", **more) -> LiveSession:
        if directory is not None and (directory / "state.safetensors").is_file():
            model = LatentReplayClassifier.load(directory)
        else:
            model = LatentReplayClassifier(
                str(network), method="latent_replay", lr=0.01, first_lr=0.01, threshold=-1
            )
        folder = tmp_path / f"private{len(made)}"
        folder.mkdir()
        more.setdefault("limits", Limits(classes=3, frames=10, waiting=2, holds=2))
        made.append(LiveSession(model, folder, directory, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def session(make) -> LiveSession:
    return make()


def show(session: LiveSession, name: str, level: int, frames: int = 6, visitor: str = "me") -> Job:
    for seed in range(frames):
        session.take(visitor, picture(level, seed))
    return over(session, session.release(visitor, name, new=True))


def over(session: LiveSession, job: Job) -> Job:
    return session.wait(job, seconds=300)  # a busy machine is no failure


def two(session: LiveSession) -> None:
    """Two objects are known."""
    assert show(session, "dark", 40).state == show(session, "bright", 210).state == "done"


def names(session: LiveSession) -> list[str]:
    return [each["label"] for each in session.changes.classes()]


def knowledge(session: LiveSession) -> tuple:
    """All that the page shows and answers, to be compared."""
    shown = session.changes.shown
    looks = {name: each.tobytes() for name, each in shown.thumbnails.items()}
    classes = [{**each, "thumbnail": None} for each in session.changes.classes()]
    answers = [session.answer(picture(level, 99)).probabilities for level in (40, 120, 210)]
    return classes, looks, shown.pictures, answers


# -- answers ------------------------------------------------------------------------------------------------


def test_two_objects_are_taught_and_told_apart(session: LiveSession) -> None:
    assert session.answer(picture(40)).label is None
    assert show(session, "dark", 40).state == "done"
    job = show(session, "bright", 210)
    assert job.state == "done" and job.frames == 6 and job.seconds > 0 and job.progress == 1
    for name, level in (("dark", 40), ("bright", 210)):
        answer = session.answer(picture(level, seed=99))
        assert answer.label == name and answer.probabilities[0][0] == name and 0 <= answer.known <= 1
        assert sum(p for _, p in answer.probabilities) == pytest.approx(1)


def test_names_of_every_language_are_ordinary_and_compared_as_unicode_composes_them(
    session: LiveSession,
) -> None:
    assert show(session, "cafe\u0301 \u06a9\u200c\u0628", 40, 2).label == "caf\u00e9 \u06a9\u200c\u0628"
    assert over(session, session.forget("cafe\u0301 \u06a9\u200c\u0628")).state == "done"
    assert names(session) == []


def test_a_name_that_differs_in_case_only_is_asked_about_and_the_frames_stay(session: LiveSession) -> None:
    show(session, "Mug", 40, 2)
    session.take("me", picture(50))
    with pytest.raises(SameNameError, match="upper and lower case only") as asked:
        session.release("me", "mug")
    assert asked.value.same_as == "Mug"
    assert over(session, session.release("me", "mug", same_as="Mug")).state == "done"
    session.take("me", picture(210))
    assert over(session, session.release("me", "mug", new=True)).state == "done"
    assert [(each["label"], each["images"]) for each in session.changes.classes()] == [("Mug", 3), ("mug", 1)]


def test_a_lesson_that_is_taken_back_while_a_picture_is_answered_leaves_no_answer_and_no_error(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(session, "mug", 40, 2)
    model, answers = session.changes.model, session.changes.model.answers

    def undone_after(*arguments: object) -> object:
        found = answers(*arguments)
        model.undo()
        return found

    monkeypatch.setattr(model, "answers", undone_after)
    assert session.answer(picture(40)).label is None
    assert session.changes.classes() == [] and session.threshold()["value"] == 0
    assert session.network()["image_size"] == model.image_size


def test_a_score_below_the_threshold_is_unknown(session: LiveSession) -> None:
    two(session)
    session.set_threshold(1.0)
    assert session.answer(picture(40)).label == "unknown" and session.threshold()["value"] == 1
    session.set_threshold(None)
    assert session.threshold() == {"value": session.changes.model.threshold_, "auto": True}
    with pytest.raises(ConfigError, match="threshold"):
        session.set_threshold(7.0)


def test_attention_is_drawn_as_the_rollout_command_draws_it(session: LiveSession, tmp_path: Path) -> None:
    from vitlr.attention import View, look
    from vitlr.report.overlay import overlay

    two(session)
    (tmp_path / "a.jpg").write_bytes(picture(40, side=200))
    drawn = session.answer(picture(40, side=200), attention=True).attention_HWC
    backbone, head = session.changes.model.parts()
    (row,) = look([View(name="", backbone=backbone, head=head)], [tmp_path / "a.jpg"])
    assert drawn is not None and np.array_equal(drawn, overlay(row.picture_HWC, row.maps[0]))


def test_answers_of_the_last_second_are_joined_and_those_before_a_change_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smoother, now = Smoother(), [0.0]
    monkeypatch.setattr("vitlr.app.answers.time.monotonic", lambda: now[0])
    sure, odd = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    for _ in range(5):
        joined, known = smoother.joined("me", 1, sure, 0.8)
        assert 0.899 < joined[0] < 0.995 and known == pytest.approx(0.8)
    joined, known = smoother.joined("me", 1, odd, 0.2)
    assert joined[0] > 0.8 and known == pytest.approx(0.7)  # one blurred frame
    assert np.allclose(smoother.joined("you", 1, odd, 0.2)[0], odd)
    assert np.allclose(smoother.joined("me", 2, odd, 0.2)[0], odd)  # another lesson was learned
    smoother.joined("me", 3, sure, 0.8)
    now[0] = 1.1
    assert np.allclose(smoother.joined("me", 3, odd, 0.2)[0], odd)


# -- limits -------------------------------------------------------------------------------------------------


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


def test_limits_of_classes_frames_names_and_visitors(session: LiveSession) -> None:
    for name, level in (("a", 30), ("b", 120), ("c", 210)):
        show(session, name, level, frames=2)
    session.take("me", picture(60))
    with pytest.raises(DataError, match="3 classes are known"):
        session.release("me", "d")
    for name in ("", "  ", None, "x" * 61, "a\x00b", "Unknown", "a\u202eb", ["a"]):
        with pytest.raises(DataError, match=r"name|unknown"):
            session.release("me", name)
    assert over(session, session.rename("a", "d")).state == "done"  # which makes no further class
    for seed in range(9):
        session.take("me", picture(60, seed))
    with pytest.raises(DataError, match="10 frames are enough"):
        session.take("me", picture(60))
    session.take("you", picture(60))
    with pytest.raises(BusyError):
        session.take("a third", picture(60))


def test_frames_that_are_shown_and_that_wait_have_a_bound_in_memory(make) -> None:
    session = make(limits=Limits(held_bytes=3 * 40 * 40 * 3, waiting=9))
    for seed in range(3):
        session.take("me", picture(60, seed))
    with pytest.raises(BusyError, match="too many frames"):
        session.take("you", picture(60))
    assert over(session, session.release("me", "mug")).state == "done"
    assert session.take("you", picture(60)) == 1


def test_two_visitors_do_not_mix_their_frames(session: LiveSession) -> None:
    for seed in range(4):
        session.take("me", picture(40, seed))
        session.take("you", picture(210, seed))
    jobs = [session.release("me", "dark"), session.release("you", "bright")]
    assert [over(session, job).state for job in jobs] == ["done", "done"]
    assert session.answer(picture(210, 50)).label == "bright"
    assert session.answer(picture(40, 50)).label == "dark"


def test_an_animation_is_taught_frame_by_frame_unless_it_stands_for_too_many_pixels(
    make, tmp_path: Path
) -> None:
    film = [Image.new("RGB", (64, 48), (level, level, level)) for level in (200, 60, 90)]
    film[0].save(tmp_path / "film", "GIF", save_all=True, append_images=film[1:])
    session = make(limits=Limits(animation_pixels=64 * 48 * 3))
    taken, note = session.upload("me", tmp_path / "film")
    assert taken == 3 and note == "3 of 3 frames (each)"
    assert over(session, session.release("me", "lamp")).state == "done"
    bounded = make(limits=Limits(animation_pixels=64 * 48 * 3 - 1))
    with pytest.raises(DataError, match="9,215 pixels in all"):
        bounded.upload("me", tmp_path / "film")


# -- changes ------------------------------------------------------------------------------------------------


def an_archive(folder: Path) -> Path:
    """Three pictures of two classes, and what Macs add."""
    levels = {"grey": 120, "dark": 40}
    entries = {f"all/{name}/{seed}.jpg": picture(levels[name], seed) for name in levels for seed in range(3)}
    (folder / "archive").write_bytes(zip_of({**entries, "__MACOSX/all/grey/._0.jpg": b"\0\5\x16\7"}))
    return folder / "archive"


CHANGES: dict[str, Callable[[LiveSession, Path], Job]] = {
    "teach": lambda session, _: show(session, "grey", 120, 3),
    "forget": lambda session, _: session.forget("dark"),
    "rename": lambda session, _: session.rename("dark", "night"),
    "merge": lambda session, _: session.merge("dark", "bright"),
    "discard": lambda session, _: session.discard(session.pictures("dark")[0]),
    "load": lambda session, _: session.load(),
    "import": lambda session, folder: session.import_pictures(an_archive(folder), lambda: None),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_the_last_change_is_taken_back_exactly(make, tmp_path: Path, kind: str) -> None:
    session = make(limits=Limits(classes=4))
    session.keep(True)
    show(session, "dark", 40)
    over(session, session.save())
    show(session, "bright", 210)
    before = knowledge(session)
    made = over(session, CHANGES[kind](session, tmp_path))
    assert (made.kind, made.state) == (kind, "done") and knowledge(session) != before
    assert ("1 change since it was saved: Undo brings back" in made.message) == (kind == "load")
    back = over(session, session.undo())
    assert back.state == "done" and "taken back" in back.message
    assert knowledge(session) == before and session.changes.undoable is None
    assert over(session, session.undo()).state == "failed"


@pytest.mark.parametrize("kind", ["discard", "import"])
def test_a_change_of_several_steps_that_fails_changes_nothing(
    make, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make(limits=Limits(classes=4))
    session.keep(True)
    two(session)
    before, undoable = knowledge(session), session.changes.undoable
    partial_fit, calls = session.changes.model.partial_fit, []

    def fails(X, y):
        calls.append(y)
        if kind == "discard" or len(calls) == 2:
            raise MemoryError
        return partial_fit(X, y)

    monkeypatch.setattr(session.changes.model, "partial_fit", fails)
    failed = over(session, CHANGES[kind](session, tmp_path))
    assert failed.state == "failed" and "MemoryError" in failed.message and calls
    assert knowledge(session) == before and session.changes.undoable == undoable


@pytest.mark.parametrize(
    "error", [SystemExit, RecursionError, MemoryError, KeyboardInterrupt, ZeroDivisionError]
)
def test_the_learning_thread_survives_any_error_and_says_so(
    session: LiveSession, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(session.changes.model, "partial_fit", lambda X, y: (_ for _ in ()).throw(error()))
        failed = show(session, "dark", 40, 2)
    assert failed.state == "failed" and error.__name__ in failed.message
    assert show(session, "dark", 40).state == "done"


def test_answers_come_while_learning_waits_and_the_queue_is_bounded_and_in_order(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(session, "dark", 40)
    gate, partial_fit = threading.Event(), session.changes.model.partial_fit

    def slow(X, y):
        assert gate.wait(30)
        return partial_fit(X, y)

    monkeypatch.setattr(session.changes.model, "partial_fit", slow)
    session.take("me", picture(200))
    first = session.release("me", "bright")
    while session.job(first.number).state != "learning":
        time.sleep(0.01)
    assert session.answer(picture(40)).label == "dark"
    waiting = [session.rename("bright", "light"), session.forget("dark")]
    session.take("me", picture(200))
    with pytest.raises(BusyError, match="too many changes are waiting"):
        session.release("me", "bright")
    assert session.take("me", picture(200)) == 2  # they are still there
    gate.set()
    assert [over(session, job).state for job in (first, *waiting)] == ["done"] * 3
    assert names(session) == ["light"]


def test_pictures_of_a_class_that_a_program_forgot_are_not_shown(make, tmp_path: Path) -> None:
    session = make()
    session.keep(True)
    two(session)
    over(session, session.save())
    directory = session.changes.directory
    model = LatentReplayClassifier.load(directory)
    model.forget("dark")
    model.save(directory)
    over(session, session.load())
    assert set(session.changes.shown.thumbnails) == set(session.changes.shown.pictures) == {"bright"}


def test_renaming_to_a_known_name_and_discarding_what_is_gone_are_refused(make) -> None:
    session = make()
    session.keep(True)
    two(session)
    assert "there is a class bright already" in over(session, session.rename("dark", "bright")).message
    (number, *_) = session.pictures("dark")
    jobs = [session.discard(number), session.discard(number)]
    assert [over(session, job).state for job in jobs] == ["done", "failed"]
    with pytest.raises(DataError, match="no such picture"):
        session.discard("../../../etc/passwd")
    assert session.changes.classes()[1]["images"] == 5
    assert "no class 'ghost'" in over(session, session.forget("ghost")).message


# -- pictures -----------------------------------------------------------------------------------------------


def test_pictures_are_kept_only_when_that_is_switched_on_and_forgetting_removes_them(
    make, tmp_path: Path
) -> None:
    session, place = make(autosave=True), tmp_path / "robot" / PICTURES
    show(session, "face", 60)
    assert session.pictures("face") == () and not place.exists()
    session.keep(True)
    show(session, "face", 61, 3)
    show(session, "cup", 200, 2)
    numbers = session.pictures("face")
    assert len(numbers) == 3 and len(list(place.iterdir())) == 5
    assert session.changes.picture(numbers[0]) == (place / f"{numbers[0]}.jpg").read_bytes()
    over(session, session.discard(numbers[0]))
    assert {path.stem for path in place.iterdir()} == {*numbers[1:], *session.pictures("cup")}
    assert "6 images that were not kept" in session.jobs()[-1].message
    reopened = make()
    assert reopened.pictures("face") == numbers[1:] and len(reopened.changes.picture(numbers[1])) > 100
    over(session, session.forget("face"))
    assert {path.stem for path in place.iterdir()} == set(session.pictures("cup"))
    assert b"face" not in (place.parent / INDEX).read_bytes() + (place.parent / THUMBNAILS).read_bytes()
    with pytest.raises(DataError):
        session.changes.picture(numbers[1])
    over(session, session.undo())
    assert session.pictures("face") == numbers[1:] and len(list(place.iterdir())) == 4


def test_there_is_a_bound_on_all_kept_pictures(make) -> None:
    session = make(limits=Limits(kept_bytes=5000))
    session.keep(True)
    job = show(session, "face", 60)
    assert 0 < len(session.pictures("face")) < 6 and "no room to keep all" in job.message
    assert session.changes.classes()[0]["images"] == 6


# -- disk ---------------------------------------------------------------------------------------------------


def test_what_was_saved_comes_back_with_its_thumbnails(make, tmp_path: Path) -> None:
    session = make()
    two(session)
    before = knowledge(session)
    assert over(session, session.save()).state == "done"
    over(session, session.forget("dark"))
    assert over(session, session.load()).state == "done"
    assert knowledge(session) == before
    (tmp_path / "robot" / THUMBNAILS).write_bytes(b"\xff" * 100)
    (tmp_path / "robot" / INDEX).write_text(
        '{"dark": ["../../../etc/passwd", 3, "0123456789abcdef"], "x": 1}'
    )
    over(session, session.load())
    assert [each["thumbnail"] for each in session.changes.classes()] == [None, None]
    assert session.pictures("dark") == ()


def test_what_is_loaded_again_is_opened_as_the_page_was_started(make, tmp_path: Path) -> None:
    opened: list[LatentReplayClassifier] = []

    def reopen() -> LatentReplayClassifier:
        opened.append(LatentReplayClassifier.load(tmp_path / "robot"))
        return opened[-1]

    session = make(reopen=reopen)
    two(session)
    over(session, session.save())
    over(session, session.load())
    assert session.changes.model is opened[0]


def test_autosave_keeps_every_change_and_undo_of_the_first_lesson(make, tmp_path: Path) -> None:
    session, robot = make(autosave=True), tmp_path / "robot"
    show(session, "dark", 40)
    assert LatentReplayClassifier.load(robot).classes_.tolist() == ["dark"]
    over(session, session.undo())
    assert sorted(path.name for path in robot.iterdir() if not path.name.startswith((".", "backbone-"))) == []
    show(session, "dark", 40)
    over(session, session.rename("dark", "night"))
    assert LatentReplayClassifier.load(robot).classes_.tolist() == ["night"]
    over(session, session.forget("night"))
    assert LatentReplayClassifier.load(robot).remember().latents == {}


def test_a_lesson_that_could_not_be_saved_is_done_and_says_so(make, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make(autosave=True)
    for error in (RunError("the disk is full"), OSError("gone")):
        monkeypatch.setattr(
            session.changes.model, "save", lambda _, error=error: (_ for _ in ()).throw(error)
        )
        job = show(session, "dark", 40, 2)
        assert job.state == "done" and job.message.startswith("done, but not saved")
    assert session.answer(picture(40)).label == "dark"


def test_without_a_directory_nothing_is_saved(make) -> None:
    session = make(None)
    for act in (session.save, session.load):
        with pytest.raises(ConfigError, match="no directory was given"):
            act()


def test_a_taught_classifier_is_exported_as_an_archive_of_each_kind(make, tmp_path: Path) -> None:
    session = make()
    two(session)
    for form, inside in (("model", "state.safetensors"), ("huggingface", "config.json")):
        job = over(session, session.export(form))
        assert job.state == "done", job
        with zipfile.ZipFile(session.exported(job.number)) as archive:
            assert f"vitlr-model/{inside}" in archive.namelist()
            archive.extractall(tmp_path / form)
    again = LatentReplayClassifier.load(tmp_path / "model" / "vitlr-model")
    assert again.classes_.tolist() == ["dark", "bright"]
    with pytest.raises(DataError, match="choose one of onnx"):
        session.export("../../x")
    with pytest.raises(DataError):
        session.exported(10**9)


def test_labelled_pictures_of_an_archive_are_learned_and_bad_ones_left_out(make, tmp_path: Path) -> None:
    session = make()
    good = {
        f"set/{name}/{n}.jpg": picture(level, n) for name, level in (("a", 40), ("b", 210)) for n in range(3)
    }
    (tmp_path / "archive").write_bytes(
        zip_of({**good, "set/b/bad.jpg": b"\xff\xd8\xff no", "set/b/notes.txt": b"x"})
    )
    removed: list[bool] = []
    job = over(session, session.import_pictures(tmp_path / "archive", lambda: removed.append(True)))
    assert job.state == "done" and "1 picture could not be read" in job.message and removed == [True]
    assert [(each["label"], each["images"]) for each in session.changes.classes()] == [("a", 3), ("b", 3)]
    many = zip_of({f"{n}/1.jpg": picture(n) for n in range(4)})
    (tmp_path / "archive").write_bytes(many)
    job = over(session, session.import_pictures(tmp_path / "archive", lambda: None))
    assert job.state == "failed" and "3 classes" in job.message and names(session) == ["a", "b"]
    bounded = make(limits=Limits(import_pixels=6 * 40 * 40 - 1))
    job = over(bounded, bounded.import_pictures(an_archive(tmp_path), lambda: None))
    assert job.state == "failed" and "9,600 pixels in all, more than 9,599" in job.message


def test_messages_do_not_say_where_things_are_on_this_machine(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make(autosave=True)
    assert over(session, session.load()).message.startswith("nothing is saved in robot:")
    show(session, "dark", 40, 2)
    assert over(session, session.save()).message == "saved in robot"
    monkeypatch.setattr(
        "vitlr.app.exchange.tempfile.TemporaryDirectory",
        lambda dir: (_ for _ in ()).throw(RunError(f"{dir} is full")),
    )
    assert over(session, session.export("model")).message == "the page's folder is full"
    assert session.network() == {"name": "vit", "bundled": False, "warning": None, "image_size": 32}
