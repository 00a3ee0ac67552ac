"""``vitlr teach``, ``predict``, ``classes``, ``forget`` and ``export``: a classifier kept in a directory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vitlr.errors import RunError

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add all five."""
    teach_ = commands.add_parser(
        "teach",
        help="teach a classifier from images",
        epilog="example: vitlr teach robot --label mug photos/mug",
        **common,
    )
    teach_.add_argument(
        "model", type=Path, help="directory of the classifier; a new one is made where there is none"
    )
    teach_.add_argument("--label", required=True, help="name of what the images show")
    teach_.add_argument("paths", nargs="+", type=Path, help="images, or folders of images")
    teach_.add_argument("--backbone", default="bundled", help="network of a new classifier (default bundled)")
    teach_.add_argument("--image-size", type=int, help="of a new classifier")
    teach_.add_argument("--cut", type=int, help="of a new classifier")
    teach_.add_argument(
        "--memory", default="1500", help="of a new classifier: latents, or bytes such as 20MB (default 1500)"
    )
    teach_.set_defaults(run_command=teach)

    predict_ = commands.add_parser(
        "predict", help="labels of images", epilog="example: vitlr predict robot photo.jpg --json", **common
    )
    predict_.add_argument("model", type=Path)
    predict_.add_argument("paths", nargs="+", type=Path, help="images, or folders of images")
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
    for parser in (teach_, predict_, classes_, forget_, export_):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _open(path: Path):
    from vitlr import LatentReplayClassifier

    if not (path / "state.safetensors").is_file():
        raise RunError(f"{path} holds no classifier; make one with vitlr teach {path} --label NAME IMAGE")
    return LatentReplayClassifier.load(path)


def teach(options: argparse.Namespace) -> int:
    from vitlr import LatentReplayClassifier
    from vitlr.data.folders import image_files

    images = image_files(options.paths)
    if (options.model / "state.safetensors").is_file():
        model = LatentReplayClassifier.load(options.model)
    else:
        memory = int(options.memory) if options.memory.isdigit() else options.memory
        model = LatentReplayClassifier(
            options.backbone, image_size=options.image_size, cut=options.cut, memory=memory
        )
    model.partial_fit(images, options.label)
    model.save(options.model)
    remembered = model.remember()
    if options.json:
        print(json.dumps({"label": options.label, "images": len(images), "classes": _counts(remembered)}))
    else:
        print(f"{options.label}: {len(images)} images learned; {len(remembered.latents)} classes known")
    return 0


def _counts(remembered) -> dict[str, int]:
    return {str(label): count for label, count in remembered.latents.items()}


def predict(options: argparse.Namespace) -> int:
    from vitlr.data.folders import image_files

    model = _open(options.model)
    images = image_files(options.paths)
    labels = model.predict(images, unknown=options.unknown)
    probabilities = model.predict_proba(images).max(axis=1)
    for path, label, probability in zip(images, labels.tolist(), probabilities.tolist(), strict=True):
        if options.json:
            print(json.dumps({"path": path, "label": label, "probability": round(probability, 6)}))
        else:
            print(f"{path}\t{label}\t{probability:.3f}")
    return 0


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
