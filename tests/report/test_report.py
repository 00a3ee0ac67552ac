"""The page of a report says what its runs did, needs no network, and names what failed."""

from __future__ import annotations

import json
import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitlr.cli import main
from vitlr.evaluation.records import class_matrix, forward_transfer, running_forgetting
from vitlr.report import gather as gathering
from vitlr.report.gather import RunData
from vitlr.report.report import make_report, measures
from vitlr.runs.settings import RunConfig

RECIPE = """
title: tiny
base:
  data: {{dataset: core50, root: {root}, scenario: nicv2_391}}
  backbone: {{name: {network}, cache: "off"}}
  memory: {{capacity: 8}}
  learner: {{batch_size: 8}}
variants:
  latent replay: {{learner: {{method: latent_replay}}}}
  naive: {{learner: {{method: naive}}}}
runs: [0, 1]
"""


def gather(paths: list[Path]) -> tuple[list[RunData], list[str]]:
    return gathering.gather(paths, RunConfig)


def named_by_difference(settings: list[dict], name: str = "") -> list[str]:
    return gathering.named_by_difference(settings, RunConfig, name)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.runs.conftest import save_tiny_vit, save_tree

    where = tmp_path_factory.mktemp("report")
    network, tree = save_tiny_vit(where / "vit"), save_tree(where / "core50")
    (where / "recipe.yaml").write_text(RECIPE.format(root=tree, network=network))
    assert main(["compare", str(where / "recipe.yaml"), "--out", str(where / "runs"), "--quiet"]) == 0
    return where / "runs"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not drawn, which takes most of a report's time."""
    monkeypatch.setattr("vitlr.report.sections.figure_bytes", lambda figure, kind: b'<svg width="1pt"></svg>')


