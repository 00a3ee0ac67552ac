"""The front door: scikit-learn's conventions, labels of any kind, saved classifiers, threads, bad input."""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.classifier.colours import classifier, frames, same, taught
from tests.tiny_networks import MEAN, STD

import vitlr.classifier.classifier as front
from vitlr.classifier import LatentReplayClassifier, NotFittedError
from vitlr.classifier.saved import KIND, VERSION
from vitlr.errors import BackboneError, ConfigError, DataError, RunError, VitLRError
from vitlr.latents.record import Latents
from vitlr.learning import GradientLearner
from vitlr.storage import files
from vitlr.storage.state import load_state, save_state
from vitlr.vit import load_backbone, split

# -- learning and answering -----------------------------------------------------------------------------


def test_the_first_class_alone_works_and_others_may_come_at_any_time(model: LatentReplayClassifier) -> None:
    model.partial_fit(frames("red"), "red")
    assert model.predict(frames("red", 2, seed=1)).tolist() == ["red", "red"]
    assert model.predict_proba(frames("blue", 2)).tolist() == [[1.0], [1.0]]
    for colour in ("green", "blue"):
        model.partial_fit(frames(colour), colour)
    for colour in ("red", "green", "blue"):
        assert model.score(frames(colour, 20, seed=1), colour) > 0.9


def test_answers_are_those_of_the_backbone_head_and_classifier(network: Path) -> None:
    model = taught(network, method="latent_replay", tokens="all")
    trunk, _ = split(load_backbone(network), 2)
    learner = model._knowledge.learner
    expected = learner.logits(Latents(trunk(torch.from_numpy(frames("red", 5, seed=3)))))
    assert np.allclose(model.predict_proba(frames("red", 5, seed=3)), expected.softmax(1).numpy(), atol=1e-5)


def test_one_call_with_a_label_for_each_image_learns_them_all(model: LatentReplayClassifier) -> None:
    images = np.concatenate([frames("red"), frames("green")])
    model.partial_fit(images, ["red"] * 10 + ["green"] * 10)
    assert model.score(images, np.array(["red"] * 10 + ["green"] * 10)) > 0.9
    assert model.remember().latents == {"red": 10, "green": 10}


def test_paths_pil_images_and_arrays_of_any_size_are_one_and_the_same(network: Path, tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in (*frames("red", 4, side=50), *frames("green", 4, side=32))]
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    labels = ["red"] * 4 + ["green"] * 4
    models = [
        classifier(network).partial_fit(kind, labels)
        for kind in (paths, [str(path) for path in paths], images, [np.asarray(image) for image in images])
    ]
    assert all(same(models[0], other) for other in models[1:])
    assert models[0].predict(paths[0]).shape == (1,)


def test_labels_keep_their_type_also_when_mixed(network: Path, tmp_path: Path) -> None:
    model = classifier(network)
    for label, colour in ((7, "red"), ("7", "green"), (np.int64(2**40), "blue")):
        model.partial_fit(frames(colour), label)
    assert model.classes_.tolist() == [7, "7", 2**40]
    assert [type(label) for label in model.classes_] == [int, str, int]
    model.save(tmp_path)
    loaded = LatentReplayClassifier.load(tmp_path)
    assert [type(label) for label in loaded.classes_] == [int, str, int]
    assert same(model, loaded)


def test_arrays_of_labels_have_numpys_own_types(network: Path) -> None:
    assert taught(network).classes_.dtype.kind == "U"
    numbers = classifier(network).partial_fit(frames("red", 2), np.array([4, 5]))
    assert numbers.classes_.dtype == np.int64 and numbers.predict(frames("red", 3)).dtype == np.int64


def test_columns_are_in_order_of_first_appearance(network: Path) -> None:
    model = taught(network, ("red", "blue", "green"))
    assert model.classes_.tolist() == ["red", "blue", "green"]
    proba = model.predict_proba(frames("blue", 4, seed=2))
    assert proba.shape == (4, 3) and np.allclose(proba.sum(1), 1)
    assert (proba.argmax(1) == 1).all()


