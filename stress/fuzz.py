"""Damaged and hostile input, a hundred thousand times: each must be refused with a sentence, or answered.

    python stress/fuzz.py --json fuzz.json                    # 110,000 inputs
    python stress/fuzz.py --inputs 2000 --only images         # a few of one kind

Real files of every kind that is read are damaged (bits, lengths, cuts, splices; JSON values, PNG chunks with right
checksums, YAML words) and read by the function that the command line or the live page calls. An input is a fault
if it raises anything but the package's own errors, if reading takes more than ``--seconds`` of processor time
(or six times as much real time, on a machine that others use too), or if the process grows beyond ``--memory``.
Every input is determined by ``--seed`` and its number, which a fault names.

The latent cache must raise no error at all: after damage it must return the same latents as without a cache, or
none.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from faults import single_threaded
from mutate import damage, damage_json, damage_png, damage_text, dumps
from PIL import Image
from tiny import picture, save_core50, save_network

Run = Callable[[np.random.Generator], None]
SHARES = {  # of the inputs
    "images": 0.42,
    "animations": 0.05,
    "frames of the live page": 0.05,
    "configurations": 0.06,
    "params.cfg": 0.09,
    "recipes": 0.05,
    "published lists": 0.02,
    "checkpoints": 0.07,
    "classifiers": 0.05,
    "networks": 0.03,
    "records and reports": 0.03,
    "latent caches": 0.05,
    "archives": 0.05,
    "what is no file": 0.02,
    "aliases": 0.03,
    "giants": 0.002,
    "long animations": 0.01,
    "lists": 0.05,
    "data sets of Hugging Face": 0.05,
}
BOUND = 1.0e9  # bytes a process may grow to, PyTorch and everything else included


class TooLongError(Exception):
    """An input took too long."""


# -- damage -----------------------------------------------------------------------------------------------


def image_files() -> dict[str, bytes]:
    """Small images of every mode and format that is read."""
    colour = Image.fromarray(picture(1, 1))
    grey16 = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (colour, {}),
        "rgba.png": (colour.convert("RGBA"), {}),
        "palette.png": (colour.convert("P"), {"transparency": 3}),
        "grey16.png": (grey16, {}),
        "bit.png": (colour.convert("1"), {}),
        "animated.png": (colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        "plain.jpg": (colour, {"exif": exif}),
        "progressive.jpg": (colour, {"progressive": True, "quality": 30}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "grey.jpg": (colour.convert("L"), {}),
        "plain.bmp": (colour, {}),
        "animated.gif": (colour, {"save_all": True, "append_images": [colour.rotate(90)], "duration": 50}),
        "lossy.webp": (colour, {"exif": exif}),
        "lossless.webp": (colour, {"lossless": True}),
        "plain.tiff": (colour, {}),
        "lzw.tiff": (colour, {"compression": "tiff_lzw"}),
        "plain.ppm": (colour, {}),
    }
    files = {}
    for name, (image, options) in ways.items():
        buffer = io.BytesIO()
        kind = name.rpartition(".")[2]
        image.save(buffer, {"jpg": "JPEG"}.get(kind, kind.upper()), **options)
        files[name] = buffer.getvalue()
    return files


def damaged_image(files: dict[str, bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    name = sorted(files)[int(rng.integers(len(files)))]
    if name.endswith(".png") and rng.random() < 0.5:
        return name, damage_png(files[name], rng)
    return name, damage(files[name], rng, list(files.values()))


def damage_safetensors(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage the header half of the time, with its length corrected, so that its reader is reached."""
    if rng.random() < 0.5:
        return damage(content, rng)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if rng.random() < 0.4 and "state" in header.get("__metadata__", {}):
        state = json.loads(header["__metadata__"]["state"])
        header["__metadata__"]["state"] = dumps(damage_json(state, rng)).decode()
    else:
        header = damage_json(header, rng)
    text = dumps(header)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def damaged_state(
    tensors: dict[str, Any], plain: dict[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of a saved state, with a tensor missing or of another shape, and changed plain data."""
    import torch

    chosen = dict(tensors)
    if rng.random() < 0.5:
        name = sorted(chosen)[int(rng.integers(len(chosen)))]
        what = rng.random()
        if what < 0.3:
            del chosen[name]
        elif what < 0.6:
            chosen[name] = torch.zeros(int(rng.integers(5)), int(rng.integers(4)))
        else:
            chosen[name] = chosen[name].flatten()[: int(rng.integers(chosen[name].numel() + 1))].clone()
    return chosen, json.loads(dumps(damage_json(plain, rng)))


# -- readers ----------------------------------------------------------------------------------------------


def images(place: Path) -> Run:
    from vitlr.data.images import read_image

    files = image_files()

    def run(rng: np.random.Generator) -> None:
        name, content = damaged_image(files, rng)
        path = place / name
        path.write_bytes(content)
        found = read_image(path, 32 if rng.random() < 0.5 else None)
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3

    return run


def animations(place: Path) -> Run:
    from vitlr.data.video import Video, read_video

    files = {name: content for name, content in image_files().items() if name.startswith("animated")}

    def run(rng: np.random.Generator) -> None:
        name = sorted(files)[int(rng.integers(len(files)))]
        path = place / name
        path.write_bytes(damage(files[name], rng, list(files.values())))
        frames = read_video(Video(path, max_frames=8), 32)
        assert 1 <= len(frames) <= 8

    return run


def frames_of_the_live_page(place: Path) -> Run:
    from vitlr import LatentReplayClassifier
    from vitlr.app.session import LiveSession

    model = LatentReplayClassifier(str(save_network(place / "network")), memory=8, epochs=1, random_state=0)
    model.partial_fit(np.stack([picture(1, 1), picture(2, 1)]), ["one", "two"])
    session, files = LiveSession(model), image_files()

    def run(rng: np.random.Generator) -> None:
        answer = session.answer(damaged_image(files, rng)[1])
        assert answer.label in ("one", "two", "unknown")

    return run


def configurations(place: Path) -> Run:
    from vitlr.runs.settings import RunConfig, parse, to_yaml

    good, path = to_yaml(RunConfig()), place / "config.yaml"

    def run(rng: np.random.Generator) -> None:
        path.write_bytes(damage_text(good, rng))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            parse(["--config", str(path)])

    return run


def params_cfg(place: Path) -> Run:
    from vitlr.runs.params_cfg import read_params_cfg

    text = (
        "[DEFAULT]\nexp_name = 'x'\nmodel_name = 'ViT-B_32'\nscenario = \"core50\"\nrm_sz = 1500\nmb_size = 128\n"
        "init_lr = 0.001\ninc_lr = 5e-05\ninit_train_ep = 4\ninc_train_ep = 4\nmomentum = 0.9\nl2 = 0.0005\n"
        'freeze_below_layer = "lat_features.12.norm2.bias"\nlatent_layer_num = 11\nreg_lambda = 0\n'
    )

    def run(rng: np.random.Generator) -> None:
        path = place / "params.cfg"
        path.write_bytes(damage_text(text, rng))
        read_params_cfg(path)

    return run


def recipes(place: Path) -> Run:
    from vitlr.runs.plan import read_plan

    folder = Path(__file__).resolve().parent.parent / "recipes"
    texts = ["\n".join(path.read_text().split("\n")[:24]) for path in sorted(folder.glob("results-*.yaml"))]

    def run(rng: np.random.Generator) -> None:
        path = place / "recipe.yaml"
        path.write_bytes(damage_text(texts[int(rng.integers(len(texts)))], rng))
        plan = read_plan(path)
        for variant in plan.variants:
            for config in plan.configs(variant, place / "out"):
                assert (place / "out") in config.run_dir.parents

    return run


def published_lists(place: Path) -> Run:
    """The protocol file of the package: only its exact bytes are accepted."""
    from vitlr.data import core50

    name = "core50_protocols.json"
    good = Path(core50.__file__).with_name(name).read_bytes()
    core50.resources = SimpleNamespace(files=lambda package: place)  # type: ignore[assignment]

    def run(rng: np.random.Generator) -> None:
        content = damage(good, rng)
        (place / name).write_bytes(content)
        core50.protocols.__wrapped__()
        assert content == good, "damaged lists were read"

    return run


def _learned(place: Path, **settings: Any) -> tuple[Path, Any]:
    from vitlr import LatentReplayClassifier

    network = str(save_network(place / "network"))
    model = LatentReplayClassifier(network, memory=8, epochs=1, random_state=0, **settings)
    model.partial_fit(np.stack([picture(1, 1), picture(2, 1)]), ["one", "two"])
    model.save(place / "saved")
    return place / "saved", model


def _damaged_tree(good: Path, target: Path, rng: np.random.Generator) -> None:
    """A copy in which one file is damaged, missing or replaced by another."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(good, target)
    files = sorted(path for path in target.rglob("*") if path.is_file() and path.name != ".lock")
    path = files[int(rng.integers(len(files)))]
    what = rng.random()
    if what < 0.05:
        path.unlink()
    elif what < 0.1:
        shutil.copy(files[int(rng.integers(len(files)))], target / "other")
        os.replace(target / "other", path)
    elif path.suffix == ".safetensors":
        path.write_bytes(damage_safetensors(path.read_bytes(), rng))
    elif path.suffix == ".json" and rng.random() < 0.7:
        path.write_bytes(dumps(damage_json(json.loads(path.read_bytes()), rng)))
    elif path.suffix in (".jsonl", ".yaml"):
        path.write_bytes(damage_text(path.read_text(), rng))
    else:
        path.write_bytes(damage(path.read_bytes(), rng))


def checkpoints(place: Path) -> Run:
    """As ``train --resume`` reads them. The checksum detects damage; half of the inputs have a right one."""
    from vitlr.latents.record import Latents
    from vitlr.learning import LearnerConfig, new_learner
    from vitlr.replay import MemoryConfig
    from vitlr.runs.checkpoint import load_checkpoint, save_checkpoint
    from vitlr.storage.state import load_state, save_state
    from vitlr.vit import Head, load_backbone

    backbone = load_backbone(str(save_network(place / "network")))

    def fresh() -> Any:
        memory = MemoryConfig(capacity=6, codec="int8")
        learner = LearnerConfig(epochs=1, batch_size=8, si_lambda=1.0)
        return new_learner(Head(backbone, 2), learner, memory, np.random.default_rng(0))

    import torch

    learner = fresh()
    for number in range(2):
        generator = torch.Generator().manual_seed(number)
        latents = Latents(torch.randn(8, *learner.head.latent_shape, generator=generator))
        learner.learn(latents, np.arange(8) % 3, number)
    identity = {"data": "fuzz"}
    run_dir = place / "run"
    save_checkpoint(run_dir, learner, 2, identity)
    assert load_checkpoint(run_dir, fresh(), identity) == 2
    state = run_dir / "checkpoint" / "state.safetensors"
    good = state.read_bytes()
    tensors, plain = load_state(state.parent, kind="checkpoint", version=_version())

    def run(rng: np.random.Generator) -> None:
        if rng.random() < 0.5:
            state.write_bytes(damage_safetensors(good, rng))
        else:  # a right checksum over wrong content
            chosen, content = damaged_state(tensors, plain, rng)
            with suppress(ValueError):  # numbers that JSON lacks are never written
                save_state(state.parent, chosen, content, kind="checkpoint", version=_version())
        again = fresh()
        load_checkpoint(run_dir, again, identity)
        again.learn(latents, np.arange(8) % 3, 2)  # an accepted state must be able to learn on
        again.logits(latents)

    return run


def _version() -> int:
    from vitlr.runs.checkpoint import CHECKPOINT_VERSION

    return CHECKPOINT_VERSION


def classifiers(place: Path) -> Run:
    """As ``load`` reads them; those accepted predict and learn on. Half of the damage has a right checksum."""
    from vitlr import LatentReplayClassifier
    from vitlr.classifier.saved import KIND, VERSION
    from vitlr.storage.state import load_state, save_state

    saved = {}
    for method in ("latent_replay", "ar1_replay", "slda", "complementary"):
        good, _ = _learned(place / method, method=method, si_lambda=float(method == "ar1_replay"))
        (network,) = good.glob("backbone-*.safetensors")
        kinds = {"state": (KIND, VERSION), network.stem: ("backbone", 1)}
        states = {name: load_state(good, name=name, kind=k, version=v) for name, (k, v) in kinds.items()}
        saved[method] = good, kinds, states
    frame = picture(1, 2)[None]

    def run(rng: np.random.Generator) -> None:
        good, kinds, states = saved[sorted(saved)[int(rng.integers(len(saved)))]]
        if rng.random() < 0.5:
            _damaged_tree(good, place / "damaged", rng)
        else:
            shutil.rmtree(place / "damaged", ignore_errors=True)
            shutil.copytree(good, place / "damaged")
            name = sorted(states)[int(rng.integers(2))]
            tensors, plain = damaged_state(*states[name], rng)
            kind, version = kinds[name]
            with suppress(ValueError):  # numbers that JSON lacks are never written
                save_state(place / "damaged", tensors, plain, name=name, kind=kind, version=version)
        model = LatentReplayClassifier.load(place / "damaged")
        assert np.isfinite(model.predict_proba(frame)).all()
        model.partial_fit(frame, "three")
        model.predict(frame)

    return run


def networks(place: Path) -> Run:
    from vitlr.vit import load_backbone

    good = save_network(place / "network")

    def run(rng: np.random.Generator) -> None:
        _damaged_tree(good, place / "damaged", rng)
        load_backbone(str(place / "damaged"))

    return run


def records_and_reports(place: Path) -> Run:
    import vitlr.report.sections
    from vitlr.cli import main
    from vitlr.commands.report import report_of
    from vitlr.report.gather import gather
    from vitlr.runs.settings import RunConfig

    # Figures are made but not drawn, since drawing takes a second each.
    vitlr.report.sections.figure_bytes = lambda figure, kind: b'<svg width="1pt"></svg>'

    tree = save_core50(place / "tree", (1, 2, 3), (1, 2, 6, 7))
    good = place / "run"
    words = [
        *("train", "--data.dataset=core50", f"--data.root={tree}", f"--out={good}", "--quiet"),
        *(f"--backbone.name={save_network(place / 'network')}", "--tensorboard=false", "--memory.capacity=8"),
    ]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert not main(words)
    for path in (*good.rglob("*.safetensors"), *good.rglob("README.md")):
        path.unlink()

    def run(rng: np.random.Generator) -> None:
        _damaged_tree(good, place / "damaged", rng)
        report_of(*gather([place / "damaged"], RunConfig))

    return run


def latent_caches(place: Path) -> Run:
    import torch

    from vitlr.latents.cache import LatentCache, cache_entries
    from vitlr.latents.record import Latents

    identity = {"cut": 2, "precision": "float32"}
    good = LatentCache(place / "good", identity, "fuzz")
    good.describe((3, 4), bfloat16=False)
    latents = Latents(torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)))
    keys: list[bytes | None] = [bytes([number]) * 16 for number in range(6)]
    good.set_kind(6, "any")
    stored = good.keys(keys)
    good.put(stored, latents)
    good.commit()

    def run(rng: np.random.Generator) -> None:
        _damaged_tree(place / "good", place / "damaged", rng)
        cache = LatentCache(place / "damaged", identity, "fuzz")
        cache.describe((3, 4), bfloat16=False)
        if cache.kind(6) == "any":
            found = cache.get(cache.keys(keys))
            same = found is not None and torch.equal(found.tokens_NTD, latents.tokens_NTD)
            assert found is None or same, "other latents than were stored"
        cache.put(stored, latents)
        cache.commit()
        cache_entries(place / "damaged")

    return run


