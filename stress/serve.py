"""Measure the live page: the time from releasing "teach" to the right label on screen, and its behaviour under load.

    python stress/serve.py latency --json latency.json      # needs playwright and chromium
    python stress/serve.py load --seconds 60 --json load.json

latency: a real headless Chromium with a fake camera that plays rendered objects; ViT-B/32 at 128 px with random
weights (as fast as trained ones), cut 11. Two objects are taught, 30 frames each; the time runs from
releasing the button to the first label of that object on screen.

load: 50 clients ask for answers as fast as they get them. Meanwhile attackers send small files that stand for much,
files that are no pictures, bodies that are too large or cut off, headers that never end, archives that leave their
folder, paths, disguised names, and requests as another site would. Reported are answers per second, statuses of each
attack, the slowest of what is answered at once, the server's memory at the start, at most and at the end, the time from
SIGTERM to its end, and whether it knows the same classes and gives the same answers afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also if it is run as a script

from stress import attacks

FRAMES = 30


@contextmanager
def server(
    *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[int, subprocess.Popen]]:
    """``vitlr serve`` on a free port, as soon as it has printed its address; its port and process.

    ``process.address`` is what it printed.
    """
    command = [sys.executable, "-m", "vitlr", "serve", *flags, "--port", "0"]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(r"https?://\S+:(\d+)", line)
            if found is None:
                complaints.seek(0)
                raise SystemExit(f"the page did not start: {complaints.read()}")
            process.address = line.strip()  # type: ignore[attr-defined]
            yield int(found[1]), process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()  # type: ignore[union-attr]


def post(port: int, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, dict]:
    """Status and JSON of the answer to a post."""
    reply = attacks.ask(port, path, body, attacks.FROM_PAGE if headers is None else headers)
    return reply.status, reply.json if reply.body[:1] == b"{" else {}


def latency(options: argparse.Namespace) -> dict:
    from stress.browser import browser, camera_file, live_page, rendered, start_camera, teach

    seconds: dict[str, list[float]] = {"first object": [], "second object": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = rendered(folder / "objects", [1, 26])
        films = [camera_file(folder / f"{each}.mjpeg", images) for each, images in objects.items()]
        for _ in range(options.repeats):
            flags = ["--backbone", options.backbone, "--image-size", "128", "--quiet"]
            with server(*flags) as (port, _):
                for title, film in zip(seconds, films, strict=True):
                    with browser(film) as started, live_page(started, port) as page:
                        start_camera(page)
                        seconds[title].append(teach(page, title, FRAMES))
                        assert not page.faults, page.faults
    rows = {title: {"median": statistics.median(each), "all": each} for title, each in seconds.items()}
    print(f"{options.backbone} at 128 px, {FRAMES} frames, seconds from the release to the label on screen")
    for title, row in rows.items():
        print(f"  {title:<14} median {row['median']:.2f}   {', '.join(f'{each:.2f}' for each in row['all'])}")
    return {"backbone": options.backbone, "frames": FRAMES, "seconds": rows}


# -- load -----------------------------------------------------------------------------------------------


class Tally:
    """Counts by what was done and what came of it, and the slowest of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}

    def add(self, what: str, reply: attacks.Reply) -> None:
        with self._lock:
            self.counts[f"{what} {reply.status or 'broken off'}"] += 1
            if reply.status == 200:
                self.slowest[what] = max(self.slowest.get(what, 0.0), reply.seconds)


def _client(port: int, tally: Tally, stop: threading.Event, pictures: Sequence[bytes], number: int) -> None:
    rng = random.Random(number)
    while not stop.is_set():
        reply = attacks.ask(port, "/live/answer", rng.choice(pictures))
        tally.add("answer", reply)
        if reply.status == 503:
            stop.wait(0.05)


