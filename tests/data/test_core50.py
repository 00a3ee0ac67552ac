"""CORe50's lists, checked against published counts and against lines of the published lists."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vitlr.data import core50
from vitlr.data.core50 import (
    LABELS,
    SCENARIOS,
    core50_list_lines,
    core50_lists,
    core50_stream,
    frame_path,
    parse_frame,
    published_frames,
)
from vitlr.data.lists import list_lines
from vitlr.errors import DataError

EXPERIENCES = {"ni": 8, "nc": 9, "nic": 79, "nicv2_79": 79, "nicv2_196": 196, "nicv2_391": 391}
TRAIN_SESSIONS, TEST_SESSIONS = {1, 2, 4, 5, 6, 8, 9, 11}, {3, 7, 10}


def videos_of(paths) -> list[str]:
    """Videos in the order in which they begin."""
    return list(dict.fromkeys(path.rpartition("/")[0] for path in paths))


# -- the lists --------------------------------------------------------------------------------------


def test_published_frames_are_164866_and_none_twice() -> None:
    frames = list(published_frames())
    assert len(frames) == len(set(frames)) == 164_866
    assert "s1/o1/C_01_01_000.png" in frames
    assert "s1/o2/C_01_02_003.png" not in frames  # missing in the published data set
    assert frames[-1] == "s11/o50/C_11_50_299.png"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_training_frame_occurs_exactly_once_in_every_run(scenario: str) -> None:
    wanted = {path for path in published_frames() if path.split("/")[0] not in ("s3", "s7", "s10")}
    assert len(wanted) == 119_894
    for run in range(10) if scenario.startswith("nicv2") else (0, 5, 9):
        stream = core50_lists(scenario, run)
        assert len(stream) == EXPERIENCES[scenario]
        assert [experience.index for experience in stream.experiences] == list(range(len(stream)))
        paths = [path for experience in stream.experiences for path in experience.paths]
        assert len(paths) == len(wanted) and set(paths) == wanted


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_ten_runs_of_a_scenario_differ(scenario: str) -> None:
    orders = {
        tuple(experience.paths[0] for experience in core50_lists(scenario, run).experiences)
        for run in range(10)
    }
    assert len(orders) == 10


def test_the_test_sets_hold_44972_and_2249_frames_of_sessions_3_7_and_10() -> None:
    full, reduced = core50_lists("nc", 0).test, core50_lists("nc", 0, test="reduced").test
    assert (len(full), len(reduced)) == (44_972, 2_249)
    assert {parse_frame(path)[0] for path in full.paths} == TEST_SESSIONS
    assert full.index == reduced.index == -1


def test_the_reduced_test_set_agrees_with_lines_of_the_published_list() -> None:
    test = core50_lists("nicv2_391", 0, test="reduced").test
    lines = [f"{path} {label}" for path, label in zip(test.paths, test.labels, strict=True)]
    assert lines[:2] == ["s3/o1/C_03_01_001.png 0", "s3/o1/C_03_01_021.png 0"]
    assert lines[14:16] == ["s3/o1/C_03_01_281.png 0", "s3/o10/C_03_10_001.png 9"]
    for line in ("s3/o16/C_03_16_003.png 15", "s3/o4/C_03_04_287.png 3", "s10/o32/C_10_32_281.png 31"):
        assert line in lines
    after = lines.index("s10/o5/C_10_05_287.png 4")
    assert lines[after + 1] == "s10/o50/C_10_50_008.png 49"
    assert videos_of(test.paths)[-1] == "s10/o9"


@pytest.mark.parametrize("scenario", ["nicv2_79", "nicv2_196", "nicv2_391"])
def test_the_first_experience_of_nicv2_is_ten_videos_of_session_1(scenario: str) -> None:
    first = core50_lists(scenario, 7).experiences[0]
    assert videos_of(first.paths) == [f"s1/o{o}" for o in (1, 6, 11, 16, 21, 26, 31, 36, 41, 46)]
    assert first.classes == (0, 5, 10, 15, 20, 25, 30, 35, 40, 45)


def test_nicv2_391_gives_one_video_an_experience_after_the_first() -> None:
    for experience in core50_lists("nicv2_391", 3).experiences[1:]:
        assert len(videos_of(experience.paths)) == 1 and len(experience.classes) == 1


def test_nicv2_79_run_0_begins_as_its_published_list() -> None:
    second = core50_lists("nicv2_79", 0).experiences[1]
    assert videos_of(second.paths) == ["s2/o6", "s2/o11", "s2/o21", "s2/o31", "s2/o46"]


def test_ni_gives_one_session_an_experience_with_objects_in_string_order() -> None:
    stream = core50_lists("ni", 0)
    sessions = [{parse_frame(path)[0] for path in experience.paths} for experience in stream.experiences]
    assert sessions == [{s} for s in (11, 4, 2, 9, 1, 6, 5, 8)]
    assert videos_of(stream.experiences[0].paths)[:4] == ["s11/o1", "s11/o10", "s11/o11", "s11/o12"]
    assert all(len(experience.classes) == 50 for experience in stream.experiences)


def test_nc_gives_ten_and_then_five_objects_over_all_training_sessions() -> None:
    stream = core50_lists("nc", 0)
    assert [len(experience.classes) for experience in stream.experiences] == [10] + [5] * 8
    assert stream.experiences[1].classes == (29, 34, 39, 44, 49)
    for experience in stream.experiences:
        sessions = [int(video.split("/")[0][1:]) for video in videos_of(experience.paths)]
        assert sessions == sorted(sessions) and set(sessions) == TRAIN_SESSIONS


def test_nic_gives_objects_of_one_session_in_string_order() -> None:
    stream = core50_lists("nic", 0)
    for experience in stream.experiences:
        assert len({parse_frame(path)[0] for path in experience.paths}) == 1
        videos = videos_of(experience.paths)
        assert videos == sorted(videos) and len(videos) == (10 if experience.index == 0 else 5)


def test_frames_ascend_within_a_video() -> None:
    for scenario in SCENARIOS:
        paths = core50_lists(scenario, 1).experiences[2].paths
        by_video: dict[str, list[str]] = {}
        for path in paths:
            by_video.setdefault(path.rpartition("/")[0], []).append(path)
        assert [path for video in by_video.values() for path in sorted(video)] == list(paths)


# -- labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_object_and_category_labels_follow_from_the_path(scenario: str) -> None:
    for labels, rule in (("object", lambda o: o - 1), ("category", lambda o: (o - 1) // 5)):
        stream = core50_lists(scenario, 4, labels=labels)
        for experience in (*stream.experiences[:3], stream.test):
            wanted = [rule(parse_frame(path)[1]) for path in experience.paths[::50]]
            np.testing.assert_array_equal(experience.labels[::50], wanted)
            assert experience.labels.dtype == np.int64


def test_nc_run_0_by_appearance_is_numbered_as_the_original_lists() -> None:
    stream = core50_lists("nc", 0, labels="appearance")
    label_of = {
        parse_frame(path)[1]: int(label)
        for experience in stream.experiences
        for path, label in zip(experience.paths, experience.labels, strict=True)
    }
    # Groups 0 and 8 come first: objects 1, 6, .. 46, then 30, 35, 40, 45, 50, then those of group 3.
    order = [1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 30, 35, 40, 45, 50, 3, 8, 13, 18, 23]
    assert [label_of[object_] for object_ in order] == list(range(20))
    assert stream.class_names[1] == "mobile_phone_1" and stream.class_names[10] == "glass_5"
    assert {
        parse_frame(p)[1]: int(y) for p, y in zip(stream.test.paths, stream.test.labels, strict=True)
    } == label_of


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_by_appearance_new_classes_always_get_the_next_numbers(scenario: str) -> None:
    known = 0
    for experience in core50_lists(scenario, 2, labels="appearance").experiences:
        new = [label for label in experience.classes if label >= known]
        assert new == list(range(known, known + len(new)))
        known += len(new)
    assert known == 50


def test_class_names_are_category_and_number() -> None:
    names = core50_lists("ni", 0).class_names
    assert names[:6] == (*(f"plug_adapter_{i}" for i in range(1, 6)), "mobile_phone_1")
    assert names[49] == "remote_control_5" and len(set(names)) == 50
    assert core50_lists("ni", 0, labels="category").class_names[9] == "remote_control"


def test_numbering_changes_labels_and_names_but_never_frames() -> None:
    by_object, *others = (core50_lists("nicv2_79", 6, labels=labels) for labels in LABELS)
    for other in others:
        for a, b in zip(by_object.experiences, other.experiences, strict=True):
            assert a.paths == b.paths
    appearance = others[1]
    for a, b in zip(by_object.experiences, appearance.experiences, strict=True):
        named = [appearance.class_names[label] for label in b.labels]
        assert named == [by_object.class_names[label] for label in a.labels]


def test_parse_frame_undoes_frame_path_and_refuses_anything_else() -> None:
    assert parse_frame(frame_path(11, 5, 42)) == (11, 5, 42)
    for path in ("s1/o1/C_01_02_000.png", "s2/o1/C_01_01_000.png", "s01/o1/C_01_01_000.png", "cat.png", ""):
        with pytest.raises(DataError, match="not a CORe50 frame"):
            parse_frame(path)


# -- a tree on disk ---------------------------------------------------------------------------------


def make_tree(root: Path, frames: list[str]) -> Path:
    for frame in frames:
        (root / frame).parent.mkdir(parents=True, exist_ok=True)
        (root / frame).touch()
    return root


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Frames 20 and 40 of sessions 1, 2, 3, all objects."""
    return make_tree(
        tmp_path, [frame_path(s, o, f) for s in (1, 2, 3) for o in range(1, 51) for f in (20, 40)]
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_sparse_tree_gives_the_published_lists_less_the_absent_frames(sparse: Path, scenario: str) -> None:
    stream = core50_stream(sparse, scenario, 0)
    lists = {experience.index: experience for experience in core50_lists(scenario, 0).experiences}
    for experience in stream.experiences:
        whole = lists[experience.index]
        kept = [
            (path, label)
            for path, label in zip(whole.paths, whole.labels, strict=True)
            if path.endswith(("_020.png", "_040.png")) and path.startswith(("s1/", "s2/"))
        ]
        assert kept == list(zip(experience.paths, experience.labels, strict=True))
    assert stream.num_train_images == 200 and len(stream.test) == 100
    assert stream.root == sparse and stream.num_classes == 50


def test_empty_experiences_are_skipped_and_said(sparse: Path) -> None:
    stream = core50_stream(sparse, "ni", 0)
    assert [experience.index for experience in stream.experiences] == [2, 4]  # sessions 2 and 1
    assert stream.notes == (
        "300 of 164,866 frames found",
        "6 of 8 experiences have no frame and are skipped: 0, 1, 3, 5, 6, 7",
    )


def test_frames_that_are_not_published_are_left_out(sparse: Path) -> None:
    make_tree(sparse, ["s1/o2/C_01_02_000.png", "s1/o1/notes.txt", "s1/o1/C_01_01_999.png"])
    assert core50_stream(sparse, "ni", 0).num_train_images == 200


def test_the_child_core50_128x128_is_found(tmp_path: Path) -> None:
    make_tree(tmp_path / "core50_128x128", [frame_path(1, 1, 5), frame_path(3, 1, 5)])
    stream = core50_stream(tmp_path, "ni", 0)
    assert stream.root == tmp_path / "core50_128x128"
    assert stream.experiences[0].paths == ("s1/o1/C_01_01_005.png",)


def test_the_reduced_test_set_of_a_sparse_tree_is_the_published_one(tmp_path: Path) -> None:
    make_tree(tmp_path, [frame_path(1, 1, 5), frame_path(3, 1, 21), frame_path(3, 1, 22)])
    stream = core50_stream(tmp_path, "ni", 0, test="reduced")
    assert stream.test.paths == ("s3/o1/C_03_01_021.png",)
    assert "1 of the 2,249 frames of the reduced test set found" in stream.notes


def test_every_scenario_and_run_works_on_the_real_objects(real_objects: Path) -> None:
    for scenario in SCENARIOS:
        for run in (0, 9):
            stream = core50_stream(real_objects, scenario, run)
            assert (len(stream), stream.num_train_images) == (EXPERIENCES[scenario], 2400)
            assert stream.notes == ("3,300 of 164,866 frames found",)


# -- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "nicv3", "run": 0}, "scenario must be one of ni, nc, nic, .* got 'nicv3'"),
        ({"scenario": "ni", "run": 10}, "run must be 0 to 9 .* got 10"),
        ({"scenario": "ni", "run": -1}, "run must be 0 to 9"),
        (
            {"scenario": "ni", "run": 0, "labels": "class"},
            "labels must be one of object, category, appearance",
        ),
        ({"scenario": "ni", "run": 0, "test": "small"}, "test must be one of full, reduced"),
    ],
)
def test_unknown_choices_are_named_with_the_known_ones(sparse: Path, arguments: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        core50_lists(**arguments)
    with pytest.raises(DataError, match=message):
        core50_stream(sparse, **arguments)


def test_roots_that_are_not_core50_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "core50.zip").touch()
    (tmp_path / "empty").mkdir()
    make_tree(tmp_path / "other", ["cats/1.png", "s1/readme.txt"])
    make_tree(tmp_path / "no_test", [frame_path(1, 1, 20)])
    make_tree(tmp_path / "no_train", [frame_path(3, 1, 20)])
    make_tree(tmp_path / "no_frames", ["s1/o1/a.png"])
    for name, message in (
        ("absent", "absent does not exist; give the folder that holds CORe50's s1 .. s11"),
        ("core50.zip", "is a file; unpack it"),
        ("empty", "empty is empty; give"),
        ("other", "other holds no folders s1/o1 .. s11/o50; give"),
        ("no_test", "none of the 44,972 frames of the full test set; add frames of sessions 3, 7 and 10"),
        ("no_train", "holds no training frame"),
        ("no_frames", "holds no training frame"),
    ):
        with pytest.raises(DataError, match=message):
            core50_stream(tmp_path / name, "nic", 0)


