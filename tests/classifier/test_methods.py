"""Every method is taught, asked, made to forget, saved and exported through the same front door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.classifier.colours import classifier, frames, same, taught
from tests.tiny_networks import MEAN, STD, make_directory

from vitlr import LatentReplayClassifier
from vitlr.errors import ConfigError, DataError
from vitlr.learning import CLOSED_FORM, COMPOSED
from vitlr.learning.methods import METHODS

SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {} for name in [*COMPOSED, *METHODS, *CLOSED_FORM] if name != "native"},
    "complementary": {"views": 2},
    "ar1": {"si_lambda": 5.0},
    "ar1_replay": {"si_lambda": 5.0},
    "der": {"lr": 1e-2, "der_beta": 0.5},  # three lessons are too few for its careful defaults
    "slda": {"slda_shrinkage": 0.5},
    "ranpac": {"ranpac_width": 64},
}
# Those that do not forget what they learned first; the others are compared with, to show how much is lost.
KEEP = (
    "complementary",
    "latent_replay",
    "ar1free",
    "ar1_replay",
    "cumulative",
    "der",
    "class_mean",
    "slda",
    "ranpac",
)
PROBE = np.concatenate([frames(colour, 4, seed=7) for colour in ("red", "green", "blue")])
# Between two colours, so that not every probability is 0 or 1.
MIXED = (frames("red", 24, seed=5) // 2 + frames("blue", 24, seed=6) // 2).astype(np.uint8)


@pytest.fixture(params=SETTINGS)
def method(request: pytest.FixtureRequest) -> str:
    """Every method but native in turn."""
    return request.param


def of(
    network: Path, method: str, colours: tuple[str, ...] = ("red", "green", "blue")
) -> LatentReplayClassifier:
    return taught(network, colours, method=method, train_precision="float32", **SETTINGS[method])


def test_it_answers_with_labels_probabilities_and_scores_that_fit(network: Path, method: str) -> None:
    model = of(network, method)
    assert model.classes_.tolist() == ["red", "green", "blue"]
    proba_NC, scores_N = model.predict_proba(PROBE), model.scores(PROBE)
    assert proba_NC.shape == (12, 3) and np.allclose(proba_NC.sum(1), 1) and (proba_NC >= 0).all()
    assert model.predict(PROBE).tolist() == model.classes_[proba_NC.argmax(1)].tolist()
    assert scores_N.shape == (12,) and (abs(scores_N) <= 1 + 1e-6).all()
    assert model.score(frames("blue", 10, seed=3), "blue") == 1  # taught last
    if method in KEEP:
        assert model.score(frames("red", 10, seed=3), "red") >= 0.9
    assert model.last_stats_ is not None and model.last_stats_.num_new == 10


def test_the_memory_holds_latents_only_if_the_method_replays_them(network: Path, method: str) -> None:
    summary = of(network, method).remember()
    assert summary.images == {"red": 10, "green": 10, "blue": 10}
    replays = method in COMPOSED or (method in METHODS and METHODS[method].replay != "none")
    assert set(summary.latents) == {"red", "green", "blue"} and (sum(summary.latents.values()) > 0) == replays
    assert (summary.bytes > 0) == (replays or method in CLOSED_FORM)
    assert summary.capacity == (30 if replays and method != "cumulative" else None)


def test_a_forgotten_class_is_never_answered_and_can_be_taught_again(network: Path, method: str) -> None:
    model = of(network, method)
    stored = model.remember().latents["green"]
    assert model.forget("green") == stored
    assert model.classes_.tolist() == ["red", "blue"]
    assert model.predict_proba(PROBE).shape == (12, 2) and "green" not in model.predict(PROBE)
    assert "green" not in model.remember().images
    with pytest.raises(DataError, match="no class 'green'"):
        model.forget("green")
    model.partial_fit(frames("green", seed=2), "green")
    assert model.classes_.tolist() == ["red", "blue", "green"]
    assert model.score(frames("green", 10, seed=3), "green") == 1


def test_what_remains_of_a_forgotten_class_is_said_and_nothing_does_of_a_mean(
    network: Path, method: str
) -> None:
    model = of(network, method)
    model.forget("green")
    assert (model.remains == "") == (method == "class_mean")
    if method == "class_mean":
        assert np.array_equal(
            model.predict_proba(PROBE), of(network, method, ("red", "blue")).predict_proba(PROBE)
        )


def test_a_saved_one_goes_on_bit_by_bit(network: Path, method: str, tmp_path: Path) -> None:
    model = of(network, method)
    model.forget("green")
    model.save(tmp_path)
    loaded = LatentReplayClassifier.load(tmp_path)
    assert same(model, loaded) and loaded.get_params()["method"] == method
    for each in (model, loaded):
        each.partial_fit(frames("grey"), "grey").partial_fit(frames("red", 5, seed=1), "red")
    assert same(model, loaded)


def test_all_classes_can_be_forgotten_and_others_taught(network: Path, method: str, tmp_path: Path) -> None:
    model = of(network, method)
    for label in model.classes_.tolist():
        model.forget(label)
    model.save(tmp_path)
    loaded = LatentReplayClassifier.load(tmp_path)
    assert not hasattr(loaded, "classes_") and loaded.remember().images == {}
    loaded.partial_fit(frames("grey"), "grey").partial_fit(frames("red"), "red")
    assert loaded.score(frames("red", 10, seed=3), "red") == 1


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
@pytest.mark.parametrize(
    "method", [name for name in SETTINGS if name not in ("complementary", "class_mean", "ranpac")]
)
def test_the_exported_model_gives_the_same_probabilities_in_transformers(
    tmp_path: Path, method: str, kind: str
) -> None:
    from transformers import AutoModelForImageClassification

    model = of(make_directory(tmp_path / "network", kind), method, ("red", "green", "blue", "grey"))
    model.forget("green")
    directory = model.export(tmp_path / "hf")
    opened = AutoModelForImageClassification.from_pretrained(directory).eval()
    images = np.concatenate([PROBE, MIXED])
    pixels = (torch.from_numpy(images) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        logits = opened(pixels.permute(0, 3, 1, 2)).logits
    assert [opened.config.id2label[index] for index in range(3)] == model.classes_.tolist()
    # Of logarithms, so that differences show however near to 0 or 1 the probabilities are.
    expected = logits.double().log_softmax(1).numpy()
    assert np.allclose(expected, np.log(model.predict_proba(images)), rtol=1e-4, atol=1e-4)


def test_slda_runs_in_onnx_with_its_biases(network: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = of(network, "slda")
    session = runtime.InferenceSession(str(model.export(tmp_path / "robot.onnx", "onnx")))
    (found,) = session.run(None, {session.get_inputs()[0].name: MIXED})
    proba_NC = model.predict_proba(MIXED)
    assert proba_NC.max(1).min() < 0.9 and np.allclose(found, proba_NC, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("vit", {"tokens": 2}), ("vit", {"cut": 1}), ("dinov2", {"cut": 3}), ("dinov2", {"class_tokens": 1})],
)
def test_two_memories_run_in_onnx_with_both(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = make_directory(tmp_path / "network", kind)
    model = taught(network, ("red", "green", "blue", "grey"), views=2, precision="float32", **settings)
    model.forget("green")
    session = runtime.InferenceSession(str(model.export(tmp_path / "robot.onnx", "onnx")))
    (found,) = session.run(None, {session.get_inputs()[0].name: MIXED})
    expected = model.predict_proba(MIXED)
    assert found.shape == (24, 3) and np.allclose(np.log(found), np.log(expected), rtol=1e-3, atol=1e-3)
    head, statistics = model._knowledge.learner.exponents
    assert head > 0 and statistics > 0 and 0.01 < expected.max() < 0.99


def test_what_a_network_of_transformers_cannot_do_is_not_exported_as_one(
    network: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"two memories, .* format onnx, or teach with latent_replay"):
        of(network, "complementary").export(tmp_path / "out")
    merged = taught(network, method="latent_replay", tokens=2)
    with pytest.raises(ConfigError, match=r"has merged tokens, .* format onnx, .* tokens='all'"):
        merged.export(tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["class_mean", "ranpac"])
@pytest.mark.parametrize("format", ["hf", "onnx"])
def test_what_is_no_linear_classifier_is_not_exported(
    network: Path, method: str, format: str, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=f"method {method} is no linear classifier .* latent_replay or slda"
    ):
        of(network, method).export(tmp_path / "out", format)
    assert not list(tmp_path.iterdir())


def test_another_method_holds_from_the_next_fit(network: Path, tmp_path: Path) -> None:
    model = of(network, "latent_replay").set_params(method="slda")
    model.partial_fit(frames("grey"), "grey").save(tmp_path)
    loaded = LatentReplayClassifier.load(tmp_path)
    assert loaded.method == "slda" and sum(loaded.remember().latents.values()) == 30
    loaded.fit(frames("red"), "red")
    assert loaded.remember().latents == {"red": 0}
    assert same(loaded, of(network, "slda", ("red",)))


def test_the_state_of_one_method_is_refused_by_another(network: Path, tmp_path: Path) -> None:
    from vitlr.classifier.saved import KIND, VERSION
    from vitlr.errors import RunError
    from vitlr.storage.state import load_state, save_state

    of(network, "slda").save(tmp_path)
    tensors, plain = load_state(tmp_path, kind=KIND, version=VERSION)
    for other in ("class_mean", "ranpac", "latent_replay"):
        plain["params_in_use"]["method"] = other
        save_state(tmp_path, tensors, plain, kind=KIND, version=VERSION)
        with pytest.raises(RunError):
            LatentReplayClassifier.load(tmp_path)


def test_native_is_refused_since_it_keeps_images(network: Path) -> None:
    with pytest.raises(ConfigError, match="method native keeps images and this classifier latents"):
        classifier(network, method="native").prepare()
