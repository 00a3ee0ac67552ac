"""The archive arrives whole or not at all, from a server that does everything wrong."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitlr.data.transfer as transfer
from vitlr.cli import main
from vitlr.data import download
from vitlr.data.core50 import frame_path
from vitlr.data.download import CORE50_MD5, download_core50
from vitlr.data.transfer import fetch, md5_of
from vitlr.errors import DataError

verify_module = sys.modules.get("vitlr.data.verify") or __import__("vitlr.data.verify", fromlist=["_"])
FRAMES = {(1, 1): (0, 1, 2), (11, 50): (0, 1)}


def archive_of(frames: dict[tuple[int, int], tuple[int, ...]]) -> bytes:
    """A zip in CORe50's layout."""
    rng, file = np.random.default_rng(0), BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("core50_128x128/", b"")
        for video, numbers in frames.items():
            for number in numbers:
                png = BytesIO()
                Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(png, "PNG")
                opened.writestr(f"core50_128x128/{frame_path(*video, number)}", png.getvalue())
    return file.getvalue()


ARCHIVE = archive_of(FRAMES)  # about 250 kB
MD5 = hashlib.md5(ARCHIVE).hexdigest()
SIZE = len(ARCHIVE)


class Request(BaseHTTPRequestHandler):
    """One request; what becomes of it is for the behaviour that is next in the server's list."""

    server: Server

    def do_GET(self) -> None:
        given = self.headers.get("Range")
        self.start = int(given.removeprefix("bytes=").removesuffix("-")) if given else 0
        with self.server.lock:
            number = len(self.server.starts)
            self.server.starts.append(self.start)
        behaviours = self.server.behaviours
        try:
            behaviours[min(number, len(behaviours) - 1)](self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: object) -> None:
        """Headers, with underscores for hyphens and None for those to leave out, and a body."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.starts: list[int] = []  # first byte that each request asked for
        self.behaviours: list[Callable[[Request], None]] = [honest]
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/core50_128x128.zip"


def honest(request: Request, content: bytes = ARCHIVE) -> None:
    if not request.start:
        request.answer(200, content)
    elif request.start >= len(content):
        request.answer(416, b"", Content_Range=f"bytes */{len(content)}")
    else:
        said = f"bytes {request.start}-{len(content) - 1}/{len(content)}"
        request.answer(206, content[request.start :], Content_Range=said)


def cut_after(num: int) -> Callable[[Request], None]:
    def behave(request: Request) -> None:
        rest = ARCHIVE[request.start :]
        said = {"Content_Range": f"bytes {request.start}-{SIZE - 1}/{SIZE}"} if request.start else {}
        request.answer(206 if request.start else 200, rest[:num], **{"Content_Length": len(rest), **said})

    return behave


def says(status: int, body: bytes = b"", **headers: object) -> Callable[[Request], None]:
    return lambda request: request.answer(status, body, **headers)


def ignores_ranges(request: Request) -> None:
    request.answer(200, ARCHIVE)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Asker:
    """``fetch`` without waiting, which keeps what was said and how long it would have waited."""

    def __init__(self, target: Path) -> None:
        self.target, self.part = target, target.with_name(f"{target.name}.part")
        self.said: list[str] = []
        self.pauses: list[float] = []
        self.progress: list[tuple[str, int, int]] = []

    def __call__(self, *urls: str, md5: str = MD5, retries: int = 5) -> None:
        fetch(
            urls,
            self.target,
            md5,
            retries=retries,
            say=self.said.append,
            pause=self.pauses.append,
            progress=lambda *step: self.progress.append(step),
        )

    def refused(self, *urls: str, **settings: Any) -> str:
        with pytest.raises(DataError) as refusal:
            self(*urls, **settings)
        assert not self.target.exists() and "\n" not in str(refusal.value)
        return str(refusal.value)

    def whole(self) -> bool:
        return self.target.read_bytes() == ARCHIVE and not self.part.exists()


@pytest.fixture
def ask(tmp_path: Path) -> Asker:
    return Asker(tmp_path / "core50_128x128.zip")


# -- one address ----------------------------------------------------------------------------------------


def test_a_whole_answer_is_checked_and_gets_its_name(server: Server, ask: Asker) -> None:
    ask(server.url)
    assert ask.whole() and server.starts == [0]
    downloading = [step for step in ask.progress if step[0] == "downloading"]
    assert downloading[-1] == ("downloading", SIZE, SIZE) and ask.progress[-1] == ("checking", SIZE, SIZE)


def test_cut_connections_are_continued_where_they_were_cut(server: Server, ask: Asker) -> None:
    server.behaviours = [cut_after(50_000)] * 4 + [honest]
    ask(server.url)
    assert ask.whole() and server.starts == [0, 50_000, 100_000, 150_000, 200_000]
    assert ask.pauses == [1, 2, 4, 8]
    assert "cut the connection" in ask.said[0] and "trying again in 1 s (1 of 5)" in ask.said[0]


def test_after_too_many_cuts_a_sentence_says_how_to_go_on_and_going_on_works(
    server: Server, ask: Asker
) -> None:
    server.behaviours = [cut_after(20_000)]
    sentence = ask.refused(server.url, retries=2)
    assert "3 times in a row" in sentence
    assert f"60,000 bytes are kept in {ask.part}: run the same command again to go on" in sentence
    assert ask.part.read_bytes() == ARCHIVE[:60_000]
    server.behaviours = [honest]
    ask(server.url)
    assert ask.whole() and server.starts == [0, 20_000, 40_000, 60_000]


def test_a_connection_that_brought_much_is_not_counted_against_the_address(
    server: Server, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_WORTHWHILE", 20_000)
    server.behaviours = [cut_after(20_000)]
    ask(server.url, retries=1)
    assert ask.whole() and set(ask.pauses) == {1}


def test_a_silent_server_is_left_after_a_time(
    server: Server, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_TIMEOUT", 0.2)
    wait = threading.Event()
    server.behaviours = [lambda request: (wait.wait(20), None)[1], honest]
    ask(server.url)
    wait.set()
    assert ask.whole() and "does not answer" in ask.said[0]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_errors_that_may_pass_are_tried_again(server: Server, ask: Asker, status: int) -> None:
    server.behaviours = [says(status, b"later"), honest]
    ask(server.url)
    assert ask.whole() and f"answers with status {status}" in ask.said[0]


@pytest.mark.parametrize(
    ("behaviour", "named"),
    [
        (says(404, b"gone"), "answers with status 404"),
        (says(403), "answers with status 403"),
        (says(204), "answers with status 204"),
        (says(206, ARCHIVE[:100], Content_Range=f"bytes 0-99/{SIZE}"), "answers with status 206"),
        (says(200, b"<html>pay</html>", Content_Type="text/html; charset=utf-8"), "sends a web page"),
        (says(200, b"x", Content_Encoding="gzip"), "packs what it sends"),
        (says(200, b"", Content_Length=10**12), "announces 1,000,000 MB, more than"),
        (says(302, b"", Location="file:///etc/passwd"), "cannot be followed"),
        (says(302, b"", Location="/core50_128x128.zip"), "cannot be followed"),
    ],
)
def test_answers_that_will_not_get_better_are_refused_at_once(
    server: Server, ask: Asker, behaviour: Callable[[Request], None], named: str
) -> None:
    server.behaviours = [behaviour]
    sentence = ask.refused(server.url)
    assert named in sentence and not ask.pauses and not ask.part.exists()


def test_redirects_are_followed(server: Server, ask: Asker) -> None:
    server.behaviours = [says(302, b"", Location="/elsewhere"), honest]
    ask(server.url)
    assert ask.whole()


def test_a_server_that_is_not_there_is_named_after_bounded_tries(ask: Asker) -> None:
    sentence = ask.refused("http://someone:secret@127.0.0.1:9/a.zip", retries=2)
    assert "http://127.0.0.1:9/a.zip cannot be reached" in sentence and "secret" not in sentence
    assert ask.pauses == [1, 2] and not ask.part.exists()


# -- ranges ---------------------------------------------------------------------------------------------


def test_where_ranges_are_ignored_the_file_starts_from_zero(server: Server, ask: Asker) -> None:
    server.behaviours = [cut_after(100_000), ignores_ranges]
    ask(server.url)
    assert ask.whole() and server.starts == [0, 100_000]
    assert "starting again from zero" in ask.said[-1]


def test_ignored_ranges_and_cuts_together_end_after_bounded_tries(server: Server, ask: Asker) -> None:
    server.behaviours = [says(200, ARCHIVE[:9000], Content_Length=SIZE)]
    assert "6 times in a row" in ask.refused(server.url)
    assert ask.part.read_bytes() == ARCHIVE[:9000]


@pytest.mark.parametrize(
    ("said", "length"),
    [
        (f"bytes 9999-{SIZE - 1}/{SIZE}", SIZE - 9999),
        (f"bytes 0-{SIZE - 1}/{SIZE}", SIZE),
        (f"bytes 10000-{SIZE - 1}/{SIZE - 5}", SIZE - 10000),
        (f"bytes 10000-{SIZE - 1}/{SIZE}", SIZE - 10001),
        (f"bytes 10000-9999/{SIZE}", 0),
        (f"bytes 10000-{2**40}/{2**41}", None),
        (f"items 10000-{SIZE - 1}/{SIZE}", None),
        ("bytes ten-more/all", None),
        (None, None),
    ],
)
def test_a_range_that_was_not_asked_for_is_refused_and_the_part_is_kept(
    server: Server, ask: Asker, said: str | None, length: int | None
) -> None:
    ask.part.write_bytes(ARCHIVE[:10_000])
    server.behaviours = [says(206, ARCHIVE[10_000:], Content_Range=said, Content_Length=length)]
    assert "answers a request from byte 10000 with the range" in ask.refused(server.url)
    assert ask.part.read_bytes() == ARCHIVE[:10_000]


def test_more_bytes_than_the_range_has_are_not_taken(server: Server, ask: Asker) -> None:
    ask.part.write_bytes(ARCHIVE[:10_000])
    said = f"bytes 10000-19999/{SIZE}"
    server.behaviours = [says(206, ARCHIVE[10_000:], Content_Range=said, Content_Length=None)]
    assert "more bytes than it announced" in ask.refused(server.url)
    assert len(ask.part.read_bytes()) <= 20_000


def test_a_file_may_come_in_large_pieces_but_not_in_endless_small_ones(
    server: Server, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pieces(request: Request) -> None:
        stop = min(SIZE, request.start + 100_000)
        said = f"bytes {request.start}-{stop - 1}/*"
        if request.start == SIZE:
            return honest(request)
        request.answer(206, ARCHIVE[request.start : stop], Content_Range=said)

    ask.part.write_bytes(ARCHIVE[:1])
    server.behaviours = [pieces]
    assert "very small pieces" in ask.refused(server.url, retries=0)
    monkeypatch.setattr(transfer, "_WORTHWHILE", 1000)
    ask(server.url, retries=0)
    assert ask.whole() and server.starts[-1] == SIZE


def test_a_part_that_is_whole_needs_no_connection(ask: Asker) -> None:
    ask.part.write_bytes(ARCHIVE)
    ask("http://127.0.0.1:9/a.zip")
    assert ask.whole() and not ask.pauses


def test_a_part_of_another_file_makes_it_start_once_more(server: Server, ask: Asker) -> None:
    ask.part.write_bytes(b"another file" * 1000)
    ask(server.url)
    assert ask.whole() and server.starts == [12_000, 0]


def test_a_part_of_the_full_size_with_wrong_bytes_is_not_taken_for_whole(server: Server, ask: Asker) -> None:
    ask.part.write_bytes(bytes(SIZE))
    ask(server.url)
    assert ask.whole() and server.starts == [SIZE, 0]


def test_a_part_that_is_longer_than_the_file_is_named(server: Server, ask: Asker) -> None:
    ask.part.write_bytes(bytes(SIZE + 1))
    assert "remove the .part file to start again" in ask.refused(server.url)


# -- wrong bytes, wrong lengths, mirrors ----------------------------------------------------------------


def wrong_bytes(request: Request) -> None:
    honest(request, ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1]))


def test_wrong_bytes_are_found_by_their_md5_and_deleted(server: Server, ask: Asker) -> None:
    server.behaviours = [wrong_bytes]
    sentence = ask.refused(server.url)
    assert "gave a file with the MD5" in sentence and MD5 in sentence and "deleted" in sentence
    assert not ask.part.exists() and server.starts == [0]


@pytest.mark.parametrize("announced", [SIZE - 1000, 0])
def test_a_server_that_announces_less_than_it_has_gives_no_archive(
    server: Server, ask: Asker, announced: int
) -> None:
    server.behaviours = [says(200, ARCHIVE, Content_Length=announced)]
    assert "MD5" in ask.refused(server.url) and not ask.part.exists()


def test_a_server_that_announces_more_than_it_has_gives_no_archive(server: Server, ask: Asker) -> None:
    server.behaviours = [says(200, ARCHIVE, Content_Length=SIZE + 10), honest]
    ask(server.url)  # the part is whole as it is, only the second answer says so
    assert ask.whole() and server.starts == [0, SIZE]


def test_without_an_announced_length_the_end_is_the_end(server: Server, ask: Asker) -> None:
    server.behaviours = [says(200, ARCHIVE, Content_Length=None)]
    ask(server.url)
    assert ask.whole() and ("downloading", SIZE, 0) in ask.progress


def test_an_endless_answer_is_ended(server: Server, ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 100_000)
    server.behaviours = [says(200, ARCHIVE, Content_Length=None)]
    assert "more bytes than it announced or than an archive may have" in ask.refused(server.url)
    assert ask.part.stat().st_size <= 100_000


def test_mirrors_are_tried_in_turn_and_go_on_from_one_anothers_bytes(server: Server, ask: Asker) -> None:
    second, third = f"{server.url}?second", f"{server.url}?third"
    server.behaviours = [says(404), cut_after(70_000), says(403), honest]
    ask(server.url, second, third)
    assert ask.whole() and server.starts == [0, 0, 70_000, 70_000]


def test_every_address_that_failed_is_named_with_its_reason(server: Server, ask: Asker) -> None:
    server.behaviours = [says(404), wrong_bytes, says(403)]
    sentence = ask.refused(*(f"{server.url}?{n}" for n in range(3)))
    assert all(f"?{n} {what}" in sentence for n, what in enumerate(("answers", "gave a", "answers")))


@pytest.mark.parametrize(
    "url", ["ftp://example.org/a.zip", "file:///etc/passwd", "a.zip", "http://", "http://[", ""]
)
def test_what_is_no_address_is_named(ask: Asker, url: str) -> None:
    assert "is not an address to download from" in ask.refused(url)


def test_ctrl_c_keeps_what_is_there(server: Server, ask: Asker) -> None:
    steps = 0

    def interrupt(stage: str, done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch([server.url], ask.target, MD5, progress=interrupt)
    kept = ask.part.read_bytes()
    assert 0 < len(kept) < SIZE and kept == ARCHIVE[: len(kept)]
    ask(server.url)
    assert ask.whole() and server.starts == [0, len(kept)]


def test_too_little_space_is_said_before_the_transfer(
    server: Server, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 2 * SIZE - 1})
    monkeypatch.setattr("vitlr.data.unpack.shutil.disk_usage", lambda path: usage)
    assert "needed to download and unpack core50_128x128.zip" in ask.refused(server.url)
    assert not ask.part.exists() or not ask.part.stat().st_size


def test_a_disk_that_fills_up_is_a_sentence_and_keeps_the_part(
    server: Server, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    ask.part.write_bytes(ARCHIVE[:5000])
    monkeypatch.setattr(transfer, "ensure_space", full)
    assert "No space left on device" in ask.refused(server.url)
    assert ask.part.read_bytes() == ARCHIVE[:5000]


# -- the command ----------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CORe50 that publishes the frames of the archive alone."""
    frames = {video: tuple(frame_path(*video, f) for f in numbers) for video, numbers in FRAMES.items()}
    monkeypatch.setattr(verify_module, "video_frames", lambda s, o: frames.get((s, o), ()))
    monkeypatch.setattr(verify_module, "published_frames", lambda: (p for ps in frames.values() for p in ps))
    monkeypatch.setattr("vitlr.data.download.CORE50_MD5", MD5)


