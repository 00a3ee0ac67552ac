"""The original's params.cfg as its two published copies are: comments, then one section called DEFAULT."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitlr.errors import ConfigError
from vitlr.runs.params_cfg import read_params_cfg
from vitlr.runs.settings import parse

PUBLISHED = """[DEFAULT]
exp_name = "vit-lr"
comment = "visual transformer with latent replay"
use_cuda = True
init_lr = 0.001
inc_lr = 0.00005 # 0.0005
mb_size = 100
init_train_ep = 4
inc_train_ep = 4
init_update_rate = 0.01
inc_update_rate = 0.00005
max_r_max = 1.25
max_d_max = 0.5
inc_step = 4.1e-05
rm_sz = 1500
momentum = 0.9
l2 = 0.0005
freeze_below_layer = "lat_features.12.norm2.bias"
latent_layer_num = 19
reg_lambda = 0
rm = None
"""
USED = {"init_lr", "inc_lr", "mb_size", "init_train_ep", "inc_train_ep", "rm_sz", "momentum", "l2"}
USED |= {"freeze_below_layer", "reg_lambda"}
ORIGINAL = ["--learner.method=latent_replay", "--memory.codec=float32", "--memory.tokens=all"]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.cfg"
    path.write_text(text)
    return path


@pytest.mark.parametrize("head", ["", "#!/usr/bin/env python\n\n### Parameters for the experiments ###\n\n"])
def test_the_published_file_is_read_and_each_key_is_used_or_named_once(tmp_path: Path, head: str) -> None:
    flags, notes = read_params_cfg(written(tmp_path, head + PUBLISHED))
    config = parse(flags)
    assert (config.backbone.cut, config.memory.capacity) == (12, 1500)
    assert (config.memory.codec, config.memory.tokens) == ("float32", "all")  # as the original keeps latents
    learner = config.learner
    assert learner.method == "latent_replay"
    assert (learner.first_lr, learner.lr, learner.batch_size, learner.epochs) == (1e-3, 5e-5, 100, 4)
    assert (learner.momentum, learner.weight_decay, learner.si_lambda) == (0.9, 5e-4, 0)
    keys = {line.split(" = ")[0] for line in PUBLISHED.splitlines()[1:]}
    assert sorted(note.split()[0] for note in notes) == sorted(keys - USED)


def test_other_sections_are_named_as_not_read_and_can_be_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "[DEFAULT]\ninit_lr = 0.1\nrm_sz = 5\n[other]\ninit_lr = 0.5\n")
    assert read_params_cfg(path) == (
        [*ORIGINAL, "--learner.first_lr=0.1", "--memory.capacity=5"],
        ["[DEFAULT] is used; not read: [other]"],
    )
    assert read_params_cfg(path, "other") == (
        [*ORIGINAL, "--learner.first_lr=0.5", "--memory.capacity=5"],
        [],
    )
    with pytest.raises(ConfigError, match="holds no section third"):
        read_params_cfg(path, "third")


def test_epochs_that_differ_are_named(tmp_path: Path) -> None:
    flags, notes = read_params_cfg(written(tmp_path, "[a]\ninit_train_ep = 8\ninc_train_ep = 4\n"))
    assert flags == [*ORIGINAL, "--learner.epochs=4"] and "init_train_ep = 8 is not used" in notes[0]


def test_a_file_without_a_section_is_read_and_one_without_settings_is_refused(tmp_path: Path) -> None:
    assert read_params_cfg(written(tmp_path, "rm_sz = 500\n")) == ([*ORIGINAL, "--memory.capacity=500"], [])
    for text in ("", "# nothing\n", "[a]\n"):
        with pytest.raises(ConfigError, match="holds no section with settings"):
            read_params_cfg(written(tmp_path, text))
