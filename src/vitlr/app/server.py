"""The page's routes: frames and files in, answers and jobs out.

Nothing of a request ever becomes a path or an address: pictures come as raw bodies, uploads get names of our own in a
private directory, and files of the page are looked up in a list. Limits are taken before a thread is, and what is
answered at once has threads of its own.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources
from typing import Any, TypeVar
from urllib.parse import quote

import segno
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from vitlr.app.bodies import Bodies, SlowError, TooLargeError
from vitlr.app.frames import jpeg
from vitlr.app.guard import Access, Guard, Json, refused
from vitlr.app.session import LONGEST, Answer, BusyError, Job, LiveSession, SameNameError
from vitlr.data.names import shown
from vitlr.errors import DataError, VitLRError

__all__ = ["Lanes", "make_app"]

_TYPES = {
    **{".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"},
    **{".png": "image/png", ".webmanifest": "application/manifest+json", ".ico": "image/x-icon"},
}
_JSON_BYTES = 2**16
_T = TypeVar("_T")
_Endpoint = Callable[[Request], Awaitable[Response]]


class Lane:
    """Threads for one kind of work, and how many may wait for them."""

    def __init__(self, name: str, threads: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"vitlr-{name}")
        self._free, self._active = most, 0
        self._lock = threading.Lock()

    async def run(self, act: Callable[[], _T]) -> _T:
        """What ``act`` returns; BusyError at once if too many wait. Called in the event loop's thread alone."""
        if self._free < 1:
            raise BusyError("too many requests of this kind are waiting; send fewer at once")
        self._free -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._counted, act)
        finally:
            self._free += 1

    def _counted(self, act: Callable[[], _T]) -> _T:
        with self._lock:
            self._active += 1
        try:
            return act()
        finally:
            with self._lock:
                self._active -= 1

    def close(self) -> bool:
        """Drop what waits; True if nothing is being worked on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return self._active == 0


class Lanes:
    """Short work is never behind long work."""

    def __init__(self, session: LiveSession) -> None:
        limits = session.limits
        self.short = Lane("short", 4, 512)
        self.answers = Lane("answer", 2, limits.answers)
        self.takes = Lane("take", 2, limits.takes)
        self.uploads = Lane("upload", 1, limits.uploads)

    def close(self) -> bool:
        """Drop what waits; True if nothing is being worked on."""
        return all([lane.close() for lane in vars(self).values()])


class _Routes:
    """A list of routes, filled by decorators."""

    def __init__(self) -> None:
        self.all: list[Route] = []

    def get(self, path: str) -> Callable[[_Endpoint], _Endpoint]:
        return self._on(path, "GET")

    def post(self, path: str) -> Callable[[_Endpoint], _Endpoint]:
        return self._on(path, "POST")

    def _on(self, path: str, method: str) -> Callable[[_Endpoint], _Endpoint]:
        def add(endpoint: _Endpoint) -> _Endpoint:
            self.all.append(Route(path, endpoint, methods=[method]))
            return endpoint

        return add


def make_app(
    session: LiveSession, bodies: Bodies, lanes: Lanes, access: Access, *, url: str | None = None
) -> Starlette:
    """The application.

    Args:
        bodies: reads what is sent. access: who is let in.
        url: the address that others can open, token included; shown on the page as text and QR code.
    """
    on = _Routes()
    _page_routes(on)
    _picture_routes(on, session, bodies, lanes)
    _change_routes(on, session, bodies, lanes)
    _setting_routes(on, session, bodies)
    _state_routes(on, session, lanes, url)
    app = Starlette(
        routes=on.all,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={VitLRError: _known, HTTPException: _nothing, Exception: _bug},
    )
    app.router.redirect_slashes = False
    return app


_STATUSES = ((BusyError, 503), (TooLargeError, 413), (SlowError, 408), (VitLRError, 400))


async def _known(request: Request, error: Exception) -> Response:
    if isinstance(error, SameNameError):
        return refused(409, str(error), same_as=error.same_as)
    return refused(next(status for kind, status in _STATUSES if isinstance(error, kind)), str(error))


async def _nothing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(error.status_code, "there is nothing here")


async def _bug(request: Request, error: Exception) -> Response:
    return refused(500, f"an error in the program ({type(error).__name__}); see where vitlr serve runs")


def _page_routes(on: _Routes) -> None:
    folder = resources.files("vitlr.app").joinpath("static")

    def file(name: str) -> Response:
        found = next((each for each in folder.iterdir() if each.name == name), None)
        kind = _TYPES.get(f".{name.rpartition('.')[2]}")
        if found is None or kind is None:
            return refused(404, "there is nothing here")
        return Response(found.read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})

    @on.get("/")
    async def page(request: Request) -> Response:
        return file("index.html")

    @on.get("/static/{name}")
    async def static(request: Request) -> Response:
        return file(request.path_params["name"])


def _picture_routes(on: _Routes, session: LiveSession, bodies: Bodies, lanes: Lanes) -> None:
    limits = session.limits

    @on.post("/live/answer")
    async def answer(request: Request) -> Response:
        attention, smooth = (request.query_params.get(name) == "1" for name in ("attention", "smooth"))
        who = _visitor(request) if smooth else ""
        async with bodies.read(request, limits.frame_bytes) as body:
            ask = partial(session.answer, body, visitor=who, attention=attention, smooth=smooth)
            return Json(await lanes.answers.run(lambda: _answer_json(ask())))

    @on.post("/live/frame")
    async def frame(request: Request) -> Response:
        who = _visitor(request)
        async with bodies.read(request, limits.frame_bytes) as body:
            return Json({"taken": await lanes.takes.run(partial(session.take, who, body))})

    @on.post("/live/upload")
    async def upload(request: Request) -> Response:
        who, name = _visitor(request), _file_name(request.query_params.get("name", ""))
        async with bodies.stored(request, who, limits.upload_bytes) as path:

            def act() -> dict[str, Any]:
                try:
                    taken, note = session.upload(who, path)
                except DataError as error:
                    raise DataError(str(error).replace(str(path), name)) from None
                return {"taken": taken, "note": note.replace(str(path), name)}

            return Json(await lanes.uploads.run(act))

    @on.post("/live/drop")
    async def drop(request: Request) -> Response:
        session.drop(_visitor(request))
        return Json({})


def _change_routes(on: _Routes, session: LiveSession, bodies: Bodies, lanes: Lanes) -> None:
    def job(path: str, act: Callable[[dict[str, Any]], Job]) -> None:
        """A route that queues the job which ``act`` makes of the request's JSON."""

        async def queued(request: Request) -> Response:
            content = await _object(bodies, request)
            return Json(_job_json(await lanes.short.run(partial(act, content))))

        on.post(path)(queued)

    job("/live/forget", lambda body: session.forget(body.get("label")))
    job("/live/rename", lambda body: session.rename(body.get("label"), body.get("name")))
    job("/live/merge", lambda body: session.merge(body.get("label"), body.get("into")))
    job("/live/discard", lambda body: session.discard(body.get("id")))
    job("/live/undo", lambda body: session.undo())
    job("/live/save", lambda body: session.save())
    job("/live/load", lambda body: session.load())
    job("/live/export", lambda body: session.export(body.get("format")))

    @on.post("/live/release")
    async def release(request: Request) -> Response:
        who, body = _visitor(request), await _object(bodies, request)
        name, other, new = body.get("label"), body.get("same_as"), body.get("new") is True
        act = partial(session.release, who, name, same_as=other, new=new)
        return Json(_job_json(await lanes.short.run(act)))

    @on.post("/live/import")
    async def import_(request: Request) -> Response:
        who = _visitor(request)
        async with bodies.stored(request, who, session.limits.import_bytes, keep=True) as path:
            return Json(_job_json(session.import_pictures(path, partial(bodies.remove, path))))


