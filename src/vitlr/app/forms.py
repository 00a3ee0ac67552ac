"""Answers, jobs and the state of the page as JSON; the front end reads these and nothing else."""

from __future__ import annotations

import base64
import zlib
from typing import Any
from urllib.parse import quote

from vitlr.app.answers import Answer
from vitlr.app.frames import jpeg
from vitlr.app.jobs import Job
from vitlr.app.session import LONGEST, LiveSession

__all__ = ["answer_json", "job_json", "state_json"]


def answer_json(answer: Answer) -> dict[str, Any]:
    drawn = answer.attention_HWC
    return {
        "label": answer.label,
        "known": round(answer.known, 4),
        "probabilities": [[name, round(share, 4)] for name, share in answer.probabilities],
        "attention": None
        if drawn is None
        else f"data:image/jpeg;base64,{base64.b64encode(jpeg(drawn)).decode()}",
    }


def job_json(job: Job) -> dict[str, Any]:
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


def state_json(session: LiveSession, url: str | None) -> dict[str, Any]:
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
        "jobs": [job_json(job) for job in session.jobs()],
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
