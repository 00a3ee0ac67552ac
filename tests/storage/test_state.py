"""Saved states under faults: whatever breaks, the directory loads as the old state or the new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vitlr.errors import RunError
from vitlr.storage import files, state
from vitlr.storage.reading import ENTRY_LIMIT, HEADER_LIMIT
from vitlr.storage.state import checksum, load_state, save_state

CALLS = ("open", "write", "fsync", "replace")


def tensors_of(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(7, 5, generator=generator)
    return {
        "float64": values.double(),
        "float32": values,
        "transposed": values.T,
        "bfloat16": values.bfloat16(),
        "float16": values.half(),
        "int64": (values * 1e9).long(),
        "int32": values.int(),
        "int16": values.short(),
        "int8": values.char(),
        "uint8": values.abs().byte(),
        "bool": values > 0,
        "scalar": torch.tensor(seed),
        "one of stride 0": values[:1, :1].expand(1, 1)[0].as_strided((1,), (0,)),
        "nothing of stride 0": torch.from_numpy(np.zeros(0, dtype=np.int64)),
        "empty": torch.zeros(0, 3),
    }


def save(directory: Path, seed: int) -> None:
    save_state(directory, tensors_of(seed), {"seed": seed}, kind="thing", version=1)


def load(directory: Path) -> int:
    """The seed of the state in a directory, after a look at every bit of it."""
    tensors, plain = load_state(directory, kind="thing", version=1)
    wanted = tensors_of(plain["seed"])
    assert set(tensors) == set(wanted)
    for name, tensor in wanted.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor), name
    return plain["seed"]


def leftovers(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"state.safetensors", ".lock"}


@contextmanager
def calls_to_the_system(act: Callable[[int, str], None]) -> Iterator[list[str]]:
    """Call ``act`` with number and name before each system call that writes; list the calls."""
    made: list[str] = []
    patch = pytest.MonkeyPatch()

    def watched(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            act(len(made) - 1, name)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        patch.setattr(files.os, name, watched(name, getattr(os, name)))
    try:
        yield made
    finally:
        patch.undo()


def test_a_state_comes_back_bit_by_bit_with_every_type(tmp_path: Path) -> None:
    save(tmp_path / "new" / "deep", 3)
    assert load(tmp_path / "new" / "deep") == 3


def test_the_safetensors_library_reads_the_same_tensors(tmp_path: Path) -> None:
    save(tmp_path, 4)
    read = load_file(tmp_path / "state.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors_of(4).items())


def test_a_generators_state_survives_json(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    rng.random(11)
    save_state(tmp_path, {}, {"rng": rng.bit_generator.state}, kind="thing", version=1)
    other = np.random.default_rng(0)
    other.bit_generator.state = load_state(tmp_path, kind="thing", version=1)[1]["rng"]
    assert np.array_equal(other.random(5), rng.random(5))


def test_the_file_is_flushed_before_the_rename_and_the_directory_after_it(tmp_path: Path) -> None:
    save(tmp_path, 0)
    with calls_to_the_system(lambda number, name: None) as made:
        save(tmp_path, 1)
    assert set(made[:-4]) == {"open", "write"}  # the lock, the temporary file
    assert made[-4:] == ["fsync", "replace", "open", "fsync"]


def test_a_failure_at_any_call_leaves_the_old_or_the_new_state_and_no_litter(tmp_path: Path) -> None:
    save(tmp_path, 0)
    with calls_to_the_system(lambda number, name: None) as made:
        save(tmp_path, 1)
    renamed_at = made.index("replace")
    for fail_at in range(len(made)):
        save(tmp_path, 10)

        def fail(number: int, name: str, fail_at: int = fail_at) -> None:
            if number == fail_at:
                raise OSError(28, "No space left on device")

        with calls_to_the_system(fail), pytest.raises(RunError, match=r"cannot be .*No space left on device"):
            save(tmp_path, 11)
        assert load(tmp_path) == (10 if fail_at <= renamed_at else 11)
        assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_at_any_call_leaves_the_old_or_the_new_state(
    tmp_path: Path, interrupt: type[BaseException]
) -> None:
    for stop_at in range(100):
        save(tmp_path, 10)

        def stop(number: int, name: str, stop_at: int = stop_at) -> None:
            if number == stop_at:
                raise interrupt

        try:
            with calls_to_the_system(stop):
                save(tmp_path, 11)
        except interrupt:
            assert load(tmp_path) in (10, 11) and leftovers(tmp_path) == set()
        else:
            break
    assert stop_at > 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_at_any_call_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    script = f"""
import json, os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_state import calls_to_the_system, leftovers, load, save
directory = Path({str(tmp_path)!r})
def die(number, name):
    if number == at:
        os._exit(9)
found = []
for at in range(100):
    save(directory, 0)
    child = os.fork()
    if child == 0:
        with calls_to_the_system(die):
            save(directory, 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found.append((code, load(directory)))
    if code == 0:
        break
save(directory, 2)
print(json.dumps([found, load(directory), sorted(leftovers(directory))]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, last, litter = json.loads(done.stdout)
    assert len(found) > 10 and found[-1] == [0, 1]
    assert [seed for _, seed in found] == sorted(seed for _, seed in found)  # old until the rename, then new
    assert found[0] == [9, 0] and found[-2] == [9, 1]
    assert last == 2 and litter == []


def test_writes_that_take_only_a_part_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:7]))
    save(tmp_path, 5)
    monkeypatch.undo()
    assert load(tmp_path) == 5


