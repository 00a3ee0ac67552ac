"""The command line: bad input gives one sentence, exit code 2 and nothing half-written; good input works."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runs.conftest import save_tiny_vit, save_tree
from vitlr.cli import main
from vitlr.storage.locks import locked


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("network") / "tiny-vit")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return save_tree(tmp_path / "core50")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail; its one sentence."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 2, captured
    lines = [line for line in captured.err.splitlines() if line.startswith("vitlr: error: ")]
    assert len(lines) == 1 and "Traceback" not in captured.err, captured.err
    return lines[0].removeprefix("vitlr: error: ")


def train(vit: Path, root: Path, out: Path, *more: str) -> list[str]:
    base = ["train", "--quiet", "--data.dataset=core50", f"--data.root={root}", f"--backbone.name={vit}"]
    return [*base, "--memory.capacity=8", "--learner.batch_size=8", f"--out={out}", *more]


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--memory.capacity=-1", "memory.capacity must be >= 0"),
        ("--data.run=10", "data.order must be 0 to 9"),
        ("--data.scenario=nicv3", "data.scenario must be one of ni, nc"),
        ("--backbone.cut=13", "cut 13 of 3"),
        ("--backbone.image_size=30", "8"),
        ("--backbone.blocks=4", "3"),
        ("--learner.method=ewc", "learner.method must be one of complementary, latent_replay"),
        ("--learner.epochs=many", "learner.epochs"),
        ("--memory.capcity=5", "did you mean memory.capacity"),
        ("--backbone.name=/nowhere/at/all", "/nowhere/at/all"),
    ],
)
def test_a_bad_setting_is_one_sentence_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path, flag: str, named: str
) -> None:
    out = tmp_path / "run"
    assert named in refused(capsys, *train(vit, tree, out, flag))
    assert not out.exists()


def test_a_missing_an_empty_and_a_foreign_root_are_told_apart(
    capsys: pytest.CaptureFixture[str], vit: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign" / "cats").mkdir(parents=True)
    said = {
        name: refused(capsys, *train(vit, tmp_path / name, tmp_path / "run"))
        for name in ("gone", "empty", "foreign")
    }
    assert "does not exist" in said["gone"] and "is empty" in said["empty"] and "s1/o1" in said["foreign"]
    assert not (tmp_path / "run").exists()


def test_a_damaged_picture_is_named(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path
) -> None:
    damaged = tree / "s3" / "o1" / "C_03_01_020.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert "C_03_01_020.png" in refused(capsys, *train(vit, tree, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_one_pixel_grey_and_cmyk_pictures_are_learned(vit: Path, tree: Path, tmp_path: Path) -> None:
    pictures = [
        Image.new("RGB", (1, 1), "red"),
        Image.new("L", (32, 32), 90),
        Image.new("CMYK", (32, 32), "blue"),
    ]
    for index, picture in enumerate(pictures):
        path = tree / f"s1/o{(1, 2, 6)[index]}/C_01_{(1, 2, 6)[index]:02d}_020.png"
        picture.save(path, format="JPEG" if picture.mode == "CMYK" else "PNG")
    assert main(train(vit, tree, tmp_path / "run")) == 0


def test_a_model_directory_without_weights_is_named(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path
) -> None:
    shutil.copytree(vit, tmp_path / "hollow")
    (tmp_path / "hollow" / "model.safetensors").unlink()
    sentence = refused(capsys, *train(tmp_path / "hollow", tree, tmp_path / "run"))
    assert "hollow" in sentence and "safetensors" in sentence


def test_a_misspelt_key_in_a_file_names_the_nearest_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("learner:\n  epoch: 3\n")
    sentence = refused(capsys, "train", "--config", tmp_path / "c.yaml")
    assert "learner.epoch" in sentence and "did you mean learner.epochs" in sentence


def test_a_run_directory_that_exists_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert main(train(vit, tree, out)) == 0
    before = sorted(path.name for path in out.rglob("*"))
    assert "--overwrite" in refused(capsys, *train(vit, tree, out))
    assert sorted(path.name for path in out.rglob("*")) == before


def test_an_unknown_command_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean train" in refused(capsys, "trian")


@pytest.mark.parametrize(
    "arguments", [["data", "list", "--scenario", "x"], ["data", "list", "--scenario", "ni", "--run", "10"]]
)
def test_lists_of_unknown_scenarios_and_runs_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert "must be" in refused(capsys, *arguments)


def test_list_prints_experience_path_and_label(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--scenario", "nicv2_391", "--run", "0", "--experience", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0\ts1/o1/C_01_01_000.png\t0"
    assert {line.split("\t")[2] for line in lines} == {str(5 * category) for category in range(10)}
    assert main(["data", "list", "--scenario", "ni", "--test", "reduced"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2249 and lines[0] == "test\ts3/o1/C_03_01_001.png\t0"  # 000 does not exist


def test_verify_exits_with_1_and_counts_what_is_missing(
    capsys: pytest.CaptureFixture[str], tree: Path
) -> None:
    assert main(["data", "verify", str(tree), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (
        report["found"] == 24 and len(report["missing"]) == 164_866 - 24 and len(report["wrong_size"]) == 24
    )


def test_print_config_can_be_read_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--memory.capacity=77", "--print-config"])
    assert stop.value.code == 0
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    from vitlr.runs.settings import parse

    assert parse(["--config", str(tmp_path / "c.yaml")]) == parse(["--memory.capacity=77"])


def test_train_prints_its_result_as_json(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path
) -> None:
    assert main(train(vit, tree, tmp_path / "run", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["experiences"] == 7 and 0 <= report["test_accuracy"] <= 1


def test_inspect_tells_parameters_latents_and_gflop(capsys: pytest.CaptureFixture[str], vit: Path) -> None:
    assert main(["inspect", f"--backbone.name={vit}", "--backbone.cut=2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    block = 4 * (16 * 16 + 16) + 2 * 16 * 32 + 32 + 16 + 4 * 16  # projections, MLP, two norms
    assert report["trained_parameters"] == block + 32
    latent = report["latent"]
    assert (latent["tokens"], latent["codec"], latent["bytes"]) == (17, "int8", 17 * (16 + 4))
    assert latent["bytes_by_codec"]["float32"] == 17 * 16 * 4
    assert report["memory"]["capacity"] == 5_000_000 // latent["bytes"]
    assert report["statistics"] == {
        "blocks": 3,
        "width": 48,
        "bytes": 4 * 48 * 49,
        "class_bytes": 8 * 48 + 24,
    }
    assert main(["inspect", f"--backbone.name={vit}", "--backbone.cut=3"]) == 0
    assert "1 token x 16" in capsys.readouterr().out


def test_inspect_tells_what_each_method_keeps_and_trains(
    capsys: pytest.CaptureFixture[str], vit: Path
) -> None:
    line = ["inspect", f"--backbone.name={vit}", "--memory.bytes=9kB"]
    shown = {}
    for method in ("complementary", "latent_replay", "native"):
        assert main([*line, f"--learner.method={method}"]) == 0
        shown[method] = capsys.readouterr().out
    assert "class tokens of the last 3 blocks" in shown["complementary"]
    assert not any("class tokens" in shown[method] for method in ("latent_replay", "native"))
    assert "embedding and blocks 1 to 2, frozen" in shown["latent_replay"]
    assert "nothing, frozen" in shown["native"] and "embedding, blocks 1 to 3 and" in shown["native"]
    assert "the image itself: 3,072 bytes as uint8" in shown["native"] and "2 latents" in shown["native"]


@pytest.mark.parametrize("method", ["complementary", "latent_replay", "native", "der", "naive"])
def test_bench_times_every_method_that_has_a_training_loop(
    capsys: pytest.CaptureFixture[str], vit: Path, method: str
) -> None:
    flags = [f"--backbone.name={vit}", "--memory.capacity=20", "--images=4", "--repeats=1", "--no-advice"]
    assert main(["bench", *flags, f"--learner.method={method}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["method"] == method and report["seconds"]["learn"] > 0
    assert "not slda" in refused(capsys, "bench", *flags, "--learner.method=slda")


def test_bench_tells_the_parts_of_an_experience(capsys: pytest.CaptureFixture[str], vit: Path) -> None:
    flags = [f"--backbone.name={vit}", "--memory.capacity=20", "--images", "4", "--repeats=1", "--json"]
    assert main(["bench", *flags, "--backbone.cut=2", "--learner.epochs=4"]) == 0
    report = json.loads(capsys.readouterr().out)
    seconds = report["seconds"]
    assert seconds["total"] == pytest.approx(seconds["decode"] + seconds["trunk"] + seconds["learn"])
    advised = {row["flag"]: row for row in report["alternatives"]}
    assert {"--backbone.cut 3", "--learner.epochs 2", "--learner.batch_size 256"} <= set(advised)
    assert [row["seconds"] for row in report["alternatives"]] == sorted(
        r["seconds"] for r in advised.values()
    )
    assert main(["bench", *flags[:-1], "--no-advice"]) == 0
    assert "one setting changed" not in capsys.readouterr().out


def test_params_cfg_of_the_original_is_read_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "params.cfg"
    path.write_text(
        '[nicv2]\nexp_name = "vit"\ninit_lr = 0.001\ninc_lr = 0.00005\nmb_size = 100\ninit_train_ep = 4\n'
        "inc_train_ep = 4\nrm_sz = 1500\nmomentum = 0.9\nl2 = 0.0005\nmax_r_max = 1.25\n"
        'freeze_below_layer = "lat_features.12.norm2.bias"\nreg_lambda = 0\n'
    )
    with pytest.raises(SystemExit):
        main(["train", "--params-cfg", str(path), "--print-config"])
    captured = capsys.readouterr()
    import yaml

    config = yaml.safe_load(captured.out)
    assert config["backbone"]["cut"] == 12 and config["memory"]["capacity"] == 1500
    learner = config["learner"]
    assert (learner["first_lr"], learner["lr"], learner["batch_size"]) == (0.001, 5e-5, 100)
    assert (learner["epochs"], learner["momentum"], learner["weight_decay"]) == (4, 0.9, 5e-4)
    assert "max_r_max = 1.25 has no meaning here" in captured.err and "exp_name" in captured.err


def test_params_cfg_is_never_evaluated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, proof = tmp_path / "params.cfg", tmp_path / "proof"
    path.write_text(f"[a]\ninit_lr = __import__('pathlib').Path({str(proof)!r}).touch()\n")
    assert "init_lr must be a literal" in refused(capsys, "train", "--params-cfg", path)
    assert not proof.exists()


def test_params_cfg_with_a_layer_without_number_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.cfg").write_text('[a]\nfreeze_below_layer = "end_features.bias"\n')
    assert "names no block" in refused(capsys, "train", "--params-cfg", tmp_path / "p.cfg")


def test_compare_makes_table_and_figure_and_goes_on_where_it_was(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"title: tiny\nbase:\n  data: {{dataset: core50, root: {tree}}}\n  backbone: {{name: {vit}}}\n"
        "  memory: {capacity: 8}\n"
        "variants:\n  complementary: {}\n  naive: {learner: {method: naive}}\n  broken: {backbone: {cut: 99}}\n"
        "runs: [1, 2]\n"
    )
    out = tmp_path / "out"
    command = ["compare", str(recipe), "--out", str(out), "--json"]
    assert main(command) == 1  # one variant failed and is shown as failed
    captured = capsys.readouterr()
    rows = {row["variant"]: row for row in json.loads(captured.out)}
    assert rows["broken"]["test_accuracy"] is None and "cut 99 of 3" in rows["broken"]["failures"][0]
    finals = [
        json.loads((out / "naive" / f"run{run}-seed0" / "summary.json").read_text())["test_accuracy"]
        for run in (1, 2)
    ]
    assert rows["naive"]["test_accuracy"] == pytest.approx([np.mean(finals), np.std(finals, ddof=1)])
    assert "| broken | 0, 2 failed | failed" in (out / "table.md").read_text()
    with Image.open(out / "accuracy.png") as picture:
        assert picture.size[0] > 800
    times = {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")}
    main(command)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")} == times


@pytest.mark.parametrize("method", ["complementary", "latent_replay"])
def test_teach_predict_classes_forget_and_export(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, method: str
) -> None:
    """Two rendered objects taught in one session are recognised in another, by the bundled network."""
    from vitlr.rendered.dataset import render_frame

    for session in (1, 2):
        for label, object_ in (("plug", 1), ("ball", 31)):
            folder = tmp_path / f"s{session}" / label
            folder.mkdir(parents=True)
            for index in range(0, 300, 50):
                Image.fromarray(render_frame(session, object_, index)).save(folder / f"{index}.png")
    robot = str(tmp_path / "robot")
    for label in ("plug", "ball"):
        line = ["teach", robot, "--label", label, str(tmp_path / "s1" / label), "--method", method]
        assert main([*line, "--tokens", "auto" if method == "complementary" else "all"]) == 0
    capsys.readouterr()
    assert (
        main(["predict", robot, str(tmp_path / "s2" / "plug"), str(tmp_path / "s2" / "ball"), "--json"]) == 0
    )
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = [Path(answer["path"]).parent.name == answer["label"] for answer in answers]
    assert len(right) == 12 and sum(right) >= 9, answers
    assert main(["classes", robot, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["classes"]) == {"plug", "ball"}
    if method == "latent_replay":
        assert main(["export", robot, str(tmp_path / "hf")]) == 0
        assert (tmp_path / "hf" / "model.safetensors").is_file()
    else:
        said = refused(capsys, "export", robot, tmp_path / "hf")
        assert "method complementary learned has two memories" in said and "latent_replay or slda" in said
        assert not (tmp_path / "hf").exists()
    assert main(["forget", robot, "plug"]) == 0
    capsys.readouterr()
    main(["classes", robot, "--json"])
    assert set(json.loads(capsys.readouterr().out)["classes"]) == {"ball"}
    assert main(["forget", robot, "ball", "--quiet"]) == 0  # the last one too
    assert main(["classes", robot, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == {}
    assert "knows no class yet" in refused(capsys, "predict", robot, tmp_path / "s2")
    assert "knows no class yet" in refused(capsys, "forget", robot, "ball")
    assert "teach" in refused(capsys, "predict", tmp_path / "nobody", tmp_path / "s2")


def taught(folder: Path, *more: str) -> Path:
    """A folder with a classifier in ``robot``, and pictures of what it knows below ``shown``."""
    for label, level in (("dark", 40), ("7", 210)):
        shown = folder / "shown" / label
        shown.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 40), (level + number,) * 3).save(shown / f"{number}.png")
        assert main(["teach", str(folder / "robot"), "--label", label, str(shown), *more]) == 0
    return folder


@pytest.fixture(scope="module")
def taught_robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(tmp_path_factory.mktemp("taught"))


@pytest.fixture(scope="module")
def linear_robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a method that can be exported."""
    return taught(tmp_path_factory.mktemp("linear"), "--method", "latent_replay", "--tokens", "all")