def test_fit_starts_afresh(network: Path) -> None:
    images, labels = np.concatenate([frames("red"), frames("blue")]), ["red"] * 10 + ["blue"] * 10
    again = taught(network).fit(images, labels)
    assert again.classes_.tolist() == ["blue", "red"]  # sorted, as scikit-learn's tools expect
    assert same(again, classifier(network).fit(images, labels))


def test_same_seed_gives_the_same_bits(network: Path) -> None:
    assert same(taught(network), taught(network))
    assert not np.array_equal(
        taught(network).predict_proba(frames("red")),
        taught(network, random_state=1).predict_proba(frames("red")),
    )


def test_a_forgotten_class_is_gone_and_can_be_taught_again_as_new(network: Path) -> None:
    model = taught(network, policy="balanced")
    stored = model.remember().latents["green"]
    assert model.forget("green") == stored > 0
    assert model.classes_.tolist() == ["red", "blue"]
    assert "green" not in model.predict(frames("green")) and "green" not in model.remember().latents
    assert model.predict_proba(frames("red")).shape == (10, 2)
    model.partial_fit(frames("green"), "green")
    assert model.classes_.tolist() == ["red", "blue", "green"]
    assert model._knowledge.learner.state()[0]["replay.past"].tolist()[1:2] == [0]  # the old row stays empty
    assert model.score(frames("green", 10, seed=4), "green") > 0.9
    for label in model.classes_.tolist():
        model.forget(label)
    with pytest.raises(NotFittedError):
        model.predict(frames("red"))
    assert model.partial_fit(frames("red"), "red").classes_.tolist() == ["red"]


def test_the_memory_says_what_it_holds(network: Path) -> None:
    model = taught(network, method="latent_replay", memory="20kB", codec="int8", tokens="all")
    remembered = model.remember()
    bytes_each = 17 * 32 + 4 * 17
    assert remembered.capacity == 20_000 // bytes_each
    assert remembered.bytes == bytes_each * sum(remembered.latents.values()) <= 20_000


def test_what_scores_below_the_threshold_gets_the_unknown_label(network: Path) -> None:
    model = taught(network)
    images = np.concatenate([frames("red", 3, seed=5), frames("grey", 3)])
    scores, plain = model.scores(images), model.predict(images)
    model.set_params(threshold=float(np.sort(scores)[2:4].mean()))
    predicted = model.predict(images, unknown="unknown")
    assert predicted[scores < model.threshold_].tolist() == ["unknown"] * 3
    assert predicted[scores >= model.threshold_].tolist() == plain[scores >= model.threshold_].tolist()
    assert model.predict(images, unknown=-1).dtype == object


def test_answers_are_labels_probabilities_and_scores_of_one_state(network: Path) -> None:
    model = taught(network)
    labels, proba_NC, scores_N = model.answers(frames("blue", 3))
    assert labels == ("red", "green", "blue")
    assert np.array_equal(proba_NC, model.predict_proba(frames("blue", 3)))
    assert np.array_equal(scores_N, model.scores(frames("blue", 3)))


