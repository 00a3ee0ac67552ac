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
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.classifier import saved
from vitlr.classifier.knowledge import Knowledge, MemorySummary
from vitlr.classifier.labels import (
    Label,
    check_classes,
    check_weights,
    checked_images,
    checked_label,
    checked_labels,
    label_array,
)
from vitlr.data.names import counted, expanded
from vitlr.errors import BackboneError, ConfigError, DataError, RunError, VitLRError
from vitlr.latents.network import Network
from vitlr.latents.settings import BackboneConfig
from vitlr.latents.views import ViewPlan
from vitlr.learning import CLOSED_FORM, LearnerConfig, LearnStats, needs_of, new_learner
from vitlr.learning.methods import keeps_images
from vitlr.learning.sequence import together
from vitlr.replay import MemoryConfig
from vitlr.replay.codec import codec_named
from vitlr.replay.memory import DEFAULT_BYTES
from vitlr.storage.state import saved_digest
from vitlr.vit import Backbone, Head, save_image_classifier
from vitlr.vit.compute.precision import Compute, native, resolved
from vitlr.vit.exports.card import SHOWN, markdown, model_card

__all__ = ["LatentReplayClassifier", "MachineWarning", "NotFittedError", "check_threshold"]

# Settings that decide what the network gives.
_NETWORK_SETTINGS = (
    *("image_size", "blocks", "cut", "precision", "device"),
    *("method", "tokens", "class_tokens", "statistics_bytes"),
)


