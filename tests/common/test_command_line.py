"""Settings and errors on the command line."""

import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from reimagen_common.command_line import optional_dependencies, read_settings, report_errors, variables_help
from reimagen_common.errors import Damaged, InvalidArgument, NotFound, Unavailable


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    folder: str = Field(description="Where it is.")
    workers: int = Field(default=8, ge=1, description="How many at once.")
    url: str | None = Field(default=None, description="Who answers.")
    names: list[str] = Field(default_factory=lambda: ["a"], description="Who asks.")


def test_help_lists_each_variable_with_its_default() -> None:
    assert variables_help(Settings).split("\n\n") == [
        "Environment variables:",
        "SAMPLE_FOLDER: Where it is. Required.",
        "SAMPLE_WORKERS: How many at once. Default: 8.",
        "SAMPLE_URL: Who answers. Default: none.",
        "SAMPLE_NAMES: Who asks. Default: ['a'].",
    ]


def test_the_command_line_has_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_FOLDER", "there")
    monkeypatch.setenv("SAMPLE_WORKERS", "2")
    settings = read_settings(Settings, {"folder": "here", "workers": None})
    assert (settings.folder, settings.workers) == ("here", 2)


def test_an_invalid_setting_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"^folder: is required$"):
        read_settings(Settings, {})
    with pytest.raises(InvalidArgument, match=r"^workers: should be greater than or equal to 1$"):
        read_settings(Settings, {"folder": "here", "workers": 0})


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InvalidArgument("is no port", field="http"), 2, "error: http: is no port\n"),
        (Unavailable("it is down"), 1, "error: it is down\n"),
        (NotFound("there is no base"), 2, "error: there is no base\n"),
        (Damaged("it is damaged"), 2, "error: it is damaged\n"),
        (FileNotFoundError("no such file"), 2, "error: no such file\n"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_errors_end_in_a_sentence_and_a_status(
    error: BaseException, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, report_errors():
        raise error
    assert ended.value.exit_code == status
    assert capsys.readouterr() == ("", says)


def test_an_unexpected_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), report_errors():
        raise ZeroDivisionError


def test_a_missing_package_is_reported_with_its_extra() -> None:
    with (
        pytest.raises(
            InvalidArgument, match=r"'no_such_package', which is not installed: run .pip install 'reimagen\[training\]'"
        ),
        optional_dependencies("reimagen", "training"),
    ):
        importlib.import_module("no_such_package")


@pytest.mark.parametrize("package", ["reimagen-retriever", "reimagen-generator", "reimagen-evaluation"])
def test_each_command_prints_its_version(package: str) -> None:
    program = Path(sys.executable).with_name(package.replace("evaluation", "evaluate"))
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{package} {version(package)}\n"
