"""``vitlr predict``: labels of images and videos, by a classifier, a run's model or an exported one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitlr.commands import pictures
from vitlr.commands.console import say
from vitlr.commands.model import add_common_flags, is_saved, knowing
from vitlr.data.names import counted, shown
from vitlr.errors import ConfigError

if TYPE_CHECKING:
    from vitlr.classifier import LatentReplayClassifier
    from vitlr.classifier.exported import Exported
    from vitlr.classifier.labels import Label
    from vitlr.data.video import Sampled

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``predict``."""
    parser = commands.add_parser(
        "predict",
        help="labels of images and videos",
        epilog="example: vitlr predict robot photo.jpg --json",
        **common,
    )
    parser.add_argument("model", type=Path, help="directory of the classifier, a run or an exported model")
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        help="images, videos, or folders of them; - reads names from standard input",
    )
    parser.add_argument("--unknown", help="answer this where the score is below the classifier's threshold")
    parser.add_argument("--threshold", type=float, help="of scores, -1 to 1, in place of the classifier's")
    parser.add_argument(
        "--sequence",
        action="store_true",
        help="all images given show one object: one answer for them together, as for a video",
    )
    parser.set_defaults(run_command=predict)
    pictures.add_video_flags(parser)
    pictures.add_bad_flag(parser)
    add_common_flags(parser)


def predict(options: argparse.Namespace) -> int:
    """A line for each image, and one for each video, whose frames are joined; one for all with ``--sequence``."""
    if options.threshold is not None and options.unknown is None:
        raise ConfigError("--threshold tells what --unknown is the answer to; give --unknown LABEL with it")
    found = pictures.found_pictures(pictures.from_stdin(options.paths), options, videos=True)
    videos: list[Sampled] = []
    sources = pictures.sources(found.files, options, videos.append)
    from vitlr.classifier.classifier import check_threshold

    model = _answering(options)
    threshold = model.threshold_ if options.threshold is None else check_threshold(options.threshold)
    lines = _answers(model, sources, videos, options.on_bad_image)
    read = [line for line in lines if line.score == line.score]  # NaN: it could not be read
    skipped = [line.path for line in lines if line.score != line.score]
    for line in _together(read, options) if options.sequence else read:
        label, probability = line.best
        label = options.unknown if options.unknown is not None and line.score < threshold else label
        if options.json:
            content = {"path": line.path, "label": label, "probability": round(probability, 6)}
            content |= {"score": round(line.score, 6)} | line.about
            print(json.dumps(content))
        else:
            say(f"{shown(line.path)}\t{label}\t{probability:.3f}{line.note}")
    if skipped:
        pictures.say([pictures.skipped_sentence(skipped)], options)
    if options.json and (skipped or found.left_out):
        print(json.dumps({"skipped": skipped, "found": found.as_dict()}))
    return 0


def _answering(options: argparse.Namespace) -> LatentReplayClassifier | Exported:
    """A classifier that knows a class, or the model of a run or an export."""
    from vitlr.classifier.exported import Exported, exported_in

    if is_saved(options.model):
        return knowing(options)
    model = exported_in(options.model)
    if model is None and (options.model / "config.yaml").is_file():
        from vitlr.runs.train import model_of

        model = model_of(options.model)
    if model is None:
        return knowing(options)  # which says what is there instead
    return Exported(model, options.device, options.precision)


class _Line(NamedTuple):
    """An answer to be printed: labels and probabilities (C,), the score, a note, and what JSON says besides."""

    path: str
    known: tuple[Any, ...]
    proba_NC: np.ndarray
    score: float
    note: str = ""
    about: dict[str, Any] = {}  # noqa: RUF012 - never changed

    @property
    def best(self) -> tuple[Any, float]:
        """The answer for all frames together, and its probability."""
        from vitlr.learning.sequence import together

        proba_C = together(self.proba_NC)
        return self.known[int(proba_C.argmax())], float(proba_C.max())


def _together(lines: list[_Line], options: argparse.Namespace) -> list[_Line]:
    """One line for the pictures and videos of all lines."""
    if not lines:
        return []
    proba_NC = np.concatenate([line.proba_NC for line in lines])
    weights = [len(line.proba_NC) for line in lines]
    score = float(np.average([line.score for line in lines], weights=weights))
    files = [line.path for line in lines]
    path = str(options.paths[0]) if len(options.paths) == 1 else files[0]
    note = f"\t{counted(len(proba_NC), 'frame')} of {counted(len(files), 'file')}"
    return [_Line(path, lines[0].known, proba_NC, score, note, {"frames": len(proba_NC), "files": files})]


def _answers(
    model: LatentReplayClassifier | Exported, sources: list[Any], videos: list[Sampled], on_bad: str
) -> list[_Line]:
    """In the order of the sources, all of them before the first is printed."""
    images = [source for source in sources if isinstance(source, str)]
    known: tuple[Label, ...] = ()
    answered: Iterator[tuple[np.ndarray, float]] = iter(())
    if images:
        known, proba_NC, scores_N = model.answers(images, on_bad_image=on_bad)
        answered = zip(proba_NC, scores_N.tolist(), strict=True)
    lines: list[_Line] = []
    for source in sources:
        if isinstance(source, str):
            proba_C, score = next(answered)
            lines.append(_Line(source, known, proba_C[None], score))
            continue
        known, proba_NC, scores_N = model.answers(source, on_bad_image=on_bad)
        line = _Line(str(source.path), known, proba_NC, float(scores_N.mean()))
        if line.score == line.score:
            line = line._replace(note=f"\t{videos[-1].counts}", about={"video": videos[-1].as_dict()})
        lines.append(line)
    return lines
