"""Ray's folder on this machine is private, its name short enough for sockets, and it is gone at the end."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from prunepeft_ray.cluster import ray_folder
from prunepeft_ray.cluster import session as local_ray
from prunepeft_ray.cluster.ray_folder import LONGEST_BASE, make_ray_folder
from prunepeft_ray.errors import RunError

LONGEST_SOCKET = "session_2026-11-29_08-06-00_617543_4194304/sockets/plasma_store"
MOST_CHARACTERS = 107


@pytest.fixture
def base(monkeypatch):
    """The temporary folder of this process, with a short name."""
    with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as folder:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_it_is_made_where_temporary_files_belong_and_is_private(base):
    folder = make_ray_folder()
    assert folder.parent == base
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_user_says_where(base, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert make_ray_folder().parent == base


@pytest.mark.parametrize("length", [LONGEST_BASE, LONGEST_BASE + 1, 130])
def test_sockets_fit_into_it_whatever_the_temporary_folder_is_called(base, monkeypatch, length):
    named = base / ("t" * (length - len(f"{base}/")))
    named.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(named))
    folder = make_ray_folder()
    assert (folder.parent == named) is (length == LONGEST_BASE)
    assert len(f"{folder}/32/{LONGEST_SOCKET}") <= MOST_CHARACTERS
    folder.rmdir()


def test_without_a_folder_that_can_be_written_it_is_said_what_to_set(base, monkeypatch):
    def fails(**_where):
        raise PermissionError

    monkeypatch.setattr(tempfile, "mkdtemp", fails)
    with pytest.raises(RunError, match="set RAY_TMPDIR"):
        make_ray_folder()


def test_a_start_of_ray_that_fails_leaves_nothing(base, monkeypatch):
    def fails(**options):
        assert Path(options["_temp_dir"]).parents[1] == base
        raise RuntimeError("Failed to start GCS")

    monkeypatch.setattr("ray.init", fails)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr(local_ray, "_require_token", lambda: None)
    with pytest.raises(RunError, match="Failed to start GCS"), local_ray.ray_cluster(None, 1):
        pass
    assert list(base.iterdir()) == []


HOLD_AND_DIE = """
import os, signal
from prunepeft_ray.cluster.ray_folder import ray_folder
with ray_folder() as folder:
    (folder / "session").mkdir(parents=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else_is(base, monkeypatch):
    subprocess.run([sys.executable, "-c", HOLD_AND_DIE], env=os.environ | {"TMPDIR": str(base)}, check=False)
    (left,) = base.iterdir()
    clusters, others = make_ray_folder(), base / "prunepeft-notes"
    others.touch()
    with ray_folder.ray_folder() as in_use, ray_folder.ray_folder() as young:
        living = {clusters, others, in_use.parent, young.parent}
        assert set(base.iterdir()) == living | {left}
        monkeypatch.setattr(ray_folder, "STALE_SECONDS", 0)
        with ray_folder.ray_folder() as another:
            assert set(base.iterdir()) == living | {another.parent}
    assert set(base.iterdir()) == {clusters, others}


WRITE_FOR_A_WHILE = """
import sys, time
from pathlib import Path
for number in range(100):
    (Path(sys.argv[1]) / str(number)).touch()
    time.sleep(0.01)
"""


def test_processes_that_end_slowly_do_not_keep_it(base):
    with ray_folder.ray_folder() as folder:
        folder.mkdir()
        command = [sys.executable, "-c", WRITE_FOR_A_WHILE, str(folder)]
        slow = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not list(folder.iterdir()):
            pass
    assert list(base.iterdir()) == []
    assert slow.wait() != 0
