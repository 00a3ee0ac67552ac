"""Progress: a line for every tenth of the way, and lines from within a step that takes long."""

from __future__ import annotations

import itertools
import time

import pytest

from vitlr.commands.console import WITHIN, Bar, Bars
from vitlr.data.experience import TEST, Experience, Stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_long_step_has_lines_of_its_own_and_a_short_one_has_none(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Bar("latent_replay") as bar:
        for done in range(0, 3001, 100):
            bar.within(done, 3000)
            clock[0] += WITHIN / 10
        bar.update(1, 2, "test accuracy 0.500")
    said = lines(capsys)
    assert said == [
        "latent_replay 0/1 1,000 of 3,000 images encoded 10 s",
        "latent_replay 0/1 2,000 of 3,000 images encoded 20 s",
        "latent_replay 1/2 test accuracy 0.500 31 s, 31 s left",
    ]
    with Bar("latent_replay", quiet=True) as bar:
        bar.within(1, 2)
        clock[0] += 2 * WITHIN
        bar.within(1, 2)
        bar.update(1, 1)
    assert lines(capsys) == []


def test_a_bar_that_pauses_shows_nothing_of_what_is_soon_over(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for step, number in ((0.5, 0), (3.0, 3)):
        with Bar("encoding", pause=WITHIN) as bar:
            for done in range(1, 13):
                clock[0] += step
                bar.update(done, 12)
        assert len(lines(capsys)) == number


def test_what_a_stream_says_is_said_once_and_not_if_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    empty = Experience(index=TEST, name="test", paths=(), labels=[])
    streams = [
        Stream(name="s", root=None, experiences=(), test=empty, class_names=(), facts=facts, notes=("note",))
        for facts in (("one",), ("one",), ("two",))
    ]
    for quiet, said in ((False, ["one", "note", "two"]), (True, [])):
        with Bars(quiet=quiet) as bars:
            for stream in itertools.chain(streams, streams):
                bars.found(stream)
        assert lines(capsys) == said
