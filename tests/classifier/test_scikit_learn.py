"""The parts of scikit-learn's ``check_estimator`` that apply to images, and its tools around the classifier.

Its checks send rows of numbers; here a row becomes the grey pixels of a small image before it reaches us. Not
run are the checks of what does not apply: labels that are floats or lists, NaN and infinity in pixels of type uint8,
sparse and complex input, a fixed number of features (images of any size are taken), pickling of what was taught
(only settings are, for other processes), and NotFittedError being scikit-learn's own class, on which the core does
not depend.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.tiny_networks import make_directory

from vitlr import LatentReplayClassifier
from vitlr.errors import DataError

checks = pytest.importorskip("sklearn.utils.estimator_checks")

APPLY = (
    "check_classifiers_classes",
    "check_dict_unchanged",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_get_params_invariance",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_set_params",
    "check_supervised_y_no_nan",
    "check_valid_tag_types",
)


class OfRows(LatentReplayClassifier):
    """The classifier with rows of numbers as images."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        return tags

    def fit(self, X: Any, y: Any, **options: Any) -> OfRows:
        super().fit(_images(X), y, **options)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> OfRows:
        super().partial_fit(_images(X), y, classes, sample_weight)
        return self

    def predict(self, X: Any, unknown: Any = None) -> np.ndarray:
        return super().predict(_images(X), unknown)

    def predict_proba(self, X: Any) -> np.ndarray:
        return super().predict_proba(_images(X))

    def score(self, X: Any, y: Any) -> float:
        return super().score(_images(X), y)


def _images(rows: Any) -> list[np.ndarray]:
    rows = np.atleast_2d(np.asarray(rows, dtype=float))
    side = int(np.ceil(np.sqrt(rows.shape[1])))
    pixels = np.zeros((len(rows), side * side), dtype=np.uint8)
    pixels[:, : rows.shape[1]] = np.clip(128 + 20 * rows, 0, 255)
    return [np.repeat(image.reshape(side, side, 1), 3, axis=2) for image in pixels]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", APPLY)
def test_what_scikit_learn_asks_of_every_estimator_holds(name: str, network: Path) -> None:
    estimator = OfRows(str(network), epochs=1)
    found = [
        check
        for _, check in checks.estimator_checks_generator(estimator, mark=None)
        if check.func.__name__ == name
    ]
    assert found, f"scikit-learn has no {name} any more"
    for check in found:
        if name == "check_parameters_default_constructible":
            check = partial(check.func, "OfRows")
        check(estimator)


def test_cross_validation_and_grid_search_take_paths_and_string_labels(network: Path, tmp_path: Path) -> None:
    from sklearn.model_selection import GridSearchCV, cross_val_score

    rng = np.random.default_rng(0)
    paths, labels = [], []
    for number in range(12):
        level = 40 if number % 2 else 210
        pixels = np.clip(rng.normal(level, 5, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
        labels.append("dark" if number % 2 else "bright")
    model = LatentReplayClassifier(str(network), lr=0.01, first_lr=0.01)
    assert cross_val_score(model, paths, labels, cv=2).tolist() == [1.0, 1.0]
    search = GridSearchCV(model, {"epochs": [1, 4]}, cv=2).fit(paths, labels)
    assert search.best_params_["epochs"] in (1, 4)
    assert search.predict(paths[:2]).tolist() == labels[:2]


LEVELS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}


def coloured(order: tuple[str, ...], each: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Frames (N, 32, 32, 3) and labels, the colours one after the other in this order."""
    images, labels = [], []
    for colour in order:
        rng = np.random.default_rng([*colour.encode()])
        noisy = np.array(LEVELS[colour]) + rng.normal(scale=20, size=(each, 32, 32, 3))
        images.append(noisy.clip(0, 255).astype(np.uint8))
        labels += [colour] * each
    return np.concatenate(images), np.array(labels)


def test_scores_of_probabilities_do_not_depend_on_the_order_in_which_labels_are_met(network: Path) -> None:
    from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_validate

    means = []
    for order in (("red", "green", "blue"), ("blue", "green", "red")):
        images, labels = coloured(order)
        model = LatentReplayClassifier(str(network), lr=0.02, first_lr=0.02, epochs=8, precision="float32")
        folds = StratifiedKFold(2)
        found = cross_validate(
            model, images, labels, cv=folds, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"]
        )
        assert found["test_accuracy"].tolist() == [1, 1]
        assert (found["test_roc_auc_ovr"] > 0.99).all() and (found["test_neg_log_loss"] > -1.1).all()
        means.append((found["test_roc_auc_ovr"].mean(), found["test_neg_log_loss"].mean()))
        proba = cross_val_predict(model, images, labels, cv=folds, method="predict_proba")
        assert (np.unique(labels)[proba.argmax(axis=1)] == labels).all()
    np.testing.assert_allclose(means[0], means[1], atol=0.1)


def test_learning_curves_learn_on(network: Path) -> None:
    from sklearn.model_selection import learning_curve

    images, labels = coloured(("red", "green", "blue"))
    model = LatentReplayClassifier(str(network), lr=0.02, first_lr=0.02, precision="float32")
    _, _, tested = learning_curve(
        model, images, labels, cv=2, train_sizes=[3, 6], shuffle=True, random_state=0,
        exploit_incremental_learning=True,
    )  # fmt: skip
    assert tested.shape == (2, 2) and np.isfinite(tested).all()


def test_classes_and_equal_weights_are_taken_and_others_refused(network: Path) -> None:
    images, labels = coloured(("red", "blue"), 2)
    model = LatentReplayClassifier(str(network), epochs=1)
    model.partial_fit(images, labels, classes=["blue", "green", "red"], sample_weight=np.full(4, 0.5))
    assert model.classes_.tolist() == ["red", "blue"]
    for options, message in (
        ({"classes": ["blue"]}, "label 'red' is not in classes"),
        ({"classes": "blue"}, "classes must be a list"),
        ({"sample_weight": [1, 1, 1, 2]}, "every image counts the same"),
        ({"sample_weight": [1, 1]}, "every image counts the same"),
    ):
        with pytest.raises(DataError, match=message):
            model.partial_fit(images, labels, **options)