def command(root: Path, *arguments: object) -> int:
    return main(["data", "download", "core50", str(root), *map(str, arguments)])


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {".lock"}


@pytest.mark.usefixtures("small")
def test_one_command_downloads_checks_unpacks_and_verifies(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "data"
    assert command(root, "--url", server.url) == 0
    captured = capsys.readouterr()
    assert "5 of 5 frames" in captured.out and "complete and undamaged" in captured.out
    assert all(stage in captured.err for stage in ("downloading", "checking", "unpacking", "verifying"))
    assert names(root) == {"core50_128x128"}
    assert command(root, "--quiet", "--json") == 0  # again: nothing to fetch, verified as it is
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ok"] is True and "is there already" in captured.err
    assert len(server.starts) == 1


@pytest.mark.usefixtures("small")
def test_a_file_on_disk_is_accepted_and_stays(server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "mine.zip"
    mine.write_bytes(ARCHIVE)
    assert command(tmp_path / "a", "--archive", mine, "--quiet") == 0
    assert mine.read_bytes() == ARCHIVE and names(tmp_path / "a") == {"core50_128x128"}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "core50_128x128.zip").write_bytes(ARCHIVE)
    assert command(tmp_path / "b", "--quiet") == 0
    assert names(tmp_path / "b") == {"core50_128x128", "core50_128x128.zip"} and not server.starts


@pytest.mark.usefixtures("small")
def test_a_fetched_archive_is_kept_where_asked(server: Server, tmp_path: Path) -> None:
    assert command(tmp_path, "--url", server.url, "--keep-archive", "--quiet") == 0
    assert names(tmp_path) == {"core50_128x128", "core50_128x128.zip"}


@pytest.mark.usefixtures("small")
def test_verification_that_finds_a_fault_gives_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = tmp_path / "fewer.zip"
    fewer.write_bytes(archive_of({(1, 1): (0,)}))
    assert command(tmp_path, "--archive", fewer, "--md5", md5_of(fewer).upper(), "--quiet") == 1
    assert "missing: 4" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_without_an_address_the_published_one_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert download.CORE50_URLS and all(url.endswith("/core50_128x128.zip") for url in download.CORE50_URLS)
    monkeypatch.setattr(download, "CORE50_URLS", (server.url,))
    assert command(tmp_path, "--quiet") == 0
    assert len(server.starts) == 1 and names(tmp_path) == {"core50_128x128"}


@pytest.mark.usefixtures("small")
def test_what_cannot_be_done_is_one_sentence(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.zip").write_bytes(b"other")
    (tmp_path / "file").touch()
    hostile = BytesIO()
    with zipfile.ZipFile(hostile, "w") as opened:
        opened.writestr("core50_128x128/../../escaped", b"x")
    (tmp_path / "hostile.zip").write_bytes(hostile.getvalue())
    for arguments, named in (
        (["a", "--url", "nowhere"], "is not an address"),
        (["a", "--archive", tmp_path / "other.zip"], "has the MD5"),
        (["a", "--archive", tmp_path / "none.zip"], "is not a file"),
        (["a", "--md5", "123", "--url", server.url], "32 hexadecimal digits"),
        (["a", "--retries", "-1"], "--retries must be >= 0"),
        (["a", "--workers", "0"], "--workers must be >= 1"),
        (["file"], "file cannot be written"),
        (
            ["a", "--archive", tmp_path / "hostile.zip", "--md5", md5_of(tmp_path / "hostile.zip")],
            "leaves its",
        ),
    ):
        assert command(tmp_path / arguments[0], "--quiet", *arguments[1:]) == 2
        captured = capsys.readouterr()
        said = [line for line in captured.err.splitlines() if line.startswith("vitlr: error: ")]
        assert len(said) == 1 and named in said[0] and "Traceback" not in captured.err
    assert main(["data", "download", "imagenet", str(tmp_path)]) == 2
    assert not (tmp_path / "escaped").exists() and names(tmp_path / "a") == set()


@pytest.mark.usefixtures("small")
def test_two_downloads_into_one_directory_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    held_elsewhere: Callable[[Path], AbstractContextManager[None]],
) -> None:
    with held_elsewhere(tmp_path):
        assert command(tmp_path, "--url", "http://127.0.0.1:9/a.zip") == 2
    assert "in use by another process" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "ensure_space", interrupt)
    (tmp_path / "core50_128x128.zip.part").write_bytes(ARCHIVE[:100])
    assert command(tmp_path, "--url", server.url) == 130
    assert "is kept; the same command continues from there" in capsys.readouterr().err
    assert os.path.getsize(tmp_path / "core50_128x128.zip.part") == 100


def test_the_published_md5_is_the_one_of_the_official_archive() -> None:
    assert CORE50_MD5 == "745f3373fed08d69343f1058ee559e13"
    assert download_core50.__kwdefaults__["md5"] == CORE50_MD5
