import errno
import os
import random
import signal
import struct
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from results_fakes import (
    CONTEXT,
    FILLED,
    FINISHED,
    STARTED,
    commit,
    make_decisions,
    make_job,
    make_outcome,
    make_request,
    make_result,
    make_work,
    results,
)

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.jobs import TrainResult
from prunepeft_ray.results import SCHEMA_VERSION, TABLES, ResultsStore
from prunepeft_ray.results import compaction as merged
from prunepeft_ray.storage.paths import is_local, open_path

CHILDREN = ("epochs", "scores", "architectures")


@pytest.fixture(params=["disk", "bucket"])
def store(request):
    """A store on a disk, and one in a bucket."""
    if request.param == "disk":
        return ResultsStore(request.getfixturevalue("tmp_path") / "results")
    return ResultsStore(open_path(request.getfixturevalue("bucket")) / "run" / "results")


only_on_a_disk = pytest.mark.parametrize("store", ["disk"], indirect=True)


def file_of(store, table, seed=0):
    return store.folder / table / f"{make_job(seed).id}.parquet"


# --- what goes in comes out


def bits(value):
    """The same value with its floats as bytes, so that NaN equals itself and -0.0 differs from 0.0."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    return [bits(inner) for inner in value] if isinstance(value, list | tuple) else value


@settings(max_examples=30)
@given(result=results)
def test_a_result_comes_back_exactly_as_it_was(tmp_path_factory, result):
    store = ResultsStore(tmp_path_factory.mktemp("store") / "results")
    assert commit(store, result=result)
    found = store.find(make_job().id)
    assert bits(asdict(found)) == bits(asdict(result))
    assert list(found.metrics) == list(result.metrics)
    assert isinstance(found.epochs, tuple)


def test_nan_payloads_signed_zeros_and_subnormals_keep_their_bits(store):
    odd = [
        struct.unpack("<d", struct.pack("<Q", b))[0] for b in (0x7FF8000000000001, 0xFFF8000000000000, 1 << 63, 1, 0)
    ]
    result = make_result(metrics={str(i): value for i, value in enumerate(odd)})
    commit(store, result=result)
    assert bits(dict(store.find(make_job().id).metrics)) == bits(dict(result.metrics))


def test_numpy_floats_are_stored_as_they_are(store):
    commit(store, result=make_result(np.float32(0.1)))
    assert store.find(make_job().id).metrics["loss"] == float(np.float32(0.1))


def test_a_job_that_was_never_committed_is_not_found(store):
    commit(store, 0)
    assert store.find(make_job(1).id) is None


def test_rows_say_what_ran_and_what_it_cost(store):
    commit(store, result=make_result(test={"accuracy": 0.5}))
    row = store.read("jobs").iloc[0]
    expected = {
        "run_id": CONTEXT.run_id,
        "job_id": make_job().id,
        "kind": "round",
        "label": "round 0",
        "task_train_size": 400,
        "seed": 3,
        "job_seed": 0,
        "architecture_id": FILLED.id,
        "slots": 2,
        "epochs": make_job().training.epochs,
        "epochs_done": 2,
        "metrics": {"accuracy": 0.75, "loss": 0.5},
        "test_metrics": {"accuracy": 0.5},
        "train_examples": 100,
        "peak_memory_bytes": 12345,
        "versions": {"python": "3.11"},
        "started_at": pd.Timestamp(STARTED),
        "finished_at": pd.Timestamp(FINISHED),
    }
    assert {name: row[name] for name in expected} == expected
    assert pd.isna(row.train_size)
    scores = store.read("scores")
    assert scores[["criterion", "slot", "layer", "kind", "theta"]].values.tolist() == [
        ["weight", "PA.0", 0, "PA", 0.5],
        ["weight", "SA.1", 1, "SA", 2.0],
    ]
    filled = store.read("architectures")
    assert filled[["slot", "module", "size"]].values.tolist() == [["PA.0", "lora", 8], ["SA.1", "pfeiffer", 16]]
    assert store.read("epochs")[["epoch", "train_loss", "seconds"]].values.tolist() == [[1, 0.5, 1.5], [2, 0.5, 1.25]]


def test_an_empty_architecture_and_a_failed_job_are_kept(store):
    work = make_work(architecture=Architecture())
    failed = TrainResult(0, 10, (), 0, {}, status="failed", reason="Verlust ist ∞\nzweite Zeile")
    assert store.commit(CONTEXT, work, failed, STARTED, FINISHED)
    assert store.find(work.job.id) == failed


# --- one record per job, the first one


def test_the_first_writer_wins(store):
    assert commit(store, result=make_result(0.5))
    assert not commit(store, result=make_result(0.25))
    assert store.find(make_job().id) == make_result(0.5)


WRITERS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from results_fakes import commit, make_result
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.results import ResultsStore
writers, apart, jobs = map(int, sys.argv[3:])
for writer in range(writers):
    if os.fork() == 0:
        store = ResultsStore(open_path(sys.argv[2]))
        for seed in range(writer * apart, writer * apart + jobs):
            won = commit(store, seed, make_result(writer / 4))
            os.write(1, f"{os.getpid()} {writer} {seed} {won}\\n".encode())
        os._exit(0)
for _ in range(writers):
    os.wait()
"""