def test_scores_are_the_largest_cosine_with_a_row_of_the_classifier(network: Path) -> None:
    model = taught(network, method="latent_replay", tokens="all")
    trunk, _ = split(load_backbone(network), 2)
    learner = model._knowledge.learner
    features = learner.head(trunk(torch.from_numpy(frames("grey", 4)))).detach().numpy()
    rows = learner.classifier_CD.numpy()
    cosines = features @ rows.T / np.linalg.norm(features, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    assert np.allclose(model.scores(frames("grey", 4)), cosines.max(1), atol=1e-5)
    alone = classifier(network, method="latent_replay").partial_fit(frames("red"), "red")
    assert alone.scores(frames("blue", 2)).tolist() == [1, 1]


# -- scikit-learn's conventions -------------------------------------------------------------------------


def test_parameters_can_be_read_and_set_by_name(network: Path) -> None:
    model = classifier(network, lr=0.5)
    assert model.get_params()["lr"] == 0.5
    assert model.set_params(lr=0.25, memory="1MB") is model and model.get_params()["memory"] == "1MB"
    with pytest.raises(ConfigError, match=r"no setting 'lrr'; choose from backbone, .*random_state"):
        model.set_params(lrr=1)


def test_every_setting_of_learner_and_memory_has_the_same_name_and_default() -> None:
    params = LatentReplayClassifier().get_params()
    learner = {each.name: each.default for each in dataclasses.fields(front.LearnerConfig)}
    assert {name: params[name] for name in learner} == learner  # None where it depends on the method
    memory = front.MemoryConfig()
    given = (params["memory"], params["policy"], params["codec"], params["tokens"])
    assert given == (front.DEFAULT_BYTES, memory.policy, memory.codec, memory.tokens)


def test_scikit_learn_clones_it(network: Path) -> None:
    base = pytest.importorskip("sklearn.base")
    model = taught(network, lr=0.02)
    clone = base.clone(model)
    assert clone.get_params() == model.get_params() and not hasattr(clone, "classes_")
    assert same(model, taught(network, lr=0.02))


def test_settings_changed_later_hold_from_the_next_fit(network: Path, tmp_path: Path) -> None:
    model, reference = taught(network), taught(network)
    model.set_params(memory=3, lr=9.0)
    model.save(tmp_path)
    for other in (model, LatentReplayClassifier.load(tmp_path), reference):
        other.partial_fit(frames("grey"), "grey")
        assert other.remember().capacity == 30
    assert same(model, reference)
    loaded = LatentReplayClassifier.load(tmp_path)
    assert loaded.get_params() == {**model.get_params(), "backbone": str(network)}
    assert loaded.set_params(lr=0.01).fit(frames("red"), "red").remember().capacity == 3


# -- saved classifiers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_a_loaded_classifier_goes_on_bit_by_bit_without_the_networks_directory(
    network: Path, tmp_path: Path, precision: str, cut: int, codec: str
) -> None:
    moved = tmp_path / "network"
    shutil.copytree(network, moved)
    settings = {"precision": precision, "cut": cut, "codec": codec, "policy": "balanced", "si_lambda": 1.0}
    model = taught(moved, ("red", "green"), **settings)
    model.save(tmp_path / "robot")
    shutil.rmtree(moved)
    loaded = LatentReplayClassifier.load(tmp_path / "robot")
    assert same(model, loaded)
    for other in (model, loaded):
        other.partial_fit(frames("blue"), "blue").partial_fit(frames("red", 5, seed=1), "red")
        other.forget("green")
        other.partial_fit(frames("green", 5), "green")
    assert same(model, loaded)
    loaded.save(tmp_path / "robot")
    assert same(model, LatentReplayClassifier.load(tmp_path / "robot"))
    loaded.fit(frames("red"), "red")  # also afresh, from the weights that came along


def test_of_two_that_load_learn_and_save_the_second_is_refused_and_no_lesson_is_lost(
    network: Path, tmp_path: Path
) -> None:
    taught(network).save(tmp_path / "robot")
    first, second = (LatentReplayClassifier.load(tmp_path / "robot") for _ in range(2))
    first.partial_fit(frames("grey"), "white").save(tmp_path / "robot")
    second.partial_fit(frames("grey"), "black")
    (tmp_path / "link").symlink_to("robot")
    for place in ("robot", "link"):
        with pytest.raises(
            RunError, match="was saved by another program since it was loaded here, whose lessons"
        ):
            second.save(tmp_path / place)
    assert "white" in LatentReplayClassifier.load(tmp_path / "robot").classes_.tolist()
    second.save(tmp_path / "other")  # elsewhere nothing is lost
    first.partial_fit(frames("grey"), "black").save(tmp_path / "robot")  # one's own state is no one else's
    again = LatentReplayClassifier.load(tmp_path / "robot").partial_fit(frames("grey"), "black")
    again.save(tmp_path / "robot")
    with pytest.raises(RunError, match="another program"):
        first.save(tmp_path / "robot")
    taught(network).save(tmp_path / "robot")  # one that was never loaded replaces what is there
    shutil.rmtree(tmp_path / "robot")
    first.save(tmp_path / "robot")


