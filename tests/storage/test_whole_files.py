"""Whole files, and the first writer, on a disk and in a bucket."""

import threading
import uuid

import pytest
from botocore.exceptions import ClientError

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.storage import files, write_whole
from prunepeft_ray.storage.paths import open_path, put_object


@pytest.fixture(params=["disk", "memory", "bucket"])
def place(request, tmp_path):
    if request.param == "bucket":
        return open_path(f"{request.getfixturevalue('bucket')}/deep/place")
    return open_path(f"memory://{uuid.uuid4().hex}/place") if request.param == "memory" else tmp_path / "deep" / "place"


@pytest.fixture
def file(bucket):
    return open_path(f"{bucket}/place/file")


def test_the_first_writer_wins_unless_files_are_replaced(place):
    file = place / "file.json"
    assert write_whole(file, b"one", replace=False)
    assert not write_whole(file, b"two", replace=False)
    assert file.read_bytes() == b"one"
    assert write_whole(file, b"three", replace=True)
    assert write_whole(place / "new", b"four", replace=True)
    assert (file.read_bytes(), (place / "new").read_bytes()) == (b"three", b"four")
    assert sorted(one.name for one in place.iterdir()) == ["file.json", "new"]


def race(file, writers, size=0):
    barrier, won = threading.Barrier(writers), []

    def write(number):
        data = bytes([number]) * (size or 1)
        barrier.wait()
        if write_whole(file, data, replace=False):
            won.append(data)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert file.read_bytes() == winner


def test_of_many_writers_at_once_one_wins(place):
    for number in range(5):
        race(place / str(number), 8)


def no_looking(monkeypatch):
    """Let writers create without having looked, as if they came at the same moment."""
    monkeypatch.setattr(files, "is_file", lambda file: False)


def test_a_bucket_itself_refuses_the_second_writer(file, monkeypatch):
    no_looking(monkeypatch)
    assert write_whole(file, b"one", replace=False)
    assert not write_whole(file, b"two", replace=False)
    assert file.read_bytes() == b"one"


def test_a_large_object_is_created_by_one_writer_too(file, monkeypatch):
    no_looking(monkeypatch)
    pipe_file = file.fs._pipe_file
    # s3fs sends it in parts
    monkeypatch.setattr(file.fs, "_pipe_file", lambda *args, **kw: pipe_file(*args, chunksize=5 * 2**20, **kw))
    size = 11 * 2**20
    race(file, 2, size)
    before = file.read_bytes()
    assert len(before) == size
    assert not write_whole(file, bytes(size), replace=False)
    assert file.read_bytes() == before
    assert not file.fs.call_s3("list_multipart_uploads", Bucket=file.path.split("/")[0]).get("Uploads")


def refusing(monkeypatch, code, times=100):
    """A store that answers a conditional put with an error."""
    left = [times]

    def put(file, data, mode="overwrite"):
        if mode == "create" and left[0]:
            left[0] -= 1
            error = OSError(5, f"no: {code}")
            raise error from ClientError({"Error": {"Code": code, "Message": code}}, "PutObject")
        put_object(file, data, mode)

    monkeypatch.setattr(files, "put_object", put)


def test_a_store_without_conditional_puts_will_do(file, monkeypatch):
    refusing(monkeypatch, "NotImplemented")
    assert write_whole(file, b"one", replace=False)
    assert not write_whole(file, b"two", replace=False)
    assert file.read_bytes() == b"one"


def test_a_store_that_says_less_of_what_failed_is_understood(file, monkeypatch):
    refusing(monkeypatch, "PreconditionFailed")
    assert not write_whole(file, b"two", replace=False)


@pytest.mark.parametrize("times", [1, 3])
def test_two_puts_at_the_same_moment_are_tried_again(file, monkeypatch, times):
    refusing(monkeypatch, "ConditionalRequestConflict", times)
    assert write_whole(file, b"one", replace=False)
    assert file.read_bytes() == b"one"


def test_a_put_that_is_always_in_conflict_ends_in_one_line(file, monkeypatch):
    refusing(monkeypatch, "ConditionalRequestConflict")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(RunError, match="other processes keep writing"):
        write_whole(file, b"one", replace=False)


@pytest.mark.parametrize("replace", [True, False])
def test_a_bucket_that_cannot_be_written_is_told_in_one_line(file, monkeypatch, replace):
    def denied(*_args, **_kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(files, "put_object", denied)
    with pytest.raises(RunError, match=r"place/file cannot be written \(Access Denied\).*prunepeft resume") as caught:
        write_whole(file, b"one", replace=replace)
    assert "\n" not in str(caught.value)


def test_no_bucket_is_made_by_writing(s3_server):
    file = open_path("s3://nowhere-at-all/file")
    with pytest.raises(RunError, match="bucket does not exist"):
        write_whole(file, b"one", replace=True)
    with pytest.raises(InputError, match="no such bucket"):
        write_whole(file, b"one", replace=False)
