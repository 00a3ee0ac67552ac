"""The main job from flags to run directory, on a network and tree that take a moment."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vitlr.cli import main
from vitlr.errors import RunError
from vitlr.evaluation.records import excessive_losses, read_metrics
from vitlr.runs import train as runs
from vitlr.runs.materials import build_learner, prepare
from vitlr.runs.settings import parse
from vitlr.runs.tracking import EventWriter
from vitlr.runs.train import read_config, train


def run(flags: list[str], out: Path, *more: str, **options: object):
    return train(parse([*flags, f"--out={out}", *more]), **options)


def without_seconds(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def learned(out: Path) -> dict[str, torch.Tensor]:
    """All that the learner of a run knows at its end: weights, memory, and what else its method keeps."""
    return load_file(out / "checkpoint" / "state.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("method", "linear"), [("complementary", False), ("latent_replay", True)])
def test_a_run_directory_holds_all_that_is_promised(
    flags: list[str], tmp_path: Path, method: str, linear: bool
) -> None:
    result = run(flags, tmp_path / "run", f"--learner.method={method}")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.yaml", "metrics.jsonl", "summary.json", "predictions.json", "checkpoint"} <= names
    assert ("model" in names) == linear
    assert any(name.startswith("events.out.tfevents") for name in names)
    lines = read_metrics(tmp_path / "run")
    # Sessions 1 and 2 of objects 1, 2, 6, 7; the first experience holds objects 1 and 6 of session 1.
    assert [line["num_images"] for line in lines] == [4, 2, 2, 2, 2, 2, 2]
    assert result.summary["experiences"] == 7 and result.summary["test_images"] == 8
    assert result.summary["notes"][0] == "24 of 164,866 frames found"


@pytest.mark.parametrize(("method", "sums"), [("complementary", 4 * 48 * 49), ("latent_replay", 0)])
def test_each_record_has_the_published_fields_with_sane_values(
    flags: list[str], tmp_path: Path, method: str, sums: int
) -> None:
    run(flags, tmp_path / "run", f"--learner.method={method}")
    for line in read_metrics(tmp_path / "run"):
        assert 0 <= line["test_accuracy"] <= line["seen_accuracy"] <= 1
        assert line["test_loss"] > 0 and line["train_loss"] >= 0 and 0 <= line["train_accuracy"] <= 1
        assert set(line["seconds"]) == {"encode", "learn", "evaluate"}
        assert len(line["class_accuracy"]) == 50
        assert list(line["session_accuracy"]) == ["3"]  # the one test session in the tree
        assert line["session_accuracy"]["3"] == pytest.approx(line["test_accuracy"])
        assert line["test_accuracy"] <= line["category_accuracy"] <= 1
        assert line["class_category_accuracy"]["plug_adapter_1"] >= line["class_accuracy"]["plug_adapter_1"]
        assert 0 <= line["calibration_error"] <= 1 and set(line["gflop"]) == {"trunk", "head"}
        assert line["class_accuracy"]["scissor_1"] is None  # no test image of it
        memory = line["memory"]
        assert memory["count"] == sum(memory["per_class"].values()) <= memory["capacity"] == 8
        latents = memory["count"] * 17 * (16 + 4)  # int8: a byte a number, and a scale a token
        assert memory["bytes"] > latents + sums if sums else memory["bytes"] == latents


@pytest.mark.parametrize("method", ["latent_replay", "slda"])
def test_test_accuracy_is_what_the_saved_model_gives_in_transformers(
    flags: list[str], tiny_tree: Path, tmp_path: Path, method: str
) -> None:
    """Independent of our own network code: the pipeline reads the files and the pictures itself."""
    from transformers import pipeline

    from vitlr.data import core50_stream

    result = run(flags, tmp_path / "run", f"--learner.method={method}")
    classify = pipeline("image-classification", model=str(tmp_path / "run" / "model"))
    stream = core50_stream(tiny_tree, "nicv2_391", 0)
    answers = [classify(str(tiny_tree / path), top_k=1)[0]["label"] for path in stream.test.paths]
    expected = [stream.class_names[label] for label in stream.test.labels]
    accuracy = np.mean([a == b for a, b in zip(answers, expected, strict=True)])
    assert accuracy == pytest.approx(result.summary["test_accuracy"])


def test_same_seed_gives_the_same_records_and_weights_and_another_seed_does_not(
    flags: list[str], tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(flags, tmp_path / name, f"--seed={seed}")
    a, b, c = (without_seconds(read_metrics(tmp_path / name)) for name in "abc")
    assert a == b and a != c
    assert equal(learned(tmp_path / "a"), learned(tmp_path / "b"))
    assert not equal(learned(tmp_path / "a"), learned(tmp_path / "c"))


@pytest.mark.parametrize(
    "method", ["complementary", "latent_replay", "cwr", "naive", "cumulative", "ar1", "native"]
)
def test_a_run_that_was_cut_off_and_resumed_equals_one_that_was_not(
    flags: list[str], tmp_path: Path, method: str
) -> None:
    more = [f"--learner.method={method}", "--checkpoint_every=2", "--learner.first_lr=0.05"]
    more += ["--learner.si_lambda=1.0"] if method == "ar1" else []
    run(flags, tmp_path / "whole", *more)

    class PowerCutError(Exception):
        pass

    seen = []

    def cut(record) -> None:
        seen.append(record)
        if len(seen) == 4:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        run(flags, tmp_path / "cut", *more, on_record=cut)
    assert len(read_metrics(tmp_path / "cut")) == 4
    train(read_config(tmp_path / "cut"), resume=True)
    whole, resumed = (without_seconds(read_metrics(tmp_path / name)) for name in ("whole", "cut"))
    assert whole == resumed
    assert equal(learned(tmp_path / "whole"), learned(tmp_path / "cut"))
    if method != "complementary":  # which leaves no model
        models = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut")]
        assert equal(*models)


def test_a_checkpoint_of_another_data_set_is_refused(
    flags: list[str], tiny_tree: Path, tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / "tree"
    shutil.copytree(tiny_tree, copy)
    run([*flags, f"--data.root={copy}"], tmp_path / "run")
    shutil.rmtree(copy / "s1" / "o2")
    with pytest.raises(RunError, match=r"data\.images was 16 and is 14"):
        train(read_config(tmp_path / "run"), resume=True)


def test_a_run_directory_that_exists_is_refused_and_left_alone(flags: list[str], tmp_path: Path) -> None:
    run(flags, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match="--overwrite"):
        run(flags, tmp_path / "run", "--seed=5")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    run(flags, tmp_path / "run", "--seed=5", overwrite=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() != before


def test_a_run_that_another_process_began_meanwhile_is_refused_and_left_alone(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runs.build_learner

    def slow(config, network):
        monkeypatch.setattr(runs, "build_learner", real)
        run(flags, tmp_path / "run")  # begins and ends between the first look at the place and its lock
        return real(config, network)

    monkeypatch.setattr(runs, "build_learner", slow)
    with pytest.raises(RunError, match="run exists; choose another --out"):
        run(flags, tmp_path / "run", "--seed=5")
    assert len(read_metrics(tmp_path / "run")) == 7
    assert read_config(tmp_path / "run").seed == 0


def test_a_full_disk_is_one_sentence_also_where_events_are_written(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    threads, limits = threading.active_count(), resource.getrlimit(resource.RLIMIT_FSIZE)
    events = EventWriter(tmp_path)
    line = {"experience": 0, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}
    line |= {"seen_accuracy": 0.5, "class_accuracy": {}, "seconds": {}}
    line |= {"memory": {"count": 0, "bytes": 0, "per_class": {}}}
    events.write(line, {})
    (path,) = tmp_path.iterdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, limits[1]))
    try:
        with pytest.raises(
            RunError, match=r"TensorBoard events in .* cannot be written: .*; free some space and resume"
        ):
            events.write(line, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    events.close()
    assert threading.active_count() == threads  # no thread that would meet the full disk alone


def test_a_directory_with_other_things_in_it_is_never_overwritten(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else"):
        run(flags, tmp_path, overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_the_trunk_is_bitwise_unchanged_by_a_run(flags: list[str], tmp_path: Path) -> None:
    config = parse([*flags, f"--out={tmp_path / 'run'}"])
    materials = prepare(config)
    before = {name: value.clone() for name, value in materials.network.trunk.state_dict().items()}
    train(config, materials)
    after = materials.network.trunk.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_tensorboard_reads_every_promised_tag(flags: list[str], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(flags, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "class_accuracy/ball_1"} - tags == {
        "class_accuracy/ball_1"
    }
    assert {"class_accuracy/plug_adapter_1", "memory_count/plug_adapter_1"} <= tags
    trained = {"blocks.2.mlp.fc1.weight", "norm.bias", "classifier.weight"}
    assert {f"{kind}/{name}" for kind in ("gradient_mean", "gradient_max") for name in trained} <= tags
    lines = read_metrics(tmp_path / "run")
    for tag in ("test_accuracy", "category_accuracy", "calibration_error"):
        assert [event.value for event in events.Scalars(tag)] == pytest.approx([line[tag] for line in lines])
    assert [event.value for event in events.Scalars("session_accuracy/3")] == pytest.approx(
        [line["session_accuracy"]["3"] for line in lines]
    )
    assert [event.value for event in events.Scalars("gflop/head")] == pytest.approx(
        [line["gflop"]["head"] for line in lines]
    )
    assert events.Scalars("memory_bytes")[-1].value == lines[-1]["memory"]["bytes"]


def test_every_number_of_a_record_is_a_tag(flags: list[str], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(flags, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0})
    events.Reload()
    told = {"memory_bytes", "memory_latents"} | set(events.Tags()["scalars"])
    for line in read_metrics(tmp_path / "run"):
        numbers = {key for key, value in line.items() if isinstance(value, (int, float))}
        assert numbers - {"experience"} <= told


def test_a_resumed_run_knows_what_was_forgotten_before(flags: list[str], tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record) -> None:
        if record.experience == stream[3].index:
            raise Stopped

    stream = prepare(parse([*flags, f"--out={tmp_path / 'whole'}"])).stream.experiences
    run(flags, tmp_path / "whole")
    every = "--checkpoint_every=1"
    with pytest.raises(Stopped):
        run(flags, tmp_path / "run", every, on_record=stop)
    run(flags, tmp_path / "run", every, resume=True)
    curves = [[line["forgetting"] for line in read_metrics(tmp_path / name)] for name in ("whole", "run")]
    assert curves[0] == curves[1] and curves[0][0] is None and curves[0][-1] is not None
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["forgetting"] == curves[0][-1]


def test_a_folder_of_class_folders_is_learned_too(tiny_vit: Path, tmp_path: Path) -> None:
    from PIL import Image

    for number, name in enumerate(["hammer", "pen", "tea cup", "zebra"]):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            level = 60 * number + 5 * i
            mode, size, value = [("RGB", (50, 40), (level, 0, 255 - level)), ("L", (33, 32), level)][i % 2]
            Image.new(mode, size, value).save(tmp_path / "images" / name / f"{i}.png")
    flags = ["--data.dataset=folder", f"--data.root={tmp_path / 'images'}", f"--backbone.name={tiny_vit}"]
    result = run(flags, tmp_path / "run", "--memory.capacity=10", "--learner.method=latent_replay")
    assert result.summary["experiences"] == 2
    labels = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["id2label"]
    assert sorted(labels.values()) == ["hammer", "pen", "tea cup", "zebra"]


def with_two_unreadable(tree: Path, copy: Path) -> Path:
    """A copy in which one training and one test image are none."""
    import shutil

    shutil.copytree(tree, copy)
    for path in ("s1/o1/C_01_01_020.png", "s3/o2/C_03_02_120.png"):
        (copy / path).write_bytes(b"no image")
    return copy


def test_unreadable_images_stop_the_run(flags: list[str], tiny_tree: Path, tmp_path: Path) -> None:
    from vitlr.errors import DataError

    copy = with_two_unreadable(tiny_tree, tmp_path / "tree")
    more = [f"--data.root={copy}"]
    with pytest.raises(DataError, match="C_03_02_120"):
        run(flags, tmp_path / "stopped", *more)
    assert not (tmp_path / "stopped").exists()
    for path in copy.glob("s*/*/*.png"):
        if path.parts[-3] != "s3":  # of which the test set is
            path.write_bytes(b"no image")
    with pytest.raises(DataError, match="no training image could be read"):
        run(flags, tmp_path / "nothing", *more, "--data.on_bad_image=skip")


def test_unreadable_images_are_skipped_and_counted(flags: list[str], tiny_tree: Path, tmp_path: Path) -> None:
    more = [f"--data.root={with_two_unreadable(tiny_tree, tmp_path / 'tree')}"]
    result = run(flags, tmp_path / "run", *more, "--data.on_bad_image=skip")
    assert result.summary["skipped_images"] == 2 and result.summary["test_images"] == 7
    told = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert told["sessions"] == [3] * 7 and len(told["labels"]) == 7


@pytest.mark.parametrize(("method", "views"), [("latent_replay", 0), ("complementary", 3)])
def test_the_trunk_sees_each_image_and_each_view_exactly_once_however_many_epochs(
    flags: list[str], tmp_path: Path, method: str, views: int
) -> None:
    more = [f"--learner.method={method}", f"--learner.views={views}"]
    config = parse([*flags, f"--out={tmp_path / 'run'}", *more, "--learner.epochs=5", "--backbone.cache=off"])
    seen: list[int] = []
    from vitlr.vit import Trunk

    original = Trunk.latents

    def counted(self, images):
        seen.append(len(images))
        return original(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trunk, "latents", counted)
        runs.train(config)
    assert sum(seen) == 24 + 16 * views  # 16 to learn, 8 to test on


def test_evaluation_tracks_no_gradients_and_leaves_the_learner_as_it_was(
    flags: list[str], tmp_path: Path
) -> None:
    from vitlr.evaluation.run import evaluate

    materials = prepare(parse([*flags, f"--out={tmp_path / 'run'}"]))
    learner = build_learner(parse([*flags, f"--out={tmp_path / 'run'}"]), materials.network)
    experience = materials.stream.experiences[0]
    encoded = materials.encode(experience.paths)
    learner.learn(encoded.latents, experience.labels[encoded.rows_N], 0)
    before = learner.state()
    assert not learner.logits(encoded.latents).requires_grad
    evaluate(learner, materials.test.latents, materials.test_labels, materials.stream.num_classes)
    after = learner.state()
    assert before[1] == after[1] and all(torch.equal(before[0][name], after[0][name]) for name in before[0])


@pytest.mark.parametrize("method", ["class_mean", "slda", "ranpac", "der"])
def test_comparison_methods_run_and_report_what_they_keep(
    flags: list[str], tmp_path: Path, method: str
) -> None:
    run(flags, tmp_path / "run", f"--learner.method={method}", "--backbone.cut=3")
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 7 and lines[-1]["memory"]["bytes"] > 0
    assert lines[-1]["seen_accuracy"] > 0.2


@pytest.mark.parametrize("cut", [None, 2])
def test_native_replay_runs_within_its_memory_keeps_no_latents_on_disk_and_saves_its_network(
    flags: list[str], tmp_path: Path, cut: int | None
) -> None:
    from transformers import pipeline

    from vitlr.data import core50_stream

    more = ["--learner.method=native", "--memory.bytes=20KB", f"--backbone.cache={tmp_path / 'cache'}"]
    more += [] if cut is None else [f"--backbone.cut={cut}"]
    result = run(flags, tmp_path / "run", *more)
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 7
    assert lines[-1]["memory"]["bytes"] == 6 * 3 * 32 * 32  # 3,072 bytes an image of 32 by 32
    assert result.summary["cache"] is None and not (tmp_path / "cache").exists()
    assert result.summary["cut"] == (cut or 0)
    root = Path(result.summary["config"]["data"]["root"])
    stream = core50_stream(root, "nicv2_391", 0)
    classify = pipeline("image-classification", model=str(tmp_path / "run" / "model"))
    answers = [classify(str(root / path), top_k=1)[0]["label"] for path in stream.test.paths]
    expected = [stream.class_names[label] for label in stream.test.labels]
    accuracy = np.mean([a == b for a, b in zip(answers, expected, strict=True)])
    assert accuracy == pytest.approx(result.summary["test_accuracy"])


def test_native_replay_on_a_frozen_trunk_has_the_records_of_latent_replay(
    flags: list[str], tmp_path: Path
) -> None:
    same = ["--backbone.cut=2", "--learner.first_lr=0.05", "--learner.lr=0.01", "--memory.codec=float32"]
    run(flags, tmp_path / "latent", *same, "--learner.method=latent_replay")
    run(flags, tmp_path / "native", *same, "--learner.method=native")
    latent, native = (read_metrics(tmp_path / name) for name in ("latent", "native"))
    for one, other in zip(latent, native, strict=True):
        assert one["test_accuracy"] == other["test_accuracy"]
        assert one["memory"]["per_class"] == other["memory"]["per_class"]
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)


def test_native_replay_keeps_images_as_they_are_whatever_the_codec_of_latents(
    flags: list[str], tmp_path: Path
) -> None:
    for codec in ("float32", "int4"):
        run(flags, tmp_path / codec, "--learner.method=native", f"--memory.codec={codec}")
    one, other = (without_seconds(read_metrics(tmp_path / name)) for name in ("float32", "int4"))
    assert one == other and one[-1]["memory"]["bytes"] == one[-1]["memory"]["count"] * 3 * 32 * 32
    assert equal(learned(tmp_path / "float32"), learned(tmp_path / "int4"))


def test_blocks_trained_in_the_first_experience_cost_so_whatever_its_published_number(
    flags: list[str], tmp_path: Path
) -> None:
    from tests.runs.conftest import save_tree

    tree = save_tree(tmp_path / "core50", objects=(2, 7))  # the published experience 0 has none of them
    run(flags, tmp_path / "run", "--learner.method=cwr", f"--data.root={tree}", "--backbone.cut=1")
    lines = read_metrics(tmp_path / "run")
    assert lines[0]["experience"] > 0
    each = [line["gflop"]["head"] / line["num_images"] for line in lines]
    assert each[0] > 1.5 * each[1] and each[1:] == pytest.approx([each[1]] * (len(each) - 1))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_a_run_after_another_in_one_process_has_a_peak_of_its_own() -> None:
    from vitlr.runs.tracking import forget_peak_memory, peak_memory_bytes

    held = np.ones(300 << 17)  # 300 MiB
    high = peak_memory_bytes()
    del held
    forget_peak_memory()
    low = peak_memory_bytes()
    assert high is not None and low is not None and high - low > 250 << 20


def test_a_loss_that_is_finite_and_far_too_large_is_said_with_the_remedy(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*flags, "--data.scenario=nc", "--learner.method=naive", "--tensorboard=false"]
    for rate, said in (("0.001", False), ("10", True)):
        rates = [f"--learner.lr={rate}", f"--learner.first_lr={rate}"]
        line = ["train", *flags, *rates, f"--out={tmp_path / rate}"]
        assert main(line) == 0
        sentence = "lower learner.lr (now 10) and learner.first_lr (now 10), and start again"
        assert (sentence in capsys.readouterr().err) == said
        warnings = json.loads((tmp_path / rate / "summary.json").read_text())["warnings"]
        assert [each.endswith(sentence) for each in warnings] == [True] * said


def test_large_is_measured_by_guessing_among_the_classes_seen() -> None:
    def line(number: int, loss: float | None, classes: list[str]) -> dict[str, Any]:
        return {"experience": number, "train_loss": loss, "classes": classes}

    records = [line(0, 9.9, ["a"]), line(1, 33.7, ["b"]), line(2, None, ["a"])]
    records.append(line(3, 11.0, [str(number) for number in range(48)]))
    assert [found[0] for found in excessive_losses(records)] == [1]
    assert excessive_losses(records)[0][1:] == (33.7, pytest.approx(math.log(2)))
    assert excessive_losses(records, terms=11) == []