def start_writers(store, writers, apart, jobs):
    """Processes that commit jobs and report each: pid, number of the writer, seed, whether it won."""
    arguments = [str(Path(__file__).parent), str(store.folder), str(writers), str(apart), str(jobs)]
    return subprocess.Popen([sys.executable, "-c", WRITERS, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.system
def test_two_processes_at_once_store_each_job_once_and_whole(store):
    winner = {}
    for line in start_writers(store, 2, 0, 25).communicate()[0].splitlines():
        _, writer, seed, won = line.split()
        if won == "True":
            assert seed not in winner
            winner[seed] = int(writer)
    assert len(winner) == len(store.read("jobs")) == 25
    for seed, writer in winner.items():
        found = store.find(make_job(int(seed)).id)
        # nothing locks a bucket: there the other tables may be the other writer's
        assert found == make_result(writer / 4) or (not is_local(store.folder) and found.metrics["loss"] == writer / 4)


def unfinish(store, seed=0):
    file_of(store, "jobs", seed).unlink()


def test_a_job_without_its_row_in_jobs_is_not_finished(store):
    commit(store, 0)
    commit(store, 1)
    unfinish(store, 0)
    assert store.find(make_job(0).id) is None
    for table in CHILDREN:
        assert set(store.read(table).job_id) == {make_job(1).id}


def test_a_second_attempt_replaces_what_a_killed_one_left(store):
    commit(store, result=make_result(0.5))
    unfinish(store)
    assert commit(store, result=make_result(0.25))
    assert store.find(make_job().id) == make_result(0.25)


@only_on_a_disk
def test_leftovers_of_killed_writers_disturb_no_reader(store):
    commit(store)
    store.commit_decisions(CONTEXT, make_decisions())
    store.commit_request(make_request())
    store.commit_search(make_outcome())
    for table in TABLES:
        (store.folder / table / f".{make_job(7).id}.parquet.0123.tmp").write_bytes(b"PAR1 half a file")
        (store.folder / table / f".{make_job(8).id}.parquet").write_bytes(b"")
    assert store.find(make_job().id) == make_result()
    for table in TABLES:
        assert len(store.read(table)) == len(pd.read_parquet(store.folder / table)) > 0


@pytest.mark.system
def test_writers_killed_at_any_moment_lose_no_reported_job(store):
    fates, reported, alive = random.Random(0), {}, {str(number) for number in range(4)}
    process = start_writers(store, 4, 1000, 1000)
    for line in process.stdout:
        pid, writer, seed, _ = line.split()
        reported[int(seed)] = int(writer)
        if writer in alive:
            alive.remove(writer)
            time.sleep(fates.uniform(0, 0.03))
            os.kill(int(pid), signal.SIGKILL)
    assert process.wait() == 0
    assert len(reported) >= 4
    tables = {table: store.read(table) for table in TABLES}
    assert {make_job(seed).id for seed in reported} <= set(tables["jobs"].job_id)
    assert set(tables["jobs"].job_id) == set(tables["epochs"].job_id) == set(tables["scores"].job_id)
    for seed, writer in [*reported.items()][-20:]:
        assert store.find(make_job(seed).id) == make_result(writer / 4)
    # the next writer is not held up by the dead ones
    assert commit(store, 10**6)


# --- decisions


def test_decisions_committed_twice_are_stored_once(store):
    both = [*make_decisions(1, "j1"), *make_decisions(2, "j2")]
    store.commit_decisions(CONTEXT, both)
    store.commit_decisions(CONTEXT, both)
    store.commit_decisions(CONTEXT, both[2:])
    found = store.read("decisions")
    columns = ["run_id", "step", "index", "slot", "layer", "kind", "partition", "probability", "removed", "job_id"]
    assert found[columns].values.tolist() == [
        [CONTEXT.run_id, "round", i, *rest, f"j{i}"]
        for i in (1, 2)
        for rest in (["PA.0", 0, "PA", "0.PA", 0.625, True], ["SA.1", 1, "SA", "1.SA", 0.375, False])
    ]
    assert [tuple(names) for names in found.criteria] == [("weight", "zeros"), ("gradient",)] * 2


def test_different_decisions_about_the_same_round_are_all_kept(store):
    first, second = make_decisions()
    store.commit_decisions(CONTEXT, [first, second])
    store.commit_decisions(CONTEXT, [first, replace(second, probability=0.5)])
    assert len(store.read("decisions")) == 4


# --- searches of a study

SEARCHES = ({"run_id": "other"}, {"method": "random-search"}, {"task": "t"}, {"model": "m"}, {"seed": 4})


def test_a_request_comes_back_as_it_was_and_the_first_one_stays(store):
    final = make_request(7, kind="final", label="retrain", retrain_seed=2**40)
    assert store.commit_request(final)
    assert not store.commit_request(replace(final, job_id="another"))
    assert store.commit_request(make_request(2))
    rows = store.read("requests").sort_values("position").to_dict("records")
    assert rows[1] == asdict(final)
    assert pd.isna(rows[0].pop("retrain_seed"))
    expected = asdict(make_request(2))
    del expected["retrain_seed"]
    assert rows[0] == expected


def test_requests_count_before_and_without_their_jobs(store):
    store.commit_request(make_request())
    assert list(store.read("requests").job_id) == [make_job().id]
    assert store.read("jobs").empty


@pytest.mark.parametrize("change", SEARCHES)
def test_every_search_has_requests_and_an_outcome_of_its_own(store, change):
    store.commit_request(make_request())
    assert store.commit_request(make_request(**change))
    store.commit_search(make_outcome())
    store.commit_search(make_outcome(**change))
    assert len(store.read("requests")) == len(store.read("searches")) == 2


def test_the_last_outcome_of_a_search_counts(store):
    store.commit_search(make_outcome(status="failed", reason="out of memory", parameters=0, architecture_id=""))
    store.commit_search(make_outcome())
    assert store.read("searches").to_dict("records") == [asdict(make_outcome())]


# --- reading


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_store_has_tables_with_all_columns(store, table):
    frame = store.read(table)
    assert len(frame) == 0
    assert list(frame.columns) == [column.name for column in TABLES[table]]


def test_an_unknown_table_is_refused_with_the_nearest(store):
    with pytest.raises(InputError, match=r"unknown table 'job'.*'jobs'"):
        store.read("job")


@only_on_a_disk
def test_plain_pandas_and_pyarrow_read_a_table_as_one_folder(store):
    for seed in range(3):
        commit(store, seed)
    # a job without epochs and scores has files without rows
    commit(store, 3, TrainResult(0, 0, (), 0, {}, status="failed", reason="x"))
    store.commit_decisions(CONTEXT, make_decisions())
    for position in range(3):
        store.commit_request(make_request(position))
    store.commit_search(make_outcome())
    rows = {"jobs": 4, "epochs": 6, "scores": 6, "architectures": 8, "decisions": 2, "requests": 3, "searches": 1}
    for table, columns in TABLES.items():
        frame = pd.read_parquet(store.folder / table)
        assert len(frame) == ds.dataset(store.folder / table).count_rows() == len(store.read(table)) == rows[table]
        assert list(frame.columns) == [column.name for column in columns]
        assert ds.dataset(store.folder / table).schema.types == [column.type for column in columns]


# --- damage


@pytest.mark.parametrize("table", ["jobs", "epochs", "scores"])
@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.99])
def test_a_truncated_file_is_named_in_one_line(store, table, keep):
    commit(store, 0)
    commit(store, 1)
    file = file_of(store, table)
    data = file.read_bytes()
    file.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    for read in (lambda: store.find(make_job().id), lambda: store.read(table)):
        with pytest.raises(RunError) as caught:
            read()
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert store.find(make_job(1).id) == make_result()