def test_quiet_prints_nothing_but_answers(
    capsys: pytest.CaptureFixture[str], linear_robot: Path, tmp_path: Path
) -> None:
    robot, shown = tmp_path / "robot", linear_robot / "shown"
    shutil.copytree(linear_robot / "robot", robot)
    for line in (
        ["teach", robot, "--label", "dark", shown / "dark"],
        ["export", robot, tmp_path / "hf"],
        ["forget", robot, "dark"],
    ):
        assert main([*map(str, line), "--quiet"]) == 0
        assert capsys.readouterr().out == ""
    assert main(["predict", str(robot), str(shown / "7" / "0.png"), "--quiet"]) == 0
    assert capsys.readouterr().out.split("\t")[1:] == ["7", "1.000\n"]


def test_settings_of_a_saved_classifier_are_not_silently_ignored(
    capsys: pytest.CaptureFixture[str], taught_robot: Path
) -> None:
    robot, images = taught_robot / "robot", taught_robot / "shown" / "dark"
    said = refused(capsys, "teach", robot, "--label", "mug", images, "--image-size", "64")
    assert "made without --image-size" in said and "new directory" in said
    assert "--memory 5MB" in refused(capsys, "teach", robot, "--label", "mug", images, "--memory", "20MB")
    assert main(["teach", str(robot), "--label", "dark", str(images), "--memory", "5MB", "--quiet"]) == 0


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "a\tb"])
def test_labels_that_lines_of_text_cannot_hold_are_refused(
    capsys: pytest.CaptureFixture[str], taught_robot: Path, label: str
) -> None:
    images = taught_robot / "shown" / "dark"
    assert "a label " in refused(capsys, "teach", taught_robot / "robot", "--label", label, images)


