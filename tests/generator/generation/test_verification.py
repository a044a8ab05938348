"""What files reveal: signed, unsigned, changed, damaged and forged ones."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_generator.generation import provenance
from reimagen_generator.generation.certificates import local_identity
from reimagen_generator.generation.images import MEDIA_TYPES
from reimagen_generator.generation.provenance import Provenance, Source
from reimagen_generator.generation.request import OutputFormat, parse_request
from reimagen_generator.generation.signing import Signer
from reimagen_generator.generation.verification import SoftBinding, Verifier
from reimagen_generator.watermark.detection import SHORTEST_SIDE
from reimagen_generator.watermark.embedding import Embedded
from tests.generator.generation.test_provenance import FORMATS, ORIGIN
from tests.generator.generation.test_signing import CREATED, NEIGHBORS, PIXELS, sign

VERIFIER = Verifier()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def signer(state: Path) -> Signer:
    return Signer(local_identity(state))


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_local_signature_is_valid_but_untrusted(signer: Signer, output_format: OutputFormat) -> None:
    found = VERIFIER.verify(sign(signer, output_format))
    assert (found.signature.status, found.tampered) == ("untrusted", False)
    assert found.signature.signer == "Re-Imagen local signer, Re-Imagen, unverified"
    assert "trust_anchors" in (found.signature.reason or "")
    assert found.provenance == CREATED


def test_the_watermark_that_a_manifest_states_is_told_unless_the_file_was_changed(signer: Signer) -> None:
    file = sign(signer, "png", mark=Embedded(0xA4221699))
    assert VERIFIER.verify(file).soft_bindings == (SoftBinding("reimagen.watermark.1", "a4221699"),)
    changed = bytearray(file)
    changed[file.index(b"IDAT") + 20] ^= 1
    assert VERIFIER.verify(bytes(changed)).soft_bindings == ()


def test_a_signature_of_a_trusted_authority_is_trusted(signer: Signer, state: Path, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_bytes(local_identity(state).chain)
    found = Verifier(anchors).verify(sign(signer, "png"))
    assert (found.signature.status, found.signature.reason, found.tampered) == ("trusted", None, False)
    stranger = Signer(local_identity(tmp_path))
    assert Verifier(anchors).verify(sign(stranger, "png")).signature.status == "untrusted"


def test_trust_anchors_that_are_no_certificates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "anchors.pem").write_text("none")
    for name in ("anchors.pem", "missing.pem"):
        with pytest.raises(InvalidArgument) as raised:
            Verifier(tmp_path / name)
        assert raised.value.field == "trust_anchors"


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_changed_file_is_tampered_with_and_still_says_what_it_claims(
    signer: Signer, output_format: OutputFormat
) -> None:
    file = sign(signer, output_format)
    at = file.index(provenance.encode(PIXELS, output_format, CREATED)[-1_000:-900]) + 50
    found = VERIFIER.verify(file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :])
    assert (found.signature.status, found.tampered) == ("invalid", True)
    assert "assertion.dataHash.mismatch" in (found.signature.reason or "")
    assert found.provenance == CREATED


@pytest.mark.parametrize("output_format", FORMATS)
def test_an_unsigned_file_shows_its_metadata(output_format: OutputFormat) -> None:
    found = VERIFIER.verify(provenance.encode(PIXELS, output_format, ORIGIN))
    assert (found.signature.status, found.tampered, found.provenance) == ("absent", None, ORIGIN)


@pytest.fixture(scope="module")
def small_files(signer: Signer) -> Mapping[OutputFormat, bytes]:
    """Signed images that are too small for a watermark, so that it is not searched for."""
    pixels = PIXELS[: SHORTEST_SIDE // 2, : SHORTEST_SIDE // 2]
    return {
        each: signer.sign(provenance.encode(pixels, each, CREATED), MEDIA_TYPES[each], CREATED, NEIGHBORS)
        for each in FORMATS
    }


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_damage_is_answered(small_files: Mapping[OutputFormat, bytes], data: st.DataObject) -> None:
    file = bytearray(small_files[data.draw(st.sampled_from(FORMATS))])
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(16, len(file) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(16, len(file)))
    found = VERIFIER.verify(bytes(file[:cut]))
    # Bytes between the hashed parts may change, such as padding; nothing else is taken for what was signed.
    assert found.tampered is not False or found.provenance == CREATED


def test_a_file_without_the_manifest_that_it_names_is_invalid(signer: Signer) -> None:
    file = bytearray(sign(signer, "webp"))
    file[14917] = 25
    found = VERIFIER.verify(bytes(file))
    assert (found.signature.status, found.tampered, found.provenance) == ("invalid", True, CREATED)


@pytest.mark.parametrize(
    "forged",
    [
        {"seed": "none"},
        {"prompt": ["a panda"]},
        {"neighbors": [{"id": 1}]},
        {"neighbors": None},
        {"settings": []},
    ],
)
def test_metadata_of_the_wrong_types_is_no_provenance(forged: dict[str, object]) -> None:
    text = json.dumps({**asdict(ORIGIN), **forged})
    with pytest.raises(ValueError, match="validation error"):
        Provenance.from_json(text)


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"no image at all"])
def test_other_files_are_refused(file: bytes) -> None:
    with pytest.raises(InvalidArgument, match="PNG, JPEG or WebP") as raised:
        VERIFIER.verify(file)
    assert raised.value.field == "image"


def test_a_provenance_becomes_the_request_that_draws_it_again() -> None:
    body = {
        "prompt": "a red panda",
        "seed": 7,
        "size": "64x64",
        "quality": "low",
        "retrieval": {"k": 2, "licenses": ["MIT"]},
        "guidance": {"text_weight": 2.5},
    }
    request = parse_request(body)
    origin = Provenance(
        prompt=request.prompt,
        seed=7,
        size=64,
        cascade="tiny",
        neighbors=(Source("noto/red-panda", "a red panda", "", "MIT"),),
        guidance=request.guidance.model_dump(mode="json", exclude_none=True),
        quality=request.quality,
        settings=provenance.settings_of(request),
    )
    assert origin.to_request() == body | {"model": "tiny"}
    neighbors = (Source("", "a red panda", "", ""), Source("noto/kea", "a kea", "", "MIT", 0.5))
    with_references = replace(origin, neighbors=neighbors, references=True)
    references = [{"caption": "a red panda"}, {"pair_id": "noto/kea", "weight": 0.5}]
    assert with_references.to_request()["references"] == references
