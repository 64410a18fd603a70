"""The manifests for Kubernetes and the Ray cluster file: valid, confined, and in accord with the service's settings."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deploy_files import (
    DEPLOY,
    ROOT,
    SECRET,
    documents,
    images,
    is_pinned,
    pinned_version,
    unknown_settings,
    with_defaults,
)

from neuromas.errors import SpecError
from neuromas.services.runs.declared import parse

FOLDER = DEPLOY / "kubernetes"
(KUSTOMIZATION,) = documents(FOLDER / "kustomization.yaml")
MANIFESTS = [
    document for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "kustomization" for document in documents(path)
]
OLDEST, NEWEST = kubernetes_validate.utils.all_versions()[0], kubernetes_validate.latest_version()
SECRET_KEYS = {"store-password", "ray-token", "serve-token"}
# Fields of KubeRay's own, ray.io/v1 as of KubeRay 1.4; the pods in them are checked against Kubernetes' schema.
CLUSTER_FIELDS = {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions"}
HEAD_FIELDS = {"serviceType", "rayStartParams", "template"}
WORKER_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in MANIFESTS if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def label(document: dict[str, Any]) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def ray_clusters() -> list[dict[str, Any]]:
    """Specs of the Ray clusters, those inside of Ray services too."""
    found = [item["spec"] for item in MANIFESTS if item["kind"] == "RayCluster"]
    return found + [item["spec"]["rayClusterConfig"] for item in MANIFESTS if item["kind"] == "RayService"]


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template with a name."""
    for item in MANIFESTS:
        if item["kind"] in ("Deployment", "StatefulSet"):
            yield label(item), item["spec"]["template"]
    for number, cluster in enumerate(ray_clusters()):
        yield f"head {number}", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{group['groupName']} {number}", group["template"]


PODS = dict(templates())


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    "document", [item for item in MANIFESTS if not item["apiVersion"].startswith("ray.io/")], ids=label
)
def test_a_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_valid_and_confined(name: str) -> None:
    template = PODS[name]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": "pod"}}
    kubernetes_validate.validate({**pod, "spec": copy.deepcopy(template["spec"])}, NEWEST, strict=True)
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = {volume["name"] for volume in spec.get("volumes", [])} | {"store"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} == set(container["resources"])
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("name", PODS)
def test_a_pod_gets_settings_that_exist_and_secrets_by_reference(name: str) -> None:
    shared = dict(literal.split("=", 1) for literal in KUSTOMIZATION["configMapGenerator"][0]["literals"])
    assert unknown_settings(shared) == set()
    assert not [variable for variable in shared if SECRET.search(variable)]
    for container in PODS[name]["spec"]["containers"]:
        own = {variable["name"]: variable for variable in container.get("env", [])}
        assert unknown_settings(own) == set()
        assert not own.keys() & shared.keys()
        for variable, given in own.items():
            if SECRET.search(variable):
                reference = given["valueFrom"]["secretKeyRef"]
                assert reference["name"] == "neuromas"
                assert reference["key"] in SECRET_KEYS
        for source in container.get("envFrom", []):
            assert source == {"configMapRef": {"name": KUSTOMIZATION["configMapGenerator"][0]["name"]}}


def test_addresses_name_services_and_their_ports() -> None:
    shared = dict(literal.split("=", 1) for literal in KUSTOMIZATION["configMapGenerator"][0]["literals"])
    (redis,) = named("Service", "neuromas-redis")["spec"]["ports"]
    assert shared["NEUROMAS_STORE_URL"] == f"redis://neuromas-redis:{redis['port']}/0"
    # KubeRay makes a service of this name with the ports of the head's container.
    head = f"http://{named('RayCluster', 'neuromas-ray')['metadata']['name']}-head-svc"
    ports = {port["name"]: port["containerPort"] for port in PODS["head 0"]["spec"]["containers"][0]["ports"]}
    assert shared["NEUROMAS_RAY_ADDRESS"] == f"{head}:{ports['dashboard']}"
    assert shared["NEUROMAS_SERVE_URL"] == f"{head}:{ports['serve']}"


def test_selectors_find_their_pods() -> None:
    labels = [template["metadata"]["labels"] for template in PODS.values()]
    selectors = [item["spec"]["selector"] for item in MANIFESTS if item["kind"] == "Service"]
    selectors += [item["spec"]["podSelector"].get("matchLabels", {}) for item in policies()]
    selectors += [
        item["spec"]["selector"]["matchLabels"] for item in MANIFESTS if item["kind"] == "PodDisruptionBudget"
    ]
    assert selectors
    for selector in selectors:
        assert any(selector.items() <= found.items() for found in labels), selector
    assert all(found["app.kubernetes.io/part-of"] == "neuromas" for found in labels)


def policies() -> list[dict[str, Any]]:
    return [item for item in MANIFESTS if item["kind"] == "NetworkPolicy"]


