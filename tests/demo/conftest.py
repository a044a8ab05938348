from pathlib import Path

import pytest

from reimagen_demo.art.icons import Art


@pytest.fixture(scope="session")
def art(tmp_path_factory: pytest.TempPathFactory) -> Art:
    """Install the real icon sets; drawings are cached for all tests."""
    art = Art(tmp_path_factory.mktemp("art"))
    art.install()
    return art


@pytest.fixture
def out_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
