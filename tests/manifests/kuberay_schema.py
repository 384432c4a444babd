"""JSON schema of KubeRay's RayCluster and RayJob, as far as they may be written by hand.

Fields, types and enumerations are those of the API reference of KubeRay v1.6.2 (``docs/reference/api.md`` of
ray-project/kuberay at 0a9eabde561ab59ab4bbe626072c359da9214484); what must be there, and what the operator refuses, are
those of its Go types and of ``ValidateRayClusterSpec`` and ``ValidateRayJobSpec``. Pods are Kubernetes' own schema.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.37.0"
_CORE = "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.api.core.v1."
_META = "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1."

_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_BOOLEAN = {"type": "boolean"}
_STRING = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
# a DNS-1035 label
_NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}


def _core(name: str) -> dict[str, Any]:
    return {"$ref": f"{_CORE}{name}"}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _pod_template() -> dict[str, Any]:
    """A pod of a group: at least one container; the autoscaler wants to restart pods itself."""
    limits = {"properties": {"spec": {"properties": {"restartPolicy": {"const": "Never"}}, "required": ["containers"]}}}
    return {"allOf": [_core("PodTemplateSpec"), limits], "required": ["spec"]}


_AUTH = _object(
    ("mode",),
    mode={"enum": ["disabled", "token"]},
    secretName=_STRING,
    enableK8sTokenAuth=_BOOLEAN,
)

_AUTOSCALER = _object(
    resources=_core("ResourceRequirements"),
    image=_STRING,
    imagePullPolicy={"enum": ["Always", "Never", "IfNotPresent"]},
    securityContext=_core("SecurityContext"),
    idleTimeoutSeconds=_COUNT,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    env={"type": "array", "items": _core("EnvVar")},
    envFrom={"type": "array", "items": _core("EnvFromSource")},
    volumeMounts={"type": "array", "items": _core("VolumeMount")},
)

_HEAD = _object(
    ("template",),
    template=_pod_template(),
    headService=_core("Service"),
    enableIngress=_BOOLEAN,
    resources=_STRINGS,
    labels=_STRINGS,
    rayStartParams=_STRINGS,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
)

_WORKERS = _object(
    ("groupName", "minReplicas", "maxReplicas", "template"),
    groupName=_STRING,
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    idleTimeoutSeconds=_COUNT,
    resources=_STRINGS,
    labels=_STRINGS,
    rayStartParams=_STRINGS,
    template=_pod_template(),
    scaleStrategy=_object(workersToDelete={"type": "array", "items": _STRING}),
    numOfHosts={"type": "integer", "minimum": 1},
)

_CLUSTER = _object(
    ("headGroupSpec",),
    authOptions=_AUTH,
    autoscalerOptions=_AUTOSCALER,
    enableInTreeAutoscaling=_BOOLEAN,
    headGroupSpec=_HEAD,
    headServiceAnnotations=_STRINGS,
    managedBy={"enum": ["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"]},
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    suspend=_BOOLEAN,
    upgradeStrategy=_object(type={"enum": ["Recreate", "None"]}),
    workerGroupSpecs={"type": "array", "items": _WORKERS},
) | {
    # the operator needs the version to know whether Ray can ask for a token
    "if": {"properties": {"authOptions": {"properties": {"mode": {"const": "token"}}}}, "required": ["authOptions"]},
    "then": {"required": ["rayVersion"]},
}

_JOB = _object(
    ("entrypoint", "rayClusterSpec"),
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=_COUNT,
    entrypoint=_STRING,
    entrypointNumCpus={"type": "number", "minimum": 0},
    entrypointNumGpus={"type": "number", "minimum": 0},
    entrypointResources=_STRING,
    jobId=_STRING,
    managedBy={"enum": ["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"]},
    metadata=_STRINGS,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    rayClusterSpec=_CLUSTER,
    runtimeEnvYAML=_STRING,
    shutdownAfterJobFinishes=_BOOLEAN,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterConfig=_object(backoffLimit=_COUNT),
    submitterPodTemplate=_core("PodTemplateSpec"),
    suspend=_BOOLEAN,
    ttlSecondsAfterFinished=_COUNT,
) | {
    "allOf": [
        # a cluster is only cleaned up some time later if it is cleaned up at all
        {
            "if": {"properties": {"ttlSecondsAfterFinished": {"exclusiveMinimum": 0}},
                   "required": ["ttlSecondsAfterFinished"]},
            "then": {"properties": {"shutdownAfterJobFinishes": {"const": True}},
                     "required": ["shutdownAfterJobFinishes"]},
        },
        {
            "if": {"properties": {"submissionMode": {"const": "SidecarMode"}}, "required": ["submissionMode"]},
            "then": {"properties": {"submitterPodTemplate": False, "submitterConfig": False}},
        },
        {
            "if": {"properties": {"submissionMode": {"const": "InteractiveMode"}}, "required": ["submissionMode"]},
            "then": {"properties": {"backoffLimit": {"const": 0}}},
        },
    ]
}  # fmt: skip


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"allOf": [{"$ref": f"{_META}ObjectMeta"}, {"properties": {"name": _NAME}, "required": ["name"]}]}
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


SCHEMAS = {"RayCluster": _resource("RayCluster", _CLUSTER), "RayJob": _resource("RayJob", _JOB)}


@cache
def validator(kind: str) -> Draft202012Validator:
    """The validator of a kind.

    Args:
        kind: ``RayCluster`` or ``RayJob``.
    """
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text())
    registry: Registry[Any] = Resource.from_contents(definitions) @ Registry()
    return Draft202012Validator(SCHEMAS[kind], registry=registry)
