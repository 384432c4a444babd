import errno
import multiprocessing
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.training import PrefixCache

LENGTHS = np.array([3, 1, 5, 2])
TOKEN_BYTES = 8
SIZE = 11 * TOKEN_BYTES + 4 * 4
"""11 tokens, and a checksum of 4 bytes for each of the 4 examples."""


def states_of(example, seed=0):
    return np.random.default_rng([seed, example]).integers(0, 256, LENGTHS[example] * TOKEN_BYTES, np.uint8)


def opened(folder, limit=10 * SIZE, key="key"):
    return PrefixCache(folder, limit).open(key, LENGTHS, TOKEN_BYTES)


def present(file):
    """The examples that a file has, each checked to be right."""
    found = {example: states for example in range(4) if (states := file.read(example)) is not None}
    for example, states in found.items():
        assert states.tobytes() == states_of(example).tobytes()
    return set(found)


def test_what_one_process_writes_all_others_read(tmp_path):
    early, writer = opened(tmp_path), opened(tmp_path)
    assert present(early) == present(writer) == set()
    writer.write({2: states_of(2), 0: states_of(0)})
    assert present(writer) == present(early) == present(opened(tmp_path)) == {0, 2}
    early.write({1: states_of(1)})
    assert present(writer) == {0, 1, 2}
    assert [file.stat().st_size for file in tmp_path.iterdir()] == [SIZE]


def test_other_keys_have_other_files(tmp_path):
    opened(tmp_path, key="one").write({0: states_of(0)})
    assert present(opened(tmp_path, key="other")) == set()


def test_a_damaged_example_is_missing_until_it_is_written_again(tmp_path):
    file = opened(tmp_path)
    file.write({example: states_of(example) for example in range(4)})
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[16 + 4 * TOKEN_BYTES] ^= 1
    path.write_bytes(data)
    assert present(opened(tmp_path)) == {0, 1, 3}
    opened(tmp_path).write({2: states_of(2)})
    assert present(opened(tmp_path)) == {0, 1, 2, 3}


def test_a_file_that_lost_its_end_lost_no_other_examples(tmp_path):
    opened(tmp_path).write({example: states_of(example) for example in range(4)})
    (path,) = tmp_path.iterdir()
    os.truncate(path, SIZE - 1)
    assert present(opened(tmp_path)) == {0, 1, 2}
    path.write_bytes(b"")
    assert present(opened(tmp_path)) == set()


@given(st.lists(st.tuples(st.sampled_from(["write", "flip"]), st.integers(0, SIZE - 1)), max_size=12))
def test_a_file_never_gives_wrong_states(actions):
    with tempfile.TemporaryDirectory() as folder:
        opened(Path(folder))
        (path,) = Path(folder).iterdir()
        for action, place in actions:
            if action == "write":
                opened(Path(folder)).write({place % 4: states_of(place % 4)})
            else:
                data = bytearray(path.read_bytes())
                data[place] ^= 255
                path.write_bytes(data)
            present(opened(Path(folder)))


def fill(folder, number, keys, results):
    rng = np.random.default_rng(number)
    for _ in range(100):
        file = opened(folder, 2 * SIZE, f"key{rng.integers(keys)}")
        example = int(rng.integers(4))
        file.write({example: states_of(example)})
        results.put(example in present(file))


@pytest.mark.parametrize("keys", [1, 4])
def test_many_processes_may_write_read_and_remove_the_same_files(tmp_path, keys):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    writers = [context.Process(target=fill, args=(tmp_path, number, keys, results)) for number in range(3)]
    for writer in writers:
        writer.start()
    found = [results.get() for _ in range(3 * 100)]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    # another writer may have been half way through the same example, or have removed the file
    assert sum(found) > 150
    assert len(list(tmp_path.iterdir())) <= 3
    if keys == 1:
        assert present(opened(tmp_path, key="key0")) == {0, 1, 2, 3}


def used(folder, limit, *keys):
    for second, key in enumerate(keys):
        opened(folder, limit, key).write({0: states_of(0)})
        os.utime(folder / f"{key}.states", (second, second))


def names(folder):
    return sorted(file.stem for file in folder.iterdir())


def test_the_least_recently_used_files_make_room(tmp_path):
    used(tmp_path, 3 * SIZE, "b", "a", "c")
    assert present(opened(tmp_path, 3 * SIZE, "b")) == {0}
    mapped = opened(tmp_path, 3 * SIZE, "a")
    os.utime(tmp_path / "a.states", (0, 0))
    opened(tmp_path, 3 * SIZE, "d")
    assert names(tmp_path) == ["b", "c", "d"]
    for second, key in enumerate("bcd"):
        os.utime(tmp_path / f"{key}.states", (second, second))
    opened(tmp_path, 2 * SIZE, "e")
    assert names(tmp_path) == ["d", "e"]
    # a process that has a removed file open still reads it, and its writes are lost
    assert present(mapped) == {0}
    mapped.write({1: states_of(1)})
    assert present(mapped) == {0}
    assert "a" not in names(tmp_path)


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"x" * 5 * SIZE)
    used(tmp_path, SIZE, "a", "b")
    assert names(tmp_path) == ["b", "notes"]


def test_a_split_beyond_the_limit_is_not_kept(tmp_path):
    used(tmp_path, SIZE, "a")
    assert opened(tmp_path, SIZE - 1, "b") is None
    assert names(tmp_path) == ["a"]


def test_half_of_the_free_space_is_left_for_everything_else(tmp_path, monkeypatch):
    used(tmp_path, 10 * SIZE, "a")
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=2 * SIZE - 1))
    assert opened(tmp_path, key="b") is None
    assert names(tmp_path) == ["a"]
    assert present(opened(tmp_path, key="a")) == {0}
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=2 * SIZE))
    assert opened(tmp_path, key="b") is not None


def test_a_folder_that_cannot_be_used_means_no_cache(tmp_path):
    (tmp_path / "file").touch()
    assert opened(tmp_path / "file") is None


def test_a_full_disk_means_that_states_are_not_kept(tmp_path, monkeypatch):
    file = opened(tmp_path)
    file.write({0: states_of(0)})

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    file.write({1: states_of(1)})
    assert opened(tmp_path, key="other") is None
    assert present(file) == {0}


def test_only_the_owner_may_read_states(tmp_path):
    opened(tmp_path / "private" / "prefix")
    assert stat.S_IMODE((tmp_path / "private" / "prefix").stat().st_mode) == 0o700


def test_what_was_read_is_a_copy(tmp_path):
    file = opened(tmp_path)
    file.write({0: states_of(0)})
    file.read(0)[:] = 0
    assert present(file) == {0}
