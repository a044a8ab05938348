"""The command `reimagen`, against a real generator and retriever."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from reimagen_client.command.main import app
from reimagen_client.provenance import inspect
from tests.client.conftest import PROMPT, Failing, Service, answer

VERIFIED = {
    "signature": {
        "status": "untrusted",
        "signer": "Re-Imagen",
        "time": "2026-11-29T09:00:00Z",
        "reason": "self-signed",
    },
    "tampered": False,
    "generation": {
        "prompt": PROMPT,
        "seed": 7,
        "model": "tiny",
        "created": 1795921327,
        "request": {"prompt": PROMPT, "seed": 7},
        "neighbors": [{"id": "kea", "caption": "a kea", "source": "tests", "license": "MIT", "similarity": 0.9}],
    },
    "soft_bindings": [{"algorithm": "reimagen.watermark.1", "value": "a4221699"}],
    "found_by": "metadata",
}


def run(*arguments: object, url: str = "") -> Result:
    """Run the command, as in a pipe."""
    options = ["--base-url", url] if url else []
    return CliRunner().invoke(app, [*options, *map(str, arguments)], catch_exceptions=False)


def test_an_image_is_saved_with_its_neighbors_and_inspected(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("generate", PROMPT, "-o", out, "--seed", "7", "-k", "1", url=service.base_url)
    assert done.exit_code == 0, done.stderr
    path = out / "a-red-fox-in-the-snow-7.png"
    assert done.stdout.splitlines() == [f"{path} (seed 7)", "fox/1?: a red fox (MIT)"]
    shown = run("inspect", path)
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()[:2]] == [["prompt", *PROMPT.split()], ["seed", "7"]]
    assert json.loads(run("inspect", path, "--json").stdout)["neighbors"][0]["id"] == "fox/1?"


def test_several_images_of_a_reference_are_saved(service: Service, tmp_path: Path, reference: Path) -> None:
    command = ["generate", "a robot", "-n", "2", "--seed", "3", "--reference", reference, "--caption", "Kiki", "--json"]
    done = run(*command, "--format", "webp", "-o", tmp_path, url=service.base_url)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert [neighbor["caption"] for neighbor in result["neighbors"]] == ["Kiki"]
    files = {one["seed"]: Path(one["file"]) for one in result["images"]}
    assert {seed: inspect(file).seed for seed, file in files.items()} == {3: 3, 4: 4}
    assert {file.suffix for file in files.values()} == {".webp"}


def test_a_reference_is_cut_out(service: Service, tmp_path: Path, disc: Path) -> None:
    output = tmp_path / "cut.png"
    done = run("cut-out", disc, "-o", output, url=service.base_url)
    assert (done.exit_code, done.stdout) == (0, f"{output}\n")
    with Image.open(output) as image:
        assert image.size == (512, 512)
    drawn = run("generate", "a disc", "--reference", disc, "--cut-out", "-o", tmp_path, url=service.base_url)
    assert drawn.stdout.splitlines()[1:] == ["a disc, cut out"]
    plain = tmp_path / "plain.png"
    Image.new("RGB", (32, 32), "teal").save(plain)
    done = run("cut-out", plain, "-o", output, url=service.base_url)
    assert (done.exit_code, done.stderr.startswith(f"{plain}: no object was found")) == (1, True)
    drawn = run("generate", "teal", "--reference", plain, "--cut-out", "-o", tmp_path, url=service.base_url)
    assert drawn.stderr.splitlines()[-1] == "teal: no object was found in the image, so it is used as it is"
    assert run("generate", "teal", "--cut-out", url=service.base_url).stderr == "error: cut_out: needs a --reference\n"


def test_a_file_is_named_and_its_suffix_sets_the_format(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "new" / "fox.jpg"
    assert run("generate", PROMPT, "-o", path, url=service.base_url).exit_code == 0
    assert path.read_bytes().startswith(b"\xff\xd8")
    done = run("generate", PROMPT, "-n", "2", "-o", path, url=service.base_url)
    assert (done.exit_code, done.stderr) == (2, f"error: output: must be a folder for 2 images, got {path}\n")


def test_a_stage_has_its_own_steps_sampler_and_guidance(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "fox.png"
    stage = "16,steps=3,sampler=ddim,strategy=joint,text_weight=2.5"
    done = run("generate", PROMPT, "--stage", stage, "-o", path, url=service.base_url)
    assert done.exit_code == 0, done.stderr
    guidance = {"strategy": "joint", "text_weight": 2.5}
    (kept,) = inspect(path).settings["stages"]
    assert kept == {"size": 16, "steps": 3, "sampler": "ddim", "guidance": guidance}
    for wrong in ("steps=3", "16,steps", "16,steps=x", "16,speed=3", "16,,"):
        done = run("generate", PROMPT, "--stage", wrong, "-o", path, url=service.base_url)
        assert (done.exit_code, done.stderr.startswith("error: stage: must be SIZE,NAME=VALUE")) == (2, True)


def test_invalid_options_are_named(service: Service, tmp_path: Path, reference: Path) -> None:
    done = run("generate", PROMPT, "--size", "63", "-o", tmp_path, url=service.base_url)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: size: ")
    captions = ["--reference", reference, "--reference", reference, "--reference", reference, "--caption", "a"]
    done = run("generate", PROMPT, *captions, "--caption", "b", url=service.base_url)
    assert (done.exit_code, done.stderr.partition(", got ")[2]) == (2, "2\n")
    assert run("generate", PROMPT, "--reference", tmp_path / "missing.png", url=service.base_url).exit_code == 2
    assert run("generate", PROMPT, url="ftp://example.org").stderr.startswith("error: base_url: must be a URL")
    assert run("inspect", reference).exit_code == 2


def test_a_service_that_is_not_there_is_reported() -> None:
    done = run("models", url="http://127.0.0.1:9")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: cannot reach http://127.0.0.1:9/v1: ")


def test_jobs_are_created_watched_and_listed(service: Service, tmp_path: Path) -> None:
    job_id = run("generate", PROMPT, "--seed", "7", "--job", url=service.base_url).stdout.strip()
    watched = run("jobs", "watch", job_id, "-o", tmp_path, url=service.base_url)
    assert watched.exit_code == 0, watched.stderr
    assert "job completed" in watched.stderr
    (path,) = tmp_path.iterdir()
    assert inspect(path).seed == 7
    assert f"{path} (seed 7)" in watched.stdout
    assert json.loads(run("jobs", "show", job_id, "--json", url=service.base_url).stdout)["status"] == "completed"
    assert f"prompt    {PROMPT}" in run("jobs", "show", job_id, url=service.base_url).stdout
    listed = run("jobs", "list", "--status", "completed", url=service.base_url).stdout
    assert job_id in [line.split()[0] for line in listed.splitlines()]
    assert run("jobs", "cancel", job_id, url=service.base_url).stdout == f"{job_id}: completed\n"
    assert run("jobs", "show", "job_unknown", url=service.base_url).exit_code == 2


def test_pairs_are_added_found_and_removed(service: Service, reference: Path) -> None:
    command = ["add", reference, "a rusty lighthouse", "--id", "mine/1", "--license", "CC0-1.0"]
    assert run(*command, url=service.base_url).stdout == "mine/1: added\n"
    assert run(*command, url=service.base_url).stdout == "mine/1: unchanged\n"
    found = run("search", "a lighthouse", "-k", "1", url=service.base_url)
    assert found.stdout == "mine/1: a rusty lighthouse (CC0-1.0)\n"
    assert run("remove", "mine/1", url=service.base_url).stdout == "mine/1: removed\n"
    nothing = run("search", "a lighthouse", url=service.base_url)
    assert nothing.stdout == ""
    assert nothing.stderr.startswith("no neighbors: ")


def test_the_models_are_listed(service: Service) -> None:
    assert run("models", url=service.base_url).stdout == "tiny: 16x16\n"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0),
        ({"tampered": True}, 1),
        ({"generation": None, "found_by": None}, 1),
        ({"signature": {"status": "invalid", "signer": None, "time": None, "reason": "bad hash"}}, 1),
    ],
)
def test_a_verification_is_shown(failing: Failing, reference: Path, changes: dict[str, object], status: int) -> None:
    failing.answers = [answer(200, VERIFIED | changes)]
    done = run("verify", reference, url=failing.url)
    assert done.exit_code == status
    assert reference.read_bytes() in failing.requests[0].body
    assert b'name="image"; filename="mine.png"' in failing.requests[0].body
    assert failing.requests[0].line == "POST /v1/verify"
    changed = "yes" if "tampered" in changes else "no"
    assert ["changed", changed] in [line.split() for line in done.stdout.splitlines()]
    assert ("kea: a kea (MIT)" in done.stdout) == ("generation" not in changes)


def test_the_service_verifies_what_it_drew(service: Service, tmp_path: Path, reference: Path) -> None:
    path = tmp_path / "fox.png"
    assert run("generate", PROMPT, "-o", path, "--seed", "7", "-k", "1", url=service.base_url).exit_code == 0
    done = run("verify", path, url=service.base_url)
    assert done.exit_code == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["signature", "absent:", "the", "file", "has", "no", "C2PA", "manifest"],
        ["changed", "unknown"],
        ["found", "by", "metadata"],
        ["prompt", *PROMPT.split()],
        ["seed", "7"],
        ["cascade", "tiny"],
        ["fox/1?:", "a", "red", "fox", "(MIT)"],
    ]
    unknown = run("verify", reference, url=service.base_url)
    assert (unknown.exit_code, unknown.stderr) == (1, "nothing is known about this file\n")


def test_a_key_of_the_environment_is_sent_and_not_shown(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIMAGEN_API_KEY", "secret-1")
    failing.answers = [answer(401, {"detail": "this service requires an API key"})]
    done = run("models", url=failing.url)
    assert done.exit_code == 1
    assert done.stderr == "error: this service requires an API key; set REIMAGEN_API_KEY\n"
    assert failing.requests[0].headers["Authorization"] == "Bearer secret-1"


def test_the_help_names_every_command_and_completion() -> None:
    text = run("--help").stdout
    for name in ("generate", "search", "add", "remove", "inspect", "verify", "models", "jobs", "--install-completion"):
        assert name in text


def test_shells_complete_commands() -> None:
    variables = {"_REIMAGEN_COMPLETE": "complete_bash", "COMP_WORDS": "reimagen jo", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "from reimagen_client.command.main import app; app(prog_name='reimagen')"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.stdout.split() == ["jobs"], done.stderr


@pytest.mark.parametrize("columns", [100, 0])
def test_a_terminal_shows_progress_and_previews(service: Service, tmp_path: Path, columns: int) -> None:
    command = [sys.executable, "-c", "from reimagen_client.command.main import app; app()", "--base-url"]
    arguments = [service.base_url, "generate", PROMPT, "-o", str(tmp_path)]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 8 * columns, 24 * 16))
    environment = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen([*command, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65_536):
                shown += part
        except OSError:  # Linux reports the end of a terminal as an error.
            pass
    assert process.wait() == 0, shown
    text = shown.decode(errors="replace")
    assert "grounded on: a red fox" in text
    assert "16 pixels" in text
    assert ("▀" in text or "▄" in text) == (columns > 0)  # Previews of half blocks.
    assert len(list(tmp_path.iterdir())) == 1
