"""Whatever a cluster or a folder says, nothing is written outside the run's folder, and no job is taken for another."""

import gzip
import io
import json
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_fakes import a_submission, ray_details

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.service import client as client_module
from prunepeft_ray.service import fetch as fetching
from prunepeft_ray.service import unpacking
from prunepeft_ray.service.attempts import start
from prunepeft_ray.service.client import Client
from prunepeft_ray.service.gate import LONGEST_TEXT
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.service.status import Status
from prunepeft_ray.service.submission import METADATA_KEY, Submission, submission_of
from prunepeft_ray.service.unpacking import unpack
from prunepeft_ray.storage.files import check_name, copy_files

HOSTILE_IDS = [
    "demo-1/../../X",
    "../demo-3f2a",
    "/etc/demo-3f2a",
    "demo-3f2a\n",
    "demo-3f2a;reboot",
    "demo-3f2a$(id)",
    "--help-3f2a",
    "demo-3f2a/",
    ".demo-3f2a",
    "Demo-3f2a",
    "démo-3f2a",
    "demo\x00-3f2a",
    "d" * 100 + "-3f2a",
    "",
]
HOSTILE_NAMES = [
    "../outside",
    "results/../../outside",
    "/outside",
    "results//x",
    "./x",
    "..",
    "",
    "a\x1b[2J",
    "a\nb",
    "x\u202egnp",
    "n" * 300,
    "/".join(["deep"] * 300),
]


def metadata(**changes):
    """A submission's metadata as an attacker may write it."""
    return json.dumps(json.loads(a_submission().to_json()) | changes)


class Server:
    """A job server that knows one job, whose metadata and archive are somebody else's."""

    address = "http://head:8265"

    def __init__(self, text, archive=b""):
        self.details = ray_details(a_submission(output="/nowhere/at/all"))
        self.details.metadata = {METADATA_KEY: text}
        self.archive, self.commands = archive, []

    def jobs(self):
        return [self.details]

    def job(self, helper):
        return self.details

    def log_end(self, details, lines):
        return "packed\n"

    def submit(self, helper, entrypoint, meta, environment):
        self.commands.append(entrypoint)

    def log_file(self, node, name):
        return self.archive

    def stop(self, helper):
        pass


def connected(server, monkeypatch):
    monkeypatch.setattr(client_module, "find_cluster", lambda address: (address, None))
    monkeypatch.setattr(client_module, "JobServer", lambda address, token: server)
    return Client("http://head:8265")


