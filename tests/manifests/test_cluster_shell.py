"""The shell of this repository: linted; the SLURM script run with two hosts in the place of SLURM's nodes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster_hosts import connected_hosts
from cluster_release import CLUSTER, ROOT

from prunepeft_ray.waiting import poll

SCRIPT = CLUSTER / "slurm" / "study.sbatch"
SHELL = [*sorted(CLUSTER.rglob("*.sh")), *sorted(CLUSTER.rglob("*.sbatch")), ROOT / ".ci" / "run"]

# each command of SLURM as far as the script uses it
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do
  [[ $1 == --nodelist=* ]] && node=${1#*=}
  shift
done
exec ip netns exec "${LAB_PREFIX}$node" "$@"
"""
SCONTROL = """#!/bin/bash
case "$1 $2" in
  "show hostnames") printf '%s\\n' head worker ;;
  requeue*) echo "requeued $2" ;;
esac
"""
STUDY = {
    "tasks": [{"name": "packaged:movie", "train_size": 400, "dev_size": 60, "test_size": 60}],
    "methods": ["random-search"],
    "budget": 1500,
    "space": {"rank": 4, "bottleneck": 4},
    "training": {"epochs": 10, "max_length": 32},
    "limits": {"evaluations": 6},
    "seeds": [0, 1],
}


def directives():
    text = SCRIPT.read_text(encoding="utf-8")
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(path):
    shellcheck = Path(sys.executable).parent / "shellcheck"
    found = subprocess.run([shellcheck, path], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_slurm_sees_every_directive():
    # it stops to look at the first command
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.rindex("\n#SBATCH") < text.index("\nset -euo")
    assert "--requeue" in directives()
    assert "--signal=B:USR1@180" in directives()


def test_the_slurm_script_never_stops_what_is_not_its_own():
    text = SCRIPT.read_text(encoding="utf-8")
    assert "ray stop" not in text
    assert "pkill" not in text


def test_the_slurm_script_says_how_it_is_called():
    done = subprocess.run(["bash", SCRIPT, "study.yaml"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "usage: sbatch study.sbatch STUDY.yaml OUTPUT\n")


@pytest.mark.slow
def test_a_study_under_slurm_is_queued_again_when_the_time_is_up_and_goes_on(tiny_bert):
    with connected_hosts() as (head, worker):
        (head.folder / "study.yaml").write_text(yaml.safe_dump(STUDY | {"models": [tiny_bert]}))
        environment = slurm(head)
        job, finished = environment["SLURM_JOB_ID"], head.folder / "out" / "results" / "jobs"

        def run(log):
            return head.start(["bash", str(SCRIPT), "study.yaml", "out"], environment, log)

        def nothing_is_left():
            return not head.processes() + worker.processes() and not list(head.folder.glob(".prunepeft-*"))

        others = set(Path("/tmp").glob("prunepeft-*"))
        try:
            batch = run("first.log")
            assert poll(lambda: any(finished.glob("*.parquet")) or batch.poll() is not None, seconds=300)
            assert batch.poll() is None, head.printed("first.log")
            (private,) = head.folder.glob(f".prunepeft-{job}.*")
            assert private.stat().st_mode & 0o777 == 0o700
            assert (private / "auth_token").stat().st_mode & 0o777 == 0o600
            (session,) = set(Path("/tmp").glob("prunepeft-*")) - others
            assert session.stat().st_mode & 0o777 == 0o700
            assert len((private / "auth_token").read_text()) == 64
            batch.send_signal(signal.SIGUSR1)
            assert batch.wait(timeout=120) == 143
            assert head.printed("first.log").rstrip().endswith(f"requeued {job}")
            assert poll(nothing_is_left, seconds=20)

            before = {path.name: path.read_bytes() for path in finished.glob("*.parquet")}
            assert run("second.log").wait(timeout=600) == 0, head.printed("second.log")
            after = {path.name: path.read_bytes() for path in finished.glob("*.parquet")}
            assert before.items() < after.items(), "what was finished has been done again"
            assert "requeued" not in head.printed("second.log")
            assert poll(nothing_is_left, seconds=20)
            assert set(Path("/tmp").glob("prunepeft-*")) <= others
        finally:
            for session in set(Path("/tmp").glob("prunepeft-*")) - others:
                shutil.rmtree(session, ignore_errors=True)


def slurm(head):
    """What SLURM gives to the script on the first node of two."""
    commands = head.folder / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        "PATH": f"{commands}:{head.environment({})['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "LAB_PREFIX": head.namespace.removesuffix("head"),
        "SLURM_JOB_ID": str(10_000_000 + os.getpid()),
        "SLURM_JOB_NODELIST": "head,worker",
        "SLURM_CPUS_PER_TASK": "1",
    }
