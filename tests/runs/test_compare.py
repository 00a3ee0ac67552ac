"""Recipes of comparisons: what is read from one, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runs.conftest import save_tree
from vitlr.cli import main
from vitlr.commands.compare import numbers
from vitlr.errors import ConfigError
from vitlr.evaluation.records import read_metrics
from vitlr.runs.plan import read_plan
from vitlr.runs.settings import parse
from vitlr.runs.summary import table_cells, table_lines
from vitlr.runs.train import read_config, train


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_variants_settings_go_over_those_of_the_base(tmp_path: Path) -> None:
    text = (
        "base: {memory: {capacity: 20, codec: int8}}\n"
        "variants: {plain: , small: {memory: {capacity: 5}}}\n"
        "runs: [1, 2]\n"
    )
    plan = read_plan(recipe(tmp_path, text))
    small = list(plan.configs("small", tmp_path / "out"))
    assert [config.data.order for config in small] == [1, 2]
    assert {(config.memory.capacity, config.memory.codec) for config in small} == {(5, "int8")}
    assert next(iter(plan.configs("plain", tmp_path / "out"))).memory.capacity == 20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("variants: {a: {}}\nbase: fast\n", "'base' must hold settings, got 'fast'"),
        ("variants: {a: [1]}\n", r"'a' must hold settings, got \[1\]"),
        ("variants: {a: 2020-01-01}\n", "'a' must hold settings"),
        ("variants: [a]\n", "must hold 'variants'"),
        ("variants: {a: {}}\nrun: [1]\n", "unknown keys run"),
        ("variants: {a: {}}\nruns: 3\n", "orders must be a list of whole numbers"),
        ("variants: {a: {}", "not valid YAML"),
        ("variants: {}\n", "has no variants"),
        ("variants: {a: {data: 5}}\n", "'a': data must hold settings such as data.dataset, got 5"),
        ("variants: {a: {}}\nbase: {memory: [1]}\n", "'base': memory must hold settings"),
        ("variants: {CWR: {}, CWR*: {}}\n", "'CWR' and 'CWR\\*' would share the directory CWR"),
        ("variants: {naive: {}, Naive: {}}\n", "would share the directory Naive"),
        ("variants: {summary.json: {}}\n", "cannot be called 'summary.json'"),
        (f"variants: {{? {'x' * 300}\n: {{}}}}\n", "too long a name"),
    ],
)
def test_a_recipe_that_says_something_else_is_refused_by_name(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_plan(recipe(tmp_path, text))


def test_the_same_order_twice_is_run_once_and_an_empty_room_is_none(tmp_path: Path) -> None:
    plan = read_plan(recipe(tmp_path, "variants: {a: }\nbase: {data: }\nruns: [0, 2, 0]\nseeds: [1, 1]\n"))
    assert (plan.orders, plan.seeds, plan.base) == ((0, 2), (1,), {})


def test_names_in_any_alphabet_have_directories_of_their_own(tmp_path: Path) -> None:
    plan = read_plan(recipe(tmp_path, "variants: {潜在再生: , 素朴: , latent replay (cut 11): }\n"))
    folders = [next(iter(plan.configs(name, tmp_path))).run_dir.parent.name for name in plan.variants]
    assert folders == ["潜在再生", "素朴", "latent-replay-cut-11"]


def test_names_with_brackets_and_bars_are_shown_as_they_are(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
    base: dict[str, dict[str, str]] = {}
    for name, value in settings.items():
        room, _, key = name.partition(".")
        base.setdefault(room, {})[key] = value
    names = ["replay [int8]", "x [/b] y | z"]
    text = json.dumps({"title": "t [/b]", "base": base, "variants": {name: {} for name in names}})
    assert main(["compare", str(recipe(tmp_path, text)), "--out", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr()
    assert all(name in shown.out and name in shown.err for name in names) and "t [/b]" in shown.out
    table = (tmp_path / "runs" / "table.md").read_text()
    assert "x [/b] y \\| z" in table


def test_a_comparison_says_of_its_data_what_a_run_says_and_each_thing_once(
    tmp_path: Path, tiny_vit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = Path(__file__).parents[1] / "data" / "cases"
    photos = shutil.copytree(cases / "folders" / "Train-Test" / "Train", tmp_path / "photos")
    shutil.copy(cases / "pictures" / "no-eoi.jpg", photos / "red" / "cut.jpg")
    (photos / "red" / "gone.png").write_bytes(b"")
    (photos / "notes.txt").write_text("x")
    base = {"data": {"dataset": "folder", "root": str(photos), "on_bad_image": "skip"}}
    base |= {"backbone": {"name": str(tiny_vit)}, "memory": {"capacity": 8}}
    variants = {"a": {}, "b": {"learner": {"method": "class_mean"}}}
    text = json.dumps({"base": base, "variants": variants, "seeds": [0, 1]})
    line = ["compare", str(recipe(tmp_path, text)), "--out"]
    assert main([*line, str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().err
    for sentence in (
        f"2 classes of 14 images found in {photos}",
        "1 file that is no image is left out (notes.txt)",
        "cut.jpg lacks its last bytes",
        "1 image could not be read and was left out",
    ):
        assert said.count(sentence) == 1, sentence
    assert said.index("2 classes") < said.index("encoding")
    assert main([*line, str(tmp_path / "quiet"), "--quiet"]) == 0
    assert "2 classes" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"), [("0-2,5", (0, 1, 2, 5)), ("3", (3,)), ("1,1, 2", (1, 2)), ("4-4", (4,))]
)
def test_orders_and_seeds_are_written_as_ranges_and_lists(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text, "--runs") == expected


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "1,,2", "0-99999999999", "0-999999999", "١"])
def test_what_is_no_range_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds must be numbers"):
        numbers(text, "--seeds")


def test_train_repeats_one_method_over_orders_and_seeds_with_one_summary(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "many"
    many = ["train", *flags, "--runs", "0-1", "--seeds=3,4", "--learner.epochs=1", f"--out={out}", "--quiet"]
    assert main(many) == 0
    told = capsys.readouterr().out
    names = sorted(path.parent.relative_to(out).as_posix() for path in out.rglob("config.yaml"))
    assert names == [f"complementary/run{run}-seed{seed}" for run in (0, 1) for seed in (3, 4)]
    (row,) = json.loads((out / "summary.json").read_text())["rows"]
    finals = [read_metrics(out / name)[-1]["test_accuracy"] for name in names]
    assert row["runs"] == 4 and row["failures"] == []
    assert row["test_accuracy"] == pytest.approx([np.mean(finals), np.std(finals, ddof=1)])
    assert "accuracy.png" in told and "complementary" in told
    before = (out / names[0] / "metrics.jsonl").stat().st_mtime_ns
    assert main(many) == 0  # goes on: nothing is run again
    assert (out / names[0] / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "other",
    [
        "--data.workers=1",
        "--tensorboard=false",
        "--checkpoint_every=3",
        "--backbone.cache=off",
        "--data.root=MOVED",
    ],
)
def test_a_comparison_goes_on_if_what_changed_decides_no_result(
    flags: list[str], tmp_path: Path, other: str
) -> None:
    tree = tmp_path / "core50"
    shutil.copytree(flags[1].partition("=")[2], tree)
    out = tmp_path / "many"
    one = ["train", *flags, f"--data.root={tree}", "--learner.epochs=1", "--quiet", f"--out={out}"]
    assert main([*one, "--runs=0"]) == 0
    done = out / "complementary" / "run0-seed0" / "metrics.jsonl"
    before = done.stat().st_mtime_ns
    if "MOVED" in other:
        tree.rename(tmp_path / "moved")
    assert main([*one, other.replace("MOVED", str(tmp_path / "moved")), "--runs=0-1"]) == 0
    assert done.stat().st_mtime_ns == before
    assert (out / "complementary" / "run1-seed0" / "summary.json").is_file()


def test_a_comparison_and_a_recipe_that_say_run_for_order_are_continued(
    flags: list[str], tmp_path: Path
) -> None:
    out, one = tmp_path / "many", ["train", *flags, "--learner.epochs=1", "--quiet"]
    assert main([*one, "--orders=1", f"--out={out}"]) == 0
    run = out / "complementary" / "run1-seed0"
    for path, new, old in (
        (run / "config.yaml", "  order: 1", "  run: 1"),
        (out / "summary.json", '"orders"', '"runs"'),
    ):
        assert new in path.read_text()
        path.write_text(path.read_text().replace(new, old))
    before = (run / "metrics.jsonl").stat().st_mtime_ns
    assert main([*one, "--runs=1", f"--out={out}"]) == 0
    assert main([*one, "--data.run=2", "--seeds=0", f"--out={out}"]) == 0
    assert (run / "metrics.jsonl").stat().st_mtime_ns == before
    assert json.loads((out / "summary.json").read_text())["orders"] == [1, 2]
    assert read_config(run).data.order == 1
    plan = read_plan(recipe(tmp_path, "base: {data: {run: 3}}\nvariants: {a: }\nruns: [4]\n"))
    assert (plan.base, plan.orders) == ({"data.order": 3}, (4,))


@pytest.mark.parametrize("other", ["--learner.lr=0.5", "--data.root=OTHER", "--data.root=GONE"])
def test_a_comparison_of_other_settings_or_images_is_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    tree = save_tree(tmp_path / "other", objects=(1, 2, 6))
    out = tmp_path / "many"
    one = ["train", *flags, "--learner.epochs=1", "--quiet", "--runs=0", f"--out={out}"]
    assert main(one) == 0
    assert main([*one, other.replace("OTHER", str(tree)).replace("GONE", str(tmp_path / "gone"))]) == 2
    said = capsys.readouterr().err
    assert "does not exist" in said if "GONE" in other else "was made with other settings or images (" in said


def test_a_run_is_resumed_from_a_tree_that_was_moved_with_other_workers(
    flags: list[str], tmp_path: Path
) -> None:
    tree = tmp_path / "core50"
    shutil.copytree(flags[1].partition("=")[2], tree)
    config = parse([*flags, f"--data.root={tree}", f"--out={tmp_path / 'run'}"])

    class Stopped(Exception):
        pass

    def stop(record) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train(config, on_record=stop)
    tree.rename(tmp_path / "moved")
    data = replace(config.data, root=str(tmp_path / "moved"), workers=1)
    others = replace(config, data=data, tensorboard=False, checkpoint_every=3)
    positions = []
    train(others, resume=True, on_start=lambda _, start: positions.append(start))
    assert positions == [1] and len(read_metrics(tmp_path / "run")) == 7


def test_a_single_run_has_no_spread_and_one_that_failed_is_counted_beside_those_that_did_not() -> None:
    row = {
        "variant": "naive",
        "runs": 1,
        "failures": ["order 2, seed 0: the loss became nan"],
        "test_accuracy": (0.5, None),
        "average_test_accuracy": (0.25, None),
        "forgetting": None,
        "learn_seconds": (0.1, None),
        "memory_bytes": 0,
    }
    assert table_cells(row) == ("naive", "1, 1 failed", "50.0%", "25.0%", "-", "0.100", "0.0")
    assert table_lines([row])[-1] == "* failed: naive, order 2, seed 0: the loss became nan"


@pytest.mark.parametrize("more", [["--overwrite"], ["--resume=x"], ["--data.run=99"]])
def test_repeating_refuses_what_it_cannot_do_before_anything_is_written(
    flags: list[str], tmp_path: Path, more: list[str]
) -> None:
    out = tmp_path / "many"
    assert main(["train", *flags, "--seeds=0-1", f"--out={out}", *more]) == 2
    assert not out.exists()


def test_a_run_that_finds_too_little_memory_fails_alone(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitlr.runs import compare

    original = compare.train

    def hungry(config, *rest, **options):
        if config.seed == 0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate\nmemory")
        return original(config, *rest, **options)

    monkeypatch.setattr(compare, "train", hungry)
    out = tmp_path / "many"
    assert main(["train", *flags, "--seeds=0,1", "--learner.epochs=1", f"--out={out}", "--quiet"]) == 1
    (row,) = json.loads((out / "summary.json").read_text())["rows"]
    assert row["runs"] == 1
    assert row["failures"] == ["order 0, seed 0: RuntimeError: DefaultCPUAllocator: can't allocate memory"]


def test_a_part_of_a_comparison_leaves_the_others_runs_in_the_summary(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, one = tmp_path / "many", ["train", *flags, "--learner.epochs=1", "--quiet"]
    assert main([*one, "--runs", "0-1", f"--out={out}"]) == 0
    before = json.loads((out / "summary.json").read_text())
    assert main([*one, "--learner.method=naive", "--runs", "2", f"--out={out}"]) == 0
    after = json.loads((out / "summary.json").read_text())
    assert (after["orders"], after["seeds"]) == ([0, 1, 2], [0])
    assert after["rows"][0] == before["rows"][0]
    assert [(row["variant"], row["runs"]) for row in after["rows"]] == [("complementary", 2), ("naive", 1)]
    assert after["rows"][1]["test_accuracy"][1] is None  # one run has no spread
    assert "| complementary | 2 |" in (out / "table.md").read_text()
    # A run that failed stays in it, too.
    diverging = [*one, "--learner.method=cwr", "--learner.lr=1e30", "--learner.first_lr=1e30"]
    assert main([*diverging, "--runs=0", f"--out={out}"]) == 1
    assert main([*one, "--runs=1", f"--out={out}"]) == 0
    rows = json.loads((out / "summary.json").read_text())["rows"]
    assert [(row["variant"], row["runs"], len(row["failures"])) for row in rows] == [
        ("complementary", 2, 0),
        ("naive", 1, 0),
        ("cwr", 0, 1),
    ]


def test_bad_data_is_said_once_before_anything_is_written(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "many"
    assert main(["train", *flags, f"--data.root={tmp_path / 'nowhere'}", "--runs=0-1", f"--out={out}"]) == 2
    assert capsys.readouterr().err.count("nowhere") == 1
    assert not out.exists()


def test_a_folder_full_of_other_things_is_not_filled_with_runs(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").touch()
    assert main(["train", *flags, "--runs=0-1", f"--out={photos}"]) == 2
    assert f"{photos} holds something else than a comparison; choose another --out" in capsys.readouterr().err
    assert [path.name for path in photos.iterdir()] == ["holiday.jpg"]
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()  # a run's own summary would be lost to the comparison's
    (run / ".lock").touch()
    assert main(["train", *flags, "--runs=0-1", f"--out={run}"]) == 2
    assert not (run / "summary.json").exists()
