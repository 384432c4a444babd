"""The cluster launcher's files of cluster/launcher against Ray's own validator, and against our rules."""

import copy

import pytest
import yaml
from cluster_release import CLUSTER, IMAGES
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

FILES = sorted((CLUSTER / "launcher").glob("*.yaml"))
CLOUDS = [path for path in FILES if path.stem != "onpremise"]
TOKEN_FOLDER = "/home/ray/.prunepeft-cluster"


def settings(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def by_name(path):
    return path.stem


def images(config):
    yield config["docker"]["image"]
    for node_type in config.get("available_node_types", {}).values():
        if "docker" in node_type:
            yield node_type["docker"]["worker_image"]


def test_there_is_a_file_for_each_place():
    assert [path.stem for path in FILES] == ["aws", "gcp", "onpremise"]


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_ray_takes_the_file(path):
    # as `ray up` does it: fill in, then validate
    prepared = prepare_config(settings(path))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize("path", FILES, ids=by_name)
@pytest.mark.parametrize(
    ("key", "value"),
    [("workers", 3), ("max_workers", "many"), ("head_start_ray_commands", "ray start"), ("cluster_name", None)],
    ids=["unknown key", "text for a number", "text for a list", "no name"],
)
def test_ray_would_not_take_anything(path, key, value):
    config = copy.deepcopy(settings(path)) | {key: value}
    with pytest.raises((ValidationError, TypeError)):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("path", CLOUDS, ids=by_name)
def test_ray_would_not_take_an_unknown_key_of_a_node_type(path):
    config = settings(path)
    config["available_node_types"]["cpu"]["minimum"] = 1
    with pytest.raises(ValidationError):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_every_node_starts_with_the_mounted_token(path):
    config = settings(path)
    options = config["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    assert f"--env RAY_AUTH_TOKEN_PATH={TOKEN_FOLDER}/auth_token" in options
    assert "--env RAY_USAGE_STATS_ENABLED=0" in options
    assert config["file_mounts"] == {TOKEN_FOLDER: "~/.prunepeft-cluster"}
    assert not [option for option in options if "RAY_AUTH_TOKEN=" in option]


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_the_dashboard_listens_on_the_loopback_of_the_head_alone(path):
    config = settings(path)
    (start,) = (line for line in config["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in start.split()
    assert not [option for option in config["docker"]["run_options"] if option.startswith(("-p", "--publish"))]


def test_the_security_group_opens_nothing_of_its_own():
    assert settings(CLUSTER / "launcher" / "aws.yaml")["provider"]["security_group"] == {"GroupName": "prunepeft"}


@pytest.mark.parametrize("path", CLOUDS, ids=by_name)
def test_gpus_cost_nothing_while_idle(path):
    types = settings(path)["available_node_types"]
    assert types["gpu"]["min_workers"] == 0
    assert types["head"]["resources"] == {"CPU": 0}


def test_nodes_reach_the_bucket_by_who_they_are_and_not_by_keys():
    aws = settings(CLUSTER / "launcher" / "aws.yaml")["available_node_types"]
    profiles = {name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in aws.items()}
    assert profiles == {"head": "prunepeft-head", "cpu": "prunepeft-worker", "gpu": "prunepeft-worker"}
    gcp = settings(CLUSTER / "launcher" / "gcp.yaml")["available_node_types"]
    for name in ("cpu", "gpu"):
        assert gcp[name]["node_config"]["serviceAccounts"][0]["email"].startswith("prunepeft-worker@")
    for path in FILES:
        text = path.read_text(encoding="utf-8").lower()
        assert not [word for word in ("access_key", "secret", "password", "credentials") if word in text]


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_images_are_those_of_this_release(path):
    for image in images(settings(path)):
        assert image.removeprefix("REGISTRY/") in IMAGES.values()
