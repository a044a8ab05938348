"""Passwords never appear in messages and logs."""

import subprocess
import sys

import pytest
import typer

from reimagen_common.command_line import report_errors
from reimagen_common.errors import InvalidArgument
from reimagen_common.operations import Health
from reimagen_common.secrets import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:pass@cache:6379/0", "redis://***@cache:6379/0"),
        ("rediss://:pa@ss@cache/0", "rediss://***@cache/0"),
        ("redis://me:pa/ss@cache", "redis://***@cache"),
        ("cannot read 's3://KEY:SECRET@bucket/kb' now", "cannot read 's3://***@bucket/kb' now"),
        ("redis://cache?db=1&password=pass", "redis://cache?db=1&password=***"),
        ("https://store/a?X-Amz-Signature=ab&part=2", "https://store/a?X-Amz-Signature=***&part=2"),
        ("two: redis://a:b@c and http://d:e@f/", "two: redis://***@c and http://***@f/"),
    ],
)
def test_secrets_in_an_address_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text", ["https://example.org/@me/fox.png", "http://host:8000/a@2x.png", "me@example.org: a fox", "redis://cache/0"]
)
def test_other_parts_of_an_address_stay(text: str) -> None:
    assert masked(text) == text


def test_errors_health_and_commands_show_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "redis://me:pass@cache"
    assert InvalidArgument(f"{secret} is down", field="redis_url").message == "redis_url: redis://***@cache is down"
    assert Health(status="degraded", reasons=[secret]).reasons == ["redis://***@cache"]
    with pytest.raises(typer.Exit), report_errors():
        raise OSError(f"cannot reach {secret}")
    assert capsys.readouterr().err == "error: cannot reach redis://***@cache\n"


def test_log_lines_show_no_secret() -> None:
    code = """
import logging
from reimagen_common.logs import configure_logging
configure_logging("sample", "info")
secret = "redis://me:pass@cache"
logging.info("at %s", secret, extra={"redis": secret})
try:
    raise OSError(secret)
except OSError:
    logging.exception("failed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pass" not in done.stderr
    assert done.stderr.count("redis://***@cache") >= 3
