"""Settings declare what they can change, and are compared by that."""

from __future__ import annotations

from vitlr.configuration import deciding, differences, flat, names_of
from vitlr.learning.methods import CLOSED_FORM, COMPOSED, METHODS
from vitlr.runs.settings import RunConfig, parse, to_dict


def decided(*flags: str) -> dict:
    return deciding(RunConfig, flat(to_dict(parse(flags))))


def test_where_a_run_is_written_and_how_fast_it_is_decides_no_result() -> None:
    others = ["--out=x", "--tensorboard=false", "--checkpoint_every=7", "--data.workers=9"]
    others += ["--backbone.cache=off", "--data.root=/elsewhere", "--data.test_root=/tests"]
    folder = ["--data.dataset=folder", "--data.root=/here"]
    assert decided(*folder, *others) == decided(*folder)
    assert differences(decided("--memory.capacity=5", "--seed=1"), decided("--memory.capacity=1500")) == [
        "memory.capacity: 5 / 1500",
        "seed: 1 / 0",
    ]


def test_settings_that_a_method_does_not_read_decide_nothing_for_it_and_those_of_its_own_do() -> None:
    for method in ("latent_replay", "class_mean"):
        others = ["--learner.slda_shrinkage=0.5", "--learner.ranpac_width=7", "--learner.der_alpha=1"]
        assert decided(f"--learner.method={method}", *others) == decided(f"--learner.method={method}")
    slda = ["--learner.method=slda"]
    for flag in ("epochs=9", "lr=0.5", "der_alpha=0.7", "views=3"):
        assert decided(*slda, f"--learner.{flag}") == decided(*slda)
    assert decided(*slda, "--learner.slda_shrinkage=0.5") != decided(*slda)
    assert decided("--learner.epochs=9") != decided()


def test_every_method_in_closed_form_ignores_the_settings_of_training_and_every_other_reads_them() -> None:
    for method in (*COMPOSED, *METHODS, *CLOSED_FORM):
        given = {"learner.method": method, "learner.lr": 1.0}
        assert ("learner.lr" in deciding(RunConfig, given)) == (method not in CLOSED_FORM)


def test_a_setting_of_a_newer_version_decides() -> None:
    assert deciding(RunConfig, {"memory.colour": 1, "out": "x"}) == {"memory.colour": 1}


def test_orders_and_seeds_are_repetitions_and_folders_of_images_are_places() -> None:
    assert names_of(RunConfig, "repetition") == {"data.order", "seed"}
    assert names_of(RunConfig, "place") == {"data.root", "data.test_root", "data.file"}