def test_a_flipped_bit_in_the_data_is_noticed(store):
    commit(store)
    file = file_of(store, "epochs")
    data = bytearray(file.read_bytes())
    place = data.index(struct.pack("<d", 1.5))  # the seconds of the first epoch
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match=str(file)):
        store.find(make_job().id)


@only_on_a_disk
def test_doing_what_the_message_says_lets_the_job_run_again(store):
    commit(store)
    file_of(store, "epochs").write_bytes(b"")
    with pytest.raises(RunError, match=r"delete .*/\*/") as caught:
        store.find(make_job().id)
    pattern = str(caught.value).split("delete ")[1].split(",")[0]
    for file in store.folder.glob(str(Path(pattern).relative_to(store.folder))):
        file.unlink()
    assert store.find(make_job().id) is None
    assert commit(store, result=make_result(0.25))
    assert store.find(make_job().id) == make_result(0.25)


def test_a_job_of_which_a_part_is_gone_is_named_and_runs_again(store):
    commit(store)
    file_of(store, "scores").unlink()
    with pytest.raises(RunError, match=r"scores.*missing"):
        store.read("scores")
    assert store.missing([make_job().id]) == [f"scores/{make_job().id}"]
    assert store.find(make_job().id) is None
    assert commit(store, result=make_result(0.25))
    assert store.find(make_job().id) == make_result(0.25)
    assert store.missing([make_job().id]) == []


