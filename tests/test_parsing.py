import json
import resource
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepeft_ray.cluster.local.state import LocalCluster
from prunepeft_ray.config import load_spec
from prunepeft_ray.errors import MAX_MESSAGE, InputError
from prunepeft_ray.parsing import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_json, parse_yaml, read_small
from prunepeft_ray.results import RunFolder
from prunepeft_ray.results.writer_lease import Record
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.service.status import Status
from prunepeft_ray.service.submission import Submission
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.study import load_study

LEVELS = "abcdefghi"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in pairwise(LEVELS)
)
"""A thousand million values in 600 bytes."""
DEEP = "[" * 100_000 + "]" * 100_000


def test_what_is_within_bounds_is_read():
    assert parse_yaml("a: &x [1, 2.5]\nb: *x\n<<: {c: yes}\n") == {"a": [1, 2.5], "b": [1, 2.5], "c": True}
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(deepest) == parse_json(deepest)
    many = json.dumps([0] * (MAX_VALUES - 1))
    assert parse_yaml(many) == parse_json(many)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 100,000 values, including those repeated by aliases"),
        ("a: &a [*a]", "the alias *a refers to a value that contains it"),
        ("a: &a {b: *a}", "the alias *a refers to a value that contains it"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than 64 levels"),
        (DEEP, "nested deeper than 64 levels"),
        ("[" + "0," * MAX_VALUES + "]", "more than 100,000 values"),
        ("1" + ":59" * 100_000, "a number of 300,001 characters"),
        ("1" + ":59" * 100_000 + ".5", "a number of 300,003 characters"),
        ("0x" + "f" * 9000, "a number of 9,002 characters"),
    ],
    ids=lambda text: text if len(text) < 60 else text[:12],
)
def test_yaml_beyond_a_bound_is_refused_at_once(text, reason):
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"^\S") as caught:
        parse_yaml(text)
    assert reason.replace("*", "") in str(caught.value).replace("*", "")
    assert time.process_time() - begin < 20


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DEEP, "nested deeper than 64 levels"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than 64 levels"),
        (json.dumps([0] * MAX_VALUES), "more than 100,000 values"),
        ('"' + "x" * MAX_BYTES + '"', "larger than 4 MiB"),
        ("1" * 5000, "digits"),
    ],
    ids=["deep", "just too deep", "wide", "large", "number"],
)
def test_json_beyond_a_bound_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


@given(st.text(alphabet="&*abc[]{}:,- \n'\"|>!?%@#01.x~<", max_size=60))
def test_yaml_of_any_kind_is_read_or_refused_in_one_line(text):
    try:
        parse_yaml(text)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_only_small_files_are_read(tmp_path, bucket, place):
    folder = tmp_path if place == "disk" else open_path(bucket)
    (folder / "small").write_bytes(b"x" * MAX_BYTES)
    (folder / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    assert len(read_small(folder / "small")) == MAX_BYTES
    with pytest.raises(ValueError, match="larger than 4 MiB"):
        read_small(folder / "large")


def test_a_device_without_end_is_refused_as_settings():
    with pytest.raises(InputError, match="larger than 4 MiB"):
        load_spec(open_path("/dev/zero"))


def refusals(folder):
    """Every reader of settings and notes, with a file of its own that holds too much."""
    bomb, deep = folder / "bomb.yaml", folder / "deep.json"
    bomb.write_text(f"{BOMB}model: m\ntask: t\nbudget: 1%\nseed: *i\n", encoding="utf-8")
    deep.write_text(DEEP, encoding="utf-8")
    (folder / "submission.json").write_text(DEEP, encoding="utf-8")
    (folder / "spec.yaml").write_text(BOMB, encoding="utf-8")
    study = folder / "study.yaml"
    study.write_text(
        "methods: [{name: m, options: {strategy: deep.json}}]\ntasks: [t]\nmodels: [m]\nbudget: 1%\n", encoding="utf-8"
    )
    run = RunFolder.open(folder)
    yield "spec", lambda: load_spec(bomb)
    yield "study", lambda: load_study(bomb)
    yield "file of an option", lambda: load_study(study)
    yield "setting", lambda: load_spec(None, {}, [f"seed={BOMB[3:30]}{DEEP}"])
    yield "key of a setting", lambda: load_spec(None, {"task": "t", "budget": "1%"}, [f"model{'.a' * 50_000}=1"])
    yield "run", lambda: run.spec
    yield "kind of a run", lambda: run.is_study
    yield "file of a run", lambda: run.read_json("deep.json")
    yield "attempt", lambda: Record.read(deep)
    yield "owner", lambda: RunOwner.read(folder)
    yield "cluster", lambda: LocalCluster.read(deep)


def test_whatever_reads_settings_or_notes_refuses_too_much_in_one_line(tmp_path):
    for name, read in refusals(tmp_path):
        with pytest.raises(InputError) as caught:
            read()
        assert "\n" not in str(caught.value), name
        assert len(str(caught.value)) <= MAX_MESSAGE, name


def test_what_a_cluster_says_of_jobs_is_read_within_bounds():
    with pytest.raises(ValueError, match=r"nested deeper|recursion limit"):
        Submission.from_json(DEEP)
    assert Status.read(Status.MARK + DEEP) is None


def test_a_spec_of_nested_aliases_is_refused_with_little_memory(tmp_path):
    (tmp_path / "spec.yaml").write_text(f"{BOMB}model: m\ntask: t\nbudget: 1%\nseed: *i\n", encoding="utf-8")
    memory = 8 * 2**30
    done = subprocess.run(
        [sys.executable, "-m", "prunepeft_ray", "search", "--config", str(tmp_path / "spec.yaml")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "more than 100,000 values" in done.stderr
