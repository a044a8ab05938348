"""Signed image files, as C2PA's library and exiftool read them."""

import base64
import hashlib
import io
import json
import stat
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
import trustme
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_generator.generation import provenance
from reimagen_generator.generation.certificates import load_identity, local_identity
from reimagen_generator.generation.images import MEDIA_TYPES
from reimagen_generator.generation.request import OutputFormat
from reimagen_generator.generation.retriever_client import Neighbor
from reimagen_generator.generation.signing import ASSERTION, Signer
from reimagen_generator.watermark.embedding import Embedded
from tests.generator.generation.test_provenance import FORMATS, ORIGIN
from tests.generator.generation.test_xmp import exiftool

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
CREATED = replace(ORIGIN, created=1_700_000_000)


def picture(image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, image_format)
    return buffer.getvalue()


NEIGHBORS = (
    Neighbor(picture("JPEG"), "a red panda", id="noto/red-panda", source="https://example.org/1", license="MIT"),
    Neighbor(picture("GIF"), "a panda", id="noto/panda", source="noto@1.2/panda", license="Apache-2.0"),
)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(local_identity(tmp_path_factory.mktemp("state")))


def sign(
    signer: Signer,
    output_format: OutputFormat,
    neighbors: tuple[Neighbor, ...] = NEIGHBORS,
    mark: Embedded | None = None,
) -> bytes:
    file = provenance.encode(PIXELS, output_format, CREATED)
    return signer.sign(file, MEDIA_TYPES[output_format], CREATED, neighbors, mark)


def read(file: bytes, output_format: OutputFormat) -> tuple[str, dict[str, Any]]:
    """Return the state and the manifests that C2PA's library reads with its own defaults."""
    with c2pa.Reader(MEDIA_TYPES[output_format], io.BytesIO(file)) as reader:
        return reader.get_validation_state(), json.loads(reader.json())


def failures(manifests: dict[str, Any]) -> list[str]:
    return [failure["code"] for failure in manifests["validation_results"]["activeManifest"]["failure"]]


@pytest.mark.parametrize("output_format", FORMATS)
def test_c2pa_accepts_the_manifest_and_lists_the_neighbors(signer: Signer, output_format: OutputFormat) -> None:
    state, manifests = read(sign(signer, output_format), output_format)
    assert (state, failures(manifests)) == ("Valid", ["signingCredential.untrusted"])
    active = manifests["manifests"][manifests["active_manifest"]]
    assert active["signature_info"]["common_name"] == "Re-Imagen local signer"
    panda, other = active["ingredients"]
    assert (panda["title"], panda["relationship"]) == ("a red panda", "inputTo")
    assert panda["informational_URI"] == "https://example.org/1"
    assert panda["description"] == "id: noto/red-panda; source: https://example.org/1; license: MIT"
    assert other["description"] == "id: noto/panda; source: noto@1.2/panda; license: Apache-2.0"
    assert {item["thumbnail"]["format"] for item in active["ingredients"]} == {"image/jpeg"}
    assertions = {assertion["label"]: assertion["data"] for assertion in active["assertions"]}
    (action,) = assertions["c2pa.actions.v2"]["actions"]
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert (action["action"], action["when"][:19]) == ("c2pa.created", "2023-11-14T22:13:20")
    assert len(action["parameters"]["ingredients"]) == 2
    assert provenance.Provenance.from_json(json.dumps(assertions[ASSERTION])) == CREATED


@pytest.mark.parametrize(
    ("mark", "actions", "bindings"),
    [
        (Embedded(0xA422), ["c2pa.created", "c2pa.watermarked.bound"], [("reimagen.watermark.1", "0000a422")]),
        (Embedded(None), ["c2pa.created", "c2pa.watermarked.unbound"], []),
        (None, ["c2pa.created"], []),
    ],
)
def test_c2pa_and_exiftool_read_the_watermark(
    signer: Signer, tmp_path: Path, mark: Embedded | None, actions: list[str], bindings: list[tuple[str, str]]
) -> None:
    file = sign(signer, "jpeg", mark=mark)
    state, manifests = read(file, "jpeg")
    # C2PA's library refuses a bound watermark without a soft binding.
    assert (state, failures(manifests)) == ("Valid", ["signingCredential.untrusted"])
    active = manifests["manifests"][manifests["active_manifest"]]
    assertions = {assertion["label"]: assertion["data"] for assertion in active["assertions"]}
    assert [action["action"] for action in assertions["c2pa.actions.v2"]["actions"]] == actions
    found = [assertions["c2pa.soft-binding"]] if "c2pa.soft-binding" in assertions else []
    assert [(one["alg"], block["value"]) for one in found for block in one["blocks"]] == bindings
    path = tmp_path / "image.jpeg"
    path.write_bytes(file)
    fields = exiftool(path, "-a", "-G3", "-JUMBF:all")
    algorithms = [value for name, value in fields.items() if name.endswith(":Alg")]
    assert [name for name in algorithms if name.startswith("reimagen")] == [name for name, _ in bindings]
    assert [value["value"] for name, value in fields.items() if name.endswith(":Blocks")] == [
        value for _, value in bindings
    ]


def as_png(webp: bytes) -> bytes:
    """Return a PNG with the manifests of a WebP: exiftool does not look into them there."""
    at = webp.index(b"C2PA") + 8
    store = webp[at : at + int.from_bytes(webp[at - 4 : at], "little")]
    chunk = b"caBX" + store
    png, header = picture("PNG"), 33
    framed = len(store).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return png[:header] + framed + png[header:]