def test_a_threshold_by_flag_decides_what_is_unknown_and_scores_are_printed(
    capsys: pytest.CaptureFixture[str], taught_robot: Path
) -> None:
    line = ["predict", str(taught_robot / "robot"), str(taught_robot / "shown"), "--json", "--unknown", "?"]

    def answers(*more: str) -> list[dict]:
        assert main([*line, *more]) == 0
        return [json.loads(row) for row in capsys.readouterr().out.splitlines()]

    assert {row["label"] for row in answers("--threshold", "1")} == {"?"}
    assert {row["label"] for row in answers("--threshold", "-1")} == {"dark", "7"}
    middle = sum(sorted(row["score"] for row in answers())[2:4]) / 2
    assert all(
        (row["label"] == "?") == (row["score"] < middle) for row in answers("--threshold", str(middle))
    )
    assert "-1 to 1" in refused(capsys, *line, "--threshold", "nan")


def test_the_model_card_has_classes_with_their_images_and_the_accuracy_on_a_folder(
    capsys: pytest.CaptureFixture[str], linear_robot: Path, tmp_path: Path
) -> None:
    line = ["export", str(linear_robot / "robot"), str(tmp_path / "hf"), "--json"]
    assert main([*line, "--test", str(linear_robot / "shown")]) == 0
    assert list(json.loads(capsys.readouterr().out)["figures"].values()) == ["100.0%"]
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "accuracy on the 6 images of 2 classes in shown: 100.0%" in card
    assert re.search(r"Images by class: dark \d, 7 3\.", card) and "**2 classes.** dark, 7." in card
    assert "no class folders" in refused(capsys, *line, "--test", linear_robot / "shown" / "7")
    (tmp_path / "x.onnx").mkdir()
    onnx = ["export", str(linear_robot / "robot"), str(tmp_path / "x.onnx")]  # the name says which format
    assert "model card" in refused(capsys, *onnx, "--test", linear_robot / "shown")
    assert "x.onnx is a directory" in refused(capsys, *onnx)
    assert "name it " in refused(capsys, *onnx, "--format", "hf")
    assert "hf.onnx" in refused(capsys, *line, "--format", "onnx")


