"""Measure the live page: the time from releasing "teach" to the right label on screen, and its behaviour under load.

    python stress/serve.py latency --json latency.json      # needs playwright and chromium
    python stress/serve.py load --seconds 60 --json load.json

latency: a real headless Chromium with a fake camera that plays rendered objects; ViT-B/32 at 128 px with random
weights (as fast as trained ones), cut 11. Two objects are taught, 30 frames each; the time runs from
releasing the button to the first label of that object on screen.

load: 50 clients ask for answers as fast as they get them, while others send decompression bombs, files that
are not pictures, bodies that are too large or cut off, and invalid names. Reported are answers per second, errors
by status, the server's peak memory, and whether it knows the same classes and gives the same answers afterwards.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

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


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def post(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, {"X-Vitlr": "1"} if headers is None else headers)
        reply = connection.getresponse()
        content = reply.read()
        return reply.status, json.loads(content) if content[:1] == b"{" else {}
    finally:
        connection.close()


def latency(options: argparse.Namespace) -> dict:
    from browser import browser, camera_file, live_page, rendered, start_camera, teach

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


def hostile_bodies() -> dict[str, bytes]:
    """Data that is not a picture, or too large."""
    bomb, animated = io.BytesIO(), io.BytesIO()
    Image.new("1", (30000, 30000)).save(bomb, "PNG")
    Image.new("L", (64, 64)).save(
        animated, "GIF", save_all=True, append_images=[Image.new("L", (64, 64), 9)] * 50
    )
    whole = io.BytesIO()
    Image.new("RGB", (320, 240), (90, 40, 200)).save(whole, "JPEG")
    return {
        "bomb": bomb.getvalue(),
        "noise": random.Random(0).randbytes(50_000),
        "empty": b"",
        "cut off JPEG": whole.getvalue()[:400],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n" * 50,
        "too large": bytes(6 * 2**20),
        "animation": animated.getvalue(),
        "html": b"<html><script>alert(1)</script></html>" * 100,
    }


def cut_off(port: int) -> None:
    """A request whose body never arrives."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            b"POST /live/answer HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Vitlr: 1\r\nContent-Length: 100000\r\n\r\nhalf"
        )
        time.sleep(random.random())


def load(options: argparse.Namespace) -> dict:
    from browser import rendered

    counts: Counter[str] = Counter()
    slowest = [0.0]
    lock, stop = threading.Lock(), threading.Event()
    with tempfile.TemporaryDirectory() as name:
        objects = rendered(Path(name), [1, 26])
        bodies = {}
        for each, images in objects.items():
            bodies[f"object {each}"] = [image.read_bytes() for image in images]
        flags = ["--quiet", *(["--backbone", options.backbone] if options.backbone else [])]
        with server(str(Path(name) / "robot"), *flags) as (port, process):
            for label, images in bodies.items():
                for image in images:
                    post(port, "/live/frame?visitor=teacher-1", image)
                status, job = post(
                    port, "/live/release?visitor=teacher-1", json.dumps({"label": label}).encode()
                )
                assert status == 200, job
                while json.loads(_get(port, f"/live/job?number={job['number']}")[1])["state"] != "done":
                    time.sleep(0.05)
            everything = [image for images in bodies.values() for image in images]
            before = [post(port, "/live/answer", image) for image in everything]
            known = _get(port, "/live/classes")

            def count(what: str, seconds: float = 0.0) -> None:
                with lock:
                    counts[what] += 1
                    slowest[0] = max(slowest[0], seconds)

            def client(number: int) -> None:
                rng = random.Random(number)
                while not stop.is_set():
                    began = time.perf_counter()
                    try:
                        status, _ = post(port, "/live/answer", rng.choice(everything))
                    except (OSError, http.client.HTTPException):
                        count("no answer")
                        continue
                    count(f"answered {status}", time.perf_counter() - began if status == 200 else 0.0)
                    if status == 503:
                        time.sleep(0.05)

            def attacker(number: int) -> None:
                rng, hostile = random.Random(1000 + number), hostile_bodies()
                while not stop.is_set():
                    what = rng.choice([*hostile, "cut off request", "names"])
                    try:
                        if what == "cut off request":
                            cut_off(port)
                            count("hostile: cut off request")
                            continue
                        if what == "names":
                            body = json.dumps(
                                {"label": rng.choice(["", "x" * 9999, "../../etc", "\x00", "a\nb"])}
                            ).encode()
                            status, _ = post(port, f"/live/release?visitor=attacker-{number}", body)
                        else:
                            # A valid animation is a picture, so teaching it would rightly change what is known.
                            taught = [] if what == "animation" else [f"/live/frame?visitor=attacker-{number}"]
                            path = rng.choice(["/live/answer", *taught])
                            status, _ = post(port, path, hostile[what])
                    except (OSError, http.client.HTTPException):
                        status = 0  # the server closed the connection before the body was sent
                    count(f"hostile: {what} {status}")

            threads = [threading.Thread(target=client, args=(number,)) for number in range(options.clients)]
            threads += [threading.Thread(target=attacker, args=(number,)) for number in range(5)]
            for thread in threads:
                thread.start()
            time.sleep(options.seconds)
            stop.set()
            for thread in threads:
                thread.join()
            after = [post(port, "/live/answer", image) for image in everything]
            peak = _peak_memory(process.pid)
            same = after == before and _get(port, "/live/classes") == known
    answered = counts["answered 200"]
    print(f"{options.clients} clients and 5 attackers for {options.seconds} s on {os.cpu_count()} cores")
    for what, number in sorted(counts.items()):
        print(f"  {what:<34}{number:>8}")
    print(f"  answers a second {answered / options.seconds:.1f}, slowest {slowest[0]:.1f} s")
    print(f"  peak memory {peak / 1e6:.0f} MB")
    print(f"  same classes and answers afterwards: {'yes' if same else 'NO'}")
    return {
        "clients": options.clients,
        "seconds": options.seconds,
        "counts": dict(counts),
        "answers_per_second": answered / options.seconds,
        "slowest_seconds": slowest[0],
        "peak_memory_bytes": peak,
        "state_kept": same,
        "server_errors": sum(number for what, number in counts.items() if re.search(r" 500$", what)),
    }


def _peak_memory(pid: int) -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) * 1024 if match else 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["latency", "load"])
    parser.add_argument("--backbone", default=None, help="latency: random:B_32; load: bundled")
    parser.add_argument("--repeats", type=int, default=3, help="of latency (default 3)")
    parser.add_argument("--clients", type=int, default=50, help="of load (default 50)")
    parser.add_argument("--seconds", type=float, default=60, help="of load (default 60)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.what == "latency":
        options.backbone = options.backbone or "random:B_32"
        figures = latency(options)
    else:
        figures = load(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