def test_a_saved_directory_holds_the_state_and_one_network(network: Path, tmp_path: Path) -> None:
    model = taught(network)
    model.save(tmp_path)
    first = {path.name for path in tmp_path.iterdir()}
    assert len(first) == 3 and {".lock", "state.safetensors"} < first
    model.partial_fit(frames("grey"), "grey").save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == first
    taught(network, image_size=16).save(tmp_path)
    second = {path.name for path in tmp_path.iterdir()}
    assert len(second) == 3 and second != first
    taught(network).save(tmp_path, include_trunk=False)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "state.safetensors"}


def test_without_its_trunk_it_needs_the_same_network(network: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(network, moved)
    model = taught(moved)
    model.save(tmp_path / "robot", include_trunk=False)
    assert same(model, LatentReplayClassifier.load(tmp_path / "robot"))
    moved.rename(other)
    with pytest.raises(BackboneError):
        LatentReplayClassifier.load(tmp_path / "robot")
    assert same(model, LatentReplayClassifier.load(tmp_path / "robot", backbone=other))
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.5] * 3}))
    with pytest.raises(RunError, match="other weights or another normalisation"):
        LatentReplayClassifier.load(tmp_path / "robot", backbone=other)


def test_a_save_that_fails_at_any_write_flush_or_rename_leaves_the_old_or_the_new_classifier(
    network: Path, tmp_path: Path
) -> None:
    old, new = taught(network, ("red", "green")), taught(network, image_size=16)  # two different networks
    outcomes = []
    for fail_at in range(100):
        place = tmp_path / str(fail_at)
        old.save(place)
        calls = 0

        def failing(real: Any, fail_at: int = fail_at) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == fail_at + 1:
                    raise OSError(28, "No space left on device")
                return real(*args, **kwargs)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "replace"):
                patch.setattr(files.os, name, failing(getattr(files.os, name)))
            try:
                new.save(place)
            except RunError:
                outcomes.append("failed")
            else:
                break
        loaded = LatentReplayClassifier.load(place)
        outcomes[-1] = "old" if loaded.classes_.tolist() == ["red", "green"] else "new"
        assert same(loaded, old if outcomes[-1] == "old" else new)
        new.save(place)  # and it may be tried again
    assert outcomes == ["old"] * 5 + ["new"]  # flush, rename, flush of two files each
    assert same(LatentReplayClassifier.load(place), new)


@pytest.mark.parametrize("change", [{"state": -1}, {"state": 2**200}, {"inc": "1"}])
def test_a_saved_generator_that_is_none_is_refused(network: Path, tmp_path: Path, change: dict) -> None:
    model = taught(network, method="latent_replay")
    model.save(tmp_path)
    tensors, plain = load_state(tmp_path, kind=KIND, version=VERSION)
    plain["learner"]["rng"]["state"].update(change)
    save_state(tmp_path, tensors, plain, kind=KIND, version=VERSION)
    with pytest.raises(RunError, match="parts do not fit"):
        LatentReplayClassifier.load(tmp_path)