def test_what_one_process_teaches_is_not_lost_to_another(
    capsys: pytest.CaptureFixture[str], taught_robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot, shown = tmp_path / "robot", taught_robot / "shown"
    shutil.copytree(taught_robot / "robot", robot)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "vitlr", "teach", robot, "--label", label, shown / "dark", "--quiet"]
        )
        for label in ("mug", "hat")
    ]
    codes = [each.wait(timeout=120) for each in both]
    assert main(["classes", str(robot), "--json"]) == 0
    known = set(json.loads(capsys.readouterr().out)["classes"])
    learned = {label for label, code in zip(("mug", "hat"), codes, strict=True) if code == 0}
    assert learned and known == {
        "dark",
        "7",
        *learned,
    }  # one that waited for too long says so, and is not counted
    monkeypatch.setattr("vitlr.commands.model.PATIENCE", 0.1)
    with locked(robot):
        code = (
            "import sys; from vitlr.commands import model; model.PATIENCE = 0.1; from vitlr.cli import main; "
        )
        code += f"sys.exit(main(['forget', {str(robot)!r}, 'dark']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2 and "is in use by another process" in done.stderr


def test_a_classifier_is_not_put_among_other_things(
    capsys: pytest.CaptureFixture[str], linear_robot: Path, tmp_path: Path
) -> None:
    shown = linear_robot / "shown"
    before = sorted(shown.iterdir())
    assert "holds other things" in refused(capsys, "teach", shown, "--label", "x", shown / "dark")
    assert sorted(shown.iterdir()) == before
    assert main(["export", str(linear_robot / "robot"), str(tmp_path / "hf"), "--quiet"]) == 0
    told = refused(capsys, "classes", tmp_path / "hf")
    assert "which transformers opens" in told and f"teach {tmp_path / 'hf'}" not in told


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["predict", "ROBOT", "SHOWN", "--threshold", "0.9"], "give --unknown LABEL with it"),
        (["predict", "ROBOT", "SHOWN", "--unknwn", "x"], "did you mean --unknown?"),
        (["predict", "ROBOT", "SHOWN", "--xyzzyx", "x"], "see vitlr predict --help"),
        (["pretrain", "NEW", "--lr", "nan"], "lr must be above 0"),
        (["pretrain", "NEW", "--heads", "5"], "width must be a multiple of heads, got 192 and 5"),
        (["pretrain", "NEW", "--objects", "2", "--views", "2"], "do not fill a batch of 64"),
        (["train", "--config", "RECIPE"], "is a recipe of several runs; use vitlr compare"),
        (["compare", "RECIPE", "--out", "NEW", "--backbone", "./no/such"], "no such directory"),
    ],
)
def test_slips_get_a_sentence_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], taught_robot: Path, tmp_path: Path, command: list[str], sentence: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "base: {data: {dataset: rendered, frames: 1}}\nvariants: {a b: , c: {learner: {method: naive}}}\n"
    )
    places = {
        "ROBOT": taught_robot / "robot",
        "SHOWN": taught_robot / "shown",
        "RECIPE": tmp_path / "recipe.yaml",
        "NEW": tmp_path / "new",
    }
    assert sentence in refused(capsys, *(str(places.get(word, word)) for word in command))
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written_is_said_in_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vitlr", "data", "list", "--scenario", "ni"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "the output cannot be written" in done.stderr