@pytest.mark.parametrize("output_format", FORMATS)
def test_exiftool_reads_the_manifest_and_its_hash_is_that_of_the_file(
    signer: Signer, output_format: OutputFormat, tmp_path: Path
) -> None:
    path = tmp_path / f"image.{output_format}"
    path.write_bytes(sign(signer, output_format))
    fields = exiftool(path, "-XMP:all")
    assert fields["DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    readable = tmp_path / "readable"
    readable.write_bytes(as_png(path.read_bytes()) if output_format == "webp" else path.read_bytes())
    manifest = exiftool(readable, "-a", "-b", "-G3", "-JUMBF:all")
    titles = [value for name, value in manifest.items() if name.endswith(":Title")]
    assert {"a red panda", "a panda"} <= set(titles)
    (actions,) = (value for name, value in manifest.items() if name.endswith(":Actions"))
    assert actions["action"] == "c2pa.created"
    (hashed,) = (name.partition(":")[0] for name in manifest if name.endswith(":Exclusions"))
    excluded = manifest[f"{hashed}:Exclusions"]
    file, start, end = path.read_bytes(), excluded["start"], excluded["start"] + excluded["length"]
    digest = hashlib.sha256(file[:start] + file[end:]).digest()
    assert base64.b64decode(manifest[f"{hashed}:Hash"].removeprefix("base64:")) == digest


@pytest.mark.parametrize("output_format", FORMATS)
def test_the_file_is_still_an_image_with_its_provenance(
    signer: Signer, output_format: OutputFormat, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(sign(signer, output_format))
    assert provenance.read(path) == CREATED
    with Image.open(path) as signed, Image.open(io.BytesIO(provenance.encode(PIXELS, output_format, ORIGIN))) as plain:
        assert np.array_equal(np.asarray(signed), np.asarray(plain))


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_changed_pixel_is_reported(signer: Signer, output_format: OutputFormat) -> None:
    file = sign(signer, output_format)
    plain = provenance.encode(PIXELS, output_format, CREATED)
    at = file.index(plain[-1_000:-900]) + 50  # amid the coded pixels
    changed = file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]
    state, manifests = read(changed, output_format)
    assert state == "Invalid"
    assert "assertion.dataHash.mismatch" in failures(manifests)


def test_a_neighbor_keeps_its_own_manifest(signer: Signer) -> None:
    own = Neighbor(sign(signer, "webp"), "a drawing of a panda", id="own")
    _, manifests = read(sign(signer, "png", (own,)), "png")
    (ingredient,) = manifests["manifests"][manifests["active_manifest"]]["ingredients"]
    kept = manifests["manifests"][ingredient["active_manifest"]]
    assert [item["title"] for item in kept["ingredients"]] == ["a red panda", "a panda"]


def test_a_neighbor_with_a_damaged_manifest_does_not_prevent_signing(signer: Signer) -> None:
    webp = bytearray(sign(signer, "webp"))
    at = webp.index(b"jumb")
    webp[at - 4 : at + 4] = b"\xff" * 8
    state, manifests = read(sign(signer, "png", (Neighbor(bytes(webp), "a panda"),)), "png")
    assert state == "Valid"
    assert len(manifests["manifests"][manifests["active_manifest"]]["ingredients"]) == 1


@pytest.mark.parametrize("text", ["\0 a panda", "\ud800 a panda", '"\\', "猫" * 1_000])
def test_any_prompt_can_be_signed(signer: Signer, text: str) -> None:
    origin = replace(CREATED, prompt=text)
    file = signer.sign(provenance.encode(PIXELS, "png", origin), "image/png", origin, ())
    assert read(file, "png")[0] == "Valid"


def test_a_silent_time_stamp_authority_does_not_prevent_signing(tmp_path: Path) -> None:
    signer = Signer(local_identity(tmp_path), "http://127.0.0.1:1/")
    assert read(sign(signer, "png"), "png")[0] == "Valid"


def test_the_local_key_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with ThreadPoolExecutor(8) as threads:
        identities = set(threads.map(lambda _: local_identity(folder), range(8)))
    assert len(identities) == 1
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "PRIVATE" not in repr(identities)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match="cannot be kept") as raised:
        local_identity(tmp_path / "file" / "state")
    assert raised.value.field == "state"


def _write(folder: Path, chain: bytes, key: bytes) -> tuple[Path, Path]:
    (folder / "certificate.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    return folder / "certificate.pem", folder / "key.pem"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda chain, key, other: (b"no certificate", key), "signing_certificate"),
        (lambda chain, key, other: (chain, b"no key"), "signing_key"),
        (lambda chain, key, other: (chain, other), "signing_key"),
    ],
)
def test_files_that_are_no_identity_are_refused_by_name(
    change: Callable[[bytes, bytes, bytes], tuple[bytes, bytes]], field: str, tmp_path: Path
) -> None:
    identity, other = local_identity(tmp_path / "state"), local_identity(tmp_path / "other")
    files = _write(tmp_path, *change(identity.chain, identity.key, other.key))
    with pytest.raises(InvalidArgument) as raised:
        load_identity(*files)
    assert raised.value.field == field
    assert "PRIVATE" not in str(raised.value)


def test_the_operators_key_signs(tmp_path: Path) -> None:
    local = local_identity(tmp_path / "state")
    assert load_identity(*_write(tmp_path, local.chain, local.key)) == local


def test_a_certificate_of_a_server_is_refused(tmp_path: Path) -> None:
    server = trustme.CA().issue_cert("images.example.org")
    chain = b"".join(part.bytes() for part in server.cert_chain_pems)
    identity = load_identity(*_write(tmp_path, chain, server.private_key_pem.bytes()))
    with pytest.raises(InvalidArgument, match="C2PA does not allow") as raised:
        Signer(identity)
    assert raised.value.field == "signing_certificate"