def test_what_a_merged_part_still_holds_is_missing_all_the_same(store, monkeypatch):
    monkeypatch.setattr(merged, "MIN_FILES", 1)
    commit(store)
    assert store.compact()
    file_of(store, "jobs").unlink()
    assert store.missing([make_job().id]) == [f"jobs/{make_job().id}"]
    assert len(store.read("jobs")) == 0


def write_table(table, file):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    file.write_bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("version", [str(SCHEMA_VERSION + 1), "0", "1"])
def test_a_file_of_another_schema_version_is_refused(store, version):
    commit(store)
    file = file_of(store, "jobs")
    table = pq.ParquetFile(pa.BufferReader(file.read_bytes())).read()
    write_table(table.replace_schema_metadata({"prunepeft_schema_version": version}), file)
    for read in (lambda: store.find(make_job().id), lambda: store.read("jobs")):
        with pytest.raises(InputError, match=f"{file.name}.*version {version}"):
            read()


def age(file):
    """Make a file of version 2, which did not know workers."""
    table = pq.ParquetFile(pa.BufferReader(file.read_bytes())).read()
    write_table(table.drop_columns("workers").replace_schema_metadata({"prunepeft_schema_version": "2"}), file)


def test_files_of_an_older_version_are_read_beside_new_ones(store):
    commit(store, 0)
    commit(store, 1)
    store.commit(CONTEXT, make_work(2), make_result(), STARTED, FINISHED, workers=["host:7"])
    age(file_of(store, "jobs", 0))
    jobs = store.read("jobs").set_index("job_id")
    assert jobs.workers[make_job(0).id] is None
    assert list(jobs.workers[make_job(1).id]) == []
    assert list(jobs.workers[make_job(2).id]) == ["host:7"]
    assert store.find(make_job(0).id) == make_result()
    assert not commit(store, 0)


