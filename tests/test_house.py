"""Checks of the repository as a whole."""

import ast
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from reimagen_retriever.index.jvm import HELPER_JAR
from tools import java

ROOT = Path(__file__).resolve().parents[1]
LOCKS = [
    ROOT / "requirements.lock",
    ROOT / "requirements-build.lock",
    ROOT / "services/retriever/requirements.lock",
    ROOT / "services/generator/requirements.lock",
]
REFERENCE_LOCKS = [ROOT / f"requirements-{name}.lock" for name in ("reference", "torch-cpu", "torch-cuda", "plan")]
# What an image has in addition.
ADDITIONS = sorted((ROOT / "services").glob("*/requirements-*.lock"))


MAKEFILE = (ROOT / "Makefile").read_text()
PYTHONS = re.findall(r"3\.\d+", re.findall(r"^SUPPORTED := (.*)$", MAKEFILE, re.MULTILINE)[0])


@cache
def requirements(lock: Path) -> list[Requirement]:
    """Return the packages of a lock, each of which must have a version and hashes."""
    text = lock.read_text()
    lines = re.findall(r"^([\w.-]+==\S+[^\n\\]*)\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(lines) == len(re.findall(r"^[\w.-]+", text, re.MULTILINE)) > 0
    return [Requirement(line) for line in lines]


@cache
def locked(lock: Path, python: str) -> dict[str, str]:
    """Return the version of each package on Linux with this Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
    }
    chosen = [each for each in requirements(lock) if not each.marker or each.marker.evaluate(environment)]
    versions = {each.name: str(each.specifier).removeprefix("==") for each in chosen}
    assert len(versions) == len(chosen)
    return versions


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_a_lock_has_no_address_and_agrees_with_the_main_lock(lock: Path, python: str) -> None:
    text = lock.read_text()
    assert not re.search(r"://|^-|@ ", text, re.MULTILINE)
    assert locked(lock, python).items() <= locked(ROOT / "requirements.lock", python).items()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", [*REFERENCE_LOCKS, *ADDITIONS], ids=lambda lock: lock.name)
def test_a_lock_of_additions_changes_no_installed_version(lock: Path, python: str) -> None:
    whole = locked(ROOT / "requirements.lock", python)
    additions = locked(lock, python)
    assert {name: version for name, version in additions.items() if whole.get(name, version) != version} == {}


@pytest.mark.parametrize("python", PYTHONS)
def test_one_version_of_each_package_but_pyserini_serves_every_python(python: str) -> None:
    versions = locked(ROOT / "requirements.lock", python)
    newest = locked(ROOT / "requirements.lock", PYTHONS[0])
    differing = {name for name in versions.keys() & newest.keys() if versions[name] != newest[name]}
    assert differing == ({"pyserini"} if python == "3.11" else set())


def test_packages_images_and_make_agree_on_the_python() -> None:
    ranges = {
        tomllib.loads(path.read_text())["project"]["requires-python"]
        for path in ROOT.glob("**/pyproject.toml")
        if path.parent != ROOT and ".venv" not in path.parts
    }
    (supported,) = map(SpecifierSet, ranges)
    minors = [f"3.{minor}" for minor in range(20)]
    assert sorted(PYTHONS) == sorted(version for version in minors if version in supported)
    for dockerfile in (ROOT / "deploy/docker").glob("*.Dockerfile"):
        assert set(re.findall(r"^FROM python:([\d.]+)-", dockerfile.read_text(), re.MULTILINE)) <= set(PYTHONS)


def test_make_refuses_another_python_and_names_those_that_are_supported(tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\necho 3.10\n")
    old.chmod(0o755)
    command = ["make", "-f", str(ROOT / "Makefile"), "-C", str(tmp_path), f"PYTHON={old}", ".venv/.created"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f'needs Python {", ".join(PYTHONS[:0:-1])} or {PYTHONS[0]}, and "{old}" is none of them' in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_takes_the_newest_supported_python_that_runs(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    for version, status in (("3.11", 0), ("3.12", 0), ("3.13", 127), ("3.15", 0)):
        command = tmp_path / f"python{version}"
        command.write_text(f"#!/bin/sh\nexit {status}\n")
        command.chmod(0o755)
    make = shutil.which("make")
    assert make
    arguments = [make, "-f", str(ROOT / "Makefile"), "--dry-run", "--always-make", ".venv/.created"]
    environment = {"PATH": str(tmp_path)}
    shown = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "python3.12 -m venv" in shown


def test_the_builds_of_torch_have_one_version() -> None:
    cpu, cuda = (locked(ROOT / f"requirements-torch-{build}.lock", "3.11")["torch"] for build in ("cpu", "cuda"))
    assert cpu == f"{cuda}+cpu"


def test_no_service_depends_on_torch() -> None:
    for lock in LOCKS:
        assert not {"torch", "transformers", "tensorflow"} & {each.name for each in requirements(lock)}


def test_the_notice_names_every_package() -> None:
    named = set((ROOT / "NOTICE").read_text().split())
    for lock in ("requirements.lock", "requirements-sbom.lock"):
        assert {each.name for each in requirements(ROOT / lock)} <= named


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "-z", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_no_file_is_over_fifteen_megabytes() -> None:
    files = tracked()
    assert files
    assert [file for file in files if file.is_file() and file.stat().st_size > 15_000_000] == []


# Names that version 0.2 replaced, and the terms of the glossary that stand for them.
REPLACED = {
    "Places": "RequestSlots",
    "StepDone": "StepEvent",
    "Finished": "ImagesEvent",
    "too_late": "deadline_exceeded",
    "Retriever": "RetrieverClient or RetrievalService",
    "Grid": "SamplingSchedule",
    "Before": "PreviousPrediction",
    "leads": "is_primary",
    "gathered": "all_gather",
    "exchange": "collectives",
    "intake": "ingest",
    "upkeep": "maintenance",
    "siblings": "process_group",
    "finding": "knn",
    "dense_added": "dense_delta",
    "Minima": "Defaults",
    "EVERYTHING": "NO_FILTER",
    "complaint": "degraded_reason",
    "told": "report_errors",
    "with_and_without": "ablation_sheet",
    "enlarge": "upsample",
    "shrink": "downsample",
    "consistent": "low_res_consistency",
    "sections": "timestep_respacing",
    "in_bulk": "a Java helper",
}


def replaced_names(code: str) -> set[str]:
    """Return the replaced names that a module defines or assigns, with or without a leading underscore."""
    if not re.search(rf"\b_?({'|'.join(REPLACED)})\b", code):
        return set()
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
    return {name for name in found if name.removeprefix("_") in REPLACED}


def test_replaced_names_are_found() -> None:
    code = "class Grid: ...\ndef _told(leads): self.intake = complaint = 'the exchange of the finding'"
    assert replaced_names(code) == {"Grid", "_told", "leads", "intake", "complaint"}


def test_no_code_has_a_replaced_name() -> None:
    files = [path for path in tracked("*.py") if path.is_file()]
    assert files
    found = {str(path.relative_to(ROOT)): replaced_names(path.read_text(encoding="utf-8")) for path in files}
    assert {
        path: {name: REPLACED[name.removeprefix("_")] for name in names} for path, names in found.items() if names
    } == {}
    assert {str(path) for path in files if path.stem.removeprefix("_") in REPLACED} == set()


PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_its_readers(page: Path) -> None:
    assert page.read_text(encoding="utf-8").splitlines()[2].startswith("For ")


def test_the_index_lists_every_page() -> None:
    links = re.findall(r"\]\(([^)#]+\.md)\)", (ROOT / "docs/README.md").read_text(encoding="utf-8"))
    assert {ROOT / "docs" / link for link in links} == set(PAGES) - {ROOT / "docs/README.md"}


def test_the_page_of_settings_is_current() -> None:
    from tools import configuration

    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page()


@pytest.mark.skipif(
    not (java.COMPILES and java.installed().startswith(java.VERSION)),
    reason=f"needs Python 3.11 and JDK {java.VERSION}",
)
def test_the_jar_is_what_its_code_compiles_to(tmp_path: Path) -> None:
    java.build(tmp_path / "new.jar")
    assert (tmp_path / "new.jar").read_bytes() == HELPER_JAR.read_bytes()
