"""``vitlr classes``, ``forget`` and ``export``: a classifier kept in a directory."""

from __future__ import annotations

import argparse
import difflib
import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlr.commands import pictures
from vitlr.commands.console import notes, say
from vitlr.data.names import checked_name, counted, shown
from vitlr.errors import ConfigError, DataError, RunError
from vitlr.storage.locks import locked

if TYPE_CHECKING:
    from vitlr.classifier import LatentReplayClassifier
    from vitlr.classifier.labels import Label
    from vitlr.data.class_folders import ClassFolders

PATIENCE = 10.0  # seconds for another process that teaches the same classifier

__all__ = [
    "PATIENCE",
    "add_common_flags",
    "add_compute_flags",
    "add_new_flags",
    "add_parsers",
    "by_text",
    "check_place",
    "check_saved",
    "hold_new",
    "is_saved",
    "knowing",
    "label_known",
    "machine_notes",
    "new_or_saved",
    "opened",
]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add all three."""
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
    export_.add_argument(
        "--class-level",
        default="auto",
        help="of --test: which folders are classes, auto, top, leaf or a number",
    )
    pictures.add_bad_flag(export_)
    for parser in (classes_, forget_, export_):
        add_common_flags(parser)


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """What every command with a classifier takes."""
    add_compute_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="print only answers and what --json asks for")


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
    parser.add_argument("--memory", help="of a new classifier: latents, or bytes such as 20MB (default 5MB)")
    parser.add_argument(
        "--tokens",
        help="of a new classifier: patch tokens kept of an image, all or the side of a grid (default auto)",
    )
    parser.add_argument("--method", help="of a new classifier (default complementary)")


def new_or_saved(options: argparse.Namespace) -> LatentReplayClassifier:
    """The classifier in ``options.model``, or a new one with the settings given.

    Raises:
        ConfigError: a setting is given that the saved one does not have.
    """
    from vitlr import LatentReplayClassifier

    given = {
        name: getattr(options, name)
        for name in ("backbone", "image_size", "cut", "memory", "tokens", "method")
        if getattr(options, name) is not None
    }
    for name in ("memory", "tokens"):
        if str(given.get(name)).isdecimal():
            given[name] = int(given[name])
    if options.model is None or not is_saved(options.model):
        compute = {"device": options.device, "precision": options.precision}
        model = LatentReplayClassifier(**given, **{name: value for name, value in compute.items() if value})
        if not options.quiet:
            from vitlr.vit.source import ABOUT_BUNDLED, BUNDLED

            notes([ABOUT_BUNDLED] if str(model.backbone) in BUNDLED else [])
        return model
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


def check_saved(path: Path) -> None:
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

    check_saved(options.model)
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
            notes([f"vitlr: note: {warning.message}"])


def knowing(options: argparse.Namespace) -> LatentReplayClassifier:
    """As ``opened``, one that knows a class."""
    model, path = opened(options), options.model
    if not hasattr(model, "classes_"):
        raise RunError(f"{path} knows no class yet; teach it one with vitlr teach {path} --label NAME IMAGE")
    return model


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
    stack.enter_context(locked(directory, wait=PATIENCE, across_threads=True))
    if is_saved(directory):
        raise RunError(f"another process has made a classifier in {directory} meanwhile; try again")


def label_known(model: LatentReplayClassifier, text: str) -> Label:
    """The label that reads so, with its own type; the text if there is none."""
    from vitlr.classifier.labels import known_label

    return known_label(checked_name(text), model.classes_.tolist())


def by_text(by_label: dict[Label, int]) -> dict[str, int]:
    return {str(label): count for label, count in by_label.items()}


def classes(options: argparse.Namespace) -> int:
    summary = opened(options).remember()
    if options.json:
        content = {"classes": by_text(summary.images), "latents": by_text(summary.latents)}
        print(json.dumps(content | {"bytes": summary.bytes, "capacity": summary.capacity}))
        return 0
    for label, count in summary.images.items():
        latents = summary.latents[label]
        kept = f"\t{counted(latents, 'latent')}" if any(summary.latents.values()) else ""
        say(f"{label}\t{counted(count, 'image')}{kept}")
    return 0


def forget(options: argparse.Namespace) -> int:
    from vitlr.app.gallery import change_saved

    check_saved(options.model)  # locking would make the directory
    with locked(options.model, wait=PATIENCE):
        model = knowing(options)
        label = label_known(model, options.label)
        removed = model.forget(label)
        model.save(options.model)
        change_saved(options.model, lambda shown: shown.without(str(label)))
    if options.json:
        print(json.dumps({"label": options.label, "latents": removed, "remains": model.remains}))
    elif not options.quiet:
        remains = f"; what remains: {model.remains}" if model.remains else ""
        say(f"{options.label}: forgotten, {counted(removed, 'latent')} removed{remains}")
    return 0


def export(options: argparse.Namespace) -> int:
    suffix = options.out.suffix.lower()
    if suffix != ".onnx" and difflib.get_close_matches(suffix, [".onnx"], cutoff=0.75):
        raise ConfigError(f"{options.out} ends in {suffix}; did you mean {options.out.with_suffix('.onnx')}?")
    named = "onnx" if suffix == ".onnx" else "hf"
    kind = options.format or named
    if kind in ("hf", "onnx") and kind != named:
        other = f"{options.out}.onnx" if kind == "onnx" else options.out.with_suffix("")
        raise ConfigError(f"--format {kind} does not go with the name {options.out}; name it {other}")
    if options.test is not None and kind != "hf":
        raise ConfigError(f"--test is for the model card, which --format {kind} does not have; leave it out")
    folders = None
    if options.test is not None:
        from vitlr.data.class_folders import read_class_folders

        folders = read_class_folders(options.test, class_level=options.class_level)
        pictures.say((*folders.facts, *folders.notes), options)
    model = knowing(options)
    figures, content = ({}, {}) if folders is None else _measured(model, folders, options)
    model.export(options.out, kind, figures=figures)
    if options.json:
        print(json.dumps({"out": str(options.out)} | ({"figures": figures} | content if figures else {})))
    elif not options.quiet:
        say(options.out)
    return 0


def _measured(
    model: LatentReplayClassifier, folders: ClassFolders, options: argparse.Namespace
) -> tuple[dict[str, str], dict[str, Any]]:
    """Accuracy on class folders, for the card, and what was left out of it, for JSON.

    Images of classes that the classifier does not know are left out, and that is said.
    """
    images = (folders.test or folders.train).images
    known = model.classes_.tolist()
    label_of = {name: label_known(model, name) for name in images}
    others = [name for name in images if label_of[name] not in known]
    tested = {name: paths for name, paths in images.items() if name not in others}
    if not tested:
        raise DataError(
            f"{shown(options.test)} has no images of a class that is known; its classes are {', '.join(others[:5])}"
        )
    paths = [str(folders.base / path) for each in tested.values() for path in each]
    labels = [label_of[name] for name, each in tested.items() for _ in each]
    _, proba_NC, scores_N = model.answers(paths, on_bad_image=options.on_bad_image)
    read = [row for row, score in enumerate(scores_N.tolist()) if score == score]
    skipped = sorted(set(paths) - {paths[row] for row in read})
    if not read:
        raise DataError(f"no image in {shown(options.test)} could be read; give others")
    if skipped:
        pictures.say([pictures.skipped_sentence(skipped)], options)
    unknown = f" ({counted(len(others), 'class', 'classes')} it does not know left out)" if others else ""
    share = sum(known[int(proba_NC[row].argmax())] == labels[row] for row in read) / len(read)
    what = f"{counted(len(read), 'image')} of {counted(len(tested), 'class', 'classes')}"
    name = f"accuracy on the {what} in {options.test.absolute().name}{unknown}"
    return {name: f"{share:.1%}"}, {
        "skipped": skipped,
        "classes_left_out": others,
        "left_out": folders.left_out.as_dict(),
    }
