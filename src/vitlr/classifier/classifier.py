"""The front door for a program: an image classifier that is taught bit by bit and forgets little.

    from vitlr import LatentReplayClassifier

    model = LatentReplayClassifier("google/vit-base-patch32-384", image_size=128, memory="20MB")
    model.partial_fit(frames, "mug")                 # arrays, paths or PIL images
    model.predict(more_frames)
    model.save("robot")
    model = LatentReplayClassifier.load("robot")     # goes on exactly where it stood

Shapes: N images, T tokens, D width, C classes.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.classifier.parts import (
    Label,
    Network,
    Remembered,
    Snapshot,
    Taught,
    checked_images,
    checked_label,
    checked_labels,
    label_array,
)
from vitlr.errors import BackboneError, ConfigError, DataError, RunError, VitLRError
from vitlr.learning import CLOSED_FORM, GradientLearner, LearnerConfig, LearnStats
from vitlr.learning.methods import keeps_images
from vitlr.learning.settings import CLOSED_FORM_SETTINGS
from vitlr.replay import MemoryConfig
from vitlr.replay.codec import codec_named
from vitlr.runs.checkpoint import load_state, write_state
from vitlr.storage.files import locked
from vitlr.vit import Backbone, Head, save_image_classifier
from vitlr.vit.exports.card import SHOWN, model_card

__all__ = ["LatentReplayClassifier", "NotFittedError", "Remembered"]

KIND, VERSION = "classifier", 1

_NETWORK_SETTINGS = ("image_size", "blocks", "cut", "precision", "device")


class NotFittedError(VitLRError, AttributeError):
    """Nothing has been learned yet. An AttributeError too, so that hasattr(model, "classes_") is False."""


class LatentReplayClassifier:
    """Vision transformer cut in two, with latent replay; the conventions of scikit-learn's classifiers.

    Each call of ``partial_fit`` is one experience; labels, strings or integers, may be new at any time.
    Settings are stored as given and checked when learning starts; changed by ``set_params`` they hold from
    the next ``fit``, ``threshold`` at once. There is no ``n_features_in_``: images of any size are taken.
    Predictions may be asked for from other threads while an experience is being learned: they answer from the last
    finished one.

    Args:
        backbone: name or directory of the network, as ``vitlr.vit.load_backbone`` takes them.
        image_size: side in pixels that images are resized to; the network's own by default.
        blocks: transformer blocks kept; all by default.
        cut: blocks that stay frozen; all but the last by default.
        memory: latents kept at most, or their bytes such as ``"20MB"``.
        policy, codec: which latents are kept and how; see ``vitlr.replay.MemoryConfig``.
        method, epochs, batch_size, first_lr, lr, classifier_lr_scale, momentum, weight_decay: how an experience is
            learned; see ``vitlr.learning.LearnerConfig``.
        si_lambda, der_alpha, der_beta, train_precision: the same.
        precision: of the frozen part, float32, bfloat16 or int8; by default what this processor is fast at without
            a loss.
        device: where it computes, ``cpu``, ``cuda``, ``cuda:NUMBER``, or ``auto`` for a GPU where there is one.
        threshold: ``scores`` below it mean an unknown object; what that is worth, see there.
        random_state: seed; None takes another one each time.
    """

    def __init__(
        self,
        backbone: str | Path = "bundled",
        *,
        image_size: int | None = None,
        blocks: int | None = None,
        cut: int | None = None,
        memory: int | str = MemoryConfig.capacity,
        policy: str = MemoryConfig.policy,
        codec: str = MemoryConfig.codec,
        method: str = LearnerConfig.method,
        epochs: int = LearnerConfig.epochs,
        batch_size: int = LearnerConfig.batch_size,
        first_lr: float = LearnerConfig.first_lr,
        lr: float = LearnerConfig.lr,
        classifier_lr_scale: float = LearnerConfig.classifier_lr_scale,
        momentum: float = LearnerConfig.momentum,
        weight_decay: float = LearnerConfig.weight_decay,
        si_lambda: float = LearnerConfig.si_lambda,
        der_alpha: float = LearnerConfig.der_alpha,
        der_beta: float = LearnerConfig.der_beta,
        train_precision: str = LearnerConfig.train_precision,
        precision: str | None = None,
        device: str = "cpu",
        threshold: float = 0.2,
        random_state: int | None = 0,
    ) -> None:
        self.backbone = backbone
        self.image_size = image_size
        self.blocks = blocks
        self.cut = cut
        self.memory = memory
        self.policy = policy
        self.codec = codec
        self.method = method
        self.epochs = epochs
        self.batch_size = batch_size
        self.first_lr = first_lr
        self.lr = lr
        self.classifier_lr_scale = classifier_lr_scale
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.si_lambda = si_lambda
        self.der_alpha = der_alpha
        self.der_beta = der_beta
        self.train_precision = train_precision
        self.precision = precision
        self.device = device
        self.threshold = threshold
        self.random_state = random_state
        self._learning = threading.RLock()  # held by whatever changes the parts below, or copies them out
        self._taught: Taught | None = None
        self._published: Snapshot | None = None  # replaced, never changed: readers need no lock

    # -- settings -----------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name, as given."""
        del deep  # no setting has settings of its own
        return {name: getattr(self, name) for name in _settings()}

    def set_params(self, **params: Any) -> LatentReplayClassifier:
        """Change settings by name; ConfigError lists the known ones."""
        unknown = sorted(set(params) - set(_settings()))
        if unknown:
            raise ConfigError(f"there is no setting {unknown[0]!r}; choose from {', '.join(_settings())}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator; only scikit-learn calls it, so it is there to be imported."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        images = InputTags(two_d_array=False, three_d_array=True, string=True)
        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            input_tags=images,
            classifier_tags=ClassifierTags(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process or a deep copy gets one with the same settings; only before anything is learned.

        Raises:
            TypeError: something was learned.
        """
        if self._published is not None:
            raise TypeError("a classifier that has learned is not pickled or copied: save it and load it")
        return _with_settings, (type(self), self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return self._published is not None and bool(self._published.labels)

    # -- learning -----------------------------------------------------------------------------------

    def prepare(self) -> LatentReplayClassifier:
        """Load the network now, which the first ``partial_fit`` otherwise does; errors as there."""
        with self._learning:
            if self._taught is None:
                self._taught = self._afresh()
        return self

    def fit(self, X: Any, y: Any) -> LatentReplayClassifier:
        """Start afresh and learn these images; see ``partial_fit``."""
        with self._learning:
            taught = self._afresh()
            taught.learn(X, y)
            self._taught, self._published = taught, taught.snapshot()
        return self

    def partial_fit(self, X: Any, y: Any) -> LatentReplayClassifier:
        """Learn one experience.

        Args:
            X: one image or many: paths, PIL images or arrays, of any size. A path of a video or animation, or a
                ``vitlr.data.video.Video``, stands for the frames that are taken from it, here and below.
            y: one label for all of them, or one for each (one for a video); strings or integers.

        Raises:
            DataError: no images, an unreadable one, another number of labels, a label of another type.
            ConfigError, BackboneError: a setting that cannot be used.
            RunError: learning diverged; the model is as it was.
        """
        with self._learning:
            taught = self._taught if self._taught is not None else self._afresh()
            taught.learn(X, y)
            self._taught, self._published = taught, taught.snapshot()
        return self

    def forget(self, label: Label) -> int:
        """Remove a class, its latents and its row of the classifier; returns how many latents there were.

        The blocks above the cut keep what they learned from it. It can be taught again, as a new class.

        Raises:
            DataError: there is no such class.
        """
        with self._learning:
            self._snapshot()
            assert self._taught is not None
            removed = self._taught.forget(checked_label(label))
            self._published = self._taught.snapshot()
        return removed

    # -- answers ------------------------------------------------------------------------------------

    @property
    def classes_(self) -> np.ndarray:
        """(C,) labels in the order of first appearance, that of the columns of ``predict_proba``."""
        return label_array(self._snapshot().labels)

    @property
    def last_stats_(self) -> LearnStats | None:
        """Loss, accuracy and steps of the last experience; None after a load or ``forget``."""
        return self._snapshot().stats

    def predict(self, X: Any, unknown: Label | None = None) -> np.ndarray:
        """(N,) labels. With ``unknown`` given, that label where the score is below ``threshold``."""
        snapshot = self._snapshot()
        logits_NC, scores_N = snapshot.answer(X)
        labels = [snapshot.labels[index] for index in logits_NC.argmax(dim=1).tolist()]
        if unknown is not None:
            _check_threshold(self.threshold)
            unknown, known = checked_label(unknown), (scores_N >= self.threshold).tolist()
            labels = [label if is_known else unknown for label, is_known in zip(labels, known, strict=True)]
        return label_array(labels)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, C) float64 probabilities, columns as in ``classes_``."""
        return self._snapshot().answer(X)[0].double().softmax(dim=1).numpy()

    def scores(self, X: Any) -> np.ndarray:
        """(N,) float32 in -1..1, how much each image looks like something known; higher is more.

        The largest cosine between the image's features and a class's row of the classifier. Unlike the
        largest probability it does not rise because the other classes are still worse, and it needs no
        stored latents. It is 1 as long as only one class is known, since nothing was learned to tell it from.

        On real objects (docs/results.md, "Unknown objects") its AUROC for taught against not taught was .82 with
        2 objects taught and .65 with 25, .75 where no object left out was of a taught kind: what looks alike is not
        told apart reliably. The threshold 0.2 kept 64 and 89 % of taught ones and rejected 81 and 25 % of the others.
        Set it from frames of your own.
        """
        return self._snapshot().answer(X)[1].numpy()

    def answers(self, X: Any) -> tuple[tuple[Label, ...], np.ndarray, np.ndarray]:
        """Labels (C), their probabilities (N, C) and the scores (N,) of images, in one pass and of one state.

        What ``classes_``, ``predict_proba`` and ``scores`` tell may be of different states where another thread
        is teaching in between.
        """
        snapshot = self._snapshot()
        logits_NC, scores_N = snapshot.answer(X)
        return snapshot.labels, logits_NC.double().softmax(dim=1).numpy(), scores_N.numpy()

    def score(self, X: Any, y: Any) -> float:
        """Accuracy, 0..1, on labelled images; ``y`` is one label for all or one for each."""
        snapshot, images = self._snapshot(), checked_images(X)
        labels = checked_labels(y, len(images))
        rows, logits_NC, _ = snapshot.answer_rows(images)
        predicted = logits_NC.argmax(dim=1).tolist()
        hits = [snapshot.labels[index] == labels[row] for index, row in zip(predicted, rows, strict=True)]
        return sum(hits) / len(hits)

    def remember(self) -> Remembered:
        """What the replay memory holds after the last finished experience; also once all classes are forgotten."""
        return (self._published or self._snapshot()).remembered

    def parts(self) -> tuple[Backbone, Head]:
        """The network as it was before learning, and its blocks above the cut as they are now; not to change."""
        snapshot = self._snapshot()
        return snapshot.network.backbone, snapshot.head

    def _snapshot(self) -> Snapshot:
        snapshot = self._published
        if snapshot is None or not snapshot.labels:
            raise NotFittedError("this classifier knows no class yet: call partial_fit or fit first")
        return snapshot

    # -- on disk ------------------------------------------------------------------------------------

    def save(self, directory: str | Path, *, include_trunk: bool = True) -> None:
        """Save everything that later predictions and learning depend on; whole, or as it was before.

        Args:
            include_trunk: also the frozen network, so that the directory needs nothing else. Without it
                ``load`` needs the network under its name and checks that its weights are the same.

        Raises:
            NotFittedError: nothing was ever learned. RunError: the directory cannot be written or is in use.
            ConfigError: a setting, changed since, that cannot be written.
        """
        directory = Path(directory)
        with self._learning:
            if self._taught is None or self._published is None:
                raise NotFittedError("this classifier has learned nothing yet: call partial_fit or fit first")
            _check_settings(self.get_params())
            network = self._taught.network
            tensors, plain = self._taught.state()
            plain |= {
                "params": _plain(self.get_params()),
                "params_in_use": _plain(self._taught.params),
                "network": {"cut": network.trunk.cut, "precision": network.trunk.precision},
                "backbone": {"sha256": network.digest, "included": include_trunk, "outline": network.outline},
            }
            with locked(directory):
                # Stored networks are named after their content: the state in use never loses its own before
                # the rename that takes the new state into use.
                if include_trunk:
                    network.store(directory)
                write_state(directory, tensors, plain, kind=KIND, version=VERSION)
                network.discard(directory, keep=network.digest if include_trunk else None)

    @classmethod
    def load(
        cls, directory: str | Path, *, backbone: str | Path | None = None, device: str | None = None
    ) -> LatentReplayClassifier:
        """The classifier that ``save`` put there; its learning goes on bit by bit as it would have.

        Args:
            backbone: where the network is now, for one saved without its trunk that has moved.
            device: where it shall compute from now on; by default where it did.

        Raises:
            RunError: nothing is saved there, or it is damaged, or the network has other weights.
            BackboneError: the network of one saved without its trunk cannot be found.
        """
        tensors, plain = load_state(directory, kind=KIND, version=VERSION)
        try:
            moved = {} if device is None else {"device": device}
            model = cls(**(plain["params_in_use"] | moved))
            taught = model._afresh(_load_network(Path(directory), plain, backbone, model.device))
            taught.load_state(tensors, plain)
            model.set_params(**(plain["params"] | moved))
            model._taught, model._published = taught, taught.snapshot()
        except (RunError, ConfigError, DataError, BackboneError):
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RunError(f"{directory} holds a classifier whose parts do not fit ({reason})") from error
        return model

    def export(
        self,
        directory: str | Path,
        format: str = "hf",
        *,
        overwrite: bool = False,
        figures: Mapping[str, str] | None = None,
    ) -> Path:
        """Write the classifier for use without vitlr; its answers there are those of float32 arithmetic.

        Args:
            format: ``hf``, a Hugging Face directory with a model card, which transformers opens; ``onnx``, one
                file from uint8 pixels (N, H, W, 3) to probabilities (needs the extra ``onnx``).
            figures: what you measured, by name, for the model card.

        Raises:
            ConfigError: another format, or two labels with the same text. RunError: it cannot be written.
        """
        if format not in ("hf", "onnx"):
            raise ConfigError(f"format must be hf or onnx, got {format!r}")
        snapshot = self._snapshot()
        names = [str(label) for label in snapshot.labels]
        backbone, head, weight_CD = snapshot.network.backbone, snapshot.head, snapshot.weight_CD
        if format == "onnx":
            from vitlr.vit.exports.onnx import save_onnx

            return save_onnx(directory, backbone, head, weight_CD, names)
        with self._learning:
            assert self._taught is not None
            recalled, experiences = self._taught.recalled(), self._taught.learner.experiences_learned
        remembered = snapshot.remembered
        kept = ", ".join(f"{label} {count}" for label, count in islice(remembered.latents.items(), SHOWN))
        more = ", …" if len(remembered.latents) > SHOWN else ""
        known = {"of the latents in the memory, all of them trained on, named rightly": f"{recalled:.1%}"}
        card = model_card(
            names,
            backbone=str(backbone.name),
            cut=snapshot.network.trunk.cut,
            num_blocks=backbone.num_blocks,
            image_size=backbone.image_size,
            settings=_plain(self.get_params()),
            data=f"Taught by showing it images, in {experiences} experience{'s' * (experiences != 1)}. Latents of them"
            f" in the replay memory, by class: {kept}{more}.",
            figures=(known if recalled == recalled else {}) | dict(figures or {}),
            precision=snapshot.network.trunk.precision,
        )
        return save_image_classifier(
            directory, backbone, head, weight_CD, names, overwrite=overwrite, card=card
        )

    def _afresh(self, network: Network | None = None) -> Taught:
        """One that was taught nothing, from the settings; a network that is loaded already is kept."""
        params = _check_settings(self.get_params())
        at = ("backbone", *_NETWORK_SETTINGS)
        if network is None and self._taught is not None:
            in_use = self._taught.params
            network = self._taught.network if all(in_use[name] == params[name] for name in at) else None
        try:
            names = (field.name for field in fields(LearnerConfig) if field.name not in CLOSED_FORM_SETTINGS)
            if params["method"] in CLOSED_FORM:
                raise ConfigError(
                    f"method {params['method']} learns in closed form, without a memory, and this classifier by replay:"
                    " choose latent_replay, or vitlr train for a comparison"
                )
            config = LearnerConfig(**{name: params[name] for name in names})
            if keeps_images(config.method):
                raise ConfigError(
                    f"method {config.method} keeps images and this classifier latents: choose latent_replay,"
                    " or vitlr train for a comparison"
                )
            memory = _memory_config(self.memory, self.policy, self.codec)
            rng = np.random.default_rng(params["random_state"])
            if network is None:
                settings = {name: params[name] for name in _NETWORK_SETTINGS}
                network = Network.load(str(self.backbone), **settings)
        except VitLRError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"a setting has a value of the wrong type or range: {error}") from error
        # ConfigError where the codec cannot hold such latents.
        codec_named(memory.codec).bytes_per_latent(*network.trunk.latent_shape)
        head = Head(network.backbone, network.trunk.cut).to(network.trunk.device)
        return Taught(network, GradientLearner(head, config, memory, rng), params)


def _with_settings(kind: type[LatentReplayClassifier], params: dict[str, Any]) -> LatentReplayClassifier:
    return kind(**params)


_WHOLE = ("image_size", "blocks", "cut", "epochs", "batch_size", "random_state")


def _check_settings(params: dict[str, Any]) -> dict[str, Any]:
    """The settings, with plain integers where whole numbers are meant.

    Raises:
        ConfigError: another kind of value where a whole number is meant, or no threshold that scores can have.
    """
    _check_threshold(params["threshold"])
    whole = {}
    for name in _WHOLE:
        value = params[name]
        if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool)):
            raise ConfigError(f"{name} must be a whole number, got {value!r}")
        whole[name] = value if value is None else int(value)
    return params | whole


