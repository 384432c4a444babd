"""The same looks, reads and writes on a disk, in memory and in a bucket; and what a user may write wrongly."""

import re
import socket
import sys
import time
import uuid
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3 import forget_connections

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.storage import paths
from prunepeft_ray.storage.paths import (
    is_file,
    is_folder,
    is_local,
    map_files,
    names,
    open_path,
    read_bytes,
    stamps,
    write_bytes,
)
from prunepeft_ray.text import MAX_STEM, file_stem


@pytest.fixture(params=["disk", "memory", "bucket"])
def place(request, tmp_path):
    """A folder that is not there yet."""
    if request.param == "bucket":
        return open_path(f"{request.getfixturevalue('bucket')}/deep/place")
    return open_path(f"memory://{uuid.uuid4().hex}/place") if request.param == "memory" else tmp_path / "deep" / "place"


def test_nothing_is_there_at_first(place):
    assert not is_file(place)
    assert not is_folder(place)
    assert names(place) == []
    with pytest.raises(FileNotFoundError):
        read_bytes(place / "file")


def test_what_is_written_is_there(place):
    write_bytes(place / "b.txt", b"\x00one")
    write_bytes(place / "a b[1]*.txt", b"two")
    write_bytes(place / "sub" / "c.txt", b"")
    assert is_folder(place)
    assert not is_file(place)
    assert is_file(place / "b.txt")
    assert not is_folder(place / "b.txt")
    assert not is_file(place / "b.tx")
    assert is_folder(place / "sub")
    assert names(place) == ["a b[1]*.txt", "b.txt", "sub"]
    assert names(place / "sub") == ["c.txt"]
    assert map_files(read_bytes, [place / name for name in names(place)[:2]]) == [b"two", b"\x00one"]
    write_bytes(place / "b.txt", b"new")
    assert read_bytes(place / "b.txt") == b"new"


def test_what_others_write_later_is_seen(place):
    write_bytes(place / "a", b"")
    assert names(place) == ["a"]
    assert not is_file(place / "b")
    same = open_path(str(place))
    write_bytes(same / "b", b"")
    assert is_file(place / "b")
    assert names(place) == ["a", "b"]


def test_a_file_that_has_been_replaced_has_another_stamp(place):
    assert stamps(place) == {}
    for name in ("b", "a"):
        write_bytes(place / name, b"one")
    before = stamps(place)
    assert list(before) == names(place) == ["a", "b"]
    assert stamps(place) == before
    write_bytes(place / "a", b"longer")
    after = stamps(place)
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]


def test_a_file_that_has_been_replaced_by_one_as_long_has_another_stamp(bucket, tmp_path):
    for place in (open_path(bucket) / "place", tmp_path):
        write_bytes(place / "a", b"one")
        before = stamps(place)
        # longer than the clock of a file system ticks
        time.sleep(0.05)
        write_bytes(place / "a", b"two")
        assert stamps(place) != before


def test_an_empty_object_in_the_name_of_a_folder_is_no_file_in_it(bucket):
    # what a bucket's web page makes of 'new folder'
    place = open_path(f"{bucket}/place")
    fsspec.filesystem("s3").pipe_file(f"{place}/".removeprefix("s3://"), b"")
    assert names(place) == []
    write_bytes(place / "a", b"")
    assert names(place) == ["a"]


def test_errors_of_readers_of_many_files_come_through(place):
    write_bytes(place / "a", b"")
    with pytest.raises(FileNotFoundError):
        map_files(read_bytes, [place / "a", place / "b"])


@pytest.mark.parametrize("text", ["runs/one", "/tmp/run", "packaged:x", "a:b/c", "C:", "", "..", "s3", "s3:x", "~x"])
def test_a_local_path_is_a_plain_one(text):
    assert open_path(text) == Path(text)
    assert open_path(Path(text)) == Path(text)
    assert is_local(open_path(text))


def test_file_urls_are_local_paths():
    assert open_path("file:///tmp/run") == Path("/tmp/run")


@pytest.mark.parametrize("text", ["s3://b/run", "s3://b/run/", "S3://b/run", "s3://b/run//"])
def test_a_url_of_a_bucket_is_kept_as_it_is_meant(text):
    path = open_path(text)
    assert str(path) == "s3://b/run"
    assert str(path / "a" / "b.json") == "s3://b/run/a/b.json"
    assert not is_local(path)
    assert open_path(path) == path