def archives(place: Path) -> Run:
    from vitlr.data.unpack import Limits, unpack

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(
                f"core50_128x128/s1/o{number}/C_01_0{number}_000.png", picture(number, 1).tobytes()
            )
    good = buffer.getvalue()

    def run(rng: np.random.Generator) -> None:
        into = place / "into" / "deep"
        if into.parent.exists():
            shutil.rmtree(into.parent)
        into.mkdir(parents=True)
        content = damage(good, rng)
        if rng.random() < 0.5:  # names
            old = [b"core50_128x128", b"s1/o", b"C_01"][int(rng.integers(3))]
            new = [b"../../../x", b"/tmp/vitlr-x", b"..\\..\\x", b"core50_128x128/..", b"\0", b"con", b"s1"]
            name = new[int(rng.integers(len(new)))][: len(old)].ljust(len(old), b"/")
            content = content.replace(old, name)
        (place / "archive.zip").write_bytes(content)
        limits = Limits(entries=100, total=10**7, entry=10**6)
        try:
            unpack(place / "archive.zip", into, "core50_128x128", limits=limits)
        finally:
            outside = [path for path in (place / "into").iterdir() if path != into]
            assert not outside, f"{outside} lies outside"

    return run


def what_is_no_file(place: Path) -> Run:
    """Pipes, devices, folders and links to them, in place of every kind of file that is read."""
    from vitlr.configuration import read_yaml
    from vitlr.data.images import read_image
    from vitlr.data.tables import list_stream
    from vitlr.data.video import read_video
    from vitlr.evaluation.records import read_metrics
    from vitlr.latents.cache import LatentCache
    from vitlr.runs.params_cfg import read_params_cfg
    from vitlr.storage.state import load_state

    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    places = [place / "pipe", place / "folder", Path("/dev/zero"), Path("/dev/tty"), place / "missing"]
    readers: list[tuple[str, Callable[[Path], Any]]] = [
        ("a.png", read_image),
        ("a.mp4", read_video),
        ("a.gif", read_video),
        ("a.yaml", read_yaml),
        ("params.cfg", read_params_cfg),
        ("a.csv", list_stream),
        ("a.jsonl", list_stream),
        ("metrics.jsonl", lambda path: read_metrics(path.parent)),
        ("state.safetensors", lambda path: load_state(path.parent, kind="x", version=1)),
        ("header.json", lambda path: LatentCache(path.parent, {"cut": 2}, "fuzz")),
        ("index", lambda path: LatentCache(path.parent, {"cut": 2}, "fuzz")),
    ]

    def run(rng: np.random.Generator) -> None:
        name, read = readers[int(rng.integers(len(readers)))]
        target = places[int(rng.integers(len(places)))]
        folder = place / "tried"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        links = int(rng.integers(3))
        for number in range(links):
            (folder / f"link{number}").symlink_to(target)
            target = folder / f"link{number}"
        if links or target != place / "pipe":
            (folder / name).symlink_to(target)
        else:
            os.mkfifo(folder / name)
        read(folder / name)

    return run


