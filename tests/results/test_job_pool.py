"""The pool of finished jobs: what goes in comes out, whoever writes at the same time and whatever is damaged."""

import json
import multiprocessing
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_fakes import make_result, results

from prunepeft_ray.errors import InputError
from prunepeft_ray.results import JobPool, PooledJob, find_pool
from prunepeft_ray.storage.paths import files_under, open_path

KEY, OTHER = sha256(b"some").hexdigest(), sha256(b"other").hexdigest()
WEIGHTS = b"weights of a job"


class Pool(JobPool):
    """A pool that records what it says."""

    def __init__(self, folder):
        self.said = []
        super().__init__(folder, self.said.append)


def pooled(loss=0.5, weights=b""):
    return PooledJob(make_result(loss), {"torch": "2"}, {"cpu": "some"}, weights)


@pytest.fixture(params=["disk", "bucket"])
def pool(request):
    """A pool on a disk, and one in a bucket."""
    if request.param == "disk":
        return Pool(request.getfixturevalue("tmp_path") / "pool")
    return Pool(open_path(request.getfixturevalue("bucket")) / "pool")


only_on_a_disk = pytest.mark.parametrize("pool", ["disk"], indirect=True)


# --- what goes in comes out


def test_a_job_is_found_by_its_key_alone(pool):
    pool.add(KEY, pooled())
    assert pool.find(KEY) == pooled()
    assert pool.find(OTHER) is None
    assert pool.said == []


@settings(max_examples=30)
@given(result=results)
def test_any_result_comes_back_with_all_its_bits(tmp_path_factory, result):
    pool = Pool(tmp_path_factory.mktemp("pool"))
    pool.add(KEY, PooledJob(result, {}, {}))
    # as text, so that NaN equals itself and -0.0 differs from 0.0
    assert json.dumps(asdict(pool.find(KEY).result)) == json.dumps(asdict(result))
    assert pool.said == []


def test_numpy_numbers_come_back_as_plain_ones(pool):
    pool.add(KEY, PooledJob(make_result(np.float32(0.1), parameters=np.int64(900)), {}, {}))
    assert pool.find(KEY).result.metrics["loss"] == float(np.float32(0.1))
    assert pool.find(KEY).result.parameters == 900
    assert pool.said == []


def test_halves_of_scores_come_back_as_pairs(pool):
    pool.add(KEY, pooled())
    assert pool.find(KEY).result.halves == {"weight": {"PA.0": (0.25, 0.5)}}


def test_weights_come_back_only_if_they_are_wanted(pool):
    pool.add(KEY, pooled(weights=WEIGHTS))
    assert pool.find(KEY, with_weights=True) == pooled(weights=WEIGHTS)
    assert pool.find(KEY) == pooled()


def test_a_job_without_weights_does_not_serve_those_who_need_them_and_gets_them_later(pool):
    pool.add(KEY, pooled())
    assert pool.find(KEY, with_weights=True) is None
    pool.add(KEY, pooled(weights=WEIGHTS))
    assert pool.find(KEY, with_weights=True).weights == WEIGHTS
    pool.add(KEY, pooled())
    assert pool.find(KEY, with_weights=True).weights == WEIGHTS
    assert pool.said == []


def test_the_first_writer_wins(pool):
    pool.add(KEY, pooled(0.5))
    pool.add(KEY, pooled(0.25))
    assert pool.find(KEY) == pooled(0.5)


# --- many writers


def _write_and_read(folder, number, barrier, queue):
    pool = Pool(Path(folder))
    barrier.wait()
    found = []
    for round_ in range(20):
        key = sha256(str(round_).encode()).hexdigest()
        pool.add(key, pooled(number, weights=f"{number}".encode() * 1000))
        job = pool.find(key, with_weights=True)
        found.append((job.result.metrics["loss"], job.weights[:1].decode()))
    queue.put((found, pool.said))


def test_writers_at_once_all_see_a_whole_job_and_its_own_weights(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(4), context.Queue()
    writers = [context.Process(target=_write_and_read, args=(str(tmp_path), n, barrier, queue)) for n in range(4)]
    for writer in writers:
        writer.start()
    outcomes = [queue.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    assert [said for _, said in outcomes] == [[]] * 4
    # the first one won, for everybody
    assert len({tuple(found) for found, _ in outcomes}) == 1
    assert all(loss == int(weights) for loss, weights in outcomes[0][0])
    assert not [name for name in files_under(tmp_path) if name.endswith(".tmp")]


# --- damage


@settings(max_examples=60)
@given(data=st.data())
def test_any_damage_is_told_in_one_line_ignored_and_mended(tmp_path_factory, data):
    pool = Pool(tmp_path_factory.mktemp("pool"))
    pool.add(KEY, pooled(weights=WEIGHTS))
    file = pool.folder / data.draw(st.sampled_from(files_under(pool.folder)))
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    file.write_bytes(data.draw(st.sampled_from([flipped, content[:at], content + b"x"])))
    assert pool.find(KEY, with_weights=True) is None
    (line,) = pool.said
    assert "is damaged" in line and "\n" not in line
    pool.add(KEY, pooled(weights=WEIGHTS))
    assert pool.find(KEY, with_weights=True) == pooled(weights=WEIGHTS)
    assert len(pool.said) == 1


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b'{"result": {}}', b'{"result": {"parameters": "many"}}', b"\xff"]
)
def test_an_intact_file_of_something_else_is_damage(pool, content):
    pool.add(KEY, pooled())
    (name,) = files_under(pool.folder)
    (pool.folder / name).write_bytes(sha256(content).hexdigest().encode() + b"\n" + content)
    assert pool.find(KEY) is None
    assert "is damaged" in pool.said[0]