def test_a_tree_without_a_reduced_test_frame_names_the_full_test_set(sparse: Path) -> None:
    with pytest.raises(DataError, match="none of the 2,249 frames of the reduced test set; use test=full"):
        core50_stream(sparse, "ni", 0, test="reduced")


# -- text -------------------------------------------------------------------------------------------


def test_list_lines_are_experience_path_and_label_separated_by_tabs() -> None:
    lines = list(core50_list_lines("nicv2_391", 0))
    assert len(lines) == 119_894
    assert lines[0] == "0\ts1/o1/C_01_01_000.png\t0"
    counts = Counter(line.split("\t")[0] for line in lines)
    assert list(counts) == [str(index) for index in range(391)]
    one = list(core50_list_lines("nicv2_391", 0, experience=1))
    assert one == [line for line in lines if line.startswith("1\t")]


def test_list_lines_give_the_test_set_alone_or_after_an_experience() -> None:
    test = list(core50_list_lines("nc", 0, test="reduced"))
    assert len(test) == 2_249 and test[0] == "test\ts3/o1/C_03_01_001.png\t0"
    both = list(core50_list_lines("nc", 0, experience=8, test="reduced"))
    assert both == list(core50_list_lines("nc", 0, experience=8)) + test


def test_list_lines_refuse_an_unknown_experience_at_once() -> None:
    with pytest.raises(DataError, match="experience must be 0 to 8 in core50 nc run 0, got 9"):
        core50_list_lines("nc", 0, experience=9)


def test_an_experience_without_frames_is_said_to_be_skipped(sparse: Path) -> None:
    with pytest.raises(DataError, match="experience 3 of core50 ni run 0 has no images"):
        list_lines(core50_stream(sparse, "ni", 0), experience=3)


def test_reading_lists_and_images_needs_no_torch() -> None:
    code = (
        "import sys, vitlr.data, vitlr.data.images, vitlr.data.lists, vitlr.data.verify\n"
        "vitlr.data.core50.core50_lists('nc', 0)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_facts_are_carried_in_the_package() -> None:
    facts = core50.protocols()
    assert set(facts["scenarios"]) == set(SCENARIOS)
    assert "CC BY 4.0" in facts["about"]
