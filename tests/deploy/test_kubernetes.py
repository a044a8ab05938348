"""The Kubernetes manifests, as Kustomize renders them: the API's schemas, the images, the settings and the network."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]

from reimagen_common.operations import PATHS
from reimagen_generator.settings import Hosts
from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.settings import Settings as RetrieverSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, type[RetrieverSettings] | type[GeneratorSettings]] = {
    "retriever": RetrieverSettings,
    "generator": GeneratorSettings,
}
Objects = list[dict[str, Any]]
# The oldest Kubernetes that knows all fields (preStop's sleep), and the newest that the validator knows.
VERSIONS = ("1.30", kubernetes_validate.latest_version())

# Components in addition to the base; None stands for the example as it is.
INSTALLATIONS: dict[str, list[str] | None] = {
    "gke": None,
    "writer": ["monitoring", "writer", "tls"],
    "base": [],
    "v5e": ["tpu-v5e", "weights", "autoscaling"],
    "no TLS": ["gpu", "jobs-redis", "monitoring"],
    "several machines": ["multi-host", "monitoring"],
}
FOLLOWER = "generator-follower"
# What LeaderWorkerSet puts before a container's variables (its documentation: "Labels, Annotations and Environment
# Variables"); the address is that of the leader's pod.
GROUP = {"LWS_LEADER_ADDRESS": "generator", "LWS_GROUP_SIZE": "4", "LWS_WORKER_INDEX": "3"}
# Fields of LeaderWorkerSet's leaderworkerset.x-k8s.io/v1 that the manifests use, by its CRD.
POD_TEMPLATE = {"type": "object"}
GROUP_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["leaderWorkerTemplate"],
    "properties": {
        "replicas": {"type": "integer"},
        "startupPolicy": {"enum": ["LeaderCreated", "LeaderReady"]},
        "leaderWorkerTemplate": {
            "type": "object",
            "additionalProperties": False,
            "required": ["workerTemplate"],
            "properties": {
                "size": {"type": "integer", "minimum": 1},
                "restartPolicy": {
                    "enum": ["Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"],
                },
                "leaderTemplate": POD_TEMPLATE,
                "workerTemplate": POD_TEMPLATE,
            },
        },
    },
}
pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl renders the manifests")


@pytest.fixture(scope="module", params=INSTALLATIONS.items(), ids=lambda item: item[0])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    _, components = request.param
    folder = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(ROOT / "deploy/kubernetes", folder)
    overlay = folder / "gke/kustomization.yaml"
    if components is not None:
        changed = yaml.safe_load(overlay.read_text()) | {"components": [f"../components/{name}" for name in components]}
        overlay.write_text(yaml.safe_dump(changed))
    rendered = subprocess.run(["kubectl", "kustomize", overlay.parent], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(rendered.stdout))


def of_kind(objects: Objects, *kinds: str) -> Objects:
    return [each for each in objects if each["kind"] in kinds]


def pods(objects: Objects) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the name, the spec and the container of each kind of pod."""
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        spec = workload["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        yield workload["metadata"]["name"], spec, container
    for group in of_kind(objects, "LeaderWorkerSet"):
        for template in group_templates(group):
            (container,) = template["spec"]["containers"]
            yield template["metadata"]["labels"]["app.kubernetes.io/name"], template["spec"], container


def group_templates(group: Mapping[str, Any]) -> Objects:
    return [group["spec"]["leaderWorkerTemplate"][f"{role}Template"] for role in ("leader", "worker")]


def environment(objects: Objects, container: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of a container, as the kubelet makes them; secrets are any text."""
    configs = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= configs[source["configMapRef"]["name"]]
    for variable in container.get("env", []):
        value = variable.get("value", "3" if "fieldRef" in variable.get("valueFrom", {}) else "secret")
        variables[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda found: (GROUP | variables)[found[1]], value)
    return variables


def dockerfile(service: str) -> str:
    return (ROOT / f"deploy/docker/{service}.Dockerfile").read_text()


def service_of(container: Mapping[str, Any]) -> str | None:
    """Return the service whose image a container runs, if it is one of ours."""
    found = re.search(r"reimagen-(retriever|generator):", container["image"])
    return found and found[1]


def test_every_object_is_one_of_kubernetes(objects: Objects) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    for each in objects:
        assert each["metadata"]["namespace"] == "reimagen"
        if each["kind"] == "LeaderWorkerSet":
            jsonschema.validate(each["spec"], GROUP_SCHEMA)
            for template in group_templates(each):
                pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
                for version in VERSIONS:
                    kubernetes_validate.validate(pod, version, strict=True)
        # The Prometheus Operator's, which tests/deploy/test_monitoring.py checks.
        elif not each["apiVersion"].startswith("monitoring.coreos.com/"):
            for version in VERSIONS:
                kubernetes_validate.validate(each, version, strict=True)


def test_a_pod_has_no_more_rights_than_it_needs(objects: Objects) -> None:
    for _, pod, container in pods(objects):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        if service := service_of(container):
            assert f"--uid {pod['securityContext']['runAsUser']} " in dockerfile(service)
        for first in pod.get("initContainers", []):
            same = ("image", "resources", "securityContext")
            assert [first[field] for field in same] == [container[field] for field in same]
            assert first["command"][1] == "/opt/fetch/fetch.py"


def test_a_pod_has_the_volumes_that_it_mounts(objects: Objects) -> None:
    claims = {
        workload["metadata"]["name"]: [
            claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])
        ]
        for workload in of_kind(objects, "Deployment", "StatefulSet")
    }
    for name, spec, container in pods(objects):
        volumes = [volume["name"] for volume in spec.get("volumes", [])] + claims.get(name, [])
        containers = [container, *spec.get("initContainers", [])]
        assert {mount["name"] for each in containers for mount in each["volumeMounts"]} == set(volumes)
        # Files of settings and folders that the image's service writes to are on a volume.
        mounted = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
        service = service_of(container)
        image = re.findall(r"REIMAGEN_\w+=(/var\S+)", dockerfile(service)) if service else []
        given = [value for value in environment(objects, container).values() if value.startswith("/")]
        for path in map(Path, [*image, *given]):
            assert any(path.is_relative_to(folder) for folder in mounted), path


def test_probes_ask_what_the_services_answer(objects: Objects) -> None:
    for _, _, container in pods(objects):
        service = service_of(container)
        probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
        if service is None:
            assert all("PONG" in probe["exec"]["command"][-1] for probe in probes)
            continue
        assert [probe["httpGet"]["path"] for probe in probes] == ["/readyz", "/readyz", "/livez"]
        assert {probe["httpGet"]["path"] for probe in probes} <= PATHS
        assert {probe["httpGet"]["port"] for probe in probes} == {"http"}
        certificate = f"REIMAGEN_{service.upper()}_TLS_CERTIFICATE" in environment(objects, container)
        assert {probe["httpGet"].get("scheme", "HTTP") for probe in probes} == {"HTTPS" if certificate else "HTTP"}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        exposed = re.search(r"^EXPOSE (\d+) (\d+)$", dockerfile(service), re.MULTILINE)
        assert exposed is not None
        assert set(map(str, ports.values())) == set(exposed.groups())
        for port, number in ports.items():
            assert f"REIMAGEN_{service.upper()}_{port.upper()}=0.0.0.0:{number}" in dockerfile(service)


def test_the_services_start_with_their_settings(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pod, container in pods(objects):
        service = service_of(container)
        if service is None:
            continue
        variables = environment(objects, container)
        prefix = f"REIMAGEN_{service.upper()}_"
        others = {variable for variable in variables if not variable.startswith(prefix)}
        assert others <= {"OTEL_EXPORTER_OTLP_ENDPOINT", "JAX_PLATFORMS", "REPLICA"}
        known = SETTINGS[service].model_fields.keys() | (Hosts.model_fields.keys() if service == "generator" else set())
        assert {variable.removeprefix(prefix).lower() for variable in variables.keys() - others} <= known
        if "REIMAGEN_GENERATOR_WEIGHTS" in variables:
            # In place of a volume's.
            variables["REIMAGEN_GENERATOR_WEIGHTS"] = str(ROOT / "services/generator/weights/demo")
        for variable in [*os.environ]:
            if variable.startswith("REIMAGEN_"):
                monkeypatch.delenv(variable)
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        settings = SETTINGS[service]()
        assert settings.keys is not None
        assert not settings.allow_anonymous
        hosts = Hosts()
        assert (hosts.coordinator is not None) == bool(of_kind(objects, "LeaderWorkerSet") and service == "generator")
        # What runs gets its time: the pod first leaves the service's addresses. A follower is in none; its leader is.
        leaving = 5 if name == FOLLOWER else container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] >= leaving + settings.stop_seconds


def test_a_service_leads_to_its_pods(objects: Objects) -> None:
    ports = {
        name: {port["name"]: port["containerPort"] for port in container["ports"]}
        for name, _, container in pods(objects)
    }
    for service in of_kind(objects, "Service"):
        selected = service["spec"]["selector"]["app.kubernetes.io/name"]
        assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports[selected]
    # All ready pods of the retriever, in turns.
    (retriever,) = [each for each in of_kind(objects, "Service") if each["metadata"]["name"] == "retriever"]
    assert retriever["spec"]["clusterIP"] == "None"
    for each in of_kind(objects, "Deployment", "StatefulSet"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/name"] == each["metadata"]["name"]


def _selects(selector: Mapping[str, Any], name: str) -> bool:
    labels = {"app.kubernetes.io/name": name}
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def _admits(objects: Objects, own: str, peer: str, port: int, direction: str) -> bool:
    """Return whether a pod may exchange data with another one, in the direction `ingress` or `egress`."""
    side = {"ingress": "from", "egress": "to"}[direction]
    rules = [
        rule
        for policy in of_kind(objects, "NetworkPolicy")
        if _selects(policy["spec"]["podSelector"], own)
        for rule in policy["spec"].get(direction, [])
    ]
    return any(
        any(each["port"] <= port <= each.get("endPort", each["port"]) for each in rule["ports"])
        and (
            side not in rule
            or any("podSelector" in each and _selects(each["podSelector"], peer) for each in rule[side])
        )
        for rule in rules
    )


def test_the_network_admits_what_the_settings_name_and_no_more(objects: Objects) -> None:
    names = {name for name, _, _ in pods(objects)}
    connections = set()
    for name, _, container in pods(objects):
        for value in environment(objects, container).values():
            for host, port in re.findall(r"\b([a-z]+):(\d+)", value):
                assert host in names | {"monitoring"}, value
                # A follower is given its leader's settings, and connects to the leader alone.
                if name != FOLLOWER or host == "generator":
                    connections.add((name, host, int(port)))
    assert {
        ("generator", "retriever", 50051),
        ("retriever", "cache", 6379),
        ("generator", "cache", 6379),
    } <= connections
    for client, server, port in ((a, b, port) for a, b, port in connections if b != "monitoring"):
        assert _admits(objects, client, server, port, "egress")
        assert _admits(objects, server, client, port, "ingress")
    # The one that writes is reached through the cluster's control plane alone.
    for client in names:
        assert not _admits(objects, "retriever-writer", client, 50051, "ingress")
        for server, port in {(server, port) for _, server, port in connections if server != "monitoring"}:
            assert _admits(objects, server, client, port, "ingress") == ((client, server, port) in connections)


def test_an_autoscaler_has_a_target_whose_replicas_nothing_else_sets(objects: Objects) -> None:
    workloads = {
        (each["kind"], each["metadata"]["name"]): each for each in of_kind(objects, "Deployment", "StatefulSet")
    }
    databases = "REIMAGEN_GENERATOR_JOBS_REDIS_URL" in str(workloads.get(("StatefulSet", "generator")))
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in workloads[target["kind"], target["name"]]["spec"]
        assert scaler["spec"]["maxReplicas"] <= 16 or not databases
    for each in of_kind(objects, "StatefulSet"):
        # One process writes to a base, and to a Redis.
        assert each["metadata"]["name"] == "generator" or each["spec"]["replicas"] == 1
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert sum(_selects(budget["spec"]["selector"], name) for name, _, _ in pods(objects)) == 1


def test_a_group_of_processes_starts_again_as_a_whole(objects: Objects) -> None:
    for group in of_kind(objects, "LeaderWorkerSet"):
        assert group["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
        leader, follower = (template["spec"]["containers"][0] for template in group_templates(group))
        assert {each: follower[each] for each in follower if each != "volumeMounts"} == {
            each: leader[each] for each in leader if each not in ("volumeMounts", "lifecycle")
        }


def test_a_redis_of_jobs_keeps_what_it_answered(objects: Objects) -> None:
    for name, _, container in pods(objects):
        if name in ("cache", "jobs"):
            options = {option: value for option, value in pairwise(container["args"]) if option.startswith("--")}
            kept = (options["--appendonly"], options.get("--appendfsync"), options["--maxmemory-policy"])
            assert kept == {"jobs": ("yes", "always", "noeviction"), "cache": ("no", None, "allkeys-lru")}[name]


def test_accelerators_are_asked_for_as_clusters_hand_them_out(objects: Objects) -> None:
    ((pod, container),) = [(pod, container) for name, pod, container in pods(objects) if name == "generator"]
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    asked = {name: number for name, number in limits.items() if "/" in name}
    # Kubernetes demands that they are equal.
    assert {name: number for name, number in requests.items() if "/" in name} == asked
    platforms = {"google.com/tpu": "tpu,cpu", "nvidia.com/gpu": "cuda"}
    assert environment(objects, container).get("JAX_PLATFORMS") == (platforms[next(iter(asked))] if asked else None)
    assert {each["key"] for each in pod.get("tolerations", [])} == asked.keys()
    assert ("nodeSelector" in pod) == ("google.com/tpu" in asked)
    if selector := pod.get("nodeSelector"):
        assert selector["cloud.google.com/gke-tpu-accelerator"] in ("tpu-v5-lite-podslice", "tpu-v6e-slice")
        rows, columns = map(int, selector["cloud.google.com/gke-tpu-topology"].split("x"))
        # A pod has all chips of its machine, and the machines are the whole slice.
        groups = of_kind(objects, "LeaderWorkerSet")
        machines = sum(group["spec"]["leaderWorkerTemplate"]["size"] for group in groups) or 1
        assert asked["google.com/tpu"] <= 8
        assert asked["google.com/tpu"] * machines == rows * columns