def test_an_entry_cannot_name_files_elsewhere(pool):
    pool.add(KEY, pooled(weights=WEIGHTS))
    file = next(pool.folder / name for name in files_under(pool.folder) if KEY in name)
    entry = json.loads(file.read_bytes().partition(b"\n")[2]) | {"weights": "../../secret"}
    body = json.dumps(entry).encode()
    file.write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)
    assert pool.find(KEY, with_weights=True) is None
    assert "is damaged" in pool.said[0]


def test_weights_that_somebody_has_deleted_are_missing_and_come_back(pool):
    pool.add(KEY, pooled(weights=WEIGHTS))
    (pool.folder / next(n for n in files_under(pool.folder) if KEY not in n)).unlink()
    assert pool.find(KEY, with_weights=True) is None
    assert pool.find(KEY) == pooled()
    pool.add(KEY, pooled(weights=WEIGHTS))
    assert pool.find(KEY, with_weights=True).weights == WEIGHTS


# --- a pool that cannot be used


@only_on_a_disk
def test_a_pool_that_cannot_be_written_is_left_alone_after_one_line(pool):
    pool.folder.write_text("a file where the folder should be")
    for _ in range(3):
        pool.add(KEY, pooled())
        assert pool.find(KEY) is None
    (line,) = pool.said
    assert line.startswith(f"the pool of finished jobs {pool.folder} cannot be used (")
    assert line.endswith("continuing without it") and "resume" not in line


def test_a_bucket_that_does_not_exist_is_left_alone_after_one_line(bucket):
    pool = Pool(open_path("s3://no-such-bucket-at-all/pool"))
    pool.add(KEY, pooled())
    assert pool.find(KEY) is None
    assert len(pool.said) == 1


# --- which pool


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of the test's own, without settings."""
    for name in ("PRUNEPEFT_POOL", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def never(line):
    raise AssertionError(line)


def test_the_default_is_in_the_users_cache(home, monkeypatch):
    assert find_pool(None, False, never) == str(home / ".cache" / "prunepeft" / "jobs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert find_pool(None, False, never) == str(home / "elsewhere" / "prunepeft" / "jobs")


def test_on_a_shared_cluster_there_is_none_unless_it_is_named(home, monkeypatch):
    assert find_pool(None, True, never) is None
    assert find_pool(str(home / "pool"), True, never) == str(home / "pool")
    monkeypatch.setenv("PRUNEPEFT_POOL", str(home / "set"))
    assert find_pool(None, True, never) == str(home / "set")


def test_off_is_none_and_the_option_precedes_the_variable(home, monkeypatch):
    monkeypatch.setenv("PRUNEPEFT_POOL", "off")
    assert find_pool(None, False, never) is None
    assert find_pool(str(home / "pool"), False, never) == str(home / "pool")
    monkeypatch.setenv("PRUNEPEFT_POOL", str(home / "set"))
    assert find_pool("off", False, never) is None


def test_a_relative_folder_is_made_absolute_and_a_home_is_expanded(home, monkeypatch):
    monkeypatch.chdir(home)
    assert find_pool("pool", False, never) == str(home / "pool")
    assert find_pool("~/pool", False, never) == str(home / "pool")


def test_a_named_pool_that_is_a_file_is_wrong_input(home):
    (home / "file").touch()
    with pytest.raises(InputError, match=r"--pool .*file cannot be used \(.*choose another folder, or --no-pool"):
        find_pool(str(home / "file"), False, never)


def test_a_cache_that_cannot_be_used_is_told_and_done_without(home):
    (home / ".cache").touch()
    said = []
    assert find_pool(None, False, said.append) is None
    assert len(said) == 1 and "continuing without it" in said[0]


def test_a_bucket_is_a_pool_if_it_exists(bucket):
    assert find_pool(f"{bucket}/pool", True, never) == f"{bucket}/pool"
    with pytest.raises(InputError, match="no such bucket"):
        find_pool("s3://no-such-bucket-at-all/pool", True, never)
