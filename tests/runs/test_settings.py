"""Configuration files: what is none, and where a run cannot go, is refused in one sentence before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitlr.errors import ConfigError, RunError
from vitlr.runs.settings import parse
from vitlr.runs.train import check_run_dir


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "c.yaml is not valid YAML"),
        (b"learner: [1", "c.yaml is not valid YAML"),
        (b"", "c.yaml holds no settings"),
        (b"[1, 2]", "c.yaml holds no settings"),
        (b"learner: 3", "learner must hold settings such as learner.method, got 3"),
        (b"memory: null", "memory must hold settings such as memory.capacity, got None"),
        (b"lerner: {lr: 1}", "unknown setting lerner.lr; did you mean learner.lr?"),
    ],
)
@pytest.mark.parametrize("as_one_word", [False, True])
def test_a_file_that_is_no_configuration_is_refused_even_when_only_printed(
    tmp_path: Path, content: bytes, said: str, as_one_word: bool
) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    flags = [f"--config={path}"] if as_one_word else ["--config", str(path)]
    with pytest.raises(ConfigError) as caught:
        parse([*flags, "--print-config"])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_asks_for_code_to_be_run_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    path, proof = tmp_path / "c.yaml", tmp_path / "proof"
    path.write_text(
        f"learner: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{proof}]]\n"
    )
    with pytest.raises(ConfigError, match=r"c\.yaml is not valid YAML"):
        parse(["--config", str(path)])
    assert not proof.exists()


def test_settings_may_be_written_out_in_place_of_a_file() -> None:
    assert parse(["--config", "{learner: {lr: 0.5}}"]).learner.lr == 0.5


def test_a_run_directory_below_a_file_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be made in .*; choose another --out"):
        check_run_dir(tmp_path / "file" / "deep" / "run", resume=False, overwrite=False)
    check_run_dir(tmp_path / "not" / "yet" / "there", resume=False, overwrite=False)
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    "text", ["seed: " + "9" * 5000, "seed: 2001-13-45", "seed: !!bool x", "a: " + "[" * 5000]
)
def test_yaml_that_its_reader_stumbles_over_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml is not valid YAML"):
        parse(["--config", str(path)])


@pytest.mark.parametrize(
    "text", ["seed:", "memory:\n  capacity:", "checkpoint_every: ~", "data:\n  run: null"]
)
def test_a_name_without_a_value_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    name = text.split()[-2 if text.endswith(("~", "null")) else -1].rstrip(":")
    with pytest.raises(ConfigError, match=f"{name} has no value"):
        parse(["--config", str(path)])
