"""Configuration files: what is none, and where a run cannot go, is refused in one sentence before any work."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from vitlr.errors import ConfigError, RunError
from vitlr.learning import LearnerConfig
from vitlr.runs.settings import RunConfig, from_settings, parse, to_yaml
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


# A text that contains itself, and one of 370 bytes that stands for gigabytes.
ALIASES = [
    "base: &b {data: *b}\nvariants: {one: {}}\n",
    "variants: &v {one: *v}\n",
    "data: &a {root: x}\nmemory: {<<: *a}\n",
    f"variants: {{one: {{}}}}\nseeds: [&a0 [{','.join('x' * 10)}]"
    + "".join(f", &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8))
    + "]\n",
]


@pytest.mark.parametrize("text", ALIASES)
def test_aliases_are_refused_by_name_before_anything_is_built(tmp_path: Path, text: str) -> None:
    from vitlr.report.gather import gather
    from vitlr.runs.plan import read_plan

    path = tmp_path / "config.yaml"
    path.write_text(text)
    tracemalloc.start()
    try:
        for read in (
            lambda: parse(["--config", str(path)]),
            lambda: read_plan(path),
            lambda: gather([tmp_path], RunConfig),
        ):
            with pytest.raises(ConfigError, match=r"config\.yaml is not valid YAML \(alias \*\w+: write out"):
                read()
        with pytest.raises(ConfigError, match=r"--config is not valid YAML \(alias"):
            parse(["--config", text])
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--lable=x", "unknown setting lable; did you mean data.labels?"),
        ("--learner.epochs=many", "learner.epochs must be of type int or null, got many; see --help"),
        ("--out.x=3", "out must be of type str or null"),
        ("--data=c.yaml", "unknown setting data; did you mean data."),
        ("--config={data: {ordr: 3}}", "--config: unknown setting data.ordr; did you mean data.order?"),
        ("--config=nowhere.yaml", "nowhere.yaml cannot be read (No such file"),
        ("stray", "unknown setting stray"),
        ("--memory.capacity", "--memory.capacity: expected one argument"),
    ],
)
def test_a_slip_in_a_flag_is_one_sentence(flag: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse([flag])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_files_and_flags_win_in_the_order_given_and_short_flags_are_settings(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {scenario: nc, frames: 3}\n")
    file = f"--config={tmp_path / 'c.yaml'}"
    flags = ["--data.scenario=ni", file, "--data.frames", "5", "--trunk", "int8", "--on-bad-image=skip"]
    config = parse([*flags, "--device=auto"])
    assert (config.data.scenario, config.data.frames, config.data.on_bad_image) == ("nc", 5, "skip")
    assert (config.backbone.precision, config.backbone.device) == ("int8", "auto")
    assert parse(["--data.frames=5", file]).data.frames == 3


def test_an_order_is_read_by_its_older_name_too_but_not_by_both(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {run: 3}\n")
    for given in (["--data.run", "3"], ["--data.run=3"], [f"--config={tmp_path / 'c.yaml'}"]):
        assert parse(given) == parse(["--data.order=3"])
    assert parse(["--data.order=1", "--data.run=3"]).data.order == 3
    with pytest.raises(ConfigError, match=r"data\.order is given twice"):
        parse(["--config={data: {order: 1, run: 2}}"])


def test_params_cfg_gives_way_to_every_flag(tmp_path: Path) -> None:
    (tmp_path / "p.cfg").write_text("rm_sz = 5\nmb_size = 7\n")
    config = parse(["--learner.batch_size=9", f"--params-cfg={tmp_path / 'p.cfg'}"])
    assert (config.memory.capacity, config.learner.batch_size) == (5, 9)
    assert parse(["--learner.method=slda", f"--params-cfg={tmp_path / 'p.cfg'}"]).learner.method == "slda"


def test_settings_that_are_not_given_are_those_of_the_method_however_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("learner: {method: der, momentum: 0.5}\n")
    for config in (
        parse(["--learner.method=der", "--learner.momentum=0.5"]),
        parse([f"--config={tmp_path / 'c.yaml'}"]),
        from_settings({"learner": {"method": "der", "momentum": 0.5}}),
        from_settings({"learner.method": "der", "learner.momentum": 0.5}),
    ):
        learner, own = config.learner, LearnerConfig(method="der")
        assert (learner.lr, learner.der_beta, learner.momentum) == (own.lr, own.der_beta, 0.5)
        assert own.lr != LearnerConfig().lr and own.der_beta != LearnerConfig().der_beta


def test_a_written_configuration_followed_by_another_method_takes_its_defaults(tmp_path: Path) -> None:
    written = tmp_path / "c.yaml"
    written.write_text(to_yaml(parse(["--learner.method=complementary", "--learner.epochs=7"])))
    config = parse([f"--config={written}", "--learner.method=naive"])
    own = LearnerConfig(method="naive")
    assert (config.learner.lr, config.learner.momentum, config.learner.epochs) == (own.lr, own.momentum, 7)
    assert parse([f"--config={written}"]).learner == LearnerConfig(epochs=7)
    assert parse([f"--config={written}", "--memory.capacity=300"]).memory.capacity_for(17, 32) == 300


def test_nested_settings_are_checked_as_flags_are() -> None:
    assert from_settings({"learner": {"lr": "1e-3"}, "memory": {"bytes": "20MB"}}).learner.lr == 1e-3
    assert from_settings({"data": {"scenario": "nc"}}) == parse(["--data.scenario=nc"])
    with pytest.raises(ConfigError, match=r"learner\.epochs must be of type int or null, got many"):
        from_settings({"learner": {"epochs": "many"}})


@pytest.mark.parametrize(
    "text",
    ["seed:", "memory:\n  policy:", "checkpoint_every: ~", "data:\n  run: null"],
)
def test_a_name_without_a_value_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    name = text.split()[-2 if text.endswith(("~", "null")) else -1].rstrip(":")
    with pytest.raises(ConfigError, match=f"{name} has no value"):
        parse(["--config", str(path)])