WRONG = {
    "s4://bucket/run": "unknown scheme 's4'",
    "ss3://bucket/run": "did you mean s3://?",
    "s3:/bucket/run": "expected a folder or a URL such as s3://BUCKET/FOLDER",
    "gs:/bucket/run": "gs://BUCKET/FOLDER",
    "s3://": "names no bucket",
    "s3:///run": "names no bucket",
    "://run": "neither a path nor a URL",
    "simplecache::s3://bucket/run": "neither a path nor a URL",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistyped_url_is_refused_in_one_line(text):
    with pytest.raises(InputError) as caught:
        open_path(text)
    assert WRONG[text] in str(caught.value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_url_that_pathlib_has_mangled_is_refused():
    with pytest.raises(InputError, match="or a URL such as s3://"):
        open_path(Path("s3://bucket/run"))


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_what_must_be_installed_is_named(monkeypatch, scheme, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    with pytest.raises(InputError, match=rf"pip install 'prunepeft-ray\[{extra}\]'"):
        open_path(f"{scheme}://bucket/run")


# --- buckets that cannot be reached


def assert_unreachable(url, *words, looks=(is_file, is_folder, names, read_bytes)):
    path, started = open_path(url), time.monotonic()
    for look in looks:
        with pytest.raises(RunError) as caught:
            look(path)
        for word in (f"{path} cannot be reached", "finished jobs are safe", "prunepeft resume", *words):
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(OSError):
        write_bytes(path, b"")
    assert time.monotonic() - started < 20


@pytest.fixture
def changed(s3_server, monkeypatch):
    """The environment, for changes; connections are made anew."""
    forget_connections()
    yield monkeypatch
    monkeypatch.undo()
    forget_connections()


def test_a_bucket_that_does_not_exist_is_named(s3_server):
    for look in (is_file, is_folder, names):
        with pytest.raises(InputError, match="there is no such bucket") as caught:
            look(open_path("s3://nowhere-at-all/run"))
        assert "s3://nowhere-at-all/run" in str(caught.value)


def test_an_endpoint_where_nobody_listens_is_told_at_once(changed):
    changed.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert_unreachable("s3://bucket/run", "http://127.0.0.1:9")


def test_an_endpoint_that_never_answers_is_given_up(changed):
    changed.setattr(paths, "ANSWER_SECONDS", 0.1)
    changed.setattr(paths, "PUT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        changed.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert_unreachable("s3://bucket/run", "timeout", looks=[names])


def test_missing_credentials_are_named(changed):
    changed.delenv("AWS_ACCESS_KEY_ID")
    changed.delenv("AWS_SECRET_ACCESS_KEY")
    assert_unreachable("s3://bucket/run", "Unable to locate credentials")


def test_denied_access_is_named(changed, bucket):
    def denied(*_args, **_kwargs):
        raise PermissionError("Access Denied")

    path = open_path(f"{bucket}/run")
    for call in ("info", "ls", "cat_file", "_pipe_file"):
        changed.setattr(path.fs, call, denied)
    assert_unreachable(f"{bucket}/run", "Access Denied")


def test_the_users_own_settings_of_a_bucket_win(changed):
    changed.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 77}})
    found = open_path("s3://bucket/run").fs.config_kwargs
    assert (found["read_timeout"], found["connect_timeout"]) == (77, paths.CONNECT_SECONDS)


def test_plain_names_make_the_names_of_files_as_they_are():
    for name in ("minilm", "a_b.csv", "a-b.csv", "packaged:trec", "1.3pct", "BERT-base"):
        assert file_stem(name) == name.replace(":", "-")
    assert file_stem("packaged:minilm", "sst2") == "packaged-minilm-sst2"


@given(st.lists(st.text(st.characters(codec=None)), min_size=2, max_size=2, unique=True))
def test_names_of_files_are_short_plain_and_no_others(names):
    found = [file_stem(name) for name in names]
    assert found[0] != found[1]
    for name in found:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)
        assert len(name) <= MAX_STEM


@given(st.lists(st.lists(st.text("ab-_.:", max_size=4), min_size=2, max_size=2).map(tuple), min_size=2, unique=True))
def test_names_of_files_tell_several_names_apart(pairs):
    assert len({file_stem(*pair) for pair in pairs}) == len(pairs)


def test_names_that_look_alike_or_are_long_get_a_digest():
    alike = ["a/b", "a b", "packaged-trec", "packaged:trec", "训练.csv", "测试.csv", "x" * 5000, "x" * 4999]
    assert len({file_stem(name) for name in alike}) == len(alike)
    assert re.fullmatch(r"a-b-[0-9a-f]{8}", file_stem("a/b"))