def _setting_routes(on: _Routes, session: LiveSession, bodies: Bodies) -> None:
    @on.post("/live/keep")
    async def keep(request: Request) -> Response:
        wanted = (await _object(bodies, request)).get("on")
        if not isinstance(wanted, bool):
            raise DataError("on must be true or false")
        session.keep(wanted)
        return Json({})

    @on.post("/live/threshold")
    async def threshold(request: Request) -> Response:
        body = await _object(bodies, request)
        session.set_threshold(None if body.get("auto") is True else body.get("value"))
        return Json({})


def _state_routes(on: _Routes, session: LiveSession, lanes: Lanes, url: str | None) -> None:
    @on.get("/live/state")
    async def state(request: Request) -> Response:
        return Json(await lanes.short.run(lambda: _state_json(session, url)))

    @on.get("/live/job")
    async def job(request: Request) -> Response:
        try:
            return Json(_job_json(session.job(_number(request, "number"))))
        except DataError as error:
            return refused(404, str(error))

    @on.get("/live/thumbnail")
    async def thumbnail(request: Request) -> Response:
        return await picture_of(partial(session.thumbnail, request.query_params.get("label", "")))

    @on.get("/live/pictures")
    async def pictures(request: Request) -> Response:
        numbers = session.pictures(request.query_params.get("label", ""))
        listed = [{"id": each, "url": f"/live/picture?id={each}"} for each in numbers]
        return Json({"pictures": listed})

    @on.get("/live/picture")
    async def picture(request: Request) -> Response:
        return await picture_of(partial(session.changes.picture, request.query_params.get("id", "")))

    async def picture_of(read: Callable[[], bytes]) -> Response:
        try:
            content = await lanes.short.run(read)
        except (DataError, OSError):
            return refused(404, "there is no such picture")
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @on.get("/live/download")
    async def download(request: Request) -> Response:
        try:
            path = session.exported(_number(request, "job"))
        except DataError as error:
            return refused(404, str(error))
        return FileResponse(path, media_type="application/zip", filename="vitlr-model.zip")

    @on.get("/live/qr.svg")
    async def qr(request: Request) -> Response:
        if url is None:
            return refused(404, "this page can be opened on this machine alone")
        drawn = io.BytesIO()
        segno.make(url, error="m").save(drawn, kind="svg", scale=4, border=2, light="white")
        return Response(drawn.getvalue(), media_type="image/svg+xml")


