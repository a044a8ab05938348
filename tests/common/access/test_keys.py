"""Keys: their form, their file, and the commands that change it."""

import json
import multiprocessing
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from reimagen_common.access.commands import keys_commands
from reimagen_common.access.guard import Guard
from reimagen_common.access.key_file import KeyFile, add_key, read_keys, revoke_key
from reimagen_common.access.keys import PREFIX, Key, id_of, make_key
from reimagen_common.access.rights import Right
from reimagen_common.errors import InvalidArgument, NotFound, Unauthenticated
from reimagen_common.secrets import masked

READ = frozenset({Right.READ})
PROCESSES = 4


def bearer(key: str) -> list[str]:
    return [f"Bearer {key}"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_random_and_only_its_hash_is_stored(file: Path) -> None:
    key, stored = make_key("site", READ)
    add_key(file, stored)
    assert re.fullmatch(r"reimagen_[a-z0-9]{8}_[A-Za-z0-9]{43}", key)
    assert id_of(key) == stored.id
    assert stored.matches(key)
    assert not stored.matches(key[:-1] + ("a" if key[-1] != "a" else "b"))
    assert key.rpartition("_")[2] not in file.read_text()
    assert make_key("site", READ)[0] != key


def test_a_key_is_masked_wherever_it_appears() -> None:
    key, stored = make_key("site", READ)
    assert masked(f"bad key {key}!") == f"bad key {PREFIX}{stored.id}_***!"
    assert masked("reimagen_overload_refusals_total") == "reimagen_overload_refusals_total"


@pytest.mark.parametrize("name", ["", "x" * 101, "two\nlines"], ids=["empty", "long", "lines"])
def test_a_name_is_one_line_of_a_hundred_characters(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        make_key(name, READ)


def test_the_file_is_its_owners_and_keeps_the_mode_that_it_is_given(file: Path) -> None:
    add_key(file, make_key("one", READ)[1])
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    add_key(file, make_key("two", READ)[1])
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_a_link_to_the_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    file.symlink_to(tmp_path / "elsewhere.json")
    add_key(file, make_key("one", READ)[1])
    assert file.is_symlink()
    assert len(read_keys(tmp_path / "elsewhere.json").keys) == 1


def _add(file: Path, name: str) -> None:
    for _ in range(5):
        add_key(file, make_key(name, READ)[1])


def test_commands_at_the_same_time_lose_no_key(file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(file, f"p{number}")) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read_keys(file).keys) == 5 * PROCESSES


def test_added_and_revoked_keys_count_at_once(file: Path) -> None:
    first, stored = make_key("first", READ)
    add_key(file, stored)
    guard = Guard(KeyFile(file))
    assert guard.identify(bearer(first)).id == stored.id
    second, other = make_key("second", READ)
    with pytest.raises(Unauthenticated, match="unknown or has been revoked"):
        guard.identify(bearer(second))
    add_key(file, other)
    assert guard.identify(bearer(second)).id == other.id
    assert revoke_key(file, stored.id).name == "first"
    with pytest.raises(Unauthenticated, match="unknown or has been revoked"):
        guard.identify(bearer(first))
    with pytest.raises(NotFound, match=stored.id):
        revoke_key(file, stored.id)


def test_a_damaged_or_missing_file_leaves_the_last_keys(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, stored = make_key("first", READ)
    add_key(file, stored)
    guard = Guard(KeyFile(file))
    for damage in (lambda: file.write_text("{"), file.unlink):
        damage()
        assert guard.identify(bearer(key)).id == stored.id
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert guard.identify(bearer(key)).id == stored.id
    assert len(caplog.records) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"keys": [{}]}', '{"version": 2}'])
def test_a_file_that_is_none_is_refused_at_the_start(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(InvalidArgument, match=r"keys: .* is no key file"):
        KeyFile(file)


def test_a_missing_file_says_how_to_make_it(file: Path) -> None:
    with pytest.raises(InvalidArgument, match="keys add NAME --file"):
        KeyFile(file)


def test_a_key_expires(file: Path) -> None:
    now = datetime.now(UTC)
    old, past = make_key("old", READ, expires=now - timedelta(seconds=1))
    new, future = make_key("new", READ, expires=now + timedelta(days=1))
    for stored in (past, future):
        add_key(file, stored)
    guard = Guard(KeyFile(file))
    assert guard.identify(bearer(new)).id == future.id
    with pytest.raises(Unauthenticated, match="has expired"):
        guard.identify(bearer(old))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_any_case(file: Path, scheme: str) -> None:
    key, stored = make_key("site", READ)
    add_key(file, stored)
    assert Guard(KeyFile(file)).identify([f"{scheme}  {key} "]).id == stored.id


def test_two_headers_or_another_scheme_are_refused(file: Path) -> None:
    key, stored = make_key("site", READ)
    add_key(file, stored)
    guard = Guard(KeyFile(file))
    for headers in (bearer(key) * 2, [key], [f"Basic {key}"], [f"Bearer {key}, Bearer {key}"], ["Bearer"], [""]):
        with pytest.raises(Unauthenticated, match="no well-formed API key"):
            guard.identify(headers)
    with pytest.raises(Unauthenticated, match="requires an API key"):
        guard.identify([])


@given(st.lists(st.one_of(st.text(), st.from_regex(r"(?i)bearer reimagen_[a-z0-9]{8}_[A-Za-z0-9]{43}")), max_size=3))
def test_no_header_is_a_key_by_chance(headers: list[str]) -> None:
    class NoKeys:
        def get(self, identifier: str) -> Key | None:
            assert re.fullmatch("[a-z0-9]{8}", identifier)
            return None

    with pytest.raises(Unauthenticated):
        Guard(NoKeys()).identify(headers)  # type: ignore[arg-type]


def run(*arguments: str, file: Path | None = None) -> tuple[int, str, str]:
    app = typer.Typer()
    app.add_typer(keys_commands("REIMAGEN_TEST_KEYS"), name="keys")
    environment = {"REIMAGEN_TEST_KEYS": str(file)} if file else {}
    done = CliRunner().invoke(app, ["keys", *arguments], env=environment | {"COLUMNS": "200"})
    return done.exit_code, done.stdout, done.stderr


def test_the_commands_add_list_and_revoke(file: Path) -> None:
    status, key, hint = run("add", "site", file=file)
    assert status == 0
    assert "not shown again" in hint
    limited = ("--right", "write", "--images-per-day", "5", "--requests-per-minute", "60", "--days", "30", "--json")
    added = json.loads(run("add", "editor", *limited, file=file)[1])
    assert (added["rights"], added["images_per_day"], added["requests_per_minute"]) == (["write"], 5, 60)
    guard = Guard(KeyFile(file))
    assert guard.identify(bearer(key.strip())).rights == {Right.READ, Right.GENERATE}
    assert guard.identify(bearer(added["key"])).rights == {Right.WRITE}
    listed = json.loads(run("list", "--json", "--file", str(file))[1])
    assert [one["name"] for one in listed] == ["site", "editor"]
    assert not any("sha256" in one for one in listed)
    table = run("list", file=file)[1]
    assert listed[0]["id"] in table
    assert "generate, read" in table
    assert run("revoke", added["id"], file=file) == (0, f"revoked the key {added['id']} (editor)\n", "")
    with pytest.raises(Unauthenticated):
        guard.identify(bearer(added["key"]))


def test_the_commands_say_what_is_wrong(file: Path, tmp_path: Path) -> None:
    status, _, error = run("list", file=file)
    assert (status, error.startswith("error: keys: there is no key file")) == (2, True)
    status, _, error = run("add", "x", file=tmp_path / "missing" / "keys.json")
    assert (status, "cannot open the folder" in error) == (2, True)
    assert run("add", "site", file=file)[0] == 0
    status, _, error = run("revoke", "nothing1", file=file)
    assert (status, "has the id 'nothing1'" in error) == (2, True)
    status, _, error = run("add", "x", "--days", "9999999", file=file)
    assert (status, error) == (2, "error: days: must be a date before the year 10000\n")
