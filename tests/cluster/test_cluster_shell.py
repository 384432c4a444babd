"""The shell of this repository: linted; the SLURM script run with two hosts in the place of SLURM's nodes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_hosts import comes_true, connected_hosts
from cluster_release import CLUSTER, ROOT

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
STUDY = """#!/usr/bin/env python
import signal, sys, time
import ray
ray.init(sys.argv[-1], log_to_driver=False)
def stop(number, frame):
    print("state kept", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("study", *sys.argv[1:5], "nodes", len(ray.nodes()), "cpus", ray.cluster_resources()["CPU"], flush=True)
time.sleep(300)
"""


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
def test_the_slurm_script_runs_a_study_on_all_nodes_and_queues_it_again_when_the_time_is_up():
    with connected_hosts() as (head, worker):
        commands = head.folder / "bin"
        commands.mkdir()
        for name, text in {"srun": SRUN, "scontrol": SCONTROL, "prunepeft": STUDY}.items():
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        job = str(10_000_000 + os.getpid())
        environment = {
            "PATH": f"{commands}:{head.environment({})['PATH']}",
            "LAB_PREFIX": head.namespace.removesuffix("head"),
            "SLURM_JOB_ID": job,
            "SLURM_JOB_NODELIST": "head,worker",
            "SLURM_CPUS_PER_TASK": "3",
        }
        try:
            batch = head.start(["bash", str(SCRIPT), "study.yaml", "out"], environment, "batch.log")
            started = "study compare study.yaml --output out nodes 2 cpus 6.0"
            assert comes_true(lambda: started in head.printed("batch.log") or batch.poll() is not None, seconds=120)
            assert batch.poll() is None, head.printed("batch.log")
            (private,) = head.folder.glob(f".prunepeft-{job}.*")
            assert private.stat().st_mode & 0o777 == 0o700
            assert (private / "auth_token").stat().st_mode & 0o777 == 0o600
            assert len((private / "auth_token").read_text()) == 64

            batch.send_signal(signal.SIGUSR1)
            assert batch.wait(timeout=60) == 143
            printed = head.printed("batch.log")
            assert printed.index("state kept") < printed.index(f"requeued {job}")
            assert not private.exists()
            assert comes_true(lambda: not head.processes() + worker.processes(), seconds=20)
        finally:
            shutil.rmtree(f"/tmp/ray-{job}", ignore_errors=True)
