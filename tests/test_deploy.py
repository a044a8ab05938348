"""What is deployed names what there is."""

from pathlib import Path

import yaml  # type: ignore[import-untyped]

from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def test_the_replicas_manifest_fits_the_image_and_the_settings() -> None:
    service, deployment = yaml.safe_load_all((ROOT / "deploy/kubernetes/retriever.yaml").read_text())
    assert service["spec"]["clusterIP"] == "None"
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    dockerfile = (ROOT / "deploy/docker/retriever.Dockerfile").read_text()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert f"EXPOSE {ports['grpc']} {ports['http']}" in dockerfile
    assert f"--uid {pod['spec']['securityContext']['runAsUser']} " in dockerfile
    assert "REIMAGEN_RETRIEVER_KNOWLEDGE_BASE=/kb " in dockerfile
    assert "/kb" in {mount["mountPath"] for mount in container["volumeMounts"]}
    known = {f"REIMAGEN_RETRIEVER_{name.upper()}" for name in Settings.model_fields}
    assert {variable["name"] for variable in container["env"]} <= known


def test_the_containers_of_compose_start_with_their_settings() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, settings in (("retriever", Settings), ("generator", GeneratorSettings)):
        prefix = f"REIMAGEN_{name.upper()}_"
        given = {key.removeprefix(prefix).lower() for key in services[name]["environment"] if key.startswith(prefix)}
        assert given <= settings.model_fields.keys()
        # The images listen for other containers, which a service without keys has to be allowed.
        assert f"{prefix}HTTP=0.0.0.0:" in (ROOT / f"deploy/docker/{name}.Dockerfile").read_text()
        assert given & {"allow_anonymous", "keys"}
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
