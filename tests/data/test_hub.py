"""Hugging Face data sets: the same stream from objects of datasets, from what save_to_disk wrote and from parquet."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_networks import make_directory
from vitlr.cli import main
from vitlr.data import load_stream
from vitlr.data.experience import Stream
from vitlr.data.hub import HubColumns, hub_stream, is_hub_directory
from vitlr.data.hub_tables import MAX_GROUP, _Parquet
from vitlr.data.images import iter_batches
from vitlr.data.rows import Rules
from vitlr.data.settings import DataConfig
from vitlr.errors import ConfigError, DataError
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.settings import BackboneConfig

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow.parquet") and sys.modules["pyarrow"]

COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 220, 20)}
NAMES = list(COLOURS)


@pytest.fixture(autouse=True)
def without_bars() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def dataset(labels: list[int], **columns: list[Any]) -> Any:
    """Pictures in the colour of their class, each a little different."""
    pictures = []
    for place, label in enumerate(labels):
        pixels = np.full((8, 8, 3), COLOURS[NAMES[max(label, 0)]], np.uint8)
        pixels[:, :, 0] += np.uint8(place)
        pictures.append(Image.fromarray(pixels))
    found = datasets.Dataset.from_dict({"img": pictures, "label": labels, **columns})
    return found.cast_column("img", datasets.Image()).cast_column("label", datasets.ClassLabel(names=NAMES))


def both() -> Any:
    return datasets.DatasetDict(train=dataset([0, 1, 2] * 4), test=dataset([2, 1, 0, 0]))


def put(form: str, whole: Any, root: Path) -> Any:
    """The data set in a form, and what is given to read it."""
    if form == "objects":
        return whole
    if form == "saved":
        whole.save_to_disk(root, num_shards=dict.fromkeys(whole, 2))
        return root
    for split, part in whole.items():
        place = root / (f"data/{split}-00000-of-00001" if form == "hub" else f"default/{split}/0000")
        place.parent.mkdir(parents=True, exist_ok=True)
        part.to_parquet(f"{place}.parquet", batch_size=3)  # groups of rows
    (root / "README.md").write_text("---\nlicense: mit\n---\n")
    return root


def pixels(stream: Stream) -> list[tuple[int, list[int]]]:
    """Label and first pixel of every image, experience by experience and then of the test set."""
    found = []
    for part in (*stream.experiences, stream.test):
        for rows, images in iter_batches(part.paths, stream.root, size=8, batch_size=3):
            labels = part.labels[rows].tolist()
            found += list(zip(labels, images[:, 0, 0].tolist(), strict=True))
    return found


@pytest.mark.parametrize("form", ["objects", "saved", "hub", "converted"])
def test_every_form_is_the_same_stream_with_the_class_names_of_its_features(
    form: str, tmp_path: Path
) -> None:
    stream = hub_stream(put(form, both(), tmp_path / "set"), Rules(classes_per_experience=1, seed=1))
    assert (
        stream.class_names == ("blue", "green", "red")
        and [len(part) for part in stream.experiences] == [4] * 3
    )
    assert stream.facts[-1] == "images are those of column img, labels those of column label"
    assert "12 images or clips to learn from in 3 experiences, 4 to test on" in stream.facts[0]
    found = pixels(stream)
    for label, (red, green, blue) in found:
        wanted = COLOURS[stream.class_names[label]]
        assert (green, blue) == wanted[1:] and 0 <= red - wanted[0] < 12
    order = [label for label, _ in found[::4]][:3]
    rows = [[row for row in range(12) if NAMES[row % 3] == stream.class_names[label]] for label in order]
    assert [red - COLOURS[stream.class_names[label]][0] for label, (red, _, _) in found[:12]] == [
        row for each in rows for row in each
    ]
    assert [red - COLOURS[stream.class_names[label]][0] for label, (red, _, _) in found[12:]] == [0, 1, 2, 3]


def test_without_a_test_split_validation_is_tested_on_and_else_a_share_is_held_out(tmp_path: Path) -> None:
    three = both()
    three["validation"] = three["test"]
    three["extra"] = three["train"]
    three["test"] = dataset([-1, -1, -1])  # withheld, as in competitions
    stream = hub_stream(three)
    assert len(stream.test) == 4 and "validation" in stream.test.paths[0]
    assert stream.notes == ("not used: split test, extra",)
    del three["validation"]
    stream = hub_stream(three)
    assert (stream.num_train_images, len(stream.test)) == (9, 3)
    stream = hub_stream(put("saved", datasets.DatasetDict(all=three["train"]), tmp_path / "one"))
    assert (stream.num_train_images, len(stream.test)) == (9, 3)
    with pytest.raises(DataError, match="which of the splits a, b is to learn from cannot be told"):
        hub_stream(datasets.DatasetDict(a=three["train"], b=three["train"]))


def test_rows_without_a_label_are_left_out_and_said() -> None:
    stream = hub_stream(datasets.DatasetDict(train=dataset([0, 1, -1, 0]), test=dataset([0, 1])))
    assert stream.num_train_images == 3
    assert stream.notes == ("1 row without a label is not used, such as train 00000002",)


def test_experiences_are_those_of_a_column_and_a_column_may_hold_the_split() -> None:
    days = dataset(
        [0, 1, 2, 0, 1, 2], day=["mon", "mon", "tue", "tue", "wed", "wed"], split=["train", "test"] * 3
    )
    stream = hub_stream(days, columns=HubColumns(experience="day"))
    assert [part.name for part in stream.experiences] == ["mon", "tue", "wed"]
    assert [len(part) for part in stream.experiences] == [1, 1, 1] and len(stream.test) == 3
    with pytest.raises(DataError, match="split must be train, test or val, got 'later'"):
        hub_stream(dataset([0, 1], split=["train", "later"]))
    stream = hub_stream(dataset([0, 0, 1, 0], split=["train", "val", "train", "test"]))
    assert stream.notes[0] == "1 row of the split val is not used, such as row 00000001"


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"image": "photo"}, "has no column 'photo'; it has img, label, second"),
        ({"label": "img"}, "column 'img' of the data set holds no labels; name another as label_column"),
        ({"image": "label"}, "column 'label' of the data set holds no images"),
        ({}, "which column of the data set is the image cannot be told: columns img_, second may be it"),
    ],
)
def test_a_column_that_cannot_be_meant_or_told_is_a_sentence(columns: dict[str, str], sentence: str) -> None:
    found = dataset([0, 1])
    second = datasets.Dataset.from_dict({"second": found["img"]}).cast_column("second", datasets.Image())
    found = datasets.concatenate_datasets([found, second], axis=1)
    if not columns:
        found = found.rename_column("img", "img_")
    with pytest.raises(DataError) as caught:
        hub_stream(found, columns=HubColumns(**columns))
    assert sentence in str(caught.value)


def test_two_kinds_of_labels_are_named_and_text_or_numbers_are_labels_too() -> None:
    found = dataset([0, 1, 2]).rename_column("label", "fine_label")
    coarse = datasets.ClassLabel(names=["warm", "cold"])
    found = found.add_column("coarse_label", [0, 1, 1]).cast_column("coarse_label", coarse)
    with pytest.raises(
        DataError, match="columns fine_label, coarse_label may be it; name it as label_column"
    ):
        hub_stream(found)
    stream = hub_stream(found.select([0, 1, 0, 1]), columns=HubColumns(label="coarse_label"))
    assert stream.class_names == ("cold", "warm")
    for labels, names in ((["a", "b", "a", "b"], ("a", "b")), ([7, 10, 7, 10], ("10", "7"))):
        plain = found.select([0, 1, 0, 1]).remove_columns(["fine_label", "coarse_label"])
        assert hub_stream(plain.add_column("target", labels)).class_names == names


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no data set of Hugging Face"):
        hub_stream(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        hub_stream(tmp_path / "missing")
    for name in ("a", "b"):
        put("hub", both(), tmp_path / "several" / name)
    with pytest.raises(
        DataError, match=r"holds several data sets \(a/data, b/data\); give the folder of one"
    ):
        hub_stream(tmp_path / "several")
    with pytest.raises(DataError, match="load the data set without streaming=True"):
        hub_stream(both()["train"].to_iterable_dataset())
    saved = put("saved", both(), tmp_path / "saved")
    state = json.loads((saved / "train" / "state.json").read_text())
    shard = saved / "train" / state["_data_files"][0]["filename"]
    whole = shard.read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], os.urandom(300)):
        shard.write_bytes(content)
        with pytest.raises(DataError, match=shard.name):
            hub_stream(saved)
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(DataError, match="is a pipe"):
        hub_stream(saved)
    for names in ([{"filename": "../test/data-00000-of-00002.arrow"}], [7], None):
        (saved / "train" / "state.json").write_text(json.dumps({"_data_files": names}))
        with pytest.raises(DataError, match=r"leads out of|names no files"):
            hub_stream(saved)
    (saved / "dataset_dict.json").write_text('{"splits": ["../x"]}')
    with pytest.raises(DataError, match="names no splits"):
        hub_stream(saved)


def test_a_damaged_parquet_file_and_one_of_huge_groups_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = put("hub", both(), tmp_path / "set")
    monkeypatch.setattr("vitlr.data.hub_tables.MAX_GROUP", 100)
    with pytest.raises(DataError, match=r"groups of 3 rows and .* write it with row_group_size=100"):
        hub_stream(root)
    monkeypatch.undo()
    assert MAX_GROUP > 2**30 and hub_stream(root).num_train_images == 12
    file = root / "data" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet cannot be read"):
        hub_stream(root)


def test_groups_of_rows_are_read_once_each_and_few_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitlr.data.hub_tables.GROUPS", 2)
    root = put("hub", datasets.DatasetDict(train=dataset([0, 1, 2] * 6)), tmp_path / "set")
    table = _Parquet(next(root.rglob("*.parquet")))
    found = [table.picture("img", row)["bytes"] for row in range(18)]
    assert len(set(found)) == 18 and len(table._groups) == 2


def test_a_damaged_picture_is_named_by_its_row_or_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    stored = [
        {"bytes": buffer.getvalue(), "path": None},
        {"bytes": buffer.getvalue()[:50], "path": "x.png"},
        {"bytes": None, "path": None},
        {"bytes": None, "path": "/etc/hostname"},
        {"bytes": None, "path": "beside.png"},
    ]
    Image.new("RGB", (8, 8)).save(tmp_path / "beside.png")
    table = pyarrow.table({"image": stored, "label": list("aabba")})  # without features
    pyarrow.parquet.write_table(table, tmp_path / "set.parquet")
    stream = hub_stream(tmp_path, Rules(experiences="size", seed=0))
    paths = sorted([*stream.experiences[0].paths, *stream.test.paths])
    (rows, _), *_ = iter_batches(paths, None, size=8, on_bad="skip")
    assert rows.tolist() == [0, 4]
    for row, sentence in (
        (1, r"row 1 of .*parquet is truncated"),
        (2, "row 2 of .*parquet holds no image"),
        (3, "hostname"),
    ):
        with pytest.raises(DataError, match=sentence):
            list(iter_batches(paths[row : row + 1], None, size=8))


def test_a_mode_that_the_feature_asks_for_is_the_mode_of_the_picture(tmp_path: Path) -> None:
    grey = dataset([0, 1, 0, 1]).cast_column("img", datasets.Image(mode="L"))
    grey.save_to_disk(tmp_path / "set")
    for source in (grey, tmp_path / "set"):
        for _, (red, green, blue) in pixels(hub_stream(source, Rules(experiences="size"))):
            assert red == green == blue


def test_no_code_beside_the_data_is_run(tmp_path: Path) -> None:
    root = put("hub", both(), tmp_path / "set")
    (root / "set.py").write_text("raise SystemExit('run')")
    assert hub_stream(root).num_train_images == 12


def test_reading_a_directory_needs_pyarrow_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, parquet = put("saved", both(), tmp_path / "a"), put("hub", both(), tmp_path / "b")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert hub_stream(saved).num_train_images == hub_stream(parquet).num_train_images == 12
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for root in (saved, parquet):
        with pytest.raises(DataError, match=r"needs pyarrow; install it \(pip install 'vitlr\[hub\]'\)"):
            hub_stream(root)


# -- in a program -----------------------------------------------------------------------------------


def test_data_sets_of_hugging_face_are_experiences_of_a_program() -> None:
    stream = Stream.from_datasets([dataset([0, 1]), dataset([2])], dataset([0, 1, 2]))
    assert stream.class_names == ("blue", "green", "red") and [len(part) for part in stream.experiences] == [
        2,
        1,
    ]
    assert [COLOURS[stream.class_names[label]][1:] for label, _ in pixels(stream)] == [
        tuple(pixel[1:]) for _, pixel in pixels(stream)
    ]


# -- encoding, commands -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("network") / "vit", "vit")


def test_latents_of_files_are_cached_by_row_and_column_and_those_of_objects_are_not(
    vit: Path, tmp_path: Path
) -> None:
    found = dataset([0, 0, 0, 0])
    second = datasets.Dataset.from_dict({"second": found["img"][::-1]}).cast_column(
        "second", datasets.Image()
    )
    datasets.concatenate_datasets([found, second], axis=1).save_to_disk(tmp_path / "set")
    config = BackboneConfig(name=str(vit), cache=str(tmp_path / "latents"), precision="float32")
    made = {}
    for column, encoded in (("img", 3), ("second", 3), ("img", 0)):
        stream = hub_stream(tmp_path / "set", columns=HubColumns(image=column))
        network = Network.open(config, cached=True)
        encoder = Encoder(network, stream=True, batch_size=3)
        latents = encoder(stream.experiences[0].paths).latents.tokens_NTD
        network.keep()
        assert encoder.encoded == encoded
        assert torch.equal(made.setdefault(column, latents), latents)
    assert not torch.equal(made["img"], made["second"])
    encoder = Encoder(Network.open(config, cached=True), stream=True)
    encoder(hub_stream(found).experiences[0].paths)
    assert encoder.encoded == 3


def test_settings_read_a_directory_and_belong_to_it(tmp_path: Path) -> None:
    root = put("saved", both(), tmp_path / "set")
    config = DataConfig(dataset="hub", root=str(root), label_column="label", classes_per_experience=1)
    assert len(load_stream(config)) == 3
    with pytest.raises(ConfigError, match=r"needs data\.root"):
        DataConfig(dataset="hub")
    with pytest.raises(ConfigError, match=r"add --data\.dataset hub"):
        DataConfig(dataset="folder", root="x", label_column="label")


def test_train_and_teach_take_a_directory(
    vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, parquet = put("saved", both(), tmp_path / "a"), put("converted", both(), tmp_path / "b")
    line = [
        "train",
        "--data.dataset=hub",
        f"--data.root={saved}",
        f"--backbone.name={vit}",
        "--memory.capacity=8",
    ]
    assert main([*line, "--learner.epochs=1", f"--out={tmp_path / 'run'}", "--tensorboard=false"]) == 0
    assert "images are those of column img, labels those of column label" in capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["classes"] == 3 and summary["test_images"] == 4 and summary["data"]["images"] == 12
    for root in (saved, parquet):
        assert is_hub_directory(root)
        robot = tmp_path / f"robot-{root.name}"
        line = ["teach", str(robot), str(root), "--backbone", str(vit), "--method", "class_mean", "--json"]
        assert main(line) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["classes"] == {"red": 4, "blue": 4, "green": 4}
        assert "images to test on are not taught" in said.err


def test_a_folder_of_photos_with_a_table_beside_them_is_no_data_set(tmp_path: Path) -> None:
    both()["test"].to_parquet(tmp_path / "notes.parquet")
    assert is_hub_directory(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert not is_hub_directory(tmp_path)


def test_columns_of_a_data_set_are_taught_as_they_are(vit: Path) -> None:
    from vitlr import LatentReplayClassifier

    found = dataset([0, 1, 0, 1])
    model = LatentReplayClassifier(vit, method="class_mean").partial_fit(found["img"], found["label"])
    assert model.classes_.tolist() == [0, 1] and model.remember().images == {0: 2, 1: 2}
