"""The image and the two nodes of cluster/image: linted, and the commands of the nodes really run."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from cluster_hosts import connected_hosts
from cluster_release import CLUSTER, IMAGES, ROOT, locked

DOCKERFILE = CLUSTER / "image" / "Dockerfile"
COMPOSE = CLUSTER / "image" / "compose.yaml"


def lines():
    """The instructions of the Dockerfile, each on one line, without comments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M)
    return re.sub(r"\s*\\\n\s*", " ", text).splitlines()


def instructions(name):
    return [line.removeprefix(name).strip() for line in lines() if line.startswith(f"{name} ")]


def services():
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def has_compose():
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_base_is_pinned_and_its_python_is_ours():
    assert instructions("FROM") == ["python:3.11-slim-bookworm"]


def test_torch_comes_from_the_lock_before_everything_else():
    first, second = (line for line in instructions("RUN") if "pip install" in line)
    (grep,) = re.findall(r"\$\((grep .*?) /build/requirements\.lock\)", first)
    torch = subprocess.run(f"{grep} requirements.lock", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert torch.stdout.strip() == f"torch=={locked('torch')}"
    assert "--constraint /build/requirements.lock" in second
    assert "==" not in re.sub(r"\^torch==", "", " ".join(lines())), "a version that the lock does not know of"


def test_everything_that_is_copied_is_there_and_not_ignored():
    ignored = (CLUSTER / "image" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    kept = set(re.findall(r"^!(\S+)$", ignored, re.M))
    sources = {source for line in instructions("COPY") for source in line.split()[:-1]}
    assert sources == kept
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_has_the_extras_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r'"/build\[(.*?)\]"', " ".join(lines()))
    assert set(named.split(",")) == set(extras) - {"dev"}


def test_nothing_runs_as_root_or_without_a_token():
    assert instructions("USER") == ["1000"]
    assert any("RAY_AUTH_MODE=token" in line for line in instructions("ENV"))
    for service in services().values():
        assert service["environment"] == {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": "/run/secrets/auth_token",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        assert service["secrets"] == ["auth_token"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_dashboard_is_published_on_loopback_alone():
    published = {name: service.get("ports", []) for name, service in services().items()}
    assert published == {"head": ["127.0.0.1:8265:8265"], "worker": []}


def test_the_token_is_a_file_that_the_user_names():
    (secret,) = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["secrets"].values()
    assert secret["file"].startswith("${PRUNEPEFT_TOKEN_FILE:?")


def test_both_nodes_run_the_image_of_this_release_with_room_for_their_objects():
    for service in services().values():
        assert service["image"] == IMAGES["cpu"]
        assert service["shm_size"] == "2gb"
        assert "--object-store-memory=1000000000" in service["command"]


@pytest.mark.skipif(not has_compose(), reason="needs docker compose")
def test_docker_compose_takes_the_file(tmp_path):
    token = tmp_path / "auth_token"
    token.write_text("x")
    command = ["docker", "compose", "-f", COMPOSE, "config", "--quiet"]
    done = subprocess.run(command, env={"PRUNEPEFT_TOKEN_FILE": str(token), "PATH": "/usr/local/bin:/usr/bin:/bin"})
    assert done.returncode == 0


@pytest.mark.slow
def test_the_two_nodes_find_each_other_and_take_only_their_token():
    nodes = services()
    head_command, worker_command = (nodes[name]["command"] for name in ("head", "worker"))
    head_check, worker_check = (nodes[name]["healthcheck"]["test"][1:] for name in ("head", "worker"))
    with connected_hosts() as (head, worker):
        environments = []
        for token in ("right", "wrong"):
            file = head.folder / f"{token}_token"
            file.write_text(token * 8)
            mounted = nodes["head"]["environment"] | {"RAY_AUTH_TOKEN_PATH": str(file)}
            # gRPC's own resolver asks a name server, which Docker has and these hosts have not
            environments.append(mounted | {"GRPC_DNS_RESOLVER": "native"})
        right, wrong = environments

        assert head.keeps_up(head_command, right, head_check), head.printed("head.log")
        assert worker.keeps_up(worker_command, right, worker_check), worker.printed("worker.log")
        count = "import ray; ray.init('head:6379', log_to_driver=False); print(len(ray.nodes()), 'nodes')"
        assert "2 nodes" in head.run(["python", "-c", count], right).stdout
        jobs = ["ray", "job", "list", "--address", "http://head:8265"]
        assert worker.run(jobs, right).returncode == 0
        refused = worker.run(jobs, wrong)
        assert refused.returncode != 0
        assert "Invalid authentication token" in refused.stderr
        stranger = ["ray", "start", "--block", "--address=head:6379", "--num-cpus=1"]
        without = {name: value for name, value in right.items() if name != "RAY_AUTH_TOKEN_PATH"}
        for environment, told in ((wrong, "InvalidAuthToken"), (without, "no authentication token was found")):
            joined = worker.run(stranger, environment)
            assert joined.returncode != 0
            assert told in joined.stderr + joined.stdout
        assert "2 nodes" in head.run(["python", "-c", count], right).stdout
