"""The lists of the images' packages, from their locks."""

from pathlib import Path

import pytest

from tools.sbom import IMAGES, ROOT, image_python, installed


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_one_version_of_each_package_of_its_locks(image: str) -> None:
    service, locks = IMAGES[image]
    files = [ROOT / "services" / service / lock for lock in locks]
    found = installed(files, image_python(service))
    texts = [file.read_text() for file in files]
    for name, line in found.items():
        pinned, *hashes = line.split(" --hash=")
        assert pinned.startswith(f"{name}==")
        assert hashes
        assert any(f"\n{pinned}" in f"\n{text}" and all(f"--hash={each}" in text for each in hashes) for text in texts)


def test_markers_choose_what_a_python_installs(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "pyserini==1.6 ; python_full_version < '3.12' \\\n    --hash=sha256:aa\n    # via reimagen-retriever\n"
        "pyserini==2.4 ; python_full_version >= '3.12' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "six==1.17.0\n"
    )
    assert installed([lock], "3.11") == {"pyserini": "pyserini==1.6 --hash=sha256:aa", "six": "six==1.17.0"}
    assert installed([lock], "3.13")["pyserini"] == "pyserini==2.4 --hash=sha256:bb --hash=sha256:cc"


def test_locks_that_differ_are_refused(tmp_path: Path) -> None:
    locks = [tmp_path / "requirements.lock", tmp_path / "requirements-tpu.lock"]
    for lock, version in zip(locks, ("1.0", "1.1"), strict=True):
        lock.write_text(f"six=={version}\n")
    with pytest.raises(ValueError, match=r"requirements-tpu.lock: six: must be the version of the other lock"):
        installed(locks, "3.13")