def test_a_damaged_or_altered_saved_network_is_noticed_and_replaced_by_the_next_save(
    network: Path, tmp_path: Path
) -> None:
    model = taught(network)
    model.save(tmp_path)
    (stored,) = tmp_path.glob("backbone-*")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError, match="checksum"):
        LatentReplayClassifier.load(tmp_path)
    model.save(tmp_path)
    assert same(model, LatentReplayClassifier.load(tmp_path))
    tensors, plain = load_state(tmp_path, kind="backbone", version=1, name=stored.stem)
    tensors["layernorm.bias"] += 1  # another network, whole in itself
    save_state(tmp_path, tensors, plain, kind="backbone", version=1, name=stored.stem)
    with pytest.raises(RunError, match="holds another network"):
        LatentReplayClassifier.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, plain: plain.pop("labels"),
        lambda tensors, plain: plain["labels"].pop(),
        lambda tensors, plain: plain["labels"].append(1.5),
        lambda tensors, plain: plain["params_in_use"].update(surprise=1),
        lambda tensors, plain: plain["params_in_use"].update(epochs="4"),
        lambda tensors, plain: plain["backbone"].update(sha256="../../etc/passwd"),
        lambda tensors, plain: plain["backbone"].update(sha256="0" * 64),
        lambda tensors, plain: plain["network"].update(cut=1),
        lambda tensors, plain: plain["network"].update(cut=-1),
        lambda tensors, plain: plain["learner"].update(rng={"bit_generator": "MT19937"}),
        lambda tensors, plain: plain["learner"]["memory"].update(shape=None),
        lambda tensors, plain: tensors.pop("classifier"),
        lambda tensors, plain: tensors.pop("memory.fields.codes"),
        lambda tensors, plain: tensors.update({"head.norm.bias": torch.zeros(1)}),
        lambda tensors, plain: tensors.update({"memory.fields.codes": torch.zeros(30, 2, 2)}),
        lambda tensors, plain: tensors.update({"memory.labels": torch.full((30,), 99)}),
    ],
)
def test_a_state_whose_parts_do_not_fit_gives_a_sentence(network: Path, tmp_path: Path, change: Any) -> None:
    taught(network, method="latent_replay").save(tmp_path)
    tensors, plain = load_state(tmp_path, kind=KIND, version=VERSION)
    change(tensors, plain)
    save_state(tmp_path, tensors, plain, kind=KIND, version=VERSION)
    with pytest.raises(VitLRError):
        LatentReplayClassifier.load(tmp_path)