class MachineWarning(UserWarning):
    """A saved classifier computes in another way on this machine than where it was taught."""


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
        policy, codec, tokens: which latents are kept and how; see ``vitlr.replay.MemoryConfig``.
        method: any but ``native``; see ``vitlr.learning.LearnerConfig``, as for the settings that follow.
        epochs, batch_size, first_lr, lr, classifier_lr_scale, momentum, weight_decay, train_precision: of training.
        class_tokens, statistics_bytes, views, view_budget: of the method ``complementary``.
        si_lambda, der_alpha, der_beta, lwf_lambda, lwf_temperature, slda_shrinkage, ranpac_width, ranpac_ridge: of
            single methods.
        precision: of the frozen part, float32, bfloat16 or int8; by default what is native to this processor.
        device: ``cpu``, ``cuda``, ``cuda:NUMBER``, or ``auto`` for a GPU if there is one.
        threshold: -1..1; ``scores`` below it mean an unknown object. None takes the method's own, see ``threshold_``.
        random_state: seed; None takes another one each time.
    """

    def __init__(
        self,
        backbone: str | Path = "bundled",
        *,
        image_size: int | None = None,
        blocks: int | None = None,
        cut: int | None = None,
        memory: int | str = DEFAULT_BYTES,
        policy: str = MemoryConfig.policy,
        codec: str = MemoryConfig.codec,
        method: str = LearnerConfig.method,
        epochs: int | None = None,
        batch_size: int = LearnerConfig.batch_size,
        first_lr: float | None = None,
        lr: float | None = None,
        classifier_lr_scale: float = LearnerConfig.classifier_lr_scale,
        momentum: float | None = None,
        weight_decay: float = LearnerConfig.weight_decay,
        si_lambda: float | None = None,
        der_alpha: float = LearnerConfig.der_alpha,
        der_beta: float | None = None,
        tokens: str | int = MemoryConfig.tokens,
        class_tokens: int = LearnerConfig.class_tokens,
        statistics_bytes: str | int = LearnerConfig.statistics_bytes,
        views: int = LearnerConfig.views,
        view_budget: int = LearnerConfig.view_budget,
        lwf_lambda: float = LearnerConfig.lwf_lambda,
        lwf_temperature: float = LearnerConfig.lwf_temperature,
        slda_shrinkage: float = LearnerConfig.slda_shrinkage,
        ranpac_width: int = LearnerConfig.ranpac_width,
        ranpac_ridge: float | None = LearnerConfig.ranpac_ridge,
        train_precision: str = LearnerConfig.train_precision,
        precision: str | None = None,
        device: str = "cpu",
        threshold: float | None = None,
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
        self.tokens = tokens
        self.class_tokens = class_tokens
        self.statistics_bytes = statistics_bytes
        self.views = views
        self.view_budget = view_budget
        self.lwf_lambda = lwf_lambda
        self.lwf_temperature = lwf_temperature
        self.slda_shrinkage = slda_shrinkage
        self.ranpac_width = ranpac_width
        self.ranpac_ridge = ranpac_ridge
        self.train_precision = train_precision
        self.precision = precision
        self.device = device
        self.threshold = threshold
        self.random_state = random_state
        self._learning = threading.RLock()  # held by whoever replaces what is known; readers need no lock
        self._knowledge: Knowledge | None = None
        self._before: tuple[str, Knowledge | None] | None = None  # the last change, what was known before
        self._saved: dict[Path, set[str]] = {}  # digests of what it loaded from and saved to a directory

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
        if self._knowledge is not None and self._knowledge.lessons:
            raise TypeError("a classifier that has learned is not pickled or copied: save it and load it")
        return _with_settings, (type(self), self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return self._knowledge is not None and bool(self._knowledge.labels)

    # -- learning -----------------------------------------------------------------------------------

    def prepare(self) -> LatentReplayClassifier:
        """Load the network now, which the first ``partial_fit`` otherwise does; errors as there."""
        with self._learning:
            if self._knowledge is None:
                self._knowledge = self._afresh()
        return self

    def fit(self, X: Any, y: Any, *, on_bad_image: str = "error") -> LatentReplayClassifier:
        """Start afresh and learn these images; see ``partial_fit``. Classes are numbered in sorted order."""
        images = checked_images(X)
        labels = checked_labels(y, len(images))
        with self._learning:
            learned = self._afresh().learned(images, labels, in_order=True, on_bad=on_bad_image)
            self._publish(learned, f"fit on {counted(len(images), 'image')}")
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        *,
        on_bad_image: str = "error",
        progress: Callable[[int, int], None] | None = None,
    ) -> LatentReplayClassifier:
        """Learn one experience. New classes are numbered in the order of their appearance.

        Args:
            X: one image or many: paths, PIL images or arrays, of any size; a folder's path stands for the images
                below it. A path of a video or animation, or a ``vitlr.data.video.Video``, stands for the frames that
                are taken from it, here and below.
            y: one label for all of them, or one for each (one for a video); strings or integers.
            classes: as scikit-learn gives them, labels that may come; not needed.
            sample_weight: None or equal weights; every image counts the same.
            on_bad_image: ``error``, or ``skip`` to leave out what cannot be read; ``last_skipped_`` names it.
            progress: called with the images and random views of them that are encoded, and with how many there are.

        Raises:
            DataError: no images, an unreadable one, another number of labels, a label of another type, one that is
                not in ``classes``, weights that differ.
            ConfigError, BackboneError: a setting that cannot be used.
            RunError: learning diverged.

        Whatever is raised, an interrupt too, the model is as it was.
        """
        images = checked_images(X)
        labels = checked_labels(y, len(images))
        check_classes(classes, labels)
        check_weights(sample_weight, len(images))
        with self._learning:
            known = self.prepare()._known_or_new()
            learned = known.learned(images, labels, on_bad=on_bad_image, progress=progress)
            self._publish(learned, _lesson(labels))
        return self

    def forget(self, label: Label) -> int:
        """Remove a class: its latents, its row or mean and its count. Returns how many latents there were.

        What cannot be removed ``remains`` says. The label can be taught again, as a new class.

        Raises:
            DataError: there is no such class.
        """
        with self._learning:
            left, removed = self._known().without(checked_label(label))
            self._publish(left, f"forgetting {label}")
        return removed

    def rename(self, label: Label, new: Label) -> LatentReplayClassifier:
        """Give a class another label.

        Raises:
            DataError: there is no such class, or one of the new name: see ``merge_classes``.
        """
        with self._learning:
            renamed = self._known().renamed(checked_label(label), checked_label(new))
            self._publish(renamed, f"renaming {label} to {new}")
        return self

    def merge_classes(self, label: Label, into: Label) -> LatentReplayClassifier:
        """Make a class part of another, as if its images had been taught as that one.

        Sums and latents are exactly those; the classifier's row is the mean of both, weighted by patterns.

        Raises:
            DataError: there are no such classes, or they are the same.
        """
        with self._learning:
            changed = self._known().with_one_class(checked_label(label), checked_label(into))
            self._publish(changed, f"merging {label} into {into}")
        return self

    def merge(self, other: LatentReplayClassifier) -> LatentReplayClassifier:
        """Take in what another classifier with the same network and method was taught; classes go by their labels.

        Statistics add up: they are those of one classifier that was taught everything, to rounding. The other's replay
        memory is learned as one more experience and kept by the policy, within the capacity. What a class that both
        know is called must be the same; what the other one forgot is not in it any more.

        Raises:
            NotFittedError: one of them knows nothing. ConfigError: they have different networks or methods, or the
            method keeps nothing that could be merged. DataError: both were taught the same lesson, which would count
            twice. RunError: what was learned would not be finite.
        """
        if not isinstance(other, LatentReplayClassifier):
            raise DataError(f"only a LatentReplayClassifier can be merged, got {type(other).__name__}")
        theirs = other._known()
        with self._learning:
            merged = self._known().merged(theirs)
            self._publish(
                merged, f"merging {counted(len(theirs.labels), 'class', 'classes')} of another classifier"
            )
        return self

    @property
    def undoable(self) -> str | None:
        """What ``undo`` would take back, in words; None if there is nothing."""
        return None if self._before is None else self._before[0]

    def undo(self) -> LatentReplayClassifier:
        """Take the last change back, exactly: a lesson, or a class forgotten, renamed or merged. Once only; what is
        saved stays as it is until the next ``save``.

        Raises:
            DataError: there is nothing to take back, since the classifier was made, loaded, or ``undo`` was called.
        """
        with self._learning:
            if self._before is None:
                raise DataError(
                    "there is nothing to undo: only the last change since the classifier was opened can be"
                )
            self._knowledge, self._before = self._before[1], None
        return self

    @contextmanager
    def one_change(self, what: str) -> Iterator[None]:
        """Changes made inside are one change for ``undo``, called ``what``; an error that leaves it takes them back."""
        with self._learning:
            knowledge, before = self._knowledge, self._before
            try:
                yield
            except BaseException:
                self._knowledge, self._before = knowledge, before
                raise
            self._before = what, knowledge

    def _publish(self, knowledge: Knowledge, what: str) -> None:
        self._before = what, self._knowledge
        self._knowledge = knowledge

    @property
    def remains(self) -> str:
        """What ``forget`` cannot remove of a class with this method; empty if nothing is left."""
        return self._known_or_new().learner.remains

    # -- answers ------------------------------------------------------------------------------------

    @property
    def classes_(self) -> np.ndarray:
        """(C,) labels in the order of the columns of ``predict_proba``: sorted after ``fit``, new ones of
        ``partial_fit`` in the order of first appearance."""
        return label_array(self._known().labels)

    @property
    def threshold_(self) -> float:
        """The threshold in use: as given, or the method's own.

        With two memories that is .05, meant to keep 95 % of what was taught; with others a cosine of .2.

        Raises:
            ConfigError: no score can be above or below it.
        """
        return self._threshold_of(self._known())

    def _threshold_of(self, knowledge: Knowledge) -> float:
        return knowledge.learner.threshold if self.threshold is None else check_threshold(self.threshold)

    @property
    def last_stats_(self) -> LearnStats | None:
        """Loss, accuracy and steps of the last experience; None after a load or ``forget``."""
        return self._known().stats

    @property
    def last_skipped_(self) -> tuple[str, ...]:
        """What could not be read of the last experience and was left out, as asked for."""
        return self._known().skipped

    @property
    def last_notes_(self) -> tuple[str, ...]:
        """Sentences about images of the last experience that were read, but not as a whole."""
        return self._known().notes

    def predict(self, X: Any, unknown: Label | None = None) -> np.ndarray:
        """(N,) labels. With ``unknown`` given, that label where the score is below ``threshold_``."""
        knowledge = self._known()
        _, logits_NC, scores_N = knowledge.answer(checked_images(X))
        labels = [knowledge.labels[index] for index in logits_NC.argmax(dim=1).tolist()]
        if unknown is not None:
            unknown, known = checked_label(unknown), (scores_N >= self._threshold_of(knowledge)).tolist()
            labels = [label if is_known else unknown for label, is_known in zip(labels, known, strict=True)]
        return label_array(labels)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, C) float64 probabilities, columns as in ``classes_``."""
        return self._known().answer(checked_images(X))[1].double().softmax(dim=1).numpy()

    def predict_sequence(self, X: Any, unknown: Label | None = None) -> Label:
        """The label of the one object that several frames show, such as those of a video: all of them are joined.

        With ``unknown`` given, that label where the mean of their scores is below ``threshold_``.
        """
        unknown, knowledge = None if unknown is None else checked_label(unknown), self._known()
        _, logits_NC, scores_N = knowledge.answer(checked_images(X))
        if unknown is not None and float(scores_N.mean()) < self._threshold_of(knowledge):
            return unknown
        return knowledge.labels[int(together(logits_NC.double().softmax(dim=1).numpy()).argmax())]

    def scores(self, X: Any) -> np.ndarray:
        """(N,) float32, how much each image looks like something known; higher is more.

        Unlike the largest probability it does not rise because the other classes are still worse. With two memories,
        the default, it is the share of taught images that would look less familiar (``vitlr.learning.familiarity``).
        With other methods it is the largest cosine between the image's features and a class's row of the classifier or
        its mean, -1..1, and 1 as long as only one class is known, since nothing was learned to tell it from.

        docs/results.md, "Unknown objects", says how far it can be relied on: objects of kinds that were never taught
        are separated well, similar objects of a taught kind are not.
        """
        return self._known().answer(checked_images(X))[2].numpy()

    def answers(
        self, X: Any, *, on_bad_image: str = "error"
    ) -> tuple[tuple[Label, ...], np.ndarray, np.ndarray]:
        """Labels (C), their probabilities (N, C) and the scores (N,) of images, in one pass and of one state.

        With ``on_bad_image="skip"`` the row of an image that cannot be read is NaN.

        ``classes_``, ``predict_proba`` and ``scores`` may be of different states if another thread teaches in between.
        """
        knowledge = self._known()
        _, logits_NC, scores_N = knowledge.answer(checked_images(X), on_bad_image)
        return knowledge.labels, logits_NC.double().softmax(dim=1).numpy(), scores_N.numpy()

    def score(self, X: Any, y: Any) -> float:
        """Accuracy, 0..1, on labelled images; ``y`` is one label for all or one for each."""
        knowledge, images = self._known(), checked_images(X)
        labels = checked_labels(y, len(images))
        rows_N, logits_NC, _ = knowledge.answer(images)
        predicted = logits_NC.argmax(dim=1).tolist()
        hits = [knowledge.labels[index] == labels[row] for index, row in zip(predicted, rows_N, strict=True)]
        return sum(hits) / len(hits)

    def remember(self) -> MemorySummary:
        """What is remembered after the last finished experience; also once all classes are forgotten."""
        knowledge = self._knowledge
        if knowledge is None or not knowledge.lessons:
            raise _not_fitted()
        return knowledge.summary()

    def parts(self) -> tuple[Backbone, Head]:
        """The network as it was before learning, and its blocks above the cut as they are now; not to be changed."""
        knowledge = self._known()
        return knowledge.network.backbone, knowledge.learner.head  # type: ignore[return-value]

    def _known(self) -> Knowledge:
        knowledge = self._knowledge
        if knowledge is None or not knowledge.labels:
            raise _not_fitted()
        return knowledge

    def _known_or_new(self) -> Knowledge:
        assert self.prepare()._knowledge is not None
        return self._knowledge  # type: ignore[return-value]

    # -- on disk ------------------------------------------------------------------------------------

    def save(self, directory: str | Path, *, include_trunk: bool = True) -> None:
        """Save everything that later predictions and learning depend on; whole, or as it was before.

        Args:
            include_trunk: also the frozen network, so that the directory needs nothing else. Without it
                ``load`` needs the network under its name and checks that its weights are the same.

        Raises:
            NotFittedError: nothing was ever learned. RunError: the directory cannot be written or is in use, or another
                program has saved there since this classifier was loaded from or saved to it.
            ConfigError: a setting, changed since, that cannot be written.
        """
        with self._learning:
            knowledge = self._knowledge
            if knowledge is None or not knowledge.lessons:
                raise NotFittedError("this classifier has learned nothing yet: call partial_fit or fit first")
            params = _plain(_check_settings(self.get_params()))
            in_use = _plain(knowledge.params)
            directory = expanded(directory)
            known = self._saved.setdefault(directory.resolve(), set())
            saved.write(directory, knowledge, params, in_use, include_trunk=include_trunk, known=known)

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        backbone: str | Path | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> LatentReplayClassifier:
        """The classifier that ``save`` put there. On the same machine its learning goes on bit by bit as it would have.

        It opens on any machine: a device or precision that is not there is replaced by what is native, and a
        ``MachineWarning`` says so.

        Args:
            backbone: where the network is now, for one saved without its trunk that has moved.
            device, precision: to compute in from now on; by default as it was made, if this machine can.

        Raises:
            RunError: nothing is saved there, or it is damaged, or the network has other weights.
            BackboneError: the network of one saved without its trunk cannot be found.
            ConfigError: the device or precision asked for is not one of this machine.
        """
        directory = expanded(directory)
        digest = saved_digest(directory)  # first: what is saved meanwhile is then known to be another state
        try:
            tensors, plain = saved.read(directory)
            given = {"device": device, "precision": precision}
            asked = {name: value for name, value in given.items() if value is not None}
            model = cls(**(plain["params_in_use"] | asked))
            compute = _compute_on_load(model, asked)
            network = saved.find_network(directory, plain, backbone, compute)
            knowledge = model._afresh(network).restored(tensors, plain)
            model.set_params(**(plain["params"] | asked))
            model._knowledge = knowledge
            model._saved[directory.resolve()] = set() if digest is None else {digest}
        except (RunError, ConfigError, DataError, BackboneError):
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RunError(f"{directory} holds a classifier whose parts do not fit ({reason})") from error
        taught_in = str(plain["network"]["taught_in"])
        if taught_in != str(compute):
            warnings.warn(
                f"{directory} was taught in {taught_in} and computes in {compute} from now on: answers may differ in"
                " rounding",
                MachineWarning,
                stacklevel=2,
            )
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
        knowledge = self._known()
        names, directory = [str(label) for label in knowledge.labels], expanded(directory)
        twice = next((label for label in knowledge.labels if names.count(str(label)) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"labels {int(twice)} and {str(twice)!r} read the same in an exported model; forget one of them"
            )
        model = knowledge.learner.linear_model()
        if model is None:
            raise ConfigError(
                f"method {knowledge.params['method']} is no linear classifier on a network's features, which is what is"
                " exported: use it here, or teach with latent_replay or slda, and tokens='all'"
            )
        rows, backbone = knowledge.indices, knowledge.network.backbone
        bias_C = None if model.bias_C is None else model.bias_C[rows]
        if format == "onnx":
            from vitlr.vit.exports.onnx import save_onnx

            tokens_CW = None if model.tokens_CW is None else model.tokens_CW[rows]
            return save_onnx(
                directory,
                backbone,
                model.head,  # type: ignore[arg-type]
                model.weight_CD[rows],
                names,
                bias_C=bias_C,
                tokens_CW=tokens_CW,
            )
        if model.beyond_transformers:
            raise ConfigError(
                f"what method {knowledge.params['method']} learned has {model.beyond_transformers}, which no image"
                " classifier of transformers has: export it with format onnx, or teach with latent_replay or"
                " slda, and tokens='all'"
            )
        return save_image_classifier(
            directory,
            backbone,
            model.head,  # type: ignore[arg-type]
            model.weight_CD[rows],
            names,
            bias_C=bias_C,
            overwrite=overwrite,
            card=_card(knowledge, self.get_params(), dict(figures or {})),
        )

    def _afresh(self, network: Network | None = None) -> Knowledge:
        """Knowledge of nothing, from the settings; a network that is loaded already is kept."""
        params = _check_settings(self.get_params())
        at = ("backbone", *_NETWORK_SETTINGS)
        if network is None and self._knowledge is not None:
            in_use = self._knowledge.params
            network = self._knowledge.network if all(in_use[name] == params[name] for name in at) else None
        try:
            config = LearnerConfig(**{field.name: params[field.name] for field in fields(LearnerConfig)})
            if keeps_images(config.method):
                raise ConfigError(
                    f"method {config.method} keeps images and this classifier latents: choose latent_replay,"
                    " or vitlr train for a comparison"
                )
            memory = _memory_config(self.memory, policy=self.policy, codec=self.codec, tokens=self.tokens)
            if network is None:
                kept = saved.kept_by(config, memory)
                network = _open(params, resolved(params["device"], params["precision"]), kept)
            rng = np.random.default_rng(params["random_state"])
            # ConfigError if the codec cannot hold such latents.
            codec_named(memory.codec).bytes_per_latent(*network.latent_shape)
            learner = new_learner(network.new_head(), config, memory, rng, len(network.class_blocks))
        except VitLRError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"a setting has a value of the wrong type or range: {error}") from error
        needs, seed = needs_of(config), params["random_state"] or 0
        views = ViewPlan(views=needs.views, budget=needs.view_budget, seed=seed)
        return Knowledge(network=network, learner=learner, params=params, views=views)