def test_serve_refuses_what_it_could_not_use_before_it_listens(
    capsys: pytest.CaptureFixture[str], taught_robot: Path, tmp_path: Path
) -> None:
    pytest.importorskip("starlette")
    (tmp_path / "file").write_text("mine")
    for more, named in (
        ([tmp_path / "file"], "cannot be written"),
        ([taught_robot / "robot", "--threshold", "nan"], "-1 to 1"),
        ([taught_robot / "robot", "--image-size", "64"], "new directory"),
        ([taught_robot / "robot", "--port", "99999"], "--port"),
        ([taught_robot / "robot", "--max-upload", "0"], "--max-upload"),
    ):
        assert named in refused(capsys, "serve", *more)


def test_help_of_every_command_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    from vitlr.cli import make_parser

    def leaves(parser: argparse.ArgumentParser, above: list[str]) -> list[list[str]]:
        below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not below:
            return [above]
        return [leaf for name, each in below[0].choices.items() for leaf in leaves(each, [*above, name])]

    commands = [*leaves(make_parser(), []), ["inspect"], ["bench"]]
    assert len(commands) >= 20 and ["cache", "clear"] in commands and ["train"] in commands
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        assert stop.value.code == 0
        assert "example: vitlr" in capsys.readouterr().out, command


def test_help_and_lists_need_no_pytorch() -> None:
    code = (
        "import sys; from vitlr.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "main(['data', 'list', '--scenario', 'ni', '--experience', '0'])\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m vitlr data list --scenario ni | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout.splitlines()) == 1


