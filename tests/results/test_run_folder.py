import errno
import json
import os
import threading
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_fakes import SPEC

from prunepeft_ray.config import SearchSpec, load_spec
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.results import RunFolder
from prunepeft_ray.storage.paths import open_path

FULL = SPEC.model_copy(update={"seed": 7, "budget": "1.5M"})


def spec_with(**changes):
    return SearchSpec.model_validate(SPEC.model_dump() | changes)


def test_a_new_run_can_be_opened_again(tmp_path):
    made = RunFolder.create(tmp_path / "a" / "run", FULL)
    opened = RunFolder.open(tmp_path / "a" / "run")
    assert opened == made
    assert opened.spec == FULL
    assert [file.name for file in opened.path.iterdir()] == ["spec.yaml"]


def test_an_empty_folder_is_good_for_a_new_run(tmp_path):
    assert RunFolder.create(tmp_path, FULL).spec == FULL


@settings(max_examples=30)
@given(
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
    rate=st.floats(1e-300, 1e300),
    ranks=st.integers(1, 9) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    threshold=st.none() | st.floats(1e-12, 1.0),
)
def test_every_spec_comes_back_from_its_yaml(tmp_path_factory, name, rate, ranks, threshold):
    spec = spec_with(
        model=name,
        task={"name": name, "text": name, "seed": -3},
        training={"learning_rates": {"PA": rate}},
        space={"rank": ranks},
        pruning={"blocks": (0.25, 0.5), "threshold": threshold},
    )
    folder = RunFolder.create(tmp_path_factory.mktemp("run"), spec)
    assert RunFolder.open(folder.path).spec == spec
    assert load_spec(folder.path / "spec.yaml") == spec


def test_the_spec_in_the_folder_has_every_default_written_out(tmp_path):
    text = (RunFolder.create(tmp_path, SPEC).path / "spec.yaml").read_text()
    assert "round_epochs: 1" in text
    assert "bottleneck: 128" in text


def test_the_run_id_is_that_of_the_spec_wherever_it_lies(tmp_path):
    first, second = RunFolder.create(tmp_path / "a", SPEC), RunFolder.create(tmp_path / "b", SPEC)
    assert first.run_id == second.run_id == RunFolder.open(first.path).run_id
    assert len(first.run_id) == 12
    assert set(first.run_id) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"budget": "2%"}, {"model": "other"}, {"pruning": {"rounds": 4}}, {"task": {"name": "sst2"}}],
)
def test_another_spec_has_another_run_id(tmp_path, change):
    ids = {RunFolder.create(tmp_path / str(i), spec).run_id for i, spec in enumerate((SPEC, spec_with(**change)))}
    assert len(ids) == 2


# --- refusals


def assert_refused(path, *words):
    before = sorted(str(file) for file in path.parent.rglob("*"))
    with pytest.raises(InputError) as caught:
        RunFolder.create(path, SPEC)
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(str(file) for file in path.parent.rglob("*")) == before


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    assert_refused(tmp_path / "run", "is a file; choose a folder")
    assert (tmp_path / "run").read_text() == "mine"


def test_another_run_is_refused_and_left_alone(tmp_path):
    RunFolder.create(tmp_path / "run", FULL)
    assert_refused(tmp_path / "run", f"prunepeft resume {tmp_path / 'run'}")
    assert RunFolder.open(tmp_path / "run").spec == FULL