def aliases(place: Path) -> Run:
    """Anchors, aliases, merges and depth at random places of configurations and recipes."""
    from vitlr.runs.plan import read_plan
    from vitlr.runs.settings import RunConfig, parse, to_yaml

    lines = to_yaml(RunConfig()).split("\n")
    recipe = ["title: x", "base: {}", "variants: {a: {}}", "orders: [0]", "seeds: [0]"]

    def bomb(rng: np.random.Generator) -> str:
        wide, deep = int(rng.integers(2, 12)), int(rng.integers(1, 30))
        levels = ["&a0 [x]"] + [f"&a{n} [{', '.join([f'*a{n - 1}'] * wide)}]" for n in range(1, deep)]
        forms = (
            f"[{', '.join(levels)}]",
            "&s {s: *s}",
            "&s [*s]",
            "{<<: *s}",
            "[" * (deep * 500) + "]" * (deep * 500),
            "{a: " * (deep * 300),
            "&x " * deep + "1",
        )
        return forms[int(rng.integers(len(forms)))]

    def run(rng: np.random.Generator) -> None:
        is_recipe = rng.random() < 0.5
        text = list(recipe if is_recipe else lines)
        row = int(rng.integers(len(text)))
        text[row] = f"{text[row].partition(':')[0] or 'x'}: {bomb(rng)}"
        path = place / "x.yaml"
        path.write_text("\n".join(text))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            read_plan(path) if is_recipe else parse(["--config", str(path)])

    return run


