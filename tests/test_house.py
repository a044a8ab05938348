"""Checks of the repository as a whole."""

import re
import subprocess
from pathlib import Path

import pytest

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


def locked(lock: Path) -> dict[str, str]:
    """Return the version of each package, each of which must have hashes."""
    text = lock.read_text()
    with_hashes = re.findall(r"^([\w.-]+)==(\S+)[^\n]* \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(with_hashes) == len(re.findall(r"^[\w.-]+", text, re.MULTILINE)) > 0
    return dict(with_hashes)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_a_lock_has_no_address_and_agrees_with_the_main_lock(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|^-|@ ", text, re.MULTILINE)
    assert locked(lock).items() <= locked(ROOT / "requirements.lock").items()


@pytest.mark.parametrize("lock", [*REFERENCE_LOCKS, *ADDITIONS], ids=lambda lock: lock.name)
def test_a_lock_of_additions_changes_no_installed_version(lock: Path) -> None:
    whole = locked(ROOT / "requirements.lock")
    assert {name: version for name, version in locked(lock).items() if whole.get(name, version) != version} == {}


def test_the_builds_of_torch_have_one_version() -> None:
    cpu, cuda = (locked(ROOT / f"requirements-torch-{build}.lock")["torch"] for build in ("cpu", "cuda"))
    assert cpu == f"{cuda}+cpu"


def test_no_service_depends_on_torch() -> None:
    for lock in LOCKS:
        assert not {"torch", "transformers", "tensorflow"} & locked(lock).keys()


def test_the_notice_names_every_package() -> None:
    named = set((ROOT / "NOTICE").read_text().split())
    assert locked(ROOT / "requirements.lock").keys() <= named


def test_no_file_is_over_fifteen_megabytes() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert files
    assert [file for file in files if file.is_file() and file.stat().st_size > 15_000_000] == []


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


@pytest.mark.skipif(not java.installed().startswith(java.VERSION), reason=f"needs JDK {java.VERSION}")
def test_the_jar_is_what_its_code_compiles_to(tmp_path: Path) -> None:
    java.build(tmp_path / "new.jar")
    assert (tmp_path / "new.jar").read_bytes() == HELPER_JAR.read_bytes()