def test_the_page_needs_no_network_and_every_id_is_used_once(comparison: Path, tmp_path: Path) -> None:
    assert main(["report", str(comparison), "--out", str(tmp_path / "report"), "--quiet"]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    assert "<script" not in page and "default-src 'none'" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 100
    # A figure is never blown up beyond its own size by much, whatever the width of the page.
    own = [
        re.search(r'style="--own: [\d.]+pt" width="[\d.]+pt"', svg)
        for svg in re.findall(r"<svg [^>]*>", page)
    ]
    assert len(own) >= 8 and all(own)
    for link in re.findall(r'href="#([^"]+)"', page):
        assert link in ids
    for name in ("accuracy", "forgetting", "classes-1", "confusion-1", "memory-1", "time"):
        assert (tmp_path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(tmp_path / "report" / f"{name}.svg")
    assert "vitlr train --config" in page and "capacity: 8" in page


def test_the_table_holds_mean_and_sd_of_the_records(
    comparison: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = comparison.parent / "json"
    assert main(["report", str(comparison), "--out", str(out), "--json", "--no-images"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert list(rows) == ["latent replay", "naive"]
    final = [
        json.loads((comparison / "naive" / f"run{run}-seed0" / "metrics.jsonl").read_text().splitlines()[-1])
        for run in (0, 1)
    ]
    accuracies = [line["test_accuracy"] for line in final]
    assert rows["naive"]["test_accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert rows["naive"]["test_accuracy"]["sd"] == pytest.approx(
        abs(accuracies[0] - accuracies[1]) / math.sqrt(2)
    )
    assert rows["latent replay"]["memory_bytes"]["mean"] > 0 == rows["naive"]["memory_bytes"]["mean"]
    assert rows["naive"]["gflop"]["mean"] > 0 and rows["naive"]["peak_memory_bytes"]["mean"] > 1e7
    assert 0 <= rows["naive"]["calibration_error"]["mean"] <= 1
    assert rows["naive"]["learn_seconds"]["mean"] <= rows["naive"]["seconds"]["mean"]


def test_forward_transfer_is_category_accuracy_before_an_object_came_minus_chance(comparison: Path) -> None:
    for run in gather([comparison])[0]:
        learned_C, names = class_matrix(run.metrics)[1], list(run.metrics[0]["class_accuracy"])
        before = [
            run.metrics[learned - 1]["class_category_accuracy"][name] - 1 / 10
            for name, learned in zip(names, learned_C.tolist(), strict=True)
            if 0 < learned < len(run.metrics)
        ]
        assert forward_transfer(run.metrics) == pytest.approx(np.mean(before)) and len(before) == 2
        assert run.summary is not None
        assert run.summary["forward_transfer"] == pytest.approx(np.mean(before))
        assert run.summary["backward_transfer"] == pytest.approx(measures(run)["backward_transfer"])


@pytest.mark.usefixtures("undrawn")
def test_runs_made_before_a_measure_was_recorded_are_reported_without_it(
    comparison: Path, tmp_path: Path
) -> None:
    shutil.copytree(comparison, tmp_path / "runs")
    later = (
        "category_accuracy",
        "class_category_accuracy",
        "session_accuracy",
        "calibration_error",
        "forgetting",
    )
    for path in (tmp_path / "runs").rglob("metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{key: value for key, value in line.items() if key not in later} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    report = make_report(*gather([tmp_path / "runs"]))
    assert report.rows[0]["forward_transfer"] is None and report.rows[0]["forgetting"] is not None
    assert "Sessions</h2>" not in report.html and "forward transfer, points" not in report.html


@pytest.mark.usefixtures("undrawn")
def test_the_page_shows_each_session_and_the_categories_along_the_stream(comparison: Path) -> None:
    report = make_report(*gather([comparison]))
    assert "session 3</th>" in report.html and "session 7</th>" not in report.html
    assert {"accuracy", "accuracy-categories", "forgetting"} <= set(report.figures)


def test_the_running_forgetting_ends_where_the_measure_is(comparison: Path) -> None:
    runs, failures = gather([comparison])
    assert failures == []
    for run in runs:
        matrix_EC, learned_C = class_matrix(run.metrics)
        earlier_EC = matrix_EC[:, learned_C < len(matrix_EC) - 1]
        expected = np.nanmean(np.fmax.reduce(earlier_EC[:-1], axis=0) - earlier_EC[-1])
        assert running_forgetting(run.metrics)[-1] == pytest.approx(expected)
        assert measures(run)["forgetting"] == pytest.approx(run.metrics[-1]["forgetting"])
        told = run.predictions
        assert told is not None
        hits = np.array(told["labels"]) == np.array(told["predictions"])
        assert measures(run)["test_accuracy"] == pytest.approx(hits.mean())


def test_the_calibration_error_of_a_report_is_the_one_of_the_records_over_images_of_classes_seen(
    comparison: Path,
) -> None:
    run = gather([comparison / "naive"])[0][0]
    assert measures(run)["calibration_error"] == run.metrics[-1]["calibration_error"]
    found = run.predictions
    assert found is not None
    unseen = {
        **found,
        "labels": [label + 1 for label in found["labels"]],
    }  # all wrong, if it were judged again
    assert measures(replace(run, predictions=unseen)) == measures(run)


@pytest.mark.usefixtures("undrawn")
def test_what_accuracy_costs_is_drawn_for_methods_to_compare_and_named_by_method(comparison: Path) -> None:
    figures = make_report(*gather([comparison])).figures
    for name, label in (("accuracy-bytes", "memory"), ("accuracy-seconds", "seconds to learn")):
        (axes,) = figures[name].axes
        assert axes.get_xlabel().startswith(label)
        assert [text.get_text() for text in axes.texts] == ["latent replay", "naive"]
    # Naive training keeps nothing: it is drawn at 0, left of the others.
    left = [
        line.get_xdata()[0] for line in figures["accuracy-bytes"].axes[0].lines if len(line.get_xdata()) == 1
    ]
    assert min(left) == 0 < max(left)
    assert "accuracy-bytes" not in make_report(*gather([comparison / "naive"])).figures


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_run_and_one_that_failed_are_named(comparison: Path, tmp_path: Path) -> None:
    shutil.copytree(comparison, tmp_path / "runs")
    (tmp_path / "runs" / "naive" / "run1-seed0" / "summary.json").unlink()
    (tmp_path / "runs" / "latent-replay" / "run1-seed0" / "metrics.jsonl").unlink()
    report = make_report(*gather([tmp_path / "runs"]))
    assert "naive, order 1, seed 0: not finished" in report.html
    assert "latent replay, order 1, seed 0: failed: there is no record of it" in report.html
    assert [(row["failed"], row["not_finished"]) for row in report.rows] == [(1, 0), (0, 1)]


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_failed_in_a_comparison_is_named_once_with_its_reason(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = (comparison.parent / "recipe.yaml").read_text()
    recipe = recipe.replace("  naive:", "  diverging: {learner: {lr: 1.0e+30, first_lr: 1.0e+30}}\n  naive:")
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert main(["compare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "runs"), "--quiet"]) == 1
    assert "0, 2 failed" in capsys.readouterr().out
    table = (tmp_path / "runs" / "table.md").read_text()
    assert "| diverging | 0, 2 failed | failed |" in table
    assert "* failed: diverging, order 0, seed 0: the loss became" in table
    report = make_report(*gather([tmp_path / "runs"]))
    assert report.html.count("diverging, order 0, seed 0: failed: the loss became") == 1
    assert report.html.count('class="bad"') == 2
    # In the order of the recipe, which also gives the colours.
    assert [row["method"] for row in report.rows] == ["latent replay", "diverging", "naive"]
    assert report.rows[1]["failed"] == 2 and "0, 2 failed" in report.html


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_failed_on_its_own_tells_why_until_it_is_run_again(
    flags: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    one = ["train", *flags, "--quiet", f"--out={out}"]
    assert main([*one, "--learner.lr=1e30", "--learner.first_lr=1e30"]) == 2
    assert "order 0, seed 0: failed: the loss became" in make_report(*gather([out])).html
    assert main([*one, "--overwrite"]) == 0
    assert not (out / "failure.json").exists()
    assert 'class="bad"' not in make_report(*gather([out])).html


@pytest.mark.usefixtures("undrawn")
def test_runs_of_two_streams_are_no_repetitions_of_one_method(comparison: Path, tmp_path: Path) -> None:
    recipe = (comparison.parent / "recipe.yaml").read_text().replace("nicv2_391", "nc")
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert main(["compare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "nc"), "--quiet"]) == 0
    runs, failures = gather([comparison, tmp_path / "nc"])
    report = make_report(runs, failures)
    assert [(row["method"], row["runs"]) for row in report.rows] == [
        ("latent replay (scenario nicv2_391)", 2),
        ("naive (scenario nicv2_391)", 2),
        ("latent replay (scenario nc)", 2),
        ("naive (scenario nc)", 2),
    ]
    labels = [line.get_label() for line in report.figures["time"].axes[0].lines]
    assert {"recorded length, core50 nc", "recorded length, core50 nicv2_391"} <= set(labels)
    assert "core50 nc, core50 nicv2_391" in report.html


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", "{}\n"),
        ("metrics.jsonl", "[1]\n"),
        ("metrics.jsonl", '{"num_images": 1, "classes": [], "test_accuracy": null, "seen_accuracy": 1}\n'),
        ("config.yaml", "data: 5\n"),
        ("summary.json", '{"notes": null}'),
        ("predictions.json", '{"labels": [0], "predictions": [0]}'),
        ("predictions.json", '{"class_names": ["a"], "labels": [0], "predictions": [99]}'),
        ("predictions.json", '{"class_names": ["a"], "labels": [0, 0], "predictions": [0]}'),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_the_remedy(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(comparison / "naive" / "run0-seed0", run)
    (run / name).write_text(content)
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 2
    told = capsys.readouterr().err
    assert f"{run / name} is damaged; leave this run out or run it again" in " ".join(told.split())
    assert "Traceback" not in told and not (tmp_path / "report").exists()


def test_a_file_in_place_of_a_run_is_refused(comparison: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(comparison / "naive" / "run0-seed0" / "metrics.jsonl")]) == 2
    assert "metrics.jsonl is a file; give the directory" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_the_same_order_and_seed_twice_is_one_run_and_said(comparison: Path, tmp_path: Path) -> None:
    shutil.copytree(comparison / "naive" / "run0-seed0", tmp_path / "again" / "naive" / "run0-seed0")
    report = make_report(*gather([comparison / "naive", tmp_path / "again"]))
    assert [(row["runs"], row["test_accuracy"]["sd"] is None) for row in report.rows] == [(2, False)]
    assert report.html.count("and is left out") == 1 and 'class="bad"' in report.html


@pytest.mark.usefixtures("undrawn")
def test_runs_over_other_classes_are_no_repetitions_of_one_method(
    flags: list[str], comparison: Path, tmp_path: Path
) -> None:
    base, roots = (
        ["train", *flags, "--quiet", "--data.dataset=folder"],
        [tmp_path / "pets", tmp_path / "cars"],
    )
    objects = sorted(Path(flags[1].partition("=")[2]).glob("s1/o*"))
    for number, root in enumerate(roots):
        for place, images in enumerate(objects[:2]):
            shutil.copytree(images, root / f"class_{number}_{place}")
        out = f"--out={tmp_path / 'runs' / root.name}"
        assert main([*base, f"--data.root={root}", f"--data.run={number}", out]) == 0
    report = make_report(*gather([tmp_path / "runs"]))
    assert [row["runs"] for row in report.rows] == [1, 1]
    assert "2 runs together" not in report.html and all(str(root) in report.html for root in roots)


@pytest.mark.usefixtures("undrawn")
def test_runs_over_other_images_of_the_same_classes_are_no_repetitions(
    flags: list[str], tmp_path: Path
) -> None:
    objects = sorted(Path(flags[1].partition("=")[2]).glob("s1/o*"))
    for number, root in enumerate((tmp_path / "few", tmp_path / "many")):
        for images in objects[:2]:
            shutil.copytree(images, root / images.name)
            for extra in range(3 * number):
                shutil.copy(next(iter(images.iterdir())), root / images.name / f"extra{extra}.png")
        out = f"--out={tmp_path / 'runs' / root.name}"
        assert main(["train", *flags, "--quiet", "--data.dataset=folder", f"--data.root={root}", out]) == 0
    report = make_report(*gather([tmp_path / "runs"]))
    assert [row["runs"] for row in report.rows] == [1, 1] and "left out" not in report.html


@pytest.mark.usefixtures("undrawn")
def test_a_run_with_nothing_recorded_yet_is_not_finished_and_can_be_gone_on_with(
    flags: list[str], tmp_path: Path
) -> None:
    one = ["train", *flags, "--quiet", f"--out={tmp_path / 'run'}"]
    assert main(one) == 0
    for left in (tmp_path / "run").iterdir():
        if left.name != "config.yaml":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    report = make_report(*gather([tmp_path / "run"]))
    assert [(row["failed"], row["not_finished"]) for row in report.rows] == [(0, 1)]
    assert "not finished: 0 experiences recorded; vitlr train --resume" in report.html
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0


@pytest.mark.usefixtures("undrawn")
def test_variants_that_left_no_directory_have_a_row_also_from_the_folder_above(
    comparison: Path, tmp_path: Path
) -> None:
    shutil.copytree(comparison, tmp_path / "all" / "runs")
    summary = tmp_path / "all" / "runs" / "summary.json"
    content = json.loads(summary.read_text())
    content["rows"][0]["variant"] = "Latent Replay"  # a name that its directory does not tell
    lost = {
        **content["rows"][0],
        "variant": "no network",
        "runs": 0,
        "failures": ["run 0, seed 0: not there"],  # as version 0.1 wrote it
    }
    summary.write_text(json.dumps({**content, "rows": [*content["rows"], lost]}))
    shutil.move(tmp_path / "all" / "runs" / "latent-replay", tmp_path / "all" / "runs" / "Latent-Replay")
    for given in (tmp_path / "all" / "runs", tmp_path / "all"):
        report = make_report(*gather([given]))
        told = {row["method"]: (row["runs"], row["failed"]) for row in report.rows}
        assert told == {"Latent Replay": (2, 0), "naive": (2, 0), "no network": (0, 1)}
        assert report.html.count("no network, order 0, seed 0: failed: not there") == 1


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metrics.jsonl", {"gflop": [1]}),
        ("metrics.jsonl", {"gflop": {"trunk": None}}),
        ("metrics.jsonl", {"session_accuracy": {"x": 0.5}}),
        ("metrics.jsonl", {"category_accuracy": "good"}),
        ("summary.json", {"peak_memory_bytes": "much"}),
        ("metrics.jsonl", {"calibration_error": "low"}),
    ],
)
def test_a_record_with_a_value_of_the_wrong_kind_names_the_run(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, change: dict
) -> None:
    shutil.copytree(comparison, tmp_path / "runs")
    damaged = tmp_path / "runs" / "naive" / "run0-seed0" / name
    lines = [json.loads(line) for line in damaged.read_text().splitlines()] if name[0] == "m" else None
    content = [json.loads(damaged.read_text())] if lines is None else lines
    damaged.write_text("".join(json.dumps({**each, **change}) + "\n" for each in content))
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "report"), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "naive/run0-seed0" in told and "damaged" in told
    assert not (tmp_path / "report" / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_published_levels_are_drawn_only_beside_whole_core50_on_one_test_set(comparison: Path) -> None:
    runs, _ = gather([comparison / "naive"])
    full = [replace(run, summary={**run.summary, "notes": []}) for run in runs]  # type: ignore[dict-item]
    assert "MobileNetV1" in make_report(full, []).html
    skipped = [replace(run, summary={**run.summary, "skipped_images": 3}) for run in full]  # type: ignore[dict-item]
    reduced = replace(
        full[0], config={**full[0].config, "data": {**full[0].config["data"], "test": "reduced"}}
    )
    for others in (skipped, [reduced, full[1]]):
        assert "MobileNetV1" not in make_report(others, []).html


def test_figures_of_an_earlier_report_do_not_stay(comparison: Path, tmp_path: Path) -> None:
    one = ["--out", str(tmp_path / "report"), "--quiet"]
    assert main(["report", str(comparison), *one]) == 0
    assert (tmp_path / "report" / "classes-2.png").is_file()
    (tmp_path / "report" / "notes-2.png").touch()
    assert main(["report", str(comparison / "naive"), *one]) == 0
    assert (tmp_path / "report" / "classes-1.png").is_file() and (
        tmp_path / "report" / "notes-2.png"
    ).is_file()
    assert not (tmp_path / "report" / "classes-2.png").exists()
    assert main(["report", str(comparison / "naive"), *one, "--no-images"]) == 0
    assert sorted(path.suffix for path in (tmp_path / "report").iterdir()) == ["", ".html", ".png"]


def test_a_report_does_not_go_into_a_comparison_or_a_run(
    comparison: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (comparison / "accuracy.png").read_bytes()
    for place in (comparison, comparison / "naive" / "run0-seed0"):
        assert main(["report", str(comparison), "--out", str(place), "--quiet"]) == 2
        assert "holds a run or a comparison; choose another --out" in capsys.readouterr().err
    assert (comparison / "accuracy.png").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_the_commands_that_repeat_runs_name_a_place_for_each(comparison: Path) -> None:
    html = make_report(*gather([comparison])).html
    places = re.findall(r"--out (runs/again-\d+)", html)
    assert len(places) == len(set(places)) == 4


@pytest.mark.usefixtures("undrawn")
def test_published_figures_are_not_drawn_beside_a_part_of_the_frames(comparison: Path) -> None:
    assert "MobileNetV1" not in make_report(*gather([comparison])).html


def test_runs_are_named_by_what_differs_but_order_and_seed() -> None:
    base = {"learner.method": "latent_replay", "memory.capacity": 300, "seed": 0, "data.order": 0}
    assert named_by_difference([base, base | {"seed": 1}]) == ["latent replay", "latent replay"]
    assert named_by_difference([base, base | {"memory.capacity": 100}]) == [
        "latent replay (capacity 300)",
        "latent replay (capacity 100)",
    ]


def test_settings_that_decide_no_result_and_those_that_a_method_does_not_read_give_no_name() -> None:
    slda = {"learner.method": "slda", "learner.lr": 0.1, "data.workers": 1, "out": "a", "tensorboard": True}
    other = {"learner.lr": 0.2, "data.workers": 9, "out": "b", "tensorboard": False}
    assert named_by_difference([slda, slda | other]) == ["slda", "slda"]
    naive = slda | {"learner.method": "naive"}
    assert named_by_difference([naive, naive | other]) == ["naive (lr 0.1)", "naive (lr 0.2)"]


def test_a_setting_that_an_older_run_does_not_know_does_not_tell_it_from_later_ones() -> None:
    old = {"learner.method": "naive", "data.scenario": "nc"}
    assert named_by_difference([old, old | {"learner.train_precision": "auto"}]) == ["naive", "naive"]
    given = named_by_difference([old, old | {"data.scenario": "ni"}], "my method")
    assert given == ["my method (scenario nc)", "my method (scenario ni)"]


def test_tensorboard_holds_the_confusion_matrix_as_a_picture(flags: list[str], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(["train", *flags, "--quiet", f"--out={tmp_path / 'run'}"]) == 0
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    (image,) = events.Images("confusion")
    assert image.encoded_image_string.startswith(b"\x89PNG") and image.width > 300


def test_a_run_whose_end_was_cut_off_gets_its_picture_and_a_whole_one_is_left_alone(
    flags: list[str], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    assert main(["train", *flags, "--quiet", f"--out={run}"]) == 0
    left = ("summary.json", "predictions.json")
    before = {name: (run / name).read_bytes() for name in left}
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert {name: (run / name).read_bytes() for name in left} == before
    for path in [*run.glob("events.*"), *(run / name for name in left)]:
        path.unlink()
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert (run / "predictions.json").read_bytes() == before["predictions.json"]
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    assert len(events.Images("confusion")) == 1


def test_class_names_that_look_like_formulas_are_learned_and_drawn(flags: list[str], tmp_path: Path) -> None:
    objects = sorted(Path(flags[1].partition("=")[2]).glob("s1/o*"))
    for name, images in zip((r"$\foo$", "cost $5", "_hidden"), objects, strict=False):
        shutil.copytree(images, tmp_path / "odd" / name)
    run = tmp_path / "run"
    one = ["train", *flags, "--data.dataset=folder", f"--data.root={tmp_path / 'odd'}", f"--out={run}"]
    assert main([*one, "--quiet"]) == 0
    assert main(["report", str(run), "--out", str(tmp_path / "report"), "--quiet"]) == 0
