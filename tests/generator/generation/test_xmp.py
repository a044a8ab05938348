"""The XMP in an image's file, as exiftool reads it."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.generation import provenance, xmp
from reimagen_generator.generation.provenance import Source, settings_of
from reimagen_generator.generation.request import OutputFormat, parse_request
from tests.generator.generation.test_provenance import FORMATS, ORIGIN, PIXELS


def exiftool(path: Path, *options: str) -> dict[str, Any]:
    """Return fields of a file; `.ci/run` installs exiftool."""
    command: list[str | Path] = ["exiftool", "-json", "-struct", *options, path]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.fail("install exiftool, which reads the files independently: apt-get install libimage-exiftool-perl")
    fields: dict[str, Any] = json.loads(shown.stdout)[0]
    return fields


@pytest.mark.parametrize("output_format", FORMATS)
def test_exiftool_reads_the_fields_of_iptc_and_the_neighbors(output_format: OutputFormat, tmp_path: Path) -> None:
    path = tmp_path / f"image.{output_format}"
    path.write_bytes(provenance.encode(PIXELS, output_format, replace(ORIGIN, created=1_700_000_000)))
    fields = exiftool(path, "-XMP:all")
    assert fields["DigitalSourceType"] == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert (fields["Description"], fields["AIPromptInformation"]) == (ORIGIN.prompt, ORIGIN.prompt)
    assert (fields["Model"], fields["Seed"], fields["AISystemUsed"]) == ("tiny", 2**32 - 1, "Re-Imagen, tiny")
    assert fields["CreateDate"] == "2023:11:14 22:13:20+00:00"
    assert fields["Ingredients"] == [
        {
            "DocumentID": "noto/red-panda",
            "FilePath": "noto@1.2/red-panda",
            "Caption": "a red panda",
            "License": "Apache-2.0",
        }
    ]


@settings(deadline=None)
@given(text=st.text(st.characters(codec=None), max_size=100))
def test_any_text_makes_well_formed_xml(text: str) -> None:
    packet = xmp.packet(replace(ORIGIN, prompt=text, neighbors=(Source(text, text, text, text),)))
    assert ElementTree.fromstring(packet.decode().partition("?>")[2].rpartition("<?")[0]) is not None


def test_long_captions_and_settings_fit_into_a_jpeg(tmp_path: Path) -> None:
    neighbors = tuple(Source(f"pair-{index}", "&" * 5_000, "<" * 2_000, "MIT") for index in range(16))
    long = {"retrieval": {"exclude_ids": ["熊" * 500] * 64}}
    path = tmp_path / "image.jpeg"
    path.write_bytes(
        provenance.encode(PIXELS, "jpeg", replace(ORIGIN, prompt="&" * 1_000, neighbors=neighbors, settings=long))
    )
    fields = exiftool(path, "-XMP:all")
    assert fields["AIPromptInformation"] == "&" * 1_000
    assert [item["DocumentID"] for item in fields["Ingredients"]] == [neighbor.id for neighbor in neighbors]


def test_settings_are_what_was_changed_without_images_and_user() -> None:
    request = parse_request(
        {
            "prompt": "a panda",
            "seed": 7,
            "quality": "low",
            "user": "customer-4711",
            "output_format": "jpeg",
            "retrieval": {"k": 2, "licenses": ["MIT"]},
            "references": [{"image": b"x", "caption": "a panda"}],
        }
    )
    assert settings_of(request) == {"retrieval": {"k": 2, "licenses": ["MIT"]}}
