"""The page's server: frames and answers over HTTP, and Gradio for the rest.

A page of another site cannot use it: hosts are checked (DNS rebinding), requests need a header that browsers
send across sites only after a preflight request, which is never granted, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import uvicorn
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitlr.app.page import build_page, page_options, static
from vitlr.app.session import Answer, BusyError, Job, LiveSession
from vitlr.errors import DataError, RunError, VitLRError

__all__ = ["LOOPBACK", "listen", "make_app", "serve_forever"]

import gradio as gr

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BODY_SECONDS = 20.0  # in which a request must have arrived
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; frame-ancestors 'self'; base-uri 'self'"
)


def make_app(session: LiveSession, *, host: str = "127.0.0.1") -> FastAPI:
    """The application; ``host`` is the address that it will listen on."""
    app = FastAPI(title="ViT-LR live", docs_url=None, redoc_url=None, openapi_url=None)
    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "::1"])

    app.add_middleware(_Guard)

    @app.get("/live/live.js")
    def script() -> Response:
        return Response(
            static("live.js"), media_type="text/javascript", headers={"Cache-Control": "no-cache"}
        )

    @app.post("/live/answer")
    async def answer(request: Request, attention: int = 0) -> Response:
        return await _told(
            request, session, lambda body: _answer_json(session.answer(body, attention=bool(attention)))
        )

    @app.post("/live/frame")
    async def frame(request: Request, visitor: str = "") -> Response:
        return await _told(request, session, lambda body: {"taken": session.take(_checked(visitor), body)})

    @app.post("/live/release")
    async def release(request: Request, visitor: str = "") -> Response:
        return await _told(
            request, session, lambda body: _job_json(session.release(_checked(visitor), _label(body)))
        )

    @app.post("/live/drop")
    async def drop(request: Request, visitor: str = "") -> Response:
        def act(body: bytes) -> dict[str, Any]:
            session.drop(_checked(visitor))
            return {}

        return await _told(request, session, act)

    @app.get("/live/job")
    def job(number: int = 0) -> Response:
        try:
            return JSONResponse(_job_json(session.job(number)))
        except VitLRError as error:
            return _refused(404, str(error))

    @app.get("/live/classes")
    def classes() -> Response:
        return JSONResponse(
            {"classes": [{"label": name, "images": count} for name, count, _ in session.classes()]}
        )

    page = build_page(session)
    return gr.mount_gradio_app(
        app, page, path="/", show_error=False, max_file_size=session.limits.upload_bytes, ssr_mode=False,
        **page_options(),
    )  # fmt: skip


class _Guard:
    """Refuses posts that this page did not send, and sets the headers that restrict what a page may load.

    Plain ASGI: Starlette's ``BaseHTTPMiddleware`` puts a queue between Gradio's event streams and the browser.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        posted = scope["method"] == "POST" and scope["path"].startswith("/live/")
        if posted and "x-vitlr" not in Headers(scope=scope):
            refused = _refused(403, "this request does not come from the page")
            await refused(scope, receive, with_policy)
        else:
            await self._app(scope, receive, with_policy)


async def _told(request: Request, session: LiveSession, act: Callable[[bytes], dict[str, Any]]) -> Response:
    """Run ``act`` on the request's body in a thread; if it refuses, answer with its sentence."""
    try:
        body = await asyncio.wait_for(_body(request, session.limits.frame_bytes), _BODY_SECONDS)
        return JSONResponse(await to_thread.run_sync(partial(act, body)))
    except BusyError as error:
        return _refused(503, str(error))
    except VitLRError as error:
        return _refused(413 if "at most" in str(error) and "MB" in str(error) else 400, str(error))
    except TimeoutError:
        return _refused(408, "the request did not arrive in time")


async def _body(request: Request, limit: int) -> bytes:
    size = f"the picture is larger than {limit / 1e6:.1f} MB; send one of at most that size"
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise DataError(size)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise DataError(size)
    return bytes(body)


def _refused(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=status)


def _checked(visitor: str) -> str:
    if not 8 <= len(visitor) <= 64 or not all(sign.isalnum() or sign == "-" for sign in visitor):
        raise DataError("the page's visitor number is missing; reload the page")
    return visitor


def _label(body: bytes) -> Any:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("label"), str):
        raise DataError("give the object a name first")
    return content["label"]


def _answer_json(answer: Answer) -> dict[str, Any]:
    map_hw = answer.attention_hw
    return {
        "label": answer.label,
        "score": round(answer.score, 4),
        "probabilities": [[name, round(share, 4)] for name, share in answer.probabilities],
        "attention": None if map_hw is None else np.round(map_hw.astype(float), 3).tolist(),
    }


def _job_json(job: Job) -> dict[str, Any]:
    return {
        "number": job.number,
        "label": job.label,
        "frames": job.frames,
        "state": job.state,
        "seconds": round(job.seconds, 3),
        "message": job.message,
    }


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; ``port`` 0 takes a free one.

    Raises:
        RunError: the address or port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"{host}:{port} is not available ({reason}); choose another --port or --host"
        ) from error
    return bound


def serve_forever(session: LiveSession, bound: socket.socket, *, host: str) -> None:
    """Answer until interrupted, then finish the current experience."""
    settings = uvicorn.Config(
        make_app(session, host=host),
        log_level="error",
        timeout_keep_alive=5,
        limit_concurrency=256,
        ws="none",
    )
    try:
        uvicorn.Server(settings).run(sockets=[bound])
    finally:
        session.close()
