"""The synchronous clients are those that `python -m tools.sync_clients` writes."""

import pytest

from tools.sync_clients import CLIENTS, FOLDER, synchronous


@pytest.mark.parametrize(("source", "written"), CLIENTS.items())
def test_a_synchronous_client_is_current(source: str, written: str) -> None:
    assert (FOLDER / written).read_text(encoding="utf-8") == synchronous(FOLDER / source)