def giants(place: Path) -> Run:
    """Images as large as is allowed, and a little larger, of one colour, so that their files are small."""
    from vitlr.data.images import read_image

    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None

    def run(rng: np.random.Generator) -> None:
        width = int(rng.choice([1, 2, 64, 1000, 9459, 65000]))
        height = max(1, min(limit // width + int(rng.integers(-1, 2)), 65000))
        kind, mode = [("PNG", "1"), ("PNG", "L"), ("GIF", "P"), ("TIFF", "1"), ("JPEG", "L")][
            int(rng.integers(5))
        ]
        path = place / "giant"
        Image.new(mode, (width, height)).save(path, kind)
        assert read_image(path, 32).shape == (32, 32, 3)

    return run


def long_animations(place: Path) -> Run:
    """Few bytes that stand for many frames on a large canvas."""
    from vitlr.data.video import Video, read_video

    def run(rng: np.random.Generator) -> None:
        frames, side = int(rng.integers(2, 3000)), int(2 ** rng.integers(3, 15))
        buffer = io.BytesIO()
        Image.new("P", (4, 4)).save(buffer, "GIF", save_all=True, append_images=[Image.new("P", (4, 4), 1)])
        content = bytearray(buffer.getvalue())
        content[6:10] = side.to_bytes(2, "little") * 2  # the canvas
        start = content.index(b"!\xf9")
        frame = bytes(content[start:-1]).split(b"!\xf9")[-1]
        (place / "long.gif").write_bytes(bytes(content[:start]) + (b"!\xf9" + frame) * frames + b";")
        found = read_video(Video(place / "long.gif", max_frames=4), 16)
        assert 1 <= len(found) <= 4

    return run


def lists(place: Path) -> Run:
    """Lists as .csv, .jsonl and, if pyarrow is there, .parquet."""
    from vitlr.data.tables import list_stream

    for number in range(6):
        Image.fromarray(picture(number % 2, number)).save(place / f"{number}.png")
    rows = [{"path": f"{n}.png", "label": "ab"[n % 2], "session": n // 2, "split": "train"} for n in range(6)]
    texts: dict[str, bytes] = {
        "x.csv": (
            "path,label,session,split\n" + "".join(",".join(map(str, r.values())) + "\n" for r in rows)
        ).encode(),
        "x.jsonl": "\n".join(map(json.dumps, rows)).encode(),
    }
    with suppress(ImportError):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), place / "good.parquet")
        texts["x.parquet"] = (place / "good.parquet").read_bytes()

    def run(rng: np.random.Generator) -> None:
        name = sorted(texts)[int(rng.integers(len(texts)))]
        whole = texts[name]
        textual = not name.endswith("parquet") and rng.random() < 0.7
        (place / name).write_bytes(damage_text(whole.decode(), rng) if textual else damage(whole, rng))
        stream = list_stream(place / name)
        assert len(stream.test) and stream.num_train_images

    return run


def data_sets_of_hugging_face(place: Path) -> Run:
    """Directories of ``save_to_disk`` and of parquet files; those accepted are decoded. Needs pyarrow."""
    import pyarrow
    from pyarrow import parquet

    from vitlr.data.hub import hub_stream
    from vitlr.data.images import iter_batches

    stored = []
    for number in range(8):
        buffer = io.BytesIO()
        Image.fromarray(picture(number % 2, number)).save(buffer, "PNG")
        stored.append({"bytes": buffer.getvalue(), "path": None})
    features = {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    table = pyarrow.table({"image": stored, "label": [0, 1] * 4})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    saved, hub = place / "saved" / "train", place / "hub" / "data"
    saved.mkdir(parents=True)
    hub.mkdir(parents=True)
    (place / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (saved / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    (saved / "dataset_info.json").write_text(json.dumps({"features": features}))
    with pyarrow.ipc.new_stream(str(saved / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    parquet.write_table(table, hub / "train-00000-of-00001.parquet", row_group_size=4)

    def run(rng: np.random.Generator) -> None:
        _damaged_tree(place / ("saved" if rng.random() < 0.5 else "hub"), place / "damaged", rng)
        stream = hub_stream(place / "damaged")
        for part in (*stream.experiences, stream.test):
            list(iter_batches(part.paths, stream.root, size=16, on_bad="skip"))

    return run


KINDS: dict[str, Callable[[Path], Run]] = {
    "images": images,
    "animations": animations,
    "frames of the live page": frames_of_the_live_page,
    "configurations": configurations,
    "params.cfg": params_cfg,
    "recipes": recipes,
    "published lists": published_lists,
    "checkpoints": checkpoints,
    "classifiers": classifiers,
    "networks": networks,
    "records and reports": records_and_reports,
    "latent caches": latent_caches,
    "archives": archives,
    "what is no file": what_is_no_file,
    "aliases": aliases,
    "giants": giants,
    "long animations": long_animations,
    "lists": lists,
    "data sets of Hugging Face": data_sets_of_hugging_face,
}


# -- running ----------------------------------------------------------------------------------------------


def fuzz(kind: str, inputs: int, seed: int, seconds: float) -> dict[str, Any]:
    """Counts for one kind, and its faults with the input numbers that reproduce them."""
    from vitlr.errors import VitLRError

    def too_long(*_: Any) -> None:
        raise TooLongError

    clocks = (
        (signal.ITIMER_PROF, signal.SIGPROF, seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, 6 * seconds),
    )
    for _, signal_number, _ in clocks:
        signal.signal(signal_number, too_long)
    warnings.simplefilter("ignore")
    row: dict[str, Any] = {"inputs": 0, "answered": 0, "refused": 0, "faults": [], "slowest_seconds": 0.0}
    shared = Path("/dev/shm")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(
        prefix="vitlr-fuzz-", dir=shared if os.access(shared, os.W_OK) else None
    ) as place:
        run = KINDS[kind](Path(place))
        for number in range(inputs):
            start = time.perf_counter()
            for clock, _, limit in clocks:
                signal.setitimer(clock, limit)
            try:
                run(np.random.default_rng([seed, sorted(KINDS).index(kind), number]))
                row["answered"] += 1
            except VitLRError as error:
                row["refused"] += 1
                if not str(error).strip():
                    row["faults"].append(f"input {number}: a refusal without a sentence")
            except TooLongError:
                row["faults"].append(f"input {number}: not done after {seconds:g} s of processor time")
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                row["faults"].append(
                    f"input {number}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    f" ({Path(where.filename).name}:{where.lineno})"
                )
                if isinstance(error, KeyboardInterrupt):
                    raise
            finally:
                for clock, _, _ in clocks:
                    signal.setitimer(clock, 0)
            row["inputs"] += 1
            row["slowest_seconds"] = max(row["slowest_seconds"], time.perf_counter() - start)
    row["seconds"] = time.perf_counter() - began
    row["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return row


def in_a_process(kind: str, inputs: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a separate process, so that a crash is counted and the memory is that of this kind."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # libraries for image formats write there
        try:
            answer = dumps(fuzz(kind, inputs, options.seed, options.seconds))
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(answer)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if not content:
        signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return {"inputs": 0, "faults": [f"the process died (signal {signal_number})"]}
    row = json.loads(content)
    if row["peak_bytes"] > options.memory:
        row["faults"].append(f"the process grew to {row['peak_bytes'] / 1e6:.0f} MB")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=110_000, help="of all kinds (default %(default)s)")
    parser.add_argument(
        "--only", action="append", choices=list(KINDS), help="only this kind; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="for an input (default %(default)s)")
    parser.add_argument("--memory", type=float, default=BOUND, help="bytes a process (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    options = parser.parse_args()
    single_threaded()
    import transformers  # noqa: F401  imported once for all children

    import vitlr.cli
    import vitlr.runs.train  # noqa: F401

    kinds = options.only or list(KINDS)
    total = sum(SHARES[kind] for kind in kinds)
    report: dict[str, Any] = {"seed": options.seed, "kinds": {}}
    print(
        f"{'':<26}{'inputs':>8}{'answered':>10}{'refused':>9}{'faults':>8}{'slowest':>10}{'peak':>9}{'time':>8}"
    )
    for kind in kinds:
        row = in_a_process(kind, round(options.inputs * SHARES[kind] / total), options)
        report["kinds"][kind] = row
        if row["inputs"]:
            print(
                f"{kind:<26}{row['inputs']:>8,}{row['answered']:>10,}{row['refused']:>9,}{len(row['faults']):>8}"
                f"{row['slowest_seconds']:>8.2f} s{row['peak_bytes'] / 1e6:>6.0f} MB{row['seconds']:>6.0f} s"
            )
        for fault in row["faults"][:20]:
            print(f"    {kind}: {fault}")
        sys.stdout.flush()
    rows = report["kinds"].values()
    report |= {
        "inputs": sum(row["inputs"] for row in rows),
        "faults": sum(len(row["faults"]) for row in rows),
    }
    print(f"{report['inputs']:,} inputs, {report['faults']} faults")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