def test_a_demo_with_bad_settings_leaves_an_earlier_demo_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    earlier = tmp_path / "demo"
    earlier.mkdir()
    (earlier / "demo.json").write_text("{}")
    assert "frames" in refused(capsys, "demo", "--out", earlier, "--frames", 0)
    assert (earlier / "demo.json").is_file()
    (tmp_path / "file").write_text("mine")
    refused(capsys, "demo", "--out", tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("mine")
    assert "holds no demo" in refused(capsys, "demo", "--out", tmp_path / "other")
    assert (tmp_path / "file").read_text() == (tmp_path / "other" / "precious.txt").read_text() == "mine"


def test_a_demo_and_a_comparison_are_refused_where_another_one_runs(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    held_elsewhere: Callable[[Path], AbstractContextManager[None]],
) -> None:
    (tmp_path / "demo.json").write_text("{}")
    (tmp_path / "recipe.yaml").write_text("title: none\nvariants: {a: {}}\nruns: [0]\n")
    with held_elsewhere(tmp_path):
        assert "in use by another process" in refused(capsys, "demo", "--out", tmp_path)
        assert "in use by another process" in refused(
            capsys, "compare", tmp_path / "recipe.yaml", "--out", tmp_path, "--quiet"
        )
    assert {path.name for path in tmp_path.iterdir()} == {"demo.json", "recipe.yaml", ".lock"}


def test_a_contact_sheet_that_is_no_picture_is_refused_before_anything_is_rendered(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["data", "render", tmp_path / "frames", "--contact-sheet", tmp_path / "sheet.txt"]
    assert "give a file name such as sheet.png" in refused(capsys, *command)
    assert "does not exist" in refused(capsys, *command[:-1], tmp_path / "nowhere" / "sheet.png")
    assert not list(tmp_path.iterdir())
    (tmp_path / "photo.jpg").write_text("mine")
    assert "photo.jpg exists" in refused(capsys, *command[:-1], tmp_path / "photo.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_bad_images_are_left_out_where_the_short_flag_asks_for_it(
    capsys: pytest.CaptureFixture[str], vit: Path, tree: Path, tmp_path: Path
) -> None:
    (tree / "s1" / "o1" / "C_01_01_020.png").write_bytes(b"")
    (tree / "s2" / "o6" / "C_02_06_120.png").write_bytes(b"no image")
    assert main(train(vit, tree, tmp_path / "run", "--on-bad-image", "skip", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["skipped_images"] == 2
    assert "on_bad_image must be one of error, skip" in refused(
        capsys, *train(vit, tree, tmp_path / "other", "--on-bad-image=guess")
    )


def test_clearing_the_cache_tells_a_script_what_it_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--dir", str(tmp_path / "latents")]
    assert main(["cache", "clear", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out) == {"directory": str(tmp_path / "latents"), "removed": []}
    assert main(["cache", "clear", "--quiet", *where]) == 0
    assert capsys.readouterr() == ("", "")


def test_rendering_tells_a_script_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setattr("vitlr.rendered.dataset.render_dataset", lambda *_, **__: 550)  # which takes a minute
    monkeypatch.setattr("vitlr.rendered.dataset.contact_sheet", lambda seed: Image.new("RGB", (8, 8)))
    sheet = tmp_path / "sheet.png"
    assert main(["data", "render", "frames", "--frames=1", "--contact-sheet", str(sheet), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"root": "frames", "frames": 550, "contact_sheet": str(sheet)}
    assert told.err == "" and sheet.is_file()


@pytest.mark.parametrize(
    "command",
    [
        ["report", "RUNS", "--out", "LONG"],
        ["rollout", "bundled", "PICTURE", "--out", "LONG.png"],
        ["demo", "--out", "LONG"],
        ["train", "--out", "LONG"],
    ],
)
def test_a_name_that_the_file_system_does_not_take_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "picture.png")
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    places = {
        "RUNS": str(tmp_path),
        "PICTURE": str(tmp_path / "picture.png"),
        "LONG": str(tmp_path / ("x" * 300)),
    }
    words = [places.get(word, word.replace("LONG", places["LONG"])) for word in command]
    assert "File name too long" in refused(capsys, *words)