@pytest.mark.parametrize("name", ["thesis.docx", ".git"])
def test_a_folder_with_other_things_is_refused(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("")
    assert_refused(tmp_path / "run", "not empty")


def test_what_a_killed_search_left_of_its_spec_does_not_stand_in_the_way(tmp_path):
    (tmp_path / ".spec.yaml.0123.tmp").write_text("model: pack")
    assert RunFolder.create(tmp_path, SPEC).spec == SPEC


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        RunFolder.create(tmp_path / "file" / "run", SPEC)


def test_a_parent_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def denied(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    assert_refused(tmp_path / "run", "Permission denied", "choose another folder")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert_refused(tmp_path / "run", "Permission denied")


def test_of_two_searches_that_begin_in_one_folder_only_one_gets_it(tmp_path):
    barrier, got = threading.Barrier(4), []

    def begin(seed):
        barrier.wait()
        try:
            got.append(RunFolder.create(tmp_path / "run", spec_with(seed=seed)))
        except InputError:
            return

    threads = [threading.Thread(target=begin, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["spec.yaml"]


def test_a_search_that_comes_a_moment_later_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("prunepeft_ray.results.run.write_whole", lambda *_args, **_kwargs: False)
    with pytest.raises(InputError, match="contains another run"):
        RunFolder.create(tmp_path / "run", SPEC)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_a_run_cannot_be_opened(tmp_path, name):
    with pytest.raises(InputError, match=r"does not contain a run.*spec\.yaml"):
        RunFolder.open(tmp_path / name)


@pytest.mark.parametrize("content", [b"model: [", b"- a\n", b"\xff\xfe", b"modell: x\n", b"model: x\n", b""])
def test_a_damaged_spec_is_told_with_its_file(tmp_path, content):
    (tmp_path / "spec.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"spec\.yaml"):
        _ = RunFolder.open(tmp_path).spec


# --- the answer


def test_a_run_is_finished_only_with_its_architecture(tmp_path):
    folder = RunFolder.create(tmp_path, SPEC)
    folder.adapter.mkdir()
    folder.write_json("strategy.json", {})
    assert not folder.finished
    folder.write_json("architecture.json", {"slots": []})
    assert folder.finished


def test_json_comes_back_and_can_be_replaced(tmp_path):
    folder = RunFolder.create(tmp_path, SPEC)
    assert folder.read_json("strategy.json") is None
    for data in ({"größe": 1.5, "b": [1, None]}, {"a": 2}):
        folder.write_json("strategy.json", data)
        assert folder.read_json("strategy.json") == data
    assert sorted(file.name for file in tmp_path.iterdir()) == ["spec.yaml", "strategy.json"]


def test_json_that_cannot_be_written_leaves_the_old_one_whole(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path, SPEC)
    folder.write_json("strategy.json", {"a": 1})

    def no_space(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(RunError, match=r"strategy\.json cannot be written \(No space left"):
            folder.write_json("strategy.json", {"a": 2})
    with pytest.raises(TypeError):
        folder.write_json("strategy.json", {"a": object()})
    assert folder.read_json("strategy.json") == {"a": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["spec.yaml", "strategy.json"]


@pytest.mark.parametrize("content", [b"", b'{"slots": [', b"\xff"])
def test_damaged_json_is_told_with_its_file(tmp_path, content):
    folder = RunFolder.create(tmp_path, SPEC)
    (tmp_path / "architecture.json").write_bytes(content)
    with pytest.raises(InputError, match=r"architecture\.json is damaged"):
        folder.read_json("architecture.json")


def test_what_is_written_is_plain_json(tmp_path):
    folder = RunFolder.create(tmp_path, SPEC)
    folder.write_json("a.json", {"b": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1.5]}


# --- in a bucket


@pytest.fixture
def in_bucket(bucket):
    return open_path(f"{bucket}/runs/one")


def test_a_run_in_a_bucket_can_be_opened_again(in_bucket):
    RunFolder.check_free(in_bucket)
    made = RunFolder.create(in_bucket, FULL)
    opened = RunFolder.open(open_path(str(in_bucket)))
    assert (opened, opened.spec, opened.run_id) == (made, FULL, made.run_id)
    assert not opened.finished
    for data in ({"a": 1}, {"größe": 1.5}):
        opened.write_json("architecture.json", data)
        assert opened.read_json("architecture.json") == data
    assert opened.finished
    assert opened.read_json("strategy.json") is None
    # one run beside another
    assert RunFolder.create(in_bucket.parent / "on", SPEC).spec == SPEC


def assert_bucket_refused(path, *words):
    for call in (RunFolder.check_free, lambda path: RunFolder.create(path, SPEC)):
        with pytest.raises(InputError) as caught:
            call(path)
        for word in (str(path), *words):
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_is_in_a_bucket_already_is_left_alone(in_bucket):
    RunFolder.create(in_bucket, FULL)
    assert_bucket_refused(in_bucket, f"prunepeft resume {in_bucket}")
    assert_bucket_refused(in_bucket.parent, "is not empty")
    assert_bucket_refused(in_bucket / "spec.yaml", "is a file; choose a folder")
    assert_bucket_refused(open_path("s3://nowhere-at-all/run"), "no such bucket")
    assert RunFolder.open(in_bucket).spec == FULL
    with pytest.raises(InputError, match="does not contain a run"):
        RunFolder.open(in_bucket.parent)


def test_of_two_searches_that_begin_at_one_place_of_a_bucket_only_one_gets_it(in_bucket):
    barrier, got = threading.Barrier(4), []

    def begin(seed):
        barrier.wait()
        with suppress(InputError):
            got.append((seed, RunFolder.create(in_bucket, spec_with(seed=seed))))

    threads = [threading.Thread(target=begin, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((seed, folder),) = got
    assert folder.spec.seed == seed


@pytest.mark.parametrize("content", [b"model: [", b"\xff\xfe", b"modell: x\n"])
def test_a_damaged_spec_in_a_bucket_is_told_with_its_file(in_bucket, content):
    (in_bucket / "spec.yaml").write_bytes(content)
    with pytest.raises(InputError, match=rf"{in_bucket}/spec\.yaml"):
        _ = RunFolder.open(in_bucket).spec
