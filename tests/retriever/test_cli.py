import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reimagen_retriever.cli import app

MakeFolder = Callable[[Mapping[str, str]], Path]
MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def kb(folder: MakeFolder, tmp_path: Path) -> Path:
    captions = {"fox 1": "a red fox", "fox 2": "a red fox", "kea 1": "a kea", "kea 2": "a kea"}
    run("build", folder(captions), tmp_path / "kb")
    return tmp_path / "kb"


def test_build_reports_accepted_and_rejected_pairs(folder: MakeFolder, tmp_path: Path) -> None:
    source = folder({"a": "", "b": "", "c": ""})
    rows = [
        {"image": "a.png", "text": "a fox", "license": "MIT"},
        {"image": "b.png", "text": "a kea"},
        {"image": "c.png", "text": " "},
    ]
    (source / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = run("build", source, tmp_path / "kb")
    assert result.exit_code == 0
    assert "left out captions.jsonl:3: empty caption" in result.stderr
    summary = result.stdout.splitlines()
    assert summary[0].startswith(f"{tmp_path}/kb: 2 pairs, ")
    assert set(summary[1:]) == {
        "  1 under MIT",
        "  1 under an unknown license",
        "  1 entries of the source left out:",
        "            1  empty caption",
    }
    assert run("describe", tmp_path / "kb").stdout.startswith(result.stdout)


def test_search_shows_the_neighbors(kb: Path) -> None:
    result = run("search", kb, "a red fox in the snow", "-k", "16")
    assert result.exit_code == 0
    assert "a red fox" in result.stdout
    assert "a kea" not in result.stdout
    assert "no neighbor: no caption has any word of the query" in run("search", kb, "a unicorn").stdout
    missed = run("search", kb, "a kea's nest").stdout
    assert missed.startswith("no neighbor: no caption names 'nest'; the nearest is 'a kea' (kea 1)")
    assert missed.rstrip().endswith("set relevance to any to include it")
    assert "kea 1" in run("search", kb, "a kea's nest", "--relevance", "any").stdout
    assert "no pair scores 99" in run("search", kb, "a kea", "--minimum-score", "99").stdout


def test_search_shows_each_entity_with_per_entity(kb: Path) -> None:
    query = ("search", kb, "a red fox and a kea in the snow")
    assert "a kea" not in run(*query).stdout
    assert "a kea" in run(*query, "--per-entity").stdout


def test_search_is_filtered_and_explained(kb: Path) -> None:
    query = ("search", kb, "a red fox")
    assert "fox 2" in run(*query).stdout
    assert "fox 2" not in run(*query, "--exclude-id", "fox 2").stdout
    assert "no neighbor" in run(*query, "--license", "MIT").stdout
    explained = run(*query, "--explain", "--license", "").stdout
    assert ["idf" in line and "tf" in line for line in explained.splitlines()].count(True) == 1
    assert {"red", "fox"} <= set(explained.split())
    refused = run(*query, "--minimum-side", "100001")
    assert refused.exit_code == 2
    assert "error: minimum_side: must be 0 to 100,000, got 100,001" in refused.stderr


def test_vectors_are_made_described_and_searched(kb: Path, sentence_encoder: MakeEncoder) -> None:
    assert "error: method: this knowledge base has no vectors" in run("search", kb, "a", "--method", "dense").stderr
    encoder = sentence_encoder({"kea": [1.0, 0.0], "parrot": [0.9, 0.0], "fox": [0.0, 1.0], "a": [0.1, 0.1]})
    made = run("vectors", kb, "--encoder", encoder)
    assert made.exit_code == 0
    assert f"{kb}: vectors of 4 texts, 2 dimensions, flat index, by {encoder}" in made.stdout
    assert "vectors of 4 texts" in run("describe", kb).stdout
    assert "no neighbor" in run("search", kb, "a parrot").stdout
    found = run("search", kb, "a parrot", "--method", "dense", "--explain").stdout
    assert "kea 1" in found
    assert "cosine" in found
    assert "fox" not in found
    query = ("search", kb, "a parrot, a red fox", "--method", "hybrid", "--minimum-cosine", "-1")
    hybrid = run(*query, "-k", "4", "--explain").stdout
    assert "rank 1 by words" in hybrid
    assert "rank 1 by vectors" in hybrid


@pytest.mark.parametrize("command", [["search", "query"], ["describe"]])
def test_a_missing_knowledge_base_is_an_error_of_one_sentence(tmp_path: Path, command: list[str]) -> None:
    name, *rest = command
    result = run(name, tmp_path / "nowhere", *rest)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/nowhere is not a complete knowledge base")


def test_an_empty_source_fails(tmp_path: Path, folder: MakeFolder) -> None:
    result = run("build", folder({"a": "", "b": " "}), tmp_path / "kb")
    assert result.exit_code == 2
    assert "error: source: it has no valid pair (empty caption: 2)" in result.stderr
    assert run("build", tmp_path / "nowhere", tmp_path / "kb").exit_code == 2
    assert run("describe", tmp_path / "kb").exit_code == 2


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"REIMAGEN_RETRIEVER_CONCURRENT_CALLS": "0"}, "error: concurrent_calls: should be greater than or equal to 1"),
        ({"REIMAGEN_RETRIEVER_CONCURRENT_CALLS": "many"}, "error: concurrent_calls: should be a valid integer"),
        ({"REIMAGEN_RETRIEVER_HTTP": "127.0.0.1:99999"}, "error: http: must have a port from 0 to 65,535, got 99999"),
        ({"REIMAGEN_RETRIEVER_ALLOWED_HOSTS": "a:1"}, "error: allowed_hosts: must be host names without ports"),
        ({"REIMAGEN_RETRIEVER_RELEVANCE": "some"}, "error: relevance: should be 'any', 'entity' or 'phrase'"),
        ({"REIMAGEN_RETRIEVER_LOG_LEVEL": "loud"}, "error: log_level: should be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_an_invalid_setting_is_refused_by_its_name(kb: Path, environment: dict[str, str], message: str) -> None:
    result = run("serve", kb, "--grpc", "127.0.0.1:0", **environment)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(("command", "option"), [(("serve", "kb"), "grpc"), (("remove", "kb", "fox"), "address")])
def test_a_port_above_65535_is_refused(command: tuple[str, ...], option: str) -> None:
    result = run(*command, f"--{option}", "127.0.0.1:70000")
    assert result.exit_code == 2
    assert f"error: {option}: must have a port from 0 to 65,535, got 70000" in result.stderr


def test_serve_needs_a_knowledge_base() -> None:
    result = run("serve")
    assert result.exit_code == 2
    assert "error: knowledge_base: is required" in result.stderr


def test_help_has_examples() -> None:
    assert "captions.csv" in run("build", "--help").stdout
    assert "REIMAGEN_RETRIEVER_REDIS_URL" in run("serve", "--help").stdout
    assert "tokenizer.json" in run("vectors", "--help").stdout
    for command in ("build", "vectors", "search", "describe", "serve"):
        assert command in run("--help").stdout


def test_the_build_chooses_the_analysis_of_captions(folder: MakeFolder, tmp_path: Path) -> None:
    options = ("--language", "de", "--k1", "1.2", "--b", "0.75")
    assert run("build", folder({"a": "die Häuser am See"}), tmp_path / "kb", *options).exit_code == 0
    assert "die Häuser am See" in run("search", tmp_path / "kb", "ein Haus").stdout
    for wrong in (("--language", "tlh"), ("--k1", "-1"), ("--b", "1.5")):
        refused = run("build", tmp_path / "source", tmp_path / "kb", *wrong)
        assert refused.exit_code == 2
        assert wrong[0] in refused.stderr
