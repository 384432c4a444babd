"""The manifests of cluster/kubernetes against schemas, and against what a cluster for several people needs."""

import copy
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from cluster_release import CLUSTER, IMAGES, locked
from jsonschema import ValidationError
from kuberay_schema import KUBERNETES, SCHEMAS, validator

from prunepeft_ray.study import load_study

FOLDER = CLUSTER / "kubernetes"
MANIFESTS = [path for path in sorted(FOLDER.rglob("*.yaml")) if path.name not in ("kustomization.yaml", "study.yaml")]
VARIANTS = ("bucket", "study", "volume")


def named(path):
    return str(path.relative_to(FOLDER))


def documents(path):
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def check(resource):
    """Raise a ValidationError if a resource is not what its kind allows."""
    if resource["kind"] in SCHEMAS:
        validator(resource["kind"]).validate(resource)
    else:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def built(variant):
    """What `kubectl apply -k` would send."""
    made = subprocess.run(["kubectl", "kustomize", str(FOLDER / variant)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return list(yaml.safe_load_all(made.stdout))


def resources():
    return [resource for path in MANIFESTS for resource in documents(path)]


def ray_clusters():
    """The specs of all Ray clusters, by name."""
    found = {}
    for resource in resources():
        if resource["kind"] in SCHEMAS:
            spec = resource["spec"]
            found[resource["metadata"]["name"]] = spec.get("rayClusterSpec", spec)
    return found


def pod_templates():
    """Every template of a pod, with the name of its cluster."""
    for name, spec in ray_clusters().items():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            yield name, group["template"]
    for resource in resources():
        if "submitterPodTemplate" in resource.get("spec", {}):
            yield resource["metadata"]["name"], resource["spec"]["submitterPodTemplate"]


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_a_manifest_is_what_its_kind_allows(path):
    for resource in documents(path):
        check(resource)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_kustomize_makes_is_what_its_kinds_allow(variant):
    for resource in built(variant):
        check(resource)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
def test_the_variant_with_a_bucket_has_no_volume_but_an_identity():
    made = built("bucket")
    assert "PersistentVolumeClaim" not in {resource["kind"] for resource in made}
    (cluster,) = (resource["spec"] for resource in made if resource["kind"] == "RayCluster")
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["serviceAccountName"] == "prunepeft-bucket"
        assert "volumes" not in pod


MUTATIONS = {
    "unknown key": ("RayCluster", "spec.autoscaling", True),
    "misspelt key of a group": ("RayCluster", "spec.workerGroupSpecs.0.minReplica", 1),
    "unknown key of a pod": ("RayCluster", "spec.headGroupSpec.template.spec.containers.0.envs", []),
    "number for a start parameter": ("RayCluster", "spec.headGroupSpec.rayStartParams.num-cpus", 0),
    "text for a number": ("RayCluster", "spec.workerGroupSpecs.0.maxReplicas", "8"),
    "negative number of pods": ("RayCluster", "spec.workerGroupSpecs.0.minReplicas", -1),
    "unknown mode of authentication": ("RayCluster", "spec.authOptions.mode", "password"),
    "unknown scaling": ("RayCluster", "spec.autoscalerOptions.upscalingMode", "Fast"),
    "unknown type of service": ("RayCluster", "spec.headGroupSpec.serviceType", "Public"),
    "version left out with a token": ("RayCluster", "spec.rayVersion", None),
    "pods that restart themselves": ("RayCluster", "spec.workerGroupSpecs.0.template.spec.restartPolicy", "Always"),
    "group without a pod": ("RayCluster", "spec.workerGroupSpecs.0.template", None),
    "name that is no label": ("RayCluster", "metadata.name", "Prune_PEFT"),
    "other API": ("RayCluster", "apiVersion", "ray.io/v1alpha1"),
    "unknown submission": ("RayJob", "spec.submissionMode", "SSHMode"),
    "submitter of its own in a sidecar": ("RayJob", "spec.submissionMode", "SidecarMode"),
    "clean-up of what stays": ("RayJob", "spec.shutdownAfterJobFinishes", False),
    "retries of what a person starts": ("RayJob", "spec.submissionMode", "InteractiveMode"),
    "list as entrypoint": ("RayJob", "spec.entrypoint", ["prunepeft"]),
    "unknown key of the submitter": ("RayJob", "spec.submitterPodTemplate.spec.image", "x"),
}


@pytest.mark.parametrize(("kind", "place", "value"), MUTATIONS.values(), ids=MUTATIONS)
def test_the_schema_catches(kind, place, value):
    (resource,) = (copy.deepcopy(resource) for resource in resources() if resource["kind"] == kind)
    *parents, last = place.split(".")
    where = resource
    for key in parents:
        where = where[int(key) if key.isdigit() else key]
    if value is None:
        del where[last]
    else:
        where[last] = value
    with pytest.raises(ValidationError):
        check(resource)


def test_every_cluster_asks_for_a_token():
    assert ray_clusters()
    for spec in ray_clusters().values():
        assert spec["authOptions"] == {"mode": "token"}


def test_nothing_is_open_to_the_outside():
    kinds = {resource["kind"] for resource in resources()}
    assert kinds.isdisjoint({"Ingress", "Service", "Gateway", "HTTPRoute"})
    for spec in ray_clusters().values():
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert spec["headGroupSpec"]["enableIngress"] is False
    for _, template in pod_templates():
        assert "hostNetwork" not in template["spec"]
        assert not [
            port for box in template["spec"]["containers"] for port in box.get("ports", []) if "hostPort" in port
        ]


def test_only_pods_of_the_same_cluster_and_the_operator_reach_a_node():
    policies = {
        resource["metadata"]["name"]: resource["spec"]
        for resource in resources()
        if resource["kind"] == "NetworkPolicy"
    }
    assert policies.pop("default-deny") == {"podSelector": {}, "policyTypes": ["Ingress"]}
    operator = policies.pop("operator-to-heads")["ingress"]
    assert operator == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}}}],
            "ports": [{"protocol": "TCP", "port": 8265}],
        }
    ]
    for policy in policies.values():
        assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    allowed = {policy["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] for policy in policies.values()}
    for name, template in pod_templates():
        assert template["metadata"]["labels"] == {"app.kubernetes.io/instance": name}
        assert name in allowed


def test_every_pod_keeps_to_the_restricted_profile():
    (namespace,) = (resource for resource in resources() if resource["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for _, template in pod_templates():
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] == 1000
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        for box in template["spec"]["containers"]:
            assert box["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        for volume in template["spec"].get("volumes", []):
            assert volume.keys() <= {"name", "persistentVolumeClaim", "configMap"}
    for spec in ray_clusters().values():
        sidecar = spec["autoscalerOptions"]["securityContext"]
        assert sidecar == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_every_container_says_what_it_needs_and_sends_no_statistics():
    for _, template in pod_templates():
        for box in template["spec"]["containers"]:
            assert box["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert box["resources"]["limits"].keys() >= {"cpu", "memory"}
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in box["env"]


def test_both_kinds_of_workers_scale_and_gpus_cost_nothing_while_idle():
    for spec in ray_clusters().values():
        assert spec["enableInTreeAutoscaling"] is True
        assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
        groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
        assert groups.keys() == {"cpu", "gpu"}
        assert all(group["minReplicas"] < group["maxReplicas"] for group in groups.values())
        gpu = groups["gpu"]
        assert gpu["minReplicas"] == 0
        (box,) = gpu["template"]["spec"]["containers"]
        assert box["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert gpu["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_no_file_holds_a_secret():
    for resource in resources():
        assert resource["kind"] != "Secret"
    for _, template in pod_templates():
        for box in template["spec"]["containers"]:
            assert {entry["name"] for entry in box["env"]} == {"RAY_USAGE_STATS_ENABLED"}


def test_images_and_versions_are_those_of_this_release():
    for spec in ray_clusters().values():
        assert spec["rayVersion"] == locked("ray")
    for _, template in pod_templates():
        for box in template["spec"]["containers"]:
            gpu = "nvidia.com/gpu" in box["resources"]["limits"]
            assert box["image"] == IMAGES["cuda" if gpu else "cpu"]


def test_a_retried_study_goes_on_in_the_same_folder():
    (job,) = (resource["spec"] for resource in resources() if resource["kind"] == "RayJob")
    assert job["backoffLimit"] > 0
    assert job["shutdownAfterJobFinishes"] is True
    assert job["entrypoint"] == "prunepeft compare /study/study.yaml --output /shared/runs/study --address auto"
    box = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "shared", "mountPath": "/shared"} in box["volumeMounts"]
    assert {"name": "study", "mountPath": "/study", "readOnly": True} in box["volumeMounts"]


def test_the_study_that_the_job_runs_is_a_study():
    spec = load_study(FOLDER / "study" / "study.yaml")
    assert len(spec.methods) == 3
