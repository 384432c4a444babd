"""A cluster that has no worker nodes until somebody needs them: Ray's own autoscaler, its nodes on this machine."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from chaos import environment, kill_all, running
from execution_toys import answer, assert_same_answer

from prunepeft_ray.config import dump_yaml


def settings(address):
    """What Ray's cluster launcher writes for its autoscaler, with a provider that starts nodes as processes."""
    commands = [f"{when}_commands" for when in ("initialization", "setup", "head_setup", "worker_setup")]
    commands += ["head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"]
    provider = {"type": "fake_multinode", "disable_node_updaters": True, "disable_launch_config_check": True}
    return {
        "cluster_name": "growing",
        "max_workers": 2,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "provider": provider | {"gcs_address": address},
        "auth": {},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "file_mounts": {},
    } | {name: [] for name in commands}


@contextlib.contextmanager
def growing_cluster():
    """Start a head without CPUs; yields what :func:`two_nodes` does."""
    env = environment(
        RAY_AUTH_MODE="disabled",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_FAKE_CLUSTER="1",
        AUTOSCALER_UPDATE_INTERVAL_S="1",
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # sockets must have short paths
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    (folder / "cluster.json").write_text(json.dumps(settings(f"127.0.0.1:{port}")))
    options = [f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options]
    head = subprocess.Popen(
        [*command, f"--autoscaling-config={folder / 'cluster.json'}"], env=env, start_new_session=True
    )
    try:
        yield {"address": f"127.0.0.1:{port}"}, env
    finally:
        kill_all(env["PRUNEPEFT_TEST"])
        head.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_search_waits_for_nodes_that_an_autoscaler_brings(tmp_path, spec, undisturbed):
    path, config = tmp_path / "run", tmp_path / "search.yaml"
    config.write_text(dump_yaml(spec))
    with growing_cluster() as cluster:
        wait_for_autoscaler(cluster)
        with running(cluster, "search", config, path, workers=2) as search:
            assert search.process.wait(200) == 0, search.told
    assert "waiting for 1 CPU: the cluster has none now (an autoscaler may add nodes)\n" in search.told
    assert_same_answer(answer(path), answer(undisturbed[0]))


def wait_for_autoscaler(cluster):
    """Wait until it has made its first report."""
    code = (
        "import ray, sys, time\n"
        "from prunepeft_ray.cluster.capacity import may_grow\n"
        "until = time.monotonic() + 60\n"
        "while not ray.is_initialized():\n"
        "    try:\n"
        "        ray.init(address=sys.argv[1], log_to_driver=False)\n"
        "    except ConnectionError:\n"
        "        assert time.monotonic() < until\n"
        "while not may_grow():\n"
        "    assert time.monotonic() < until\n"
        "    time.sleep(0.5)\n"
    )
    subprocess.run([sys.executable, "-c", code, cluster[0]["address"]], env=cluster[1], check=True, timeout=120)
