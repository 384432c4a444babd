"""A store read through merged parts is the store that its files are."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_fakes import CONTEXT, commit, make_decisions, make_job, make_outcome, make_request, make_result

from prunepeft_ray.errors import RunError
from prunepeft_ray.jobs import TrainResult
from prunepeft_ray.results import TABLES, ResultsStore
from prunepeft_ray.results import compaction as merged
from prunepeft_ray.results.schema import arrow_schema
from prunepeft_ray.storage.paths import open_path

IMMUTABLE = [table for table in TABLES if table != "searches"]
FAILED = TrainResult(0, 0, (), 0, {}, status="failed", reason="x")


@pytest.fixture(autouse=True)
def few_files_are_worth_it(monkeypatch):
    monkeypatch.setattr(merged, "MIN_FILES", 1)


@pytest.fixture(params=["disk", "bucket"])
def store(request):
    if request.param == "disk":
        return ResultsStore(request.getfixturevalue("tmp_path") / "results")
    return ResultsStore(open_path(request.getfixturevalue("bucket")) / "run" / "results")


only_on_a_disk = pytest.mark.parametrize("store", ["disk"], indirect=True)


def fill(store, seeds):
    for seed in seeds:
        # every third job has files without rows
        commit(store, seed, FAILED if seed % 3 == 2 else make_result(seed / 8))
        store.commit_request(make_request(seed))
        store.commit_decisions(CONTEXT, make_decisions(seed, f"j{seed}"))


def merged_files(store, table="jobs"):
    return sorted((store.folder / "merged" / table).glob("*.parquet"))


def singly(store):
    """All tables, read file by file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merged, "read_compacted", lambda *_args: [])
        return {table: store.read(table) for table in TABLES}


def assert_read_as_they_are(store):
    for table, frame in singly(store).items():
        pd.testing.assert_frame_equal(store.read(table), frame)


def count_reads(monkeypatch):
    read = []
    plain = merged.read_part
    monkeypatch.setattr(merged, "read_part", lambda file: read.append(file.name) or plain(file))
    return read


def test_what_is_merged_is_read_at_once_and_in_order(store, monkeypatch):
    fill(store, range(5))
    assert store.compact() == 5 * len(IMMUTABLE)
    fill(store, range(5, 8))
    store.commit_search(make_outcome())
    assert_read_as_they_are(store)
    read = count_reads(monkeypatch)
    assert len(store.read("jobs")) == 8
    assert sorted(read) == sorted(f"{make_job(seed).id}.parquet" for seed in (5, 6, 7))
    assert len(store.read("searches")) == 1
    assert store.compact() == 3 * len(IMMUTABLE)
    read.clear()
    assert_read_as_they_are(store)
    assert store.compact() == 0


@only_on_a_disk
def test_few_files_are_not_merged_and_while_a_run_grows_only_a_share(store, monkeypatch):
    monkeypatch.setattr(merged, "MIN_FILES", 3)
    for seed in range(4):
        commit(store, seed)
    assert store.compact() == 4 * 4
    for seed in (4, 5):
        commit(store, seed)
    assert store.compact() == 0
    commit(store, 6)
    assert store.compact(growth=1.0) == 0
    assert store.compact(growth=0.75) == 3 * 4


@only_on_a_disk
def test_searches_which_may_end_once_more_are_never_merged(store):
    store.commit_search(make_outcome())
    assert store.compact() == 0


actions = st.lists(
    st.tuples(st.sampled_from(["commit", "rewrite", "delete", "merge", "unmerge"]), st.integers(0, 7)), max_size=12
)


@settings(max_examples=25)
@given(actions=actions)
def test_whatever_is_merged_deleted_or_rewritten_reading_gives_what_the_files_hold(tmp_path_factory, actions):
    store = ResultsStore(tmp_path_factory.mktemp("store") / "results")
    clock = 10**18
    for action, seed in actions:
        files = [store.folder / table / f"{make_job(seed).id}.parquet" for table in ("jobs", "epochs", "scores")]
        if action == "merge":
            store.compact()
        elif action == "unmerge":
            for file in merged_files(store)[:1]:
                file.unlink()
        elif action == "commit":
            commit(store, seed)
        else:
            for file in files:
                file.unlink(missing_ok=True)
            if action == "rewrite":
                clock += 1
                commit(store, seed, make_result(random.Random(clock).random()))
                for file in files:
                    # a real rewriting comes later than the clock ticks
                    os.utime(file, ns=(clock, clock))
    assert_read_as_they_are(store)


