"""Pipes, sockets and devices in place of files: every command refuses them at once, behind links too."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.tiny_networks import make_directory

from vitlr.cli import main

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")

KINDS = ("pipe", "link to a pipe", "socket", "device")


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """A command that waits for a pipe fails."""

    def late(*_: object) -> None:
        raise AssertionError("the command hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def irregular(path: Path, kind: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(path.name)
        finally:
            os.chdir(here)
    else:
        os.mkfifo(path.with_name("fifo") if kind == "link to a pipe" else path)
        if kind == "link to a pipe":
            path.symlink_to("fifo")
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "photos"
    for colour in ("red", "blue"):
        (root / colour).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(root / colour / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory, vit: Path, photos: Path) -> Path:
    robot = tmp_path_factory.mktemp("taught") / "robot"
    line = ["teach", robot, photos, "--backbone", vit, "--method", "class_mean", "--quiet"]
    assert main([str(word) for word in line]) == 0
    return robot


def refused(capsys: pytest.CaptureFixture[str], *line: object) -> str:
    assert main([str(word) for word in line]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("vitlr: error: ")
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_of_an_image_it_is_refused_by_every_command(
    kind: str, tmp_path: Path, vit: Path, robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = irregular(tmp_path / "x.png", kind)
    new = tmp_path / "new"
    for line in (
        ("teach", new, "--label", "x", path, "--backbone", vit),
        ("predict", robot, path),
        ("rollout", robot, path, "--out", tmp_path / "out"),
        ("export", robot, tmp_path / "exported", "--test", path),
    ):
        assert "x.png is not a f" in refused(capsys, *line)
    assert not new.exists()


def test_in_a_folder_or_list_it_is_left_out_or_refused(
    tmp_path: Path, vit: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(photos, tmp_path / "photos")
    irregular(root / "red" / "x.png", "pipe")
    flags = [
        f"--backbone.name={vit}",
        "--memory.capacity=4",
        "--learner.epochs=1",
        f"--out={tmp_path / 'run'}",
    ]
    assert main(["train", "--data.dataset=folder", f"--data.root={root}", *flags]) == 0
    assert "1 pipe, socket or device is left out (red/x.png)" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "list.csv").write_text("path,label\nred/x.png,red\nred/0.png,red\n")
    line = [
        "train",
        "--data.dataset=list",
        f"--data.file={tmp_path / 'list.csv'}",
        f"--data.root={root}",
        *flags,
    ]
    assert "x.png is not a file" in refused(capsys, *line)
    irregular(tmp_path / "pipe.csv", "pipe")
    assert "is a pipe" in refused(
        capsys, "train", "--data.dataset=list", f"--data.file={tmp_path / 'pipe.csv'}"
    )


def test_in_place_of_settings_records_and_networks_it_is_refused(
    tmp_path: Path, vit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = irregular(tmp_path / "pipe.yaml", "pipe")
    out = tmp_path / "out"
    for line in (
        ("train", "--config", pipe),
        ("train", "--params-cfg", pipe),
        ("compare", pipe, "--out", out),
    ):
        assert "it is a pipe, not a file" in refused(capsys, *line)
    run = tmp_path / "run"
    for name in ("metrics.jsonl", "summary.json", "predictions.json"):
        irregular(run / name, "pipe")
    (run / "config.yaml").write_text("{}\n")
    assert "it is a pipe, not a file" in refused(capsys, "report", run, "--out", out)
    network = shutil.copytree(vit, tmp_path / "network")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        shutil.move(network / name, tmp_path / name)
        irregular(network / name, "pipe")
        assert name in refused(capsys, "inspect", f"--backbone.name={network}")
        (network / name).unlink()
        shutil.move(tmp_path / name, network / name)


def test_in_a_cache_it_costs_a_note_and_no_more(
    tmp_path: Path, vit: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    line = ["train", "--data.dataset=folder", f"--data.root={photos}", f"--backbone.name={vit}"]
    line += ["--memory.capacity=4", "--learner.epochs=1", f"--backbone.cache={cache}", "--tensorboard=false"]
    assert main([*line, f"--out={tmp_path / 'first'}"]) == 0
    files = [path for path in sorted(cache.rglob("*")) if path.is_file() and path.name != ".lock"]
    assert {"header.json", "index", "latents"} <= {path.name for path in files}
    accuracy = capsys.readouterr().out.partition(" (")[0]
    for number, path in enumerate(files):
        content = path.read_bytes()
        path.unlink()
        irregular(path, "pipe")
        assert main([*line, f"--out={tmp_path / str(number)}"]) == 0
        assert capsys.readouterr().out.partition(" (")[0] == accuracy, path
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert main(["cache", "list", "--dir", str(cache)]) == 0
