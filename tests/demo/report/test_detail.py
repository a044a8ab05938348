"""Rows of fine detail, and the rules of pale and thin things, on made-up values and drawings."""

from PIL import Image, ImageDraw

from reimagen_demo.report.detail import NO_NEIGHBORS, Detail, Sharpness, rows
from reimagen_demo.report.faint import lightness, thickness
from reimagen_demo.report.sweep import BEFORE, NOW
from reimagen_demo.report.tables import TRUE
from reimagen_evaluation.super_resolution import Enlarged


def enlarged(gain: float, worst: float) -> Enlarged:
    return Enlarged("", 30.0 + gain, gain, worst, 1.0, 1.0)


def test_images_must_be_as_smooth_and_as_sharp_as_true_ones() -> None:
    true = Sharpness(2.0, 2.0, 40)
    found = rows(Detail({256: {BEFORE: Sharpness(9.0, 2.0, 40), NOW: Sharpness(2.9, 3.1, 40), TRUE: true}}, {}, {}))
    assert [(row.before, row.now, row.true, row.met) for row in found] == [
        ("4.50 (9)", "1.45 (2.9)", "1.00 (2)", True),
        ("1.00 (2)", "1.55 (3.1)", "1.00 (2)", False),
    ]


def test_without_grain_in_true_images_there_is_no_ratio() -> None:
    grain, edges = rows(Detail({1024: {NOW: Sharpness(0.5, 2.0, 40), TRUE: Sharpness(0.0, 2.0, 40)}}, {}, {}))
    assert (grain.now, grain.met) == ("– (0.5)", None)
    assert edges.met


def test_images_without_neighbors_have_their_own_row_and_small_images_no_bar() -> None:
    true = Sharpness(2.0, 2.0, 40)
    found = rows(Detail({64: {NOW: true, NO_NEIGHBORS: Sharpness(4.0, 2.0, 40), TRUE: true}}, {}, {}))
    assert found[1].measure == "the same, without neighbors"
    assert found[1].now == "2.00 (4)"
    assert [row.met for row in found] == [None] * 4


def test_one_image_that_is_much_worse_than_bicubic_fails() -> None:
    def met(gain: float, worst: float) -> bool | None:
        [row] = rows(Detail({}, {}, {1024: {NOW: enlarged(gain, worst)}}))
        assert row.now == f"{gain:+.2f} dB, worst {worst:+.2f} dB"
        return row.met

    assert met(1.6, -0.2)
    assert not met(1.6, -0.4)
    assert not met(1.4, 0.5)


def test_seconds_have_a_bar_at_each_size() -> None:
    found = rows(Detail({}, {256: {NOW: 4.0, BEFORE: 2.0}, 1024: {NOW: 16.0}}, {}))
    assert [(row.before, row.now, row.met) for row in found] == [("2.00 s", "4.00 s", True), ("", "16.00 s", False)]


def test_lightness_ignores_what_is_transparent_and_thickness_is_that_of_the_outline() -> None:
    drawing = Image.new("RGBA", (100, 100), (255, 255, 255, 0))
    ImageDraw.Draw(drawing).rectangle((10, 0, 29, 99), fill=(100, 100, 100, 255))
    assert abs(lightness(drawing) - 100) < 0.5
    assert abs(thickness(drawing) - 0.2) < 0.03