def _check_threshold(threshold: Any) -> None:
    if not isinstance(threshold, (int, float, np.number)) or not np.isfinite(threshold):
        raise ConfigError(f"threshold must be a number, -1 to 1 as scores are, got {threshold!r}")


def _settings() -> tuple[str, ...]:
    return tuple(inspect.signature(LatentReplayClassifier).parameters)


def _memory_config(memory: int | str, policy: str, codec: str) -> MemoryConfig:
    if isinstance(memory, str):
        return MemoryConfig(bytes=memory, policy=policy, codec=codec)
    if isinstance(memory, (int, np.integer)) and not isinstance(memory, bool):
        return MemoryConfig(capacity=int(memory), policy=policy, codec=codec)
    raise ConfigError(f"memory must be a number of latents or a size such as 20MB, got {memory!r}")


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}
    return plain | {"backbone": str(params["backbone"])}


def _load_network(
    directory: Path, plain: dict[str, Any], elsewhere: str | Path | None, device: str
) -> Network:
    """The network of a saved classifier, from beside it or from where its name leads."""
    params, digest = plain["params_in_use"], plain["backbone"]["sha256"]
    network = plain["network"] | {"device": device}
    name = params["backbone"] if elsewhere is None else str(elsewhere)
    if plain["backbone"]["included"] and elsewhere is None:
        found = Network.restore(directory, digest, name, **network)
    else:
        found = Network.load(name, image_size=params["image_size"], blocks=params["blocks"], **network)
    if found.digest != digest:
        raise RunError(
            f"the network {name} has other weights or another normalisation than the one that {directory} was"
            " saved with: give the directory of that one as backbone"
        )
    there, wanted = found.outline, plain["backbone"].get("outline", {})
    other = [key for key in wanted if there.get(key) != wanted[key]]
    if other:
        raise RunError(
            f"the network {name} has {other[0]} {there.get(other[0])!r} where the one that {directory} was saved with"
            f" has {wanted[other[0]]!r}: give the directory of that one as backbone"
        )
    return found