def probe(port: int) -> None:
    """Asks what is answered at once until the input ends; prints how often it was answered, and the slowest.

    In a process of its own: beside the threads of the clients it would measure those.
    """
    stop, seconds = threading.Event(), []
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    while not stop.wait(0.1):
        for reply in (
            attacks.ask(port, "/live/state"),
            attacks.ask(port, "/static/live.js"),
            attacks.ask(port, "/live/drop?visitor=prober-01", b""),
        ):
            assert reply.status == 200, reply
            seconds.append(reply.seconds)
    print(json.dumps({"answered": len(seconds), "slowest": max(seconds)}))


def _attacker(port: int, tally: Tally, stop: threading.Event, number: int) -> None:
    """One attack after the other; none of them may change what is known."""
    rng, acts = random.Random(1000 + number), _attacks(number)
    while not stop.is_set():
        name = rng.choice([*acts])
        tally.add(f"attack: {name}", acts[name](port))


def _attacks(number: int) -> dict[str, Callable[[int], attacks.Reply]]:
    """By name, functions of the port."""
    who = f"visitor=attacker-{number}"
    routes = (f"/live/answer?{who}", f"/live/frame?{who}", f"/live/upload?{who}&name=../../etc/passwd")
    evil = {**attacks.FROM_PAGE, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    head = f"POST {routes[2]} HTTP/1.1\r\nHost: localhost\r\nX-VitLR: 1\r\n".encode()
    archive = attacks.zip_of({"a/1.jpg": attacks.picture(), "../../b/1.jpg": attacks.picture()})
    unpacking = attacks.zip_of({"a/1.jpg": bytes(2**24 - 1)})
    large = attacks.one_colour_png(4096)
    acts: dict[str, Callable[[int], attacks.Reply]] = {
        "16 million pixels": lambda port: attacks.ask(port, routes[0], large),
        "too large": lambda port: attacks.ask(port, routes[0], bytes(6 * 2**20)),
        "noise": lambda port: attacks.ask(port, routes[0], random.randbytes(50_000)),
        "other site": lambda port: attacks.ask(port, "/live/forget", b'{"label": "object 1"}', evil),
        "no header": lambda port: attacks.ask(port, "/live/undo", b"{}", {}),
        "other host": lambda port: attacks.ask(port, "/live/state", None, {"Host": "evil.example"}),
        "path": lambda port: attacks.ask(port, "/live/picture?id=../../../../etc/passwd"),
        "names": lambda port: attacks.ask(
            port, f"/live/release?{who}", json.dumps({"label": "\x1b[2J\u202e"}).encode()
        ),
        "deep JSON": lambda port: attacks.ask(port, f"/live/release?{who}", b"[" * 60_000),
        "archive": lambda port: attacks.ask(port, f"/live/import?{who}", archive),
        "unpacking archive": lambda port: attacks.ask(port, f"/live/import?{who}", unpacking),
        "cut off body": lambda port: attacks.raw(port, head + b"Content-Length: 99999\r\n\r\nhalf", 0.5),
        "no HTTP": lambda port: attacks.raw(port, b"\x16\x03\x01" + bytes(300), 0.5),
        "half-sent headers": _half_sent,
    }
    for name, body in {**attacks.bombs(), **attacks.no_pictures()}.items():
        for kind, route in zip(("answer", "frame", "upload"), routes, strict=True):
            acts[f"{name} to {kind}"] = partial(attacks.ask, path=route, body=body)
    return acts


def _half_sent(port: int) -> attacks.Reply:
    try:
        with attacks.half_sent(port, 60):
            return attacks.ask(port, "/live/state")
    except OSError:
        return attacks.Reply(0)


def _taught(port: int, folder: Path) -> list[bytes]:
    """Teaches two objects; their pictures."""
    from stress.browser import rendered

    objects = rendered(folder, [1, 26])
    for each, images in objects.items():
        for image in images:
            assert attacks.ask(port, "/live/frame?visitor=teacher-1", image.read_bytes()).status == 200
        name = json.dumps({"label": f"object {each}"}).encode()
        job = attacks.ask(port, "/live/release?visitor=teacher-1", name).json
        while attacks.ask(port, f"/live/job?number={job['number']}").json["state"] != "done":
            time.sleep(0.05)
    return [image.read_bytes() for images in objects.values() for image in images]


def _known(port: int, pictures: Sequence[bytes]) -> list:
    """What it knows and answers."""
    answers = [attacks.ask(port, "/live/answer", picture).json for picture in pictures]
    return [attacks.ask(port, "/live/state").json["classes"], answers]


def load(options: argparse.Namespace) -> dict:
    tally, stop = Tally(), threading.Event()
    with tempfile.TemporaryDirectory() as name:
        flags = ["--quiet", *(["--backbone", options.backbone] if options.backbone else [])]
        with server(str(Path(name) / "robot"), *flags) as (port, process):
            pictures = _taught(port, Path(name) / "objects")
            before = _known(port, pictures)
            started, _ = attacks.memory(process.pid)
            work = [
                partial(_client, port, tally, stop, pictures, number) for number in range(options.clients)
            ]
            work += [partial(_attacker, port, tally, stop, number) for number in range(options.attackers)]
            threads = [threading.Thread(target=act) for act in work]
            prober = subprocess.Popen(
                [sys.executable, __file__, "probe", "--port", str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for thread in threads:
                thread.start()
            time.sleep(options.seconds)
            short = json.loads(prober.communicate("")[0])
            stop.set()
            for thread in threads:
                thread.join()
            same = _known(port, pictures) == before
            now, peak = attacks.memory(process.pid)
            began = time.perf_counter()
            process.terminate()
            process.wait(timeout=20)
            ended = time.perf_counter() - began
    answered = tally.counts["answer 200"]
    figures = {
        "clients": options.clients,
        "attackers": options.attackers,
        "seconds": options.seconds,
        "counts": dict(sorted(tally.counts.items())),
        "answers_per_second": answered / options.seconds,
        "slowest_answer_seconds": tally.slowest.get("answer", 0.0),
        "short": short,
        "memory_bytes": {"start": started, "peak": peak, "end": now},
        "seconds_to_end": ended,
        "state_kept": same,
        "server_errors": sum(n for what, n in tally.counts.items() if what.endswith(" 500")),
    }
    _show(figures)
    return figures


def _show(figures: dict) -> None:
    memory = {when: f"{each / 1e6:.0f} MB" for when, each in figures["memory_bytes"].items()}
    print(
        f"{figures['clients']} clients and {figures['attackers']} attackers for {figures['seconds']} s"
        f" on {os.cpu_count()} cores"
    )
    for what, number in figures["counts"].items():
        print(f"  {what:<42}{number:>8}")
    print(
        f"  answers a second {figures['answers_per_second']:.1f}, slowest {figures['slowest_answer_seconds']:.1f} s"
    )
    print(f"  {figures['short']['answered']} short answers, slowest {figures['short']['slowest']:.2f} s")
    print(f"  memory {memory['start']} at the start, {memory['peak']} at most, {memory['end']} at the end")
    print(f"  SIGTERM to the end {figures['seconds_to_end']:.1f} s")
    print(f"  same classes and answers afterwards: {'yes' if figures['state_kept'] else 'NO'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["latency", "load", "probe"], help="probe is a part of load")
    parser.add_argument("--port", type=int, default=0, help="of probe")
    parser.add_argument("--backbone", default=None, help="latency: random:B_32; load: bundled")
    parser.add_argument("--repeats", type=int, default=3, help="of latency (default 3)")
    parser.add_argument("--clients", type=int, default=50, help="of load (default 50)")
    parser.add_argument("--attackers", type=int, default=6, help="of load (default 6)")
    parser.add_argument("--seconds", type=float, default=60, help="of load (default 60)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.what == "probe":
        probe(options.port)
        return
    if options.what == "latency":
        options.backbone = options.backbone or "random:B_32"
        figures = latency(options)
    else:
        figures = load(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