def _open(params: dict[str, Any], compute: Compute, kept: dict[str, Any]) -> Network:
    config = BackboneConfig(
        name=str(params["backbone"]),
        image_size=params["image_size"],
        blocks=params["blocks"],
        cut=params["cut"],
    )
    return Network.open(config, compute=compute, **kept)


def _compute_on_load(model: LatentReplayClassifier, asked: dict[str, Any]) -> Compute:
    """Device and precision of a classifier that is opened: as asked, else as it was made if this machine can."""
    if "precision" in asked or model.precision is None:
        device = model.device if "device" in asked else str(native(model.device).device)
        return resolved(device, model.precision)
    device = str(resolved(model.device).device) if "device" in asked else model.device
    return native(device, model.precision)


def _card(knowledge: Knowledge, params: dict[str, Any], figures: dict[str, str]) -> str:
    """The model card of an export."""
    summary, backbone = knowledge.summary(), knowledge.network.backbone
    taught = ", ".join(
        f"{markdown(str(label))} {count}" for label, count in islice(summary.images.items(), SHOWN)
    )
    more = ", …" if len(summary.images) > SHOWN else ""
    lessons = knowledge.lessons
    return model_card(
        [str(label) for label in knowledge.labels],
        backbone=str(backbone.name),
        cut=knowledge.network.cut,
        num_blocks=backbone.num_blocks,
        image_size=backbone.image_size,
        settings=_plain(params),
        data=f"Taught by showing it images, in {lessons} experience{'s' * (lessons != 1)}. Images by class:"
        f" {taught}{more}.",
        figures=figures,
        precision=knowledge.network.precision,
        trained=knowledge.params["method"] not in CLOSED_FORM,
    )