def _visitor(request: Request) -> str:
    visitor = request.query_params.get("visitor", "")
    if not 8 <= len(visitor) <= 64 or not all(
        sign.isascii() and (sign.isalnum() or sign == "-") for sign in visitor
    ):
        raise DataError("the page's visitor number is missing; reload the page")
    return visitor


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 16 else -1


def _file_name(name: str) -> str:
    """The name that a file has for its visitor, for a sentence."""
    return shown(name.replace("\\", "/").rpartition("/")[2])[:100] or "the file"


async def _object(bodies: Bodies, request: Request) -> dict[str, Any]:
    """The JSON object that was sent."""
    async with bodies.read(request, _JSON_BYTES) as body:
        try:
            content = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            content = None
    if not isinstance(content, dict):
        raise DataError("the request is not a JSON object, as this page sends")
    return content


def _answer_json(answer: Answer) -> dict[str, Any]:
    drawn = answer.attention_HWC
    return {
        "label": answer.label,
        "known": round(answer.known, 4),
        "probabilities": [[name, round(share, 4)] for name, share in answer.probabilities],
        "attention": None
        if drawn is None
        else f"data:image/jpeg;base64,{base64.b64encode(jpeg(drawn)).decode()}",
    }


def _job_json(job: Job) -> dict[str, Any]:
    return {
        "number": job.number,
        "kind": job.kind,
        "label": job.label,
        "frames": job.frames,
        "state": job.state,
        "progress": round(job.progress, 3),
        "seconds": round(job.seconds, 3),
        "message": job.message,
        "download": None if job.download is None else f"/live/download?job={job.number}",
    }


def _state_json(session: LiveSession, url: str | None) -> dict[str, Any]:
    revision, limits = session.revision, session.limits  # first: what changes meanwhile has a higher one
    changes = session.changes
    classes = changes.classes()
    for each in classes:
        if each["thumbnail"] is not None:
            version = zlib.crc32(each["thumbnail"].tobytes())
            each["thumbnail"] = f"/live/thumbnail?label={quote(each['label'])}&v={version}"
    what = changes.undoable
    return {
        "classes": classes,
        "network": session.network(),
        "threshold": session.threshold(),
        "undo": None if what is None else {"what": what},
        "save": {"directory": changes.directory is not None, "autosave": changes.autosave},
        "keep_pictures": changes.keep_pictures,
        "jobs": [_job_json(job) for job in session.jobs()],
        "limits": {
            "classes": limits.classes,
            "frames": limits.frames,
            "frame_bytes": limits.frame_bytes,
            "upload_bytes": limits.upload_bytes,
            "import_bytes": limits.import_bytes,
            "name": LONGEST,
        },
        "url": url,
        "revision": revision,
    }