@pytest.mark.parametrize("metadata", [None, {"prunepeft_schema_version": "new"}])
def test_a_parquet_file_of_somebody_else_is_damage(store, metadata):
    commit(store)
    write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), store.folder / "jobs" / "other.parquet")
    with pytest.raises(RunError, match=r"other\.parquet.*version (none|new): it does not belong"):
        store.read("jobs")


def test_a_file_with_the_columns_of_another_table_is_damage(store):
    commit(store)
    file_of(store, "epochs").write_bytes(file_of(store, "scores").read_bytes())
    with pytest.raises(RunError, match="its columns are not those of epochs"):
        store.read("epochs")


@only_on_a_disk
def test_no_flipped_bit_goes_unnoticed_or_breaks_more_than_its_file(store):
    commit(store)
    commit(store, 1)
    good, file = store.read("epochs"), file_of(store, "epochs")
    data, chance = file.read_bytes(), random.Random(0)
    rest = good[good.job_id != make_job().id].reset_index(drop=True)
    for place in chance.sample(range(len(data)), 150):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        told = []
        try:
            found = store.read("epochs", told.append)
        except InputError as error:
            # the bit was in the version
            assert "schema version" in str(error)
            continue
        pd.testing.assert_frame_equal(found, rest if told else good)


# --- full disks and poor file systems


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_one_clear_line(error):
    message = str(error.value)
    assert "No space left on device" in message
    assert "prunepeft resume" in message
    assert "\n" not in message


@only_on_a_disk
@pytest.mark.parametrize("broken", [(Path, "open"), (os, "link"), (os, "fsync")])
def test_a_full_disk_is_told_in_one_line_and_a_later_try_works(store, monkeypatch, broken):
    commit(store, 0)
    with monkeypatch.context() as patch:
        patch.setattr(*broken, no_space)
        with pytest.raises(RunError) as caught:
            commit(store, 1)
        assert_one_clear_line(caught)
        with pytest.raises(RunError) as caught:
            store.commit_decisions(CONTEXT, make_decisions())
        assert_one_clear_line(caught)
    assert store.find(make_job(0).id) == make_result()
    assert store.find(make_job(1).id) is None
    assert list(store.read("epochs").job_id.unique()) == [make_job(0).id]
    assert not list(store.folder.rglob("*.tmp"))
    assert commit(store, 1)
    assert store.find(make_job(1).id) == make_result()


def test_a_disk_that_really_fills_up_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        store, done = ResultsStore(disk / "results"), 0
        with pytest.raises(RunError) as caught:
            while done < 1000:
                commit(store, done)
                done += 1
        assert_one_clear_line(caught)
        assert done > 0
        assert len(store.read("jobs")) == done
        for seed in range(done):
            assert store.find(make_job(seed).id) == make_result()
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        assert commit(store, done)
        assert store.find(make_job(done).id) == make_result()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@only_on_a_disk
@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_and_locks_will_do(store, monkeypatch, reason):
    def not_here(*_args):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("prunepeft_ray.storage.files.os.link", not_here)
    monkeypatch.setattr("fcntl.flock", not_here)
    assert commit(store, result=make_result(0.5))
    assert not commit(store, result=make_result(0.25))
    store.commit_decisions(CONTEXT, make_decisions())
    store.commit_decisions(CONTEXT, make_decisions())
    assert store.find(make_job().id) == make_result(0.5)
    assert len(store.read("decisions")) == 2
    assert not list(store.folder.rglob("*.tmp"))
