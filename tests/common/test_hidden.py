import pytest

from reimagen_common.hidden import is_hidden


@pytest.mark.parametrize(
    "name", ["._a.jpg", "./._a.jpg", "birds/._kea.png", ".cache/a.jpg", "a/.git/b/c.png", "__MACOSX/a.jpg", "THUMBS.DB"]
)
def test_files_of_operating_systems_are_hidden(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "../a.jpg", "a.b/c.jpg", "macosx/a.jpg", "_a.jpg", ""])
def test_other_files_are_not_hidden(name: str) -> None:
    assert not is_hidden(name)