def test_an_exported_classifier_answers_the_same_in_transformers(network: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    model = taught(network, method="latent_replay", tokens="all")
    opened = AutoModelForImageClassification.from_pretrained(model.export(tmp_path / "hf")).eval()
    images = frames("red", 4, seed=8)
    pixels = (torch.from_numpy(images) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        logits = opened(pixels.permute(0, 3, 1, 2)).logits
    assert [opened.config.id2label[index] for index in range(3)] == model.classes_.tolist()
    assert np.allclose(logits.softmax(1).numpy(), model.predict_proba(images), atol=1e-5)
    with pytest.raises(ConfigError, match="format must be hf or onnx"):
        model.export(tmp_path / "other", format="torchscript")


# -- threads --------------------------------------------------------------------------------------------


def test_predictions_during_learning_are_those_of_one_finished_experience(network: Path) -> None:
    probe, order = frames("grey", 4), ("red", "green", "blue", "red", "green", "blue")
    step_by_step, reference = [], classifier(network)
    for colour in order:
        step_by_step.append(reference.partial_fit(frames(colour), colour).predict_proba(probe))
    model = classifier(network).partial_fit(frames(order[0]), order[0])
    seen: list[np.ndarray] = []
    done, failures = threading.Event(), []

    def ask() -> None:
        try:
            while not done.is_set():
                seen.append(model.predict_proba(probe))
                model.scores(probe), model.predict(probe, unknown="?"), model.remember(), model.classes_
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for colour in order[1:]:
        model.partial_fit(frames(colour), colour)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(any(np.array_equal(found, step) for step in step_by_step) for found in seen)
    assert np.array_equal(model.predict_proba(probe), step_by_step[-1])


def test_an_answer_comes_while_an_experience_is_being_learned(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = taught(network)
    before = model.predict_proba(frames("grey"))
    learning, go_on, real = threading.Event(), threading.Event(), GradientLearner.learn

    def slow(*args: Any) -> Any:
        stats = real(*args)
        learning.set()
        assert go_on.wait(30)
        return stats

    monkeypatch.setattr(GradientLearner, "learn", slow)
    thread = threading.Thread(target=model.partial_fit, args=(frames("grey"), "grey"))
    thread.start()
    assert learning.wait(30)
    assert np.array_equal(model.predict_proba(frames("grey")), before)
    assert model.classes_.tolist() == ["red", "green", "blue"]
    go_on.set()
    thread.join()
    assert model.classes_.tolist() == ["red", "green", "blue", "grey"]


def test_concurrent_calls_of_partial_fit_follow_one_another(network: Path) -> None:
    model = classifier(network)
    threads = [
        threading.Thread(target=model.partial_fit, args=(frames(colour), colour))
        for colour in ("red", "green", "blue")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(model, taught(network, tuple(model.classes_.tolist())))


# -- bad input ------------------------------------------------------------------------------------------


def test_what_needs_a_taught_classifier_says_so(model: LatentReplayClassifier, tmp_path: Path) -> None:
    for call in (
        lambda: model.predict(frames("red")),
        lambda: model.predict_proba(frames("red")),
        lambda: model.scores(frames("red")),
        lambda: model.score(frames("red"), "red"),
        lambda: model.classes_,
        lambda: model.remember(),
        lambda: model.forget("red"),
        lambda: model.save(tmp_path / "robot"),
        lambda: model.export(tmp_path / "hf"),
    ):
        with pytest.raises(NotFittedError, match="call partial_fit or fit first"):
            call()
    assert not hasattr(model, "classes_") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [
        ([], "red", "no images"),
        (np.zeros((0, 32, 32, 3), np.uint8), [], "no images"),
        (frames("red", 3), ["red", "red"], "3 images came with 2 labels"),
        (frames("red", 1), [], "1 images came with 0 labels"),
        (frames("red", 2), 1.5, "string or an integer, got 1.5"),
        (frames("red", 2), None, "string or an integer, got None"),
        (frames("red", 2), True, "string or an integer, got True"),
        (frames("red", 3), b"red", "string or an integer"),
        (frames("red", 2), ["red", None], "string or an integer, got None"),
        (frames("red", 2), np.array([1.0, 2.0]), "string or an integer, got 1.0"),
        (["missing.png"], "red", "missing.png"),
        ([frames("red", 1)[0], b"not an image"], "red", "image"),
        (3, "red", "got int"),
    ],
)
def test_bad_input_gives_one_sentence_and_changes_nothing(
    network: Path, images: Any, labels: Any, named: str
) -> None:
    model = taught(network, ("red", "green"))
    with pytest.raises(DataError, match=named):
        model.partial_fit(images, labels)
    assert same(model, taught(network, ("red", "green")))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"memory": -1}, "memory.capacity"),
        ({"memory": "much"}, "memory.bytes"),
        ({"memory": 1.5}, "memory must be a number of latents or a size such as 20MB, got 1.5"),
        ({"memory": True}, "memory must be"),
        ({"policy": "best"}, "memory.policy"),
        ({"epochs": 0}, "learner.epochs"),
        ({"epochs": "4"}, "epochs must be a whole number, got '4'"),
        ({"epochs": 2.0}, "epochs must be a whole number, got 2.0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"random_state": -1}, "wrong type or range"),
        ({"random_state": np.random.RandomState(0)}, "random_state must be a whole number"),
        ({"method": "native"}, "method native keeps images"),
        ({"cut": 4}, "cut 4 of 3 is out of range"),
        ({"image_size": 33}, "image_size must be a multiple"),
        ({"precision": "int4"}, "precision must be auto or one of"),
        ({"backbone": "no/such/place/here"}, "no such directory"),
        ({"threshold": float("nan")}, "threshold must be -1 to 1, as scores are, got nan"),
        ({"threshold": "0.2"}, "threshold must be -1 to 1, as scores are, got '0.2'"),
        ({"threshold": 5.0}, "threshold must be -1 to 1, as scores are, got 5.0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_when_learning_starts(
    network: Path, settings: dict, error: str
) -> None:
    with pytest.raises(VitLRError, match=error):
        classifier(network).set_params(**settings).partial_fit(frames("red"), "red")


def test_an_experience_that_diverges_leaves_the_model_as_it_was(network: Path, tmp_path: Path) -> None:
    model = taught(network, ("red",), lr=1e30, first_lr=0.01)
    before = model.scores(frames("red")), model.predict_proba(frames("red"))
    with pytest.raises(RunError, match="lower learner"):
        model.partial_fit(np.concatenate([frames("blue"), frames("grey")]), ["blue"] * 10 + ["grey"] * 10)
    assert model.classes_.tolist() == ["red"] and model.remember().latents == {"red": 10}
    assert np.array_equal(model.scores(frames("red")), before[0])
    assert np.array_equal(model.predict_proba(frames("red")), before[1])
    model.save(tmp_path)
    assert same(model, LatentReplayClassifier.load(tmp_path))


def test_whole_numbers_of_numpy_are_settings_like_any_other(network: Path, tmp_path: Path) -> None:
    model = taught(
        network, cut=np.int64(2), epochs=np.int32(4), random_state=np.int64(0), image_size=np.int64(32)
    )
    model.save(tmp_path)
    assert same(model, LatentReplayClassifier.load(tmp_path))
    assert same(model, taught(network, cut=2, epochs=4, random_state=0, image_size=32))


def test_a_threshold_changed_later_holds_at_once_and_is_checked(network: Path, tmp_path: Path) -> None:
    model = taught(network)
    highest = float(model.scores(frames("grey")).max())
    assert set(model.set_params(threshold=1.0).predict(frames("grey"), unknown="?")) == {"?"} and highest < 1
    assert "?" not in model.set_params(threshold=-1).predict(frames("grey"), unknown="?")
    assert model.set_params(threshold=None).threshold_ == 0.05
    for value in ("x", float("nan"), 5.0, -1.01, True):
        model.set_params(threshold=value)
        with pytest.raises(ConfigError, match="threshold must be -1 to 1"):
            model.predict(frames("red"), unknown="?")
        with pytest.raises(ConfigError, match="threshold must be -1 to 1"):
            model.save(tmp_path / "robot")
    assert not (tmp_path / "robot").exists()


def test_a_codec_that_cannot_hold_the_networks_latents_is_refused_before_anything_is_learned(
    tmp_path: Path,
) -> None:
    from transformers import ViTConfig, ViTModel

    shape = {"hidden_size": 33, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **shape), add_pooling_layer=False).save_pretrained(
        tmp_path
    )
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    with pytest.raises(ConfigError, match="int4"):
        classifier(tmp_path, codec="int4").prepare()


@pytest.mark.parametrize("method", ["latent_replay", "der"])
def test_all_classes_can_be_forgotten_saved_and_others_taught(
    network: Path, tmp_path: Path, method: str
) -> None:
    model = taught(network, ("red", "green"), method=method)
    assert model.forget("red") == 10 and model.forget("green") == 10
    model.save(tmp_path)
    loaded = LatentReplayClassifier.load(tmp_path)
    assert loaded.remember().latents == {} and not hasattr(loaded, "classes_")
    with pytest.raises(NotFittedError):
        loaded.predict(frames("red"))
    loaded.partial_fit(frames("blue"), "blue")
    assert loaded.predict(frames("blue")).tolist() == ["blue"] * 10


def test_images_in_a_pandas_series_are_taken_by_position_whatever_its_index(
    network: Path, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    paths = []
    for number, colour in enumerate(("red", "red", "blue", "blue")):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(frames(colour, 1, seed=number)[0]).save(paths[-1])
    table = pandas.DataFrame({"path": paths, "y": ["red", "red", "blue", "blue"]}).iloc[[3, 0, 2, 1]]
    model = classifier(network, epochs=20).partial_fit(table["path"], table["y"])
    listed = classifier(network, epochs=20).partial_fit(list(table["path"]), list(table["y"]))
    assert same(model, listed)
    assert model.predict(table["path"].iloc[[1, 0]]).tolist() == listed.predict([paths[0], paths[3]]).tolist()


def test_saving_leaves_files_of_other_names_alone(network: Path, tmp_path: Path) -> None:
    own = tmp_path / "backbone-finetuned.safetensors"
    own.write_text("mine")
    taught(network).save(tmp_path)
    assert own.read_text() == "mine"


def test_a_network_with_the_same_weights_and_other_heads_is_refused(network: Path, tmp_path: Path) -> None:
    taught(network).save(tmp_path / "robot", include_trunk=False)
    shutil.copytree(network, tmp_path / "other")
    config = json.loads((network / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"num_attention_heads": 2}))
    with pytest.raises(RunError, match=r"has num_attention_heads 2 and the one that .* has 4"):
        LatentReplayClassifier.load(tmp_path / "robot", backbone=tmp_path / "other")
    taught(tmp_path / "other").save(
        tmp_path / "robot"
    )  # not beside weights with the configuration of another
    taught(network).save(tmp_path / "robot")
    assert same(taught(network), LatentReplayClassifier.load(tmp_path / "robot"))


def test_settings_go_to_other_processes_and_what_was_taught_does_not(network: Path) -> None:
    model = classifier(network, lr=0.02)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.get_params() == model.get_params()
    with pytest.raises(TypeError, match="save it and load it"):
        pickle.dumps(taught(network))


def test_labels_of_an_enumeration_are_their_text(network: Path) -> None:
    class Kind(str, enum.Enum):
        MUG = "mug"

    model = classifier(network).partial_fit(frames("red"), Kind.MUG)
    assert model.classes_.tolist() == ["mug"] and type(model.classes_.tolist()[0]) is str


def test_labels_that_are_written_in_two_ways_in_unicode_are_one(network: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    model = classifier(network).partial_fit(frames("red"), composed).partial_fit(frames("red"), apart)
    assert model.classes_.tolist() == [composed]
    assert model.score(frames("red"), apart) == 1 and model.forget(apart)


@pytest.mark.parametrize(
    "label", ["a\u200cb", "\u06a9\u062a\u0627\u0628", "\U0001f44d\U0001f3fd", "a\u00a0b", "चाय"]
)
def test_letters_of_every_language_joiners_and_emoji_are_ordinary(network: Path, label: str) -> None:
    assert classifier(network).partial_fit(frames("red", 2), label).predict(frames("red", 1)).tolist() == [
        label
    ]


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"red", "blue"}, "labels came as a set, which has no order; give a list"),
        ("", "at least one visible character"),
        ("mug\0", "holds a control character"),
        (["a", "b\nc"], "holds a line break"),
    ],
)
def test_labels_without_order_or_that_no_line_can_hold_are_refused(
    model: LatentReplayClassifier, labels: Any, named: str
) -> None:
    with pytest.raises(DataError, match=named):
        model.partial_fit(frames("red", 2), labels)


