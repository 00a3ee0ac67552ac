"""What version 0.1 saved is read, or refused by a sentence that names the version and the way out.

The files in ``fixtures/v0.1`` were written by that version; ``make.py`` beside them says how.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.runs.conftest import frame, save_tiny_vit, save_tree
from vitlr import LatentReplayClassifier
from vitlr.classifier import MachineWarning
from vitlr.classifier.saved import KIND, VERSION
from vitlr.cli import main
from vitlr.errors import DataError, RunError
from vitlr.evaluation.records import read_metrics
from vitlr.runs.train import read_config
from vitlr.storage.state import load_state, save_state

FIXTURES = Path(__file__).parent / "fixtures" / "v0.1"
ANSWERS: dict[str, dict[str, Any]] = json.loads((FIXTURES / "answers.json").read_text())
PROBE = [frame(3, object_, 20) for object_ in (1, 2, 6)]
LESSON = [frame(session, 7, index) for session in (1, 2) for index in (20, 120)]
# In float32 to the last digits; of a bfloat16 trunk every processor has its own rounding.
TOLERANCE = {"classifier-float32": 1e-5, "classifier-si": 1e-5, "classifier-bfloat16": 0.02}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=ANSWERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def opened(directory: Path, **options: Any) -> LatentReplayClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MachineWarning)  # of a processor without bfloat16
        return LatentReplayClassifier.load(directory, **options)


def near(model: LatentReplayClassifier, name: str, key: str = "probabilities") -> bool:
    return np.allclose(model.predict_proba(PROBE), ANSWERS[name][key], atol=TOLERANCE[name])


# -- classifiers --------------------------------------------------------------------------------------------


def test_a_classifier_of_0_1_is_read_and_answers_as_it_did(name: str) -> None:
    model = opened(FIXTURES / name)
    assert model.classes_.tolist() == ANSWERS[name]["classes"]
    assert [type(label) for label in model.classes_.tolist()] == [type(x) for x in ANSWERS[name]["classes"]]
    assert near(model, name)
    summary = model.remember()
    assert list(summary.latents.values()) == ANSWERS[name]["latents"]
    assert summary.images == summary.latents, "how many were taught it did not say"


def test_it_goes_on_learning_as_it_would_have(name: str) -> None:
    model = opened(FIXTURES / name)
    model.partial_fit(LESSON, "new")
    assert near(model, name, "after another lesson")
    assert model.remember().images["new"] == 4


def test_it_is_saved_in_the_new_format_and_loads_the_same(name: str, tmp_path: Path) -> None:
    model = opened(FIXTURES / name)
    model.save(tmp_path)
    tensors, plain = load_state(tmp_path, kind=KIND, version=VERSION)
    assert plain["lessons"] == (4 if name == "classifier-float32" else 3)
    assert not any(key.startswith(("importance.", "anchor.")) for key in tensors)
    again = opened(tmp_path)
    assert np.array_equal(model.predict_proba(PROBE), again.predict_proba(PROBE))
    for each in (model, again):
        each.partial_fit(LESSON, "new")
    assert np.array_equal(model.predict_proba(PROBE), again.predict_proba(PROBE))
    assert near(again, name, "after another lesson")


def test_it_is_not_merged_with_a_copy_of_itself(name: str, tmp_path: Path) -> None:
    opened(FIXTURES / name).save(tmp_path)
    with pytest.raises(DataError, match="taught to both"):
        opened(FIXTURES / name).merge(opened(tmp_path))


def test_classes_can_be_forgotten_and_it_can_be_exported(name: str, tmp_path: Path) -> None:
    model = opened(FIXTURES / name)
    model.forget("red")
    assert "red" not in model.classes_.tolist()
    assert (model.export(tmp_path / "hf") / "model.safetensors").is_file()


def test_one_saved_without_its_trunk_finds_its_network_by_the_digest_of_that_time(
    name: str, tmp_path: Path
) -> None:
    network = save_tiny_vit(tmp_path / "network")
    tensors, plain = load_state(FIXTURES / name, kind=KIND, version=1)
    plain["backbone"]["included"] = False
    save_state(tmp_path / "robot", tensors, plain, kind=KIND, version=1)
    assert near(opened(tmp_path / "robot", backbone=network), name)
    other = save_tiny_vit(tmp_path / "other", seed=1)
    with pytest.raises(RunError, match="other weights"):
        opened(tmp_path / "robot", backbone=other)


def test_one_taught_on_a_gpu_says_so_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    shutil.copytree(FIXTURES / "classifier-bfloat16", tmp_path / "robot")
    tensors, plain = load_state(tmp_path / "robot", kind=KIND, version=1)
    for settings in (plain["params"], plain["params_in_use"]):
        settings.update(device="cuda", precision=None)
    save_state(tmp_path / "robot", tensors, plain, kind=KIND, version=1)
    with pytest.warns(MachineWarning, match="taught in bfloat16 on cuda and computes in"):
        model = LatentReplayClassifier.load(tmp_path / "robot")
    assert near(model, "classifier-bfloat16")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, plain: tensors.pop("past"),
        lambda tensors, plain: tensors.pop("memory.labels"),
        lambda tensors, plain: plain.pop("labels"),
        lambda tensors, plain: plain["labels"].append("one more"),
        lambda tensors, plain: plain["network"].pop("precision"),
        lambda tensors, plain: plain["params"].pop("lr"),
        lambda tensors, plain: plain.update(backbone=None),
    ],
)
def test_one_whose_parts_do_not_fit_gives_a_sentence(tmp_path: Path, change: Any) -> None:
    shutil.copytree(FIXTURES / "classifier-float32", tmp_path / "robot")
    tensors, plain = load_state(tmp_path / "robot", kind=KIND, version=1)
    change(tensors, plain)
    save_state(tmp_path / "robot", tensors, plain, kind=KIND, version=1)
    if "lr" not in plain.get("params", {"lr": 0}):  # a setting that is missing has its default
        assert near(opened(tmp_path / "robot"), "classifier-float32")
        return
    with pytest.raises(RunError):
        opened(tmp_path / "robot")


def test_a_later_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tensors, plain = load_state(FIXTURES / "classifier-float32", kind=KIND, version=1)
    save_state(tmp_path, tensors, plain, kind=KIND, version=VERSION + 1)
    with pytest.raises(RunError, match=f"format version {VERSION + 1} .* newer vitlr"):
        opened(tmp_path)


# -- runs ---------------------------------------------------------------------------------------------------


def test_reports_and_readers_take_runs_of_0_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [FIXTURES / "run", FIXTURES / "run-slda"]
    out = tmp_path / "report"
    assert main(["report", *map(str, runs), "--out", str(out), "--json", "--no-images"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = {row["method"]: row["test_accuracy"]["mean"] for row in rows}
    finals = [read_metrics(run)[-1]["test_accuracy"] for run in runs]
    assert sorted(found.values()) == pytest.approx(sorted(finals)) and len(found) == 2
    config = read_config(runs[0])
    assert (config.learner.method, config.memory.capacity, config.data.order) == ("latent_replay", 8, 0)
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("run", ["run", "run-slda"])
def test_a_checkpoint_of_0_1_is_refused_with_its_version_and_the_way_out_and_left_alone(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # the paths in the run are relative
    save_tiny_vit(Path("tiny-vit"))
    save_tree(Path("tree"))
    shutil.copytree(FIXTURES / run, run)
    before = {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["train", "--resume", run, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vitlr: error: {run} cannot be resumed")
    assert "of vitlr 0.1.0" in line and "finish it with vitlr 0.1.0, or start a new run" in line
    after = {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
