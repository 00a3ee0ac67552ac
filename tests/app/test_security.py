"""The live page against attackers: real ``vitlr serve`` processes, asked over sockets.

One is on this machine alone, see ``conftest.py``, and one on every address with a token and HTTPS.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from stress import attacks
from stress.attacks import FROM_PAGE, Reply, ask, half_sent, is_closed, picture, raw
from tests.app.pages import ME, Page, serving, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")

POSTS = (
    *("/live/answer", "/live/frame", "/live/upload", "/live/drop", "/live/release", "/live/forget"),
    *("/live/rename", "/live/merge", "/live/undo", "/live/save", "/live/load", "/live/discard"),
    *("/live/keep", "/live/threshold", "/live/import", "/live/export"),
)
GETS = (
    *("/live/state", "/live/job?number=1", "/live/thumbnail?label=x", "/live/pictures?label=x"),
    *("/live/picture?id=x", "/live/download?job=1", "/live/qr.svg"),
)
TAKE_PICTURES = (f"/live/answer?{ME}", f"/live/frame?{ME}", f"/live/upload?{ME}&name=a.png")
GIGABYTE = 10**9


@pytest.fixture(scope="module")
def open_page(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("open")
    with serving(network, folder, "--host", "0.0.0.0", "--https", "--qr") as page:
        yield page


@dataclass
class HalfOpen:
    """Connections with headers that never end, opened before all tests: the page works beside them."""

    connections: list[socket.socket]
    began: float


@pytest.fixture(scope="module", autouse=True)
def half_open(page: Page) -> Iterator[HalfOpen]:
    with half_sent(page.port, 256) as connections:
        # One whose first request was whole, and one that sends a letter now and then.
        connections[1].sendall(b": 1\r\n\r\nGET / HT")
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(2):
                try:
                    connections[2].send(b"x")
                except OSError:
                    return

        threading.Thread(target=write, daemon=True).start()
        yield HalfOpen(connections, time.monotonic())
        stop.set()


# -- 1: nothing from outside becomes a path or an address ---------------------------------------------------


@pytest.fixture(scope="module")
def trap() -> Iterator[tuple[int, list]]:
    """A port of this machine, and who connected to it."""
    visits: list = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def watch() -> None:
            while True:
                try:
                    visits.append(listening.accept())
                except OSError:
                    return

        threading.Thread(target=watch, daemon=True).start()
        yield listening.getsockname()[1], visits


def test_no_string_from_outside_becomes_a_path_or_an_address(
    page: Page, trap: tuple[int, list], tmp_path: Path
) -> None:
    port, visits = trap
    os.mkfifo(tmp_path / "pipe")
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(200, kind="PNG"))
    places = [
        "/dev/zero",
        "/etc/passwd",
        str(tmp_path / "pipe"),
        str(secret),
        f"http://127.0.0.1:{port}/a.png",
    ]
    for place in places:
        for shape in ({"path": place}, {"url": place}, {"path": place, "meta": {"_type": "gradio.FileData"}}):
            for route in TAKE_PICTURES:
                for body in (json.dumps(shape).encode(), place.encode(), f"file://{place}".encode()):
                    reply = page.post(f"{route}&path={place}&url={place}", body)
                    assert reply.status == 400 and reply.seconds < 1, (route, body, reply)
        upload = page.post(f"/live/upload?{ME}&name={place}", b"no picture")
        assert upload.status == 400 and "uploads" not in upload.error
        named = {
            "label": place,
            "name": place,
            "into": place,
            "id": place,
            "format": place,
            "directory": place,
        }
        for route in ("discard", "export"):
            assert page.post(f"/live/{route}", named).status == 400
        for route in ("forget", "merge", "rename"):
            reply = page.post(f"/live/{route}", named)
            assert reply.status == 400 or page.wait(reply)["state"] == "failed"
        for route in ("thumbnail?label=", "picture?id=", "download?job="):
            assert page.get(f"/live/{route}{place}").status == 404
    assert page.post("/live/drop?" + ME).json == {} and not visits


def test_files_of_the_page_come_from_a_list(page: Page) -> None:
    for name in (
        *("../session.py", "..%2fsession.py", "%2e%2e/%2e%2e/session.py", "....//session.py"),
        *("%2fetc%2fpasswd", "live.js%00.css", "live.js/", "", ".", "..", "__init__.py", "..\\session.py"),
    ):
        answer = raw(page.port, f"GET /static/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert answer.status in (307, 400, 404) and b"import" not in answer.body
    assert page.get("/static/index.html").status == 200


def test_what_is_sent_lies_in_a_private_folder_and_is_gone_afterwards(page: Page) -> None:
    (folder,) = page.folder.glob(".vitlr-live.*")
    assert folder.stat().st_mode & 0o777 == 0o700
    with socket.create_connection(("127.0.0.1", page.port)) as connection:
        connection.sendall(
            f"POST /live/upload?{ME}&name=../../x.png HTTP/1.1\r\nHost: localhost\r\nX-VitLR: 1\r\n"
            "Content-Length: 900000\r\n\r\n".encode()
            + bytes(1000)
        )
        wait_until(lambda: len(page.files()) == 1)
        (path,) = map(Path, page.files())
        assert path.stat().st_mode & 0o777 == 0o600 and re.fullmatch("[0-9a-f]{32}", path.name)
        second = page.post(f"/live/upload?{ME}&name=b.png", picture())
        assert second.status == 503 and "another file of yours" in second.error
        other = page.post("/live/upload?visitor=visitor-2&name=b.png", picture())
        assert other.json == {"taken": 1, "note": ""}
    wait_until(lambda: not page.files())
    assert page.post("/live/drop?visitor=visitor-2").status == 200


# -- 2: small files that stand for much ---------------------------------------------------------------------


def test_bombs_are_refused_before_they_are_decoded_and_memory_comes_back(page: Page) -> None:
    page.teach("bright", 200)
    page.post("/live/answer", picture())  # what is loaded on the way is no part of it
    started, _ = attacks.memory(page.process.pid)
    large = attacks.one_colour_png(4096)
    sent = {**attacks.bombs(), **attacks.no_pictures()}
    with ThreadPoolExecutor(16) as pool:
        slow = [pool.submit(page.post, "/live/answer", large) for _ in range(4)]
        replies = {}
        for number, (name, body) in enumerate(sent.items()):
            for kind, route in enumerate(TAKE_PICTURES):
                of_another = route.replace("visitor-1", f"visitor-{number}{kind}")
                replies[name, route] = pool.submit(retried, page, of_another, body)
    for (name, route), reply in replies.items():
        first_frame = name == "animation" and "answer" in route  # of which one may ask what it is
        assert reply.result().status == (200 if first_frame else 400), (name, route, reply.result())
    assert {reply.result().status for reply in slow} == {200}
    assert attacks.memory(page.process.pid)[1] - started < GIGABYTE
    wait_until(lambda: attacks.memory(page.process.pid)[0] - started < GIGABYTE / 4)


def retried(page: Page, route: str, body: bytes) -> Reply:
    """Until it is not too busy."""
    while (reply := page.post(route, body)).status == 503:
        time.sleep(0.05)
    return reply


def retried_until(status: int, page: Page, body: bytes) -> Reply:
    """The first answer with that status."""
    while (reply := page.post("/live/answer", body)).status != status:
        pass
    return reply


def test_a_frame_of_a_camera_has_fewer_pixels_than_a_photograph(page: Page) -> None:
    photograph = attacks.one_colour_png(3000)
    assert page.post("/live/answer", photograph).status == 200
    refused = page.post(f"/live/frame?{ME}", photograph)
    assert refused.status == 400 and "8,388,608 pixels" in refused.error


def test_an_archive_is_unpacked_with_bounds_and_nothing_leaves_its_folder(page: Page) -> None:
    known = page.get("/live/state").json["classes"]
    good = picture()
    for name, entries in {
        "leaves": {"a/1.jpg": good, "../../b/1.jpg": good},
        "unpack": {"a/1.jpg": bytes(15 * 2**20)},
        "class folders": {"1.jpg": good},
        "zip archive": None,
    }.items():
        body = b"PK\x03\x04 no archive" if entries is None else attacks.zip_of(entries)
        job = page.wait(page.post(f"/live/import?{ME}", body))
        assert job["state"] == "failed" and name in job["message"], job
        assert str(page.folder) not in job["message"]
    assert page.get("/live/state").json["classes"] == known and not page.files()


def test_bodies_have_a_bound_whatever_they_announce(page: Page) -> None:
    head = "POST {} HTTP/1.1\r\nHost: localhost\r\nX-VitLR: 1\r\n"
    routes = (
        (f"/live/answer?{ME}", 4),
        (f"/live/upload?{ME}", 1),
        ("/live/forget", 0.06),
        (f"/live/import?{ME}", 4),
    )
    for route, most in routes:
        size = int(most * 1.2 * 2**20)
        assert raw(page.port, f"{head.format(route)}Content-Length: {size}\r\n\r\n".encode()).status == 413
        part = b"%x\r\n" % 2**16 + bytes(2**16) + b"\r\n"
        parts = part * (size // 2**16 + 2)
        chunked = f"{head.format(route)}Transfer-Encoding: chunked\r\n\r\n".encode() + parts
        assert raw(page.port, chunked).status == 413
    for length in ("-1", "1e3", "99999999999999999999999"):
        announced = f"{head.format('/live/answer')}Content-Length: {length}\r\n\r\n".encode()
        assert raw(page.port, announced).status in (400, 413)
    assert not page.files()


# -- 3: limits before threads -------------------------------------------------------------------------------


@contextmanager
def under_load(page: Page, clients: int, body: bytes) -> Iterator[Counter]:
    """That many clients ask about a slow picture all the time; how often they got which status."""
    counts: Counter = Counter()
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            reply = page.post("/live/answer", body)
            counts[reply.status] += 1
            if reply.status == 503:
                stop.wait(0.3)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_short_routes_answer_within_a_second_under_full_load_and_excess_gets_503_at_once(page: Page) -> None:
    page.teach("bright", 200)
    for step in range(2):
        assert page.post(f"/live/frame?{ME}", picture(40 + step)).status == 200
    with under_load(page, 80, attacks.one_colour_png(2000)) as counts:
        wait_until(lambda: counts[503] > 40)
        refused = retried_until(503, page, attacks.picture())
        slowest = refused.seconds
        for _ in range(5):
            for reply in (
                page.get("/live/state"),
                page.get("/static/index.html"),
                page.get("/live/thumbnail?label=bright"),
                page.post("/live/drop?visitor=visitor-9"),
                page.post("/live/keep", {"on": False}),
            ):
                assert reply.status == 200
                slowest = max(slowest, reply.seconds)
        released = page.post(f"/live/release?{ME}", {"label": "dark"})
        slowest = max(slowest, released.seconds)
        assert released.status == 200 and page.get(f"/live/job?number={released.json['number']}").seconds < 1
        wait_until(lambda: counts[200] > 3)
    assert slowest < 1 and set(counts) == {200, 503}, (slowest, counts)
    assert page.wait(released)["state"] == "done"


# -- 4: connections -----------------------------------------------------------------------------------------


def test_connections_that_begin_no_handshake_shut_nobody_out(open_page: Page) -> None:
    with half_sent(open_page.port, 0) as connections:
        for _ in range(600):
            connections.append(socket.create_connection(("127.0.0.1", open_page.port), timeout=15))
        assert open_page.get("/live/state").status == 200
        assert is_closed(connections[0])
    assert open_page.get("/live/state").status == 200


def test_uploads_of_all_visitors_together_have_a_bound_and_may_not_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitlr.app import bodies as module
    from vitlr.app.limits import BusyError, Limits

    class Sent:
        """A request whose parts come after a pause."""

        headers: ClassVar = {}

        def __init__(self, pause: float = 0.0) -> None:
            self._pause = pause

        async def stream(self):
            for _ in range(6):
                await asyncio.sleep(self._pause)
                yield bytes(100)

    async def send() -> None:
        bodies = module.Bodies(tmp_path, Limits(stored_bytes=1000))
        async with bodies.stored(Sent(), "visitor-1", 10**6) as path:  # type: ignore[arg-type]
            assert path.stat().st_size == 600
            with pytest.raises(BusyError, match="too much is stored"):
                async with bodies.stored(Sent(), "visitor-2", 10**6):  # type: ignore[arg-type]
                    pass
        async with bodies.stored(Sent(), "visitor-2", 10**6):  # type: ignore[arg-type]
            pass
        monkeypatch.setattr(module, "_PAUSE", 0.05)
        with pytest.raises(module.SlowError):
            async with bodies.read(Sent(pause=1), 10**6):  # type: ignore[arg-type]
                pass
        assert not list(tmp_path.iterdir()) and bodies._stored == bodies._in_memory == 0

    asyncio.run(send())


def test_connections_of_one_address_are_bounded_but_for_this_machine() -> None:
    from vitlr.app.connections import Gate

    gate = Gate(most=100, most_of_one=3)
    keys = [gate.enter("203.0.113.7") for _ in range(4)]
    assert keys.count(None) == 1 and gate.enter("203.0.113.8") is not None
    assert [gate.enter(f"2001:db8::{number}") is None for number in range(4)] == [False] * 3 + [True]
    assert gate.enter("::ffff:203.0.113.7") is None
    assert all(gate.enter("127.0.0.1") is not None for _ in range(50))
    gate.leave("203.0.113.7")
    assert gate.enter("203.0.113.7") is not None


# -- 5: other sites -----------------------------------------------------------------------------------------


def test_every_route_that_changes_something_is_checked() -> None:
    from vitlr.app.guard import Access
    from vitlr.app.lanes import Lanes
    from vitlr.app.limits import Limits
    from vitlr.app.server import make_app

    class Stub:
        limits = Limits()

    app = make_app(Stub(), None, Lanes(Limits()), Access())  # type: ignore[arg-type]
    posts = {route.path for route in app.routes if "POST" in route.methods}
    gets = {route.path for route in app.routes if "GET" in route.methods}
    assert posts == set(POSTS) and gets == {each.partition("?")[0] for each in GETS} | {"/", "/static/{name}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "evil.example@127.0.0.1"},
        {"Host": "192.0.2.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=lambda headers: "-".join(*headers.items()),
)
def test_other_sites_are_refused_on_every_route(page: Page, headers: dict[str, str]) -> None:
    for path in POSTS:
        assert page.post(f"{path}?{ME}", b"{}", headers={**FROM_PAGE, **headers}).status == 403, path
    for path in GETS:
        assert page.get(path, headers=headers).status == 403, path


def test_a_form_of_another_site_cannot_post_and_is_granted_no_header(page: Page) -> None:
    for path in POSTS:
        for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
            assert page.post(f"{path}?{ME}", b"{}", headers={"Content-Type": kind}).status == 403, path
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Headers": "x-vitlr"}
    for path in POSTS:
        reply = page.post(path, headers={**asked, "Access-Control-Request-Method": "POST"}, method="OPTIONS")
        assert reply.status == 405
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_websockets_and_other_methods_are_refused(page: Page) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    hello = {**upgrade, "Sec-WebSocket-Version": "13", "Origin": "https://evil.example"}
    assert page.get("/live/state", headers=hello).status == 403
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
        assert page.get("/live/state", method=method).status == 405


def test_the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody(page: Page) -> None:
    reply = page.get("/", headers={"Sec-Fetch-Site": "cross-site"})  # a link to it
    policy = reply.headers["content-security-policy"]
    assert reply.status == 200 and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and not re.search(r"(src|href)=.(https?:)?//", reply.body.decode())


# -- 6: what was said to be done stays ----------------------------------------------------------------------


def test_changes_are_made_in_the_order_in_which_they_were_asked_for(page: Page) -> None:
    page.teach("bright", 200)
    for step in range(2):
        page.post(f"/live/frame?{ME}", picture(90 + step))
    jobs = [page.post(f"/live/release?{ME}", {"label": "lost?"})]
    jobs += [
        page.post("/live/load", {}),
        page.post("/live/forget", {"label": "bright"}),
        page.post("/live/load", {}),
    ]
    ended = [page.wait(job) for job in jobs]
    assert [(job["kind"], job["state"]) for job in ended] == [
        ("teach", "done"), ("load", "done"), ("forget", "done"), ("load", "done"),
    ]  # fmt: skip
    classes = [each["label"] for each in page.get("/live/state").json["classes"]]
    assert "lost?" in classes and "bright" not in classes


# -- 7: others on the network -------------------------------------------------------------------------------


def test_others_need_the_token_of_the_printed_address(open_page: Page) -> None:
    assert re.fullmatch(r"https://[^/]+/\?token=[\w-]{43}", open_page.address)
    own, token = open_page.tls, open_page.token
    for path in (*POSTS, *GETS):
        post = path in POSTS
        for given in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Cookie": f"vitlr-{open_page.port}={token[:-1]}"},
        ):
            reply = ask(open_page.port, path, b"{}" if post else None, {**FROM_PAGE, **given}, tls=own)
            assert reply.status == 403 and "token" in reply.error, path
    for path in (
        "/live%2fstate",
        "//live/state",
        "/./live/state",
        "/static/../live/state",
        "/LIVE/state",
        "/live/state/",
    ):
        assert ask(open_page.port, path, tls=own).status in (403, 404), path
    entered = ask(open_page.port, f"/?token={token}", tls=own)
    assert entered.status == 303 and entered.headers["location"] == "/"
    cookie, *flags = entered.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Secure"} <= set(flags)
    wrong = ask(open_page.port, "/?token=wrong", tls=own)
    assert wrong.status == 303 and "set-cookie" not in wrong.headers
    for given in ({"Cookie": f"a=b; {cookie}"}, {"Authorization": f"Bearer {token}"}):
        state = ask(open_page.port, "/live/state", headers=given, tls=own)
        assert state.status == 200 and state.json["url"] == open_page.address
        assert b"<svg" in ask(open_page.port, "/live/qr.svg", headers=given, tls=own).body
    rebound = {"Authorization": f"Bearer {token}", "Host": "evil.example"}
    assert ask(open_page.port, "/live/state", headers=rebound, tls=own).status == 403


def test_only_names_of_this_machine_and_those_allowed_are_answered_to() -> None:
    from vitlr.app.guard import Access

    alone, network = Access(), Access(names={"robot", "robot.local", "page.example"}, any_address=True)
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:7860", "[::1]:7860"):
        assert alone.allows_host(host)
    for host in ("robot.local:7860", "page.example", "192.0.2.7:1", "[2001:db8::1]"):
        assert network.allows_host(host) and not alone.allows_host(host)
    for host in (
        "",
        "evil.example",
        "localhost.evil.example",
        "localhost:x",
        "a@localhost",
        "localhost/a",
        "[::1",
        "\xff",
    ):
        assert not network.allows_host(host) and not alone.allows_host(host), host
    assert Access(token=None).knows(None) and not Access(token="abc").knows(None)
    assert Access(token="abc").knows("abc") and not Access(token="abc").knows("ab\udcff")


def test_its_own_certificate_names_this_machine_and_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitlr.app.address import check_certificate, own_certificate

    monkeypatch.setenv("VITLR_CACHE", str(tmp_path))
    certificate, key = own_certificate(["localhost", "192.0.2.7"])
    made = certificate.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600 and key.parent.stat().st_mode & 0o777 == 0o700
    check_certificate(certificate, key)
    assert own_certificate(["192.0.2.7", "localhost"])[0].read_bytes() == made
    assert own_certificate(["localhost", "192.0.2.8"])[0].read_bytes() != made
    assert own_certificate(["bücher.example"])[0].read_bytes() != made


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vitlr.app.address import own_certificate
    from vitlr.cli import main

    monkeypatch.setenv("VITLR_CACHE", str(tmp_path))
    monkeypatch.setattr("vitlr.commands.serve.new_or_saved", lambda options: pytest.fail("loaded"))
    certificate, key = map(str, own_certificate(["localhost"]))
    (tmp_path / "text").write_text("no certificate")
    for flags, sentence in (
        (["--certificate", certificate], "belong together"),
        (["--key", key], "belong together"),
        (["--certificate", certificate, "--key", str(tmp_path / "absent")], "absent does not exist"),
        (["--certificate", str(tmp_path / "text"), "--key", key], "are not a certificate and its key"),
        (["--certificate", certificate, "--key", certificate], "are not a certificate and its key"),
        (["--https", "--allow-host", "x" * 70 + "ü"], "not the name of a host"),
    ):
        assert main(["serve", *flags]) == 2 and sentence in capsys.readouterr().err


# -- 8: names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a\x1b[2Jb", "a\nb", "a\rb", "a\x9bb", "a\u2028b", "a\u202egpj", "mug\u200f", "\x00", "x" * 61, " "],
)
def test_names_that_could_disguise_something_are_refused_and_the_frames_are_kept(
    page: Page, name: str
) -> None:
    assert page.post(f"/live/frame?{ME}", picture()).status == 200
    for body in ({"label": name}, {"label": name, "new": True}):
        reply = page.post(f"/live/release?{ME}", body)
        assert reply.status == 400 and reply.error.isprintable() and reply.error.isascii()
    assert page.post("/live/rename", {"label": "x", "name": name}).status == 400
    assert page.post(f"/live/frame?{ME}", picture()).json == {"taken": 2}
    page.post(f"/live/drop?{ME}")


def test_half_letters_and_other_kinds_of_values_break_no_answer(page: Page) -> None:
    for body in (
        b'{"label": "\\ud800"}',
        b'{"label": {}}',
        b'{"label": [1]}',
        b"[]",
        b"[" * 9999,
        b"\xff",
        b"null",
    ):
        for path in POSTS:
            reply = page.post(f"{path}?{ME}", body)
            assert reply.status in (200, 400), (path, body, reply)
            reply.json  # noqa: B018
    for query in (
        "attention=x&smooth=1",
        "visitor=../../../etc",
        "visitor=%ff%fe%fd%fc%fb%fa%f9%f8",
        "visitor=" + "x" * 65,
    ):
        assert page.post(f"/live/frame?{query}", picture()).status == 400
    assert page.get("/live/state").status == 200


def test_half_sent_headers_shut_nobody_out_and_are_closed(page: Page, half_open: HalfOpen) -> None:
    assert page.get("/live/state").seconds < 1
    with half_sent(page.port, 300):  # more than there may be: the oldest give way
        assert page.get("/live/state").seconds < 1
        assert is_closed(half_open.connections[0])
    time.sleep(max(0.0, half_open.began + 12 - time.monotonic()))
    assert all(map(is_closed, half_open.connections))


# -- the end ------------------------------------------------------------------------------------------------


def test_it_ends_within_five_seconds_under_load_and_leaves_nothing(open_page: Page) -> None:
    assert list(open_page.folder.glob(".vitlr-live.*"))
    with under_load(open_page, 30, attacks.one_colour_png(4000)) as counts:
        wait_until(lambda: counts[200] > 0)
        open_page.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert open_page.process.wait(timeout=20) == 0 and time.monotonic() - began < 5
    assert not list(open_page.folder.glob(".vitlr-live.*"))