@pytest.mark.parametrize("format", ["hf", "onnx"])
def test_labels_that_read_the_same_are_not_exported_together(
    network: Path, tmp_path: Path, format: str
) -> None:
    model = classifier(network).partial_fit(frames("red", 2), 1).partial_fit(frames("blue", 2), "1")
    with pytest.raises(ConfigError, match="labels 1 and '1' read the same"):
        model.export(tmp_path / "x.onnx", format)
    assert not list(tmp_path.iterdir())


def test_a_tilde_is_the_home_directory(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Image.fromarray(frames("red", 1)[0]).save(tmp_path / "red.png")
    model = classifier(network, method="latent_replay").partial_fit("~/red.png", "red")
    model.save("~/robot")
    model.export("~/hf")
    assert (tmp_path / "robot").is_dir() and (tmp_path / "hf").is_dir()
    assert LatentReplayClassifier.load("~/robot").predict(["~/red.png"]).tolist() == ["red"]


def test_what_cannot_be_read_is_left_out_and_named_if_asked(network: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad, good = str(tmp_path / "bad.png"), list(frames("red", 3))
    model = classifier(network)
    model.partial_fit([*good, bad], ["red", "red", "red", "blue"], on_bad_image="skip")
    assert model.classes_.tolist() == ["red"] and model.last_skipped_ == (bad,)
    assert model.remember().images == {"red": 3}
    _, proba, scores = model.answers([good[0], bad, good[1]], on_bad_image="skip")
    assert np.isnan(scores).tolist() == [False, True, False] == np.isnan(proba).all(axis=1).tolist()
    with pytest.raises(DataError, match="none of the 1 images could be read"):
        model.partial_fit([bad], "blue", on_bad_image="skip")
    with pytest.raises(DataError, match=r"bad\.png"):
        model.partial_fit([*good, bad], "red")
    assert np.isnan(model.answers([bad], on_bad_image="skip")[2]).all()


def test_forgetting_a_class_that_is_not_there_lists_those_that_are(network: Path) -> None:
    with pytest.raises(DataError, match="no class 'mug' to forget; the classes are 'red', 'green', 'blue'"):
        taught(network).forget("mug")
