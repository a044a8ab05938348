"""The settings of the generator."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from reimagen_generator.cli import app
from reimagen_generator.config.presets import TINY
from reimagen_generator.settings import Settings


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "cascade.json").touch()
    return tmp_path


def test_environment_variables_are_read(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIMAGEN_GENERATOR_WEIGHTS", str(weights))
    monkeypatch.setenv("REIMAGEN_GENERATOR_CAPACITY", "3")
    assert (Settings().weights, Settings().capacity) == (weights, 3)


def test_the_sizes_of_an_image_server_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIMAGEN_GENERATOR_IMAGES_SIZES", "512, 1024")
    assert Settings().images_sizes == (512, 1024)
    monkeypatch.setenv("REIMAGEN_GENERATOR_IMAGES_SIZES", "512, 8")
    with pytest.raises(ValidationError, match="images_sizes"):
        Settings()


@pytest.mark.parametrize(
    "address", ["10.0.0.4:50051", "[::1]:50051", "retrievers:50051", "ipv4:10.0.0.4:50051,10.0.0.5:50051"]
)
def test_a_retriever_may_be_several_replicas(address: str, weights: Path) -> None:
    assert Settings(weights=weights, retriever=address).retriever == address


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capacity", 0),
        ("capacity", 10_000),
        ("deadline_seconds", 0),
        ("deadline_seconds", float("nan")),
        ("stop_seconds", -1),
        ("http", "8000"),
        ("http", "127.0.0.1:eighty"),
        ("grpc", "127.0.0.1"),
        ("retriever", "http://127.0.0.1:50051"),
        ("retriever", "10.0.0.4:50051,10.0.0.5:50051"),
        ("retriever", "ipv4:10.0.0.4:50051,10.0.0.5:70000"),
        ("http", "127.0.0.1:65536"),
        ("grpc", "127.0.0.1:65536"),
        ("base_url", "images.example.org"),
        ("body_seconds", 0),
        ("log_level", "loud"),
        ("weights", "/no/such/folder"),
        ("images_url", "127.0.0.1:8091"),
        ("images_url", "http://key@127.0.0.1:8091/v1"),
        ("images_model", ""),
        ("images_sizes", ""),
        ("images_maximum_k", 17),
    ],
)
def test_invalid_settings_are_refused(weights: Path, name: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"weights": weights, name: value})
    assert refused.value.errors()[0]["loc"] == (name,)


def test_every_setting_is_described_by_help() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    shown = CliRunner().invoke(app, ["serve", "--help"]).output
    assert all(f"REIMAGEN_GENERATOR_{name.upper()}" in shown for name in Settings.model_fields)


def refused(weights: Path) -> str:
    """Return the errors of `serve`, in a separate process: its setup of logging and JAX cannot be undone."""
    program = Path(sys.executable).with_name("reimagen-generator")
    ended = subprocess.run([program, "serve", "--weights", weights], stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2
    return ended.stderr


def test_serve_reports_invalid_settings(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"error: weights: there is no cascade.json in {tmp_path}\n"


def test_serve_names_missing_weights(weights: Path) -> None:
    (weights / "cascade.json").write_text(TINY.model_dump_json())
    assert f"error: weights: cannot read {weights / 'stage-16.safetensors'}" in refused(weights)
