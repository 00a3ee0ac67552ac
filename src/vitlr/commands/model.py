"""``vitlr teach``, ``predict``, ``classes``, ``forget`` and ``export``: a classifier kept in a directory."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlr.errors import ConfigError, RunError
from vitlr.storage.locks import locked

if TYPE_CHECKING:
    import numpy as np

    from vitlr.classifier import LatentReplayClassifier
    from vitlr.classifier.labels import Label
    from vitlr.data.video import Sampled, Video

_PATIENCE = 10.0  # seconds for another process that teaches the same classifier

__all__ = [
    "add_compute_flags",
    "add_new_flags",
    "add_parsers",
    "check_place",
    "hold_new",
    "is_saved",
    "machine_notes",
    "new_or_saved",
    "opened",
]


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
    add_new_flags(teach_)
    teach_.set_defaults(run_command=teach)

    predict_ = commands.add_parser(
        "predict",
        help="labels of images and videos",
        epilog="example: vitlr predict robot photo.jpg --json",
        **common,
    )
    predict_.add_argument("model", type=Path, help="directory of the classifier")
    predict_.add_argument("paths", nargs="+", type=Path, help="images, videos, or folders of them")
    predict_.add_argument("--unknown", help="answer this where the score is below the classifier's threshold")
    predict_.add_argument("--threshold", type=float, help="of scores, -1 to 1, in place of the classifier's")
    predict_.set_defaults(run_command=predict)

    classes_ = commands.add_parser(
        "classes", help="what a classifier knows", epilog="example: vitlr classes robot", **common
    )
    classes_.add_argument("model", type=Path, help="directory of the classifier")
    classes_.set_defaults(run_command=classes)

    forget_ = commands.add_parser(
        "forget", help="remove a class and its latents", epilog="example: vitlr forget robot mug", **common
    )
    forget_.add_argument("model", type=Path, help="directory of the classifier")
    forget_.add_argument("label", help="as vitlr classes prints it")
    forget_.set_defaults(run_command=forget)

    export_ = commands.add_parser(
        "export",
        help="write a directory that transformers opens, or an ONNX file",
        epilog="example: vitlr export robot robot.onnx --format onnx",
        **common,
    )
    export_.add_argument("model", type=Path, help="directory of the classifier")
    export_.add_argument(
        "out", type=Path, help="directory, or a file FILE.onnx; what was exported there before is replaced"
    )
    export_.add_argument("--format", help="hf or onnx (default: as the name of OUT says)")
    export_.add_argument(
        "--test", type=Path, help="folder of class folders; the accuracy on it goes into hf's model card"
    )
    export_.set_defaults(run_command=export)
    for parser in (teach_, predict_):
        parser.add_argument(
            "--every", type=int, help="take every so many frames of a video (default: evenly)"
        )
        parser.add_argument("--max-frames", type=int, default=300, help="of a video (default 300)")
    for parser in (teach_, predict_, classes_, forget_, export_):
        add_compute_flags(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--quiet", action="store_true", help="print only answers and what --json asks for"
        )


def add_compute_flags(parser: argparse.ArgumentParser) -> None:
    """In which a classifier computes on this machine; ``opened`` reads them."""
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:NUMBER or auto (default: as it was made, if it can be)"
    )
    parser.add_argument(
        "--precision",
        help="of the frozen blocks: float32, bfloat16 or int8 (default: as it was made, if it can be)",
    )


def add_new_flags(parser: argparse.ArgumentParser) -> None:
    """Settings of a classifier that is made; ``new_or_saved`` reads them."""
    parser.add_argument("--backbone", help="network of a new classifier (default bundled)")
    parser.add_argument("--image-size", type=int, help="of a new classifier; the network's own by default")
    parser.add_argument(
        "--cut", type=int, help="of a new classifier: blocks that stay frozen; all but the last"
    )
    parser.add_argument("--memory", help="of a new classifier: latents, or bytes such as 20MB (default 1500)")
    parser.add_argument("--method", help="of a new classifier (default latent_replay)")


def new_or_saved(options: argparse.Namespace) -> LatentReplayClassifier:
    """The classifier in ``options.model``, or a new one with the settings given.

    Raises:
        ConfigError: a setting is given that the saved one does not have.
    """
    from vitlr import LatentReplayClassifier

    given = {
        name: getattr(options, name)
        for name in ("backbone", "image_size", "cut", "memory", "method")
        if getattr(options, name) is not None
    }
    if options.memory is not None and options.memory.isdigit():
        given["memory"] = int(options.memory)
    if options.model is None or not is_saved(options.model):
        compute = {"device": options.device, "precision": options.precision}
        return LatentReplayClassifier(**given, **{name: value for name, value in compute.items() if value})
    model = opened(options)
    for name, value in given.items():
        if (has := model.get_params()[name]) != value:
            flag = name.replace("_", "-")
            made = f"without --{flag}" if has is None else f"with --{flag} {has}"
            raise ConfigError(
                f"{options.model} is a classifier already, made {made}: leave out --{flag} {value},"
                " or name a new directory"
            )
    return model


def is_saved(directory: Path) -> bool:
    """Whether a classifier is saved there."""
    return (directory / "state.safetensors").is_file()


def checked_name(text: str) -> str:
    """A label as lines of text can hold it; ConfigError for an empty one or one with line breaks and the like."""
    if not text.strip() or not text.isprintable():
        raise ConfigError(f"a label needs at least one character and no line breaks or tabs, got {text!r}")
    return text


def _check_saved(path: Path) -> None:
    if not is_saved(path):
        if (path / "config.json").is_file() or (path / "config.yaml").is_file():
            raise RunError(
                f"{path} holds a run or an exported model, which transformers opens, and no classifier that can be"
                " taught; make one with vitlr teach NEW --label NAME IMAGE"
            )
        raise RunError(f"{path} holds no classifier; make one with vitlr teach {path} --label NAME IMAGE")


def opened(options: argparse.Namespace) -> LatentReplayClassifier:
    """The classifier in ``options.model``, computing as the flags say."""
    from vitlr.classifier import LatentReplayClassifier

    _check_saved(options.model)
    with machine_notes(quiet=options.quiet):
        return LatentReplayClassifier.load(options.model, device=options.device, precision=options.precision)


@contextmanager
def machine_notes(*, quiet: bool) -> Iterator[None]:
    """One line on stderr for each classifier opened inside that computes otherwise here than where it was taught."""
    from vitlr.classifier import MachineWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MachineWarning)
        yield
    for warning in caught:
        if not issubclass(warning.category, MachineWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif not quiet:
            print(f"vitlr: note: {warning.message}", file=sys.stderr)


def _knowing(options: argparse.Namespace) -> LatentReplayClassifier:
    """As ``opened``, one that knows a class."""
    model, path = opened(options), options.model
    if not hasattr(model, "classes_"):
        raise RunError(f"{path} knows no class yet; teach it one with vitlr teach {path} --label NAME IMAGE")
    return model


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
    label = checked_name(options.label)
    videos: list[Sampled] = []
    sources = _sources(options, videos.append)
    check_place(options.model)
    with ExitStack() as stack:
        new = not is_saved(options.model)
        if not new:
            stack.enter_context(locked(options.model, wait=_PATIENCE))
        model = new_or_saved(options)
        model.partial_fit(sources, _as_known(model, label))
        if new:  # its directory is made only now that there is something to put into it
            hold_new(stack, options.model)
        model.save(options.model)
    remembered = model.remember()
    images = len(sources) - len(videos) + sum(video.taken for video in videos)
    if options.json:
        content = {"label": label, "images": images, "classes": _counts(remembered.images)}
        print(json.dumps(content | {"videos": [video.as_dict() for video in videos]}))
    elif not options.quiet:
        for video in videos:
            print(f"{video.path}: {video.counts}")
        known = len(remembered.latents)
        print(f"{label}: {_some(images, 'image')} learned; {_some(known, 'class', 'classes')} known")
    return 0


def check_place(directory: Path) -> None:
    """RunError where a new classifier would lie among other things."""
    if not directory.is_dir() or is_saved(directory):
        return
    others = [path.name for path in directory.iterdir() if not path.name.startswith((".", "backbone-"))]
    if others:
        raise RunError(
            f"{directory} holds other things ({others[0]}) and no classifier; name a new or empty directory"
        )


def hold_new(stack: ExitStack, directory: Path) -> None:
    """Hold the directory of a new classifier; RunError if another process made one there meanwhile."""
    stack.enter_context(locked(directory, wait=_PATIENCE, across_threads=True))
    if is_saved(directory):
        raise RunError(f"another process has made a classifier in {directory} meanwhile; try again")


def _some(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _as_known(model: LatentReplayClassifier, text: str) -> Label:
    """The label that reads so, with its own type; the text where there is none."""
    known: list[Label] = model.classes_.tolist() if hasattr(model, "classes_") else []
    return next((label for label in known if str(label) == text), text)


def _counts(by_label: dict[Label, int]) -> dict[str, int]:
    return {str(label): count for label, count in by_label.items()}


def predict(options: argparse.Namespace) -> int:
    """A line for each image, and one for each video, from the mean of its frames."""
    videos: list[Sampled] = []
    sources = _sources(options, videos.append)
    if options.threshold is not None and options.unknown is None:
        raise ConfigError("--threshold tells what --unknown is the answer to; give --unknown LABEL with it")
    from vitlr.classifier.classifier import check_threshold

    model = _knowing(options)
    threshold = model.threshold if options.threshold is None else check_threshold(options.threshold)
    images = [source for source in sources if isinstance(source, str)]
    known: tuple[Label, ...] = ()
    answered: Iterator[tuple[np.ndarray, float]] = iter(())
    if images:
        known, proba_NC, scores_N = model.answers(images)
        answered = zip(proba_NC, scores_N.tolist(), strict=True)
    lines: list[tuple[str, Any, float, float, Sampled | None]] = []
    for source in sources:
        if isinstance(source, str):
            (proba_C, score), video, path = next(answered), None, source
        else:
            known, proba_NC, scores_N = model.answers(source)
            proba_C, score = proba_NC.mean(axis=0), float(scores_N.mean())
            video, path = videos[-1], str(source.path)
        label: Any = known[int(proba_C.argmax())]
        if options.unknown is not None and score < threshold:
            label = options.unknown
        lines.append((path, label, float(proba_C.max()), score, video))
    for path, label, probability, score, video in lines:
        if options.json:
            content = {"path": path, "label": label, "probability": round(probability, 6)}
            content |= {"score": round(score, 6)} | ({} if video is None else {"video": video.as_dict()})
            print(json.dumps(content))
        else:
            note = "" if video is None else f"\t{video.counts}"
            print(f"{path}\t{label}\t{probability:.3f}{note}")
    return 0


def classes(options: argparse.Namespace) -> int:
    summary = opened(options).remember()
    if options.json:
        content = {"classes": _counts(summary.images), "latents": _counts(summary.latents)}
        print(json.dumps(content | {"bytes": summary.bytes, "capacity": summary.capacity}))
        return 0
    for label, count in summary.images.items():
        latents = summary.latents[label]
        kept = f"\t{_some(latents, 'latent')}" if any(summary.latents.values()) else ""
        print(f"{label}\t{_some(count, 'image')}{kept}")
    return 0


def forget(options: argparse.Namespace) -> int:
    _check_saved(options.model)  # locking would make the directory
    with locked(options.model, wait=_PATIENCE):
        model = _knowing(options)
        removed = model.forget(_as_known(model, options.label))
        model.save(options.model)
    if options.json:
        print(json.dumps({"label": options.label, "latents": removed, "remains": model.remains}))
    elif not options.quiet:
        remains = f"; what remains: {model.remains}" if model.remains else ""
        print(f"{options.label}: forgotten, {_some(removed, 'latent')} removed{remains}")
    return 0


def export(options: argparse.Namespace) -> int:
    named = "onnx" if options.out.suffix == ".onnx" else "hf"
    kind = options.format or named
    if kind in ("hf", "onnx") and kind != named:
        other = f"{options.out}.onnx" if kind == "onnx" else options.out.with_suffix("")
        raise ConfigError(f"--format {kind} does not go with the name {options.out}; name it {other}")
    if options.test is not None and kind != "hf":
        raise ConfigError(f"--test is for the model card, which --format {kind} does not have; leave it out")
    model = _knowing(options)
    figures = {} if options.test is None else _measured(model, options.test)
    model.export(options.out, kind, figures=figures)
    if options.json:
        print(json.dumps({"out": str(options.out)} | ({"figures": figures} if figures else {})))
    elif not options.quiet:
        print(options.out)
    return 0


def _measured(model: LatentReplayClassifier, root: Path) -> dict[str, str]:
    """Accuracy on a folder of class folders, for the card; a class that it does not know counts as wrong."""
    from vitlr.data.folders import class_images

    images = class_images(root)
    paths = [path for each in images.values() for path in each]
    labels = [_as_known(model, name) for name, each in images.items() for _ in each]
    share = model.score(paths, labels)
    what = f"{_some(len(paths), 'image')} of {_some(len(images), 'class', 'classes')}"
    return {f"accuracy on the {what} in {root.absolute().name}": f"{share:.1%}"}
