"""The files that deploy the services, and what their wheels and images contain."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.parametrize("given", [{}, {"IMAGES_URL": "https://images.example/v1", "IMAGES_SIZES": "512,1024"}])
def test_compose_can_put_an_image_server_in_place_of_the_cascade(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    override = yaml.safe_load((ROOT / "deploy/docker/image-server.yml").read_text())["services"]
    assert override.keys() == {"generator"}
    shell = {f"REIMAGEN_GENERATOR_{name}": value for name, value in given.items()}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, value in (services["generator"]["environment"] | override["generator"]["environment"]).items():
        # As Compose does: a null is the shell's value, and ${NAME:-default} is replaced.
        replaced = shell.get(name) if value is None else re.sub(r"\$\{(\w+):-([^}]*)\}", partial(_value, shell), value)
        if replaced is not None:
            monkeypatch.setenv(name, replaced)
    settings = GeneratorSettings()
    assert str(settings.images_url) == given.get("IMAGES_URL", "http://host.docker.internal:8091/v1")
    assert settings.images_sizes == ((512, 1024) if given else (1024,))
    assert settings.images_api_key is None
    unknown = override["generator"]["environment"].keys() - {
        f"REIMAGEN_GENERATOR_{name.upper()}" for name in GeneratorSettings.model_fields
    }
    assert not unknown
    assert "host.docker.internal:host-gateway" in override["generator"]["extra_hosts"]


def test_compose_can_require_keys_and_tls() -> None:
    override = yaml.safe_load((ROOT / "deploy/docker/access.yml").read_text())["services"]
    assert override.keys() == {"retriever", "generator"}
    files = {"keys.json", "tls.crt", "tls.key", "ca.crt"}
    for name, settings in (("retriever", Settings), ("generator", GeneratorSettings)):
        prefix = f"REIMAGEN_{name.upper()}_"
        given = {key.removeprefix(prefix).lower(): value for key, value in override[name]["environment"].items()}
        assert given.keys() <= settings.model_fields.keys()
        assert given["allow_anonymous"] == "false"
        assert given.keys() >= {"keys", "tls_certificate", "tls_key"}
        (volume,) = override[name]["volumes"]
        folder = volume.split(":")[-2]
        mounted = {Path(value) for value in given.values() if value.startswith("/")}
        assert {path.parent for path in mounted} == {Path(folder)}
        assert {path.name for path in mounted} <= files
    # The generator trusts the retriever's authority and has a key for it.
    assert given.keys() >= {"retriever_ca", "retriever_api_key"}


def _value(shell: Mapping[str, str], reference: re.Match[str]) -> str:
    return shell.get(reference[1]) or reference[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the generator's wheel, and return the names of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: building leaves files in the source.
    shutil.copytree(ROOT / "services/generator/reimagen_generator", folder / "source/reimagen_generator")
    shutil.copy(ROOT / "services/generator/pyproject.toml", folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*command, "--wheel-dir", folder, folder / "source"], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_the_generators_wheel_has_no_evaluation_and_no_demonstration(wheel: list[str]) -> None:
    folders = {name.partition("/")[0] for name in wheel}
    assert {"reimagen_generator"} == {name for name in folders if not name.endswith(".dist-info")}
    assert "reimagen_generator/cli.py" in wheel
    # The page at / and the licenses of what it ships.
    shipped = {name.removeprefix("reimagen_generator/page/") for name in wheel}
    assert {"index.html", "bundle.js", "styles/base.css", "fonts/inter.woff2", "vendor/LICENSE-htm.txt"} <= shipped
    assert [name for name in wheel if "evaluat" in name or "demo" in name or name.endswith(".safetensors")] == []


@pytest.mark.parametrize("service", ["generator", "retriever"])
def test_an_image_is_built_of_its_service_alone(service: str) -> None:
    dockerfile = (ROOT / f"deploy/docker/{service}.Dockerfile").read_text()
    copied = {source for source, _ in re.findall(r"^COPY (?!--from)(\S+) (\S+)$", dockerfile, re.MULTILINE)}
    own = f"services/{service}"
    files = {"requirements-build.lock", f"{own}/requirements*.lock"}
    assert copied - {f"{own}/weights"} == files | {"proto", "services/common", own}
    assert f"./proto ./services/common ./{own} \\\n" in dockerfile
    # Each lock of an addition is chosen by a build argument that the first lines name.
    for argument in re.findall(r"^ARG (\w+)$", dockerfile, re.MULTILINE):
        assert f"${{{argument}:+-r requirements-${argument}.lock}}" in dockerfile
    head = dockerfile.partition("\n\n")[0]
    additions = {lock.stem.removeprefix("requirements-") for lock in (ROOT / own).glob("requirements-*.lock")}
    assert additions
    assert all(re.search(rf"(=|or ){addition}\b", head) for addition in additions)
    admitted = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(admitted) == {"proto", "services", "requirements-build.lock"}
