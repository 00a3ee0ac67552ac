"""The page's routes: frames and files in, answers and jobs out.

Nothing of a request ever becomes a path or an address: pictures come as raw bodies, uploads get names of our own in a
private directory, and files of the page are looked up in a list. Limits are taken before a thread is, and what is
answered at once has threads of its own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import resources
from typing import Any

import segno
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from vitlr.app.bodies import Bodies, SlowError, TooLargeError
from vitlr.app.forms import answer_json, job_json, state_json
from vitlr.app.guard import Access, Guard, Json, refused
from vitlr.app.lanes import Lanes
from vitlr.app.session import BusyError, Job, LiveSession, SameNameError
from vitlr.data.names import shown
from vitlr.errors import DataError, VitLRError

__all__ = ["make_app"]

_TYPES = {
    **{".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"},
    **{".png": "image/png", ".webmanifest": "application/manifest+json", ".ico": "image/x-icon"},
}
_JSON_BYTES = 2**16
_Endpoint = Callable[[Request], Awaitable[Response]]


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
    _shown_routes(on, session, lanes)
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
            return Json(await lanes.answers.run(lambda: answer_json(ask())))

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
            return Json(job_json(await lanes.short.run(partial(act, content))))

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
        return Json(job_json(await lanes.short.run(act)))

    @on.post("/live/import")
    async def import_(request: Request) -> Response:
        who = _visitor(request)
        async with bodies.stored(request, who, session.limits.import_bytes, keep=True) as path:
            return Json(job_json(session.import_pictures(path, partial(bodies.remove, path))))


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
        return Json(await lanes.short.run(lambda: state_json(session, url)))

    @on.get("/live/job")
    async def job(request: Request) -> Response:
        try:
            return Json(job_json(session.job(_number(request, "number"))))
        except DataError as error:
            return refused(404, str(error))

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


def _shown_routes(on: _Routes, session: LiveSession, lanes: Lanes) -> None:
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