def damage(file, how):
    data = file.read_bytes()
    changed = {
        "empty": b"",
        "truncated": data[: len(data) // 2],
        "flipped": data[:100] + bytes([data[100] ^ 1]) + data[101:],
        "foreign": b"something else",
    }
    file.write_bytes(changed[how])


@only_on_a_disk
@pytest.mark.parametrize("how", ["empty", "truncated", "flipped", "foreign"])
def test_a_damaged_merged_part_is_told_and_does_no_harm(store, how):
    fill(store, range(3))
    store.compact()
    (file,) = merged_files(store)
    damage(file, how)
    assert_read_as_they_are(store)
    told = []
    assert len(store.read("jobs", told.append)) == 3
    assert [one.file for one in told] == [file]
    assert store.compact() == 3
    assert len(store.read("jobs", told.append)) == 3
    assert len(told) == 1, "compaction has repaired it"


@only_on_a_disk
@pytest.mark.parametrize("how", ["empty", "truncated", "flipped", "foreign"])
def test_a_damaged_file_is_not_merged_but_still_told(store, how):
    fill(store, range(3))
    file = store.folder / "jobs" / f"{make_job(1).id}.parquet"
    damage(file, how)
    store.compact()
    with pytest.raises(RunError, match=str(file)):
        store.read("jobs")
    told = []
    assert set(store.read("jobs", told.append).job_id) == {make_job(0).id, make_job(2).id}
    assert [one.file for one in told] == [file]


@only_on_a_disk
def test_a_merged_part_of_another_version_is_passed_over(store, monkeypatch):
    fill(store, range(3))
    with monkeypatch.context() as patch:
        patch.setattr("prunepeft_ray.results.schema.SCHEMA_VERSION", 99)
        merged.write_compacted(store.folder, "jobs", merged.CompactedFile(arrow_schema("jobs").empty_table(), {}))
    assert len(merged_files(store)) == 1
    told = []
    assert len(store.read("jobs", told.append)) == 3
    assert told == []


def test_a_copied_store_is_read_as_it_is_and_may_be_merged_anew(tmp_path):
    store, copy = ResultsStore(tmp_path / "one"), ResultsStore(tmp_path / "two")
    fill(store, range(3))
    store.compact()
    shutil.copytree(store.folder, copy.folder, copy_function=shutil.copyfile)
    for table, frame in singly(store).items():
        pd.testing.assert_frame_equal(copy.read(table), frame)
    assert copy.compact() == store.compact() + 3 * len(IMMUTABLE)


MERGERS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.results import ResultsStore, compaction as merged
merged.MIN_FILES, merged.MAX_FILES = 1, 4
for merger in range(int(sys.argv[3])):
    if os.fork() == 0:
        os.write(1, f"{os.getpid()}\\n".encode())
        while ResultsStore(open_path(sys.argv[2])).compact():
            pass
        os._exit(0)
for _ in range(int(sys.argv[3])):
    os.wait()
"""


def start_mergers(store, count):
    arguments = [str(Path(__file__).parent), str(store.folder), str(count)]
    return subprocess.Popen([sys.executable, "-c", MERGERS, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.system
def test_two_mergers_at_once_leave_what_one_would(store):
    fill(store, range(8))
    assert start_mergers(store, 2).wait() == 0
    assert len(merged_files(store)) >= 2
    assert store.compact() == 0
    assert_read_as_they_are(store)


def test_mergers_killed_at_any_moment_leave_nothing_half(tmp_path):
    store, fates = ResultsStore(tmp_path / "results"), random.Random(0)
    fill(store, range(40))
    process = start_mergers(store, 4)
    for line in process.stdout:
        time.sleep(fates.uniform(0, 0.1))
        os.kill(int(line), signal.SIGKILL)
    process.wait()
    told = []
    for table in TABLES:
        store.read(table, told.append)
    assert told == []
    assert_read_as_they_are(store)
    store.compact()
    assert_read_as_they_are(store)


def test_a_store_that_cannot_be_written_is_told_and_read_all_the_same(tmp_path, monkeypatch):
    store = ResultsStore(tmp_path / "results")
    fill(store, range(3))
    (store.folder / "merged").write_text("in the way")
    with pytest.raises(RunError, match="merged"):
        store.compact()
    assert_read_as_they_are(store)


@only_on_a_disk
def test_a_different_request_at_the_same_place_is_seen(store):
    store.commit_request(make_request(0))
    store.compact()
    (file,) = (store.folder / "requests").glob("*.parquet")
    file.unlink()
    assert store.read("requests").empty
    store.commit_request(replace(make_request(0), label="a rather longer label"))
    assert list(store.read("requests").label) == ["a rather longer label"]
