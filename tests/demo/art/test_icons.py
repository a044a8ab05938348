import numpy as np
import pytest
from PIL import Image

from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import STYLES, Art, Style, draw_all

PANDA = next(entity for entity in entities() if entity.name == "panda")


def test_every_entity_has_an_icon_in_every_style(art: Art) -> None:
    for style in STYLES:
        for entity in entities():
            assert "<svg" in art.svg(entity, style, 64)


def test_installing_again_changes_nothing(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    before = sorted(path.stat().st_mtime_ns for path in art.packages.rglob("icons.json"))
    art.install()
    assert sorted(path.stat().st_mtime_ns for path in art.packages.rglob("icons.json")) == before


def test_an_error_of_npm_is_reported(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("no-registry")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    monkeypatch.setenv("npm_config_cache", str(folder / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    art = Art(folder)
    with pytest.raises(RuntimeError, match="ECONNREFUSED"):
        art.install()
    assert not (art.packages / "installed-lock.json").exists()


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_a_drawing_is_trimmed_and_has_the_requested_size(art: Art, style: Style) -> None:
    for side in (48, 600):
        sprite = art.sprite(PANDA, style, side)
        assert max(sprite.size) == side
        alpha = np.asarray(sprite.getchannel("A"))
        assert all(edge.any() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))


def test_scaling_leaves_no_dark_fringe(art: Art) -> None:
    """Transparent pixels are black underneath; blended in, they would darken the outline."""
    snowflake = next(entity for entity in entities() if entity.name == "snowflake")
    flat = next(style for style in STYLES if style.name == "twemoji")
    sprite = art.sprite(snowflake, flat, 24)
    on_blue = Image.new("RGB", sprite.size, (136, 201, 249))
    on_blue.paste(sprite, (0, 0), sprite)
    # The drawing has this blue or lighter colors, so darker ones are wrong.
    assert (np.asarray(on_blue).astype(int) - (136, 201, 249)).min() >= -4


def test_a_source_names_package_version_and_icon(art: Art) -> None:
    assert art.source(PANDA, STYLES[1]) == "npm:@iconify-json/noto@1.2.9#panda"


def test_missing_drawings_are_drawn_by_several_processes(art: Art) -> None:
    few = entities()[200:203]
    draw_all(art.sprite_file, few, processes=2)
    for entity in few:
        for style in STYLES:
            with Image.open(art.folder / "sprites" / style.name / f"{entity.code}.png") as sprite:
                assert sprite.mode == "RGBA"
    assert not list(art.folder.rglob("*.part"))