def test_a_disk_that_fills_up_leaves_the_old_state(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    save(tmp_path, 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "state.safetensors").stat().st_size
    for room in (0, 5, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(RunError, match="cannot be written"):
                save(tmp_path, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert load(tmp_path) == 0 and leftovers(tmp_path) == set()


def test_a_place_that_cannot_be_written_gives_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        save(tmp_path / "file", 0)

    def refuse(*args: object) -> int:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(RunError, match="Read-only file system; choose another directory"):
        save(tmp_path, 0)


def test_two_owners_of_one_directory_are_refused_and_the_first_goes_on(
    tmp_path: Path, held_elsewhere: Callable[[Path], AbstractContextManager[None]]
) -> None:
    save(tmp_path, 0)
    with held_elsewhere(tmp_path):
        with pytest.raises(RunError, match="in use by another process"):
            save(tmp_path, 1)
        assert load(tmp_path) == 0
    save(tmp_path, 1)
    assert load(tmp_path) == 1


def test_every_altered_byte_and_every_torn_length_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(tmp_path, {"a": torch.arange(4)}, {"b": [1, "x"]}, kind="thing", version=1)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x41]) + good[position + 1 :])
        with pytest.raises(RunError, match=r"state\.safetensors"):
            load_state(tmp_path, kind="thing", version=1)
        path.write_bytes(good[:position])
        with pytest.raises(RunError, match=r"state\.safetensors"):
            load_state(tmp_path, kind="thing", version=1)
    path.write_bytes(good + b"x")
    with pytest.raises(RunError, match=r"state\.safetensors"):
        load_state(tmp_path, kind="thing", version=1)


def test_another_kind_or_version_is_named(tmp_path: Path) -> None:
    save(tmp_path, 0)
    with pytest.raises(RunError, match="holds a 'thing', not a 'classifier'"):
        load_state(tmp_path, kind="classifier", version=1)
    with pytest.raises(RunError, match="format version 1 and this vitlr reads 2: use the older"):
        load_state(tmp_path, kind="thing", version=2)
    with pytest.raises(RunError, match="use the newer"):
        load_state(tmp_path, kind="thing", version=0)


def test_what_is_missing_linked_or_foreign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing is saved"):
        load_state(tmp_path / "nowhere", kind="thing", version=1)
    save(tmp_path / "real", 0)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "state.safetensors").symlink_to(tmp_path / "real" / "state.safetensors")
    with pytest.raises(RunError, match="plain file"):
        load_state(tmp_path / "link", kind="thing", version=1)
    (tmp_path / "foreign").mkdir()
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign" / "state.safetensors")
    with pytest.raises(RunError, match="not written by vitlr"):
        load_state(tmp_path / "foreign", kind="thing", version=1)


@pytest.mark.parametrize("claimed", [HEADER_LIMIT + 1, 2**63, 2**64 - 1])
def test_a_header_above_the_limit_is_not_read(tmp_path: Path, claimed: int) -> None:
    (tmp_path / "state.safetensors").write_bytes(claimed.to_bytes(8, "little") + b"{}")
    with pytest.raises(RunError, match=f"at most {HEADER_LIMIT}"):
        load_state(tmp_path, kind="thing", version=1)


def entries(count: int) -> bytes:
    """The shortest header of so many empty tensors."""
    empty = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return ("{" + ",".join(f'"{number:x}":{empty}' for number in range(count)) + "}").encode()


def test_more_tensors_than_any_state_has_are_refused_before_they_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = entries(290_000)
    assert len(header) < HEADER_LIMIT
    (tmp_path / "state.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    monkeypatch.setattr(state, "safe_open", None)
    with pytest.raises(RunError, match=f"290001 entries of at most {ENTRY_LIMIT}; use another copy of it"):
        load_state(tmp_path, kind="thing", version=1)


def test_what_could_not_be_loaded_is_not_saved_and_thousands_of_tensors_are(tmp_path: Path) -> None:
    tensors = {f"t{number}": torch.zeros(0) for number in range(ENTRY_LIMIT)}
    with pytest.raises(RunError, match=f"is not saved: .* entries of at most {ENTRY_LIMIT}"):
        save_state(tmp_path, tensors, {}, kind="thing", version=1)
    with pytest.raises(RunError, match=f"is not saved: .* bytes of at most {HEADER_LIMIT}"):
        save_state(tmp_path, {}, {"text": "x" * HEADER_LIMIT}, kind="thing", version=1)
    assert leftovers(tmp_path) == set() and not (tmp_path / "state.safetensors").exists()
    few = dict(list(tensors.items())[:5000])
    save_state(tmp_path, few, {}, kind="thing", version=1)
    assert load_state(tmp_path, kind="thing", version=1)[0].keys() == few.keys()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{}", "null", '{"plain": {}, "version": "1"}', '{"plain": 1}']
)
def test_hostile_json_gives_a_sentence(tmp_path: Path, text: str) -> None:
    save_file({}, tmp_path / "state.safetensors", {"state": text, "sha256": checksum({}, text)})
    with pytest.raises(RunError, match="damaged"):
        load_state(tmp_path, kind="thing", version=1)


def test_data_that_json_cannot_hold_exactly_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for plain in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((TypeError, ValueError)):
            save_state(tmp_path, {}, plain, kind="thing", version=1)
    assert leftovers(tmp_path) == set() and not (tmp_path / "state.safetensors").exists()
