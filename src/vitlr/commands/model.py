"""``vitlr teach``, ``predict``, ``classes``, ``forget`` and ``export``: a classifier kept in a directory."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlr.errors import RunError

if TYPE_CHECKING:
    from vitlr.classifier import LatentReplayClassifier
    from vitlr.data.video import Sampled, Video

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add all five."""
    teach_ = commands.add_parser(
        "teach",
        help="teach a classifier from images or videos",
        epilog="example: vitlr teach robot --label mug photos/mug",
        **common,
    )
    teach_.add_argument(
        "model", type=Path, help="directory of the classifier; a new one is made where there is none"
    )
    teach_.add_argument("--label", required=True, help="name of what the images show")
    teach_.add_argument("paths", nargs="+", type=Path, help="images, videos, or folders of them")
    teach_.add_argument("--backbone", default="bundled", help="network of a new classifier (default bundled)")
    teach_.add_argument("--image-size", type=int, help="of a new classifier")
    teach_.add_argument("--cut", type=int, help="of a new classifier")
    teach_.add_argument(
        "--memory", default="1500", help="of a new classifier: latents, or bytes such as 20MB (default 1500)"
    )
    teach_.set_defaults(run_command=teach)

    predict_ = commands.add_parser(
        "predict",
        help="labels of images and videos",
        epilog="example: vitlr predict robot photo.jpg --json",
        **common,
    )
    predict_.add_argument("model", type=Path)
    predict_.add_argument("paths", nargs="+", type=Path, help="images, videos, or folders of them")
    predict_.add_argument("--unknown", help="answer this where the score is below the classifier's threshold")
    predict_.set_defaults(run_command=predict)

    classes_ = commands.add_parser(
        "classes", help="what a classifier knows", epilog="example: vitlr classes robot", **common
    )
    classes_.add_argument("model", type=Path)
    classes_.set_defaults(run_command=classes)

    forget_ = commands.add_parser(
        "forget", help="remove a class and its latents", epilog="example: vitlr forget robot mug", **common
    )
    forget_.add_argument("model", type=Path)
    forget_.add_argument("label")
    forget_.set_defaults(run_command=forget)

    export_ = commands.add_parser(
        "export",
        help="write a directory that transformers opens, or an ONNX file",
        epilog="example: vitlr export robot robot.onnx --format onnx",
        **common,
    )
    export_.add_argument("model", type=Path)
    export_.add_argument("out", type=Path, help="new directory, or file for onnx")
    export_.add_argument("--format", default="hf", help="hf (default) or onnx")
    export_.set_defaults(run_command=export)
    for parser in (teach_, predict_):
        parser.add_argument(
            "--every", type=int, help="take every so many frames of a video (default: evenly)"
        )
        parser.add_argument("--max-frames", type=int, default=300, help="of a video (default 300)")
    for parser in (teach_, predict_, classes_, forget_, export_):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _open(path: Path):
    from vitlr import LatentReplayClassifier

    if not (path / "state.safetensors").is_file():
        raise RunError(f"{path} holds no classifier; make one with vitlr teach {path} --label NAME IMAGE")
    return LatentReplayClassifier.load(path)


def _sources(options: argparse.Namespace, on_read: Callable[[Sampled], None]) -> list[str | Video]:
    """What the paths stand for; ``on_read`` hears of every video once its frames are taken."""
    from vitlr.data.folders import image_files
    from vitlr.data.video import VIDEO_SUFFIXES, Video, is_video

    Video("", options.every, options.max_frames)  # its limits hold whether or not there is a video
    return [
        Video(path, options.every, options.max_frames, on_read) if is_video(path) else path
        for path in image_files(options.paths, also=VIDEO_SUFFIXES)
    ]


def teach(options: argparse.Namespace) -> int:
    from vitlr import LatentReplayClassifier

    videos: list[Sampled] = []
    sources = _sources(options, videos.append)
    if (options.model / "state.safetensors").is_file():
        model = LatentReplayClassifier.load(options.model)
    else:
        memory = int(options.memory) if options.memory.isdigit() else options.memory
        model = LatentReplayClassifier(
            options.backbone, image_size=options.image_size, cut=options.cut, memory=memory
        )
    model.partial_fit(sources, options.label)
    model.save(options.model)
    remembered = model.remember()
    images = len(sources) - len(videos) + sum(video.taken for video in videos)
    if options.json:
        content = {"label": options.label, "images": images, "classes": _counts(remembered)}
        print(json.dumps(content | {"videos": [video.as_dict() for video in videos]}))
    else:
        for video in videos:
            print(f"{video.path}: {video.counts}")
        print(f"{options.label}: {images} images learned; {len(remembered.latents)} classes known")
    return 0


def _counts(remembered) -> dict[str, int]:
    return {str(label): count for label, count in remembered.latents.items()}


def predict(options: argparse.Namespace) -> int:
    """A line for each image, and one for each video, from the mean of its frames."""
    videos: list[Sampled] = []
    sources = _sources(options, videos.append)
    model = _open(options.model)
    images = [source for source in sources if isinstance(source, str)]
    answers = iter(_image_answers(model, images, options.unknown) if images else ())
    lines: list[tuple[str, Any, float, Sampled | None]] = []
    for source in sources:
        if isinstance(source, str):
            lines.append((source, *next(answers), None))
        else:
            label, probability = _video_answer(model, source, options.unknown)
            lines.append((str(source.path), label, probability, videos[-1]))
    for path, label, probability, video in lines:
        if options.json:
            content = {"path": path, "label": label, "probability": round(probability, 6)}
            print(json.dumps(content | ({} if video is None else {"video": video.as_dict()})))
        else:
            note = "" if video is None else f"\t{video.counts}"
            print(f"{path}\t{label}\t{probability:.3f}{note}")
    return 0


def _image_answers(
    model: LatentReplayClassifier, images: list[str], unknown: str | None
) -> Iterator[tuple[Any, float]]:
    labels = model.predict(images, unknown=unknown).tolist()
    return zip(labels, model.predict_proba(images).max(axis=1).tolist(), strict=True)


def _video_answer(model: LatentReplayClassifier, video: Video, unknown: str | None) -> tuple[Any, float]:
    """Label of the largest mean probability, and that; ``unknown`` where the mean score is below the threshold."""
    proba_C = model.predict_proba(video).mean(axis=0)
    label = model.classes_.tolist()[int(proba_C.argmax())]
    if unknown is not None and model.scores(video).mean() < model.threshold:
        label = unknown
    return label, float(proba_C.max())


def classes(options: argparse.Namespace) -> int:
    remembered = _open(options.model).remember()
    if options.json:
        print(
            json.dumps(
                {"classes": _counts(remembered), "bytes": remembered.bytes, "capacity": remembered.capacity}
            )
        )
    else:
        for label, count in remembered.latents.items():
            print(f"{label}\t{count} latents")
    return 0


def forget(options: argparse.Namespace) -> int:
    model = _open(options.model)
    label = next((known for known in model.classes_.tolist() if str(known) == options.label), options.label)
    removed = model.forget(label)
    model.save(options.model)
    print(
        json.dumps({"label": options.label, "latents": removed})
        if options.json
        else f"{options.label}: {removed} latents removed"
    )
    return 0


def export(options: argparse.Namespace) -> int:
    _open(options.model).export(options.out, options.format)
    print(json.dumps({"out": str(options.out)}) if options.json else options.out)
    return 0