def _lesson(labels: list[Label]) -> str:
    """A lesson in words."""
    names = list(dict.fromkeys(labels))
    of = str(names[0]) if len(names) == 1 else f"{len(names)} classes"
    return f"the lesson of {counted(len(labels), 'image')} of {of}"


def _not_fitted() -> NotFittedError:
    return NotFittedError("this classifier knows no class yet: call partial_fit or fit first")


def _with_settings(kind: type[LatentReplayClassifier], params: dict[str, Any]) -> LatentReplayClassifier:
    return kind(**params)


_WHOLE = (
    *("image_size", "blocks", "cut", "epochs", "batch_size", "random_state"),
    *("class_tokens", "views", "view_budget"),
)


def _check_settings(params: dict[str, Any]) -> dict[str, Any]:
    """The settings, with plain integers where whole numbers are meant.

    Raises:
        ConfigError: another kind of value where a whole number is meant, or no threshold that scores can have.
    """
    if params["threshold"] is not None:
        check_threshold(params["threshold"])
    whole = {}
    for name in _WHOLE:
        value = params[name]
        if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool)):
            raise ConfigError(f"{name} must be a whole number, got {value!r}")
        whole[name] = value if value is None else int(value)
    return params | whole


def check_threshold(threshold: Any) -> float:
    """The threshold. Raises ConfigError unless it is a number that scores can be above or below, -1 to 1."""
    if (
        isinstance(threshold, bool)
        or not isinstance(threshold, (int, float, np.number))
        or not -1 <= threshold <= 1
    ):  # false for NaN as well
        raise ConfigError(f"threshold must be -1 to 1, as scores are, got {threshold!r}")
    return float(threshold)


def _settings() -> tuple[str, ...]:
    return tuple(inspect.signature(LatentReplayClassifier).parameters)


def _memory_config(memory: int | str, **others: Any) -> MemoryConfig:
    if isinstance(memory, str):
        return MemoryConfig(bytes=memory, **others)
    if isinstance(memory, (int, np.integer)) and not isinstance(memory, bool):
        return MemoryConfig(capacity=int(memory), **others)
    raise ConfigError(f"memory must be a number of latents or a size such as 20MB, got {memory!r}")


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}
    return plain | {"backbone": str(params["backbone"])}