def archive_of(*members, content=b"x"):
    """A gzipped tar archive of files, or of members made by hand."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member in members:
            found = tarfile.TarInfo(member) if isinstance(member, str) else member
            found.size = len(content) if found.isreg() else 0
            tar.addfile(found, io.BytesIO(content) if found.isreg() else None)
    return out.getvalue()


def special(kind, link=""):
    member = tarfile.TarInfo("results/odd")
    member.type, member.linkname = kind, link
    return member


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("job", HOSTILE_IDS)
def test_a_job_whose_id_is_none_is_not_fetched(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = Server(metadata(job=job, output="/nowhere/at/all"), archive_of("spec.yaml"))
    client = connected(server, monkeypatch)
    assert client.jobs() == []
    with pytest.raises(InputError):
        client.fetch(job)
    assert server.commands == []
    assert everything(tmp_path) == []


@given(
    st.dictionaries(
        st.sampled_from(sorted(Submission.__dataclass_fields__)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=3),
        max_size=5,
    )
)
def test_a_submission_is_whole_or_it_is_none(changes):
    found = submission_of(SimpleNamespace(metadata={METADATA_KEY: metadata(**changes)}))
    if found is not None:
        assert set(found.job) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert found.output.startswith("/") or "://" in found.output
        assert found.kind in ("search", "study")
        assert -10 <= found.priority <= 10
        assert all(len(text) <= LONGEST_TEXT + 3 for text in (found.name, found.owner, found.version))
        assert submission_of(SimpleNamespace(metadata={METADATA_KEY: found.to_json()})) == found


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": -1},
        {"attempt": "1; reboot"},
        {"kind": "other"},
        {"output": "runs/demo"},
        {"output": "--help"},
        {"output": "/shared/\x1b[2J"},
        {"output": "/" + "x" * 5000},
        {"priority": 1e9},
        {"cpus": float("nan")},
        {"cpus": -1.0},
        {"track": ["a/b"]},
        {"track": ["a"] * 100},
        {"owner": ["a"]},
        {"resumes": "yes"},
    ],
)
def test_a_submission_with_a_field_that_makes_no_sense_is_none_of_ours(changes):
    with pytest.raises(ValueError, match=f"^{next(iter(changes))}"):
        Submission.from_json(metadata(**changes))


def test_texts_for_people_become_one_short_line():
    found = Submission.from_json(metadata(owner="\x1b]0;X\x07\nann", name="n" * 10**6))
    assert found.owner == "\\x1b]0;X\\x07\\nann"
    assert len(found.name) == LONGEST_TEXT + 3
    said = Status.read(Status.MARK + json.dumps({"state": "running", "progress": "a\x1b[2J\nb"}))
    assert said.progress == "a\\x1b[2J\\nb"
    assert Status.read(Status.MARK + json.dumps({"state": "\x1b"})) is None
    assert Status.read(Status.MARK + "[" * 100_000) is None


def test_what_could_not_be_read_back_is_not_submitted():
    server = Server(metadata())
    with pytest.raises(InputError, match="cannot be submitted: output: "):
        start(server, a_submission(output="/a\nb"), ship_code=False)
    start(server, a_submission(owner="\x1b]0;X\x07"), ship_code=False)
    assert "x1b]0;X" in server.commands[0]
    assert "\x1b" not in server.commands[0]


def test_the_file_in_a_folder_goes_through_the_same_gate(tmp_path):
    RunOwner("demo-3f2a", "demo", "ann", "search", "", "").take(tmp_path)
    file = tmp_path / "submission.json"
    good = json.loads(file.read_text())
    for change in ({"job": "../x"}, {"kind": "x"}, {"gpus": "all"}, {"spec": 1}):
        file.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=f"cannot be read: {next(iter(change))}: "):
            RunOwner.read(tmp_path)
    file.write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read"):
        RunOwner.read(tmp_path)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_of_files_that_lead_elsewhere_are_refused_before_anything_is_written(name, tmp_path):
    with pytest.raises(RunError, match="does not stay within the folder"):
        check_name(name)
    home = tmp_path / "home"
    if name:
        with pytest.raises(RunError):
            unpack(archive_of("spec.yaml", name), home, lambda name: True)
    with pytest.raises(RunError):
        copy_files(tmp_path, home, ["spec.yaml", name])
    assert everything(tmp_path) == []


@given(st.text(max_size=40))
def test_a_name_that_is_let_through_stays_within_the_folder(name):
    try:
        check_name(name)
    except RunError:
        return
    assert not name.startswith("/")
    assert not {"", ".", ".."} & set(name.split("/"))


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, "../../outside"),
        special(tarfile.SYMTYPE, "spec.yaml"),
        special(tarfile.LNKTYPE, "spec.yaml"),
        special(tarfile.FIFOTYPE),
        special(tarfile.CHRTYPE),
        special(tarfile.BLKTYPE),
    ],
    ids=lambda member: f"{member.type!r}",
)
def test_links_and_devices_are_refused_before_anything_is_written(member, tmp_path):
    with pytest.raises(RunError, match="not a regular file"):
        unpack(archive_of("spec.yaml", member), tmp_path / "home", lambda name: True)
    assert everything(tmp_path) == []


def test_a_link_that_lies_in_the_way_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "home/spec.yaml").symlink_to(tmp_path / "mine")
    unpack(archive_of("spec.yaml"), tmp_path / "home", lambda name: True)
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "home/spec.yaml").read_text() == "x"


def test_size_and_number_of_what_is_unpacked_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_BYTES", 2**22)
    monkeypatch.setattr(unpacking, "MAX_FILES", 3)
    with pytest.raises(RunError, match="larger than"):
        unpack(archive_of("bomb", content=bytes(2**23)), tmp_path / "home", lambda name: True)
    with pytest.raises(RunError, match="larger than"):
        unpack(archive_of(*"abc", content=bytes(2**21)), tmp_path / "home", lambda name: True)
    with pytest.raises(RunError, match="more than 3 files"):
        unpack(archive_of(*"abcd"), tmp_path / "home", lambda name: True)
    assert everything(tmp_path) == []


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_stands_for_any_amount_of_memory_is_refused(kind, tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 2**26
    archive = gzip.compress(header.tobuf() + bytes(2**26), compresslevel=1)
    with pytest.raises(RunError, match="larger than"):
        unpack(archive, tmp_path / "home", lambda name: True)


def test_hidden_and_compiled_files_are_left_out(tmp_path):
    names = (".git/config", "inputs/__pycache__/a.pyc", "inputs/a.pyc", "inputs/.x", "checkpoints/a", "inputs/a.py")
    unpack(archive_of(*names), tmp_path, fetching._is_wanted)
    assert everything(tmp_path) == ["inputs", "inputs/a.py"]


@pytest.mark.parametrize("place", ["http://127.0.0.1:1/x", "github://org:repo@main/", "ftp://host/x"])
def test_the_worlds_servers_are_not_asked_because_a_cluster_names_them(place, monkeypatch):
    monkeypatch.setattr(fetching, "open_path", lambda place: pytest.fail("asked"))
    submission = replace(a_submission(), output=place)
    assert not fetching.is_here(SimpleNamespace(submission=submission, id=submission.job))