def reaches(source: str, target: str, port: int) -> bool:
    """Whether pods with one name may connect to those with another, as the policies say."""
    labels = {
        template["metadata"]["labels"]["app.kubernetes.io/name"]: template["metadata"]["labels"]
        for template in PODS.values()
    }

    def lets(direction: str, other: str, own: str, peer: str) -> bool:
        rules = [
            rule
            for policy in policies()
            if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels[own].items()
            for rule in policy["spec"].get(direction, ())
        ]
        return any(
            port in [one["port"] for one in rule.get("ports", [{"port": port}])]
            and any(
                "namespaceSelector" not in one
                and one["podSelector"].get("matchLabels", {}).items() <= labels[peer].items()
                for one in rule.get(other, [{"podSelector": {}}])
            )
            for rule in rules
        )

    return lets("egress", "to", source, target) and lets("ingress", "from", target, source)


def test_nothing_is_let_through_but_what_is_needed() -> None:
    (deny,) = [item for item in policies() if item["metadata"]["name"] == "neuromas-deny"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    api, supervisor, ray, redis = (f"neuromas-{name}" for name in ("api", "supervisor", "ray", "redis"))
    needed = {
        (api, redis, 6379), (supervisor, redis, 6379), (ray, redis, 6379),
        (api, ray, 8000), (supervisor, ray, 8265), (ray, ray, 8000), (ray, ray, 8265), (ray, ray, 6379),
    }  # fmt: skip
    serve = "neuromas-serve"
    names = (api, supervisor, ray, redis, serve)
    ports = (6379, 8000, 8265, 8080, 10001, 52365)
    found = {(a, b, port) for a in names for b in names for port in ports if reaches(a, b, port)}
    within = {(nodes, nodes, port) for nodes in (ray, serve) for port in ports}
    assert found == needed | within


def test_kuberay_reaches_the_head_of_every_cluster() -> None:
    for cluster in ray_clusters():
        labels = cluster["headGroupSpec"]["template"]["metadata"]["labels"]
        rules = [
            rule
            for policy in policies()
            if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
            for rule in policy["spec"].get("ingress", ())
        ]
        operator = {
            "namespaceSelector": {},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
        }
        assert any(operator in rule.get("from", ()) and {"port": 8265} in rule["ports"] for rule in rules), labels


def test_the_namespace_takes_restricted_pods_only() -> None:
    labels = named("Namespace", "neuromas")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_pod_has_limits_and_what_runs_is_probed() -> None:
    for name, template in PODS.items():
        (container,) = template["spec"]["containers"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
    for name in ("neuromas-api", "neuromas-supervisor"):
        (container,) = named("Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert {"startupProbe", "livenessProbe"} <= set(container)


def test_every_file_is_applied_or_named_as_an_alternative() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert files - set(KUSTOMIZATION["resources"]) <= {"rayservice.yaml"}
    assert set(KUSTOMIZATION["resources"]) <= files


def test_images_are_pinned_and_those_of_the_compose_file() -> None:
    (compose,) = documents(ROOT / "docker-compose.yml")
    (ray,) = documents(DEPLOY / "ray" / "cluster.yaml")
    known = set(map(with_defaults, images(compose)))
    used = {image for item in MANIFESTS for image in images(item)} | set(images(ray))
    assert used <= known
    assert all(map(is_pinned, used))


def test_ray_clusters_are_what_kuberay_takes() -> None:
    assert ray_clusters()
    for cluster in ray_clusters():
        assert set(cluster) <= CLUSTER_FIELDS
        assert cluster["rayVersion"] == pinned_version("ray")
        assert set(cluster["headGroupSpec"]) <= HEAD_FIELDS
        for group in cluster["workerGroupSpecs"]:
            assert set(group) <= WORKER_FIELDS
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] >= 1
        starts = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        # KubeRay hands these on as options of `ray start`: texts only.
        assert all(isinstance(value, str) for start in starts for value in start["rayStartParams"].values())


def test_a_declared_application_is_one_that_can_be_built() -> None:
    from ray.serve.schema import ServeDeploySchema

    (service,) = [item for item in MANIFESTS if item["kind"] == "RayService"]
    assert set(service["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    declared = parse(application.args)
    mounts = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    folders = {mount["mountPath"] for mount in mounts["volumeMounts"]}
    assert all(f"/{Path(checkpoint).parts[1]}" in folders for checkpoint in declared.graphs.values())


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({}, "graphs"),
        ({"graphs": {}}, "graphs"),
        ({"graphs": {"a": "/data/a"}, "replica": 2}, "replica"),
        ({"graphs": {"a": "/data/a"}, "replicas": 0}, "replicas"),
    ],
)
def test_wrong_arguments_of_a_declared_application_are_named(arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(arguments)
    assert [fault.path for fault in caught.value.faults] == [path]


def test_the_store_has_one_configuration() -> None:
    shipped = (DEPLOY / "redis" / "redis.conf").read_text(encoding="utf-8")
    assert named("ConfigMap", "neuromas-redis")["data"]["redis.conf"] == shipped


def test_the_ray_cluster_file_is_valid() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    (cluster,) = documents(DEPLOY / "ray" / "cluster.yaml")
    jsonschema.validate(cluster, schema)
    given = [
        option.removeprefix("--env=") for option in cluster["docker"]["run_options"] if option.startswith("--env=")
    ]
    variables = dict(variable.split("=", 1) for variable in given)
    assert unknown_settings(variables) == set()
    assert not [variable for variable in variables if SECRET.search(variable)]
    assert variables["RAY_AUTH_MODE"] == "token"
