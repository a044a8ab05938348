"""The arithmetic of a plan, with figures that can be checked by hand."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_generator.planning import report
from reimagen_generator.planning.chips import CHIPS, GIB, parse_topology
from reimagen_generator.planning.programs import Program
from reimagen_generator.planning.roofline import Figures, seconds, seconds_by_roof

V4 = parse_topology("v4:2x2x1")


def figures(**changed: float) -> Figures:
    names = ("arguments", "outputs", "temporaries", "flops", "moved", "unpadded", "exchanged", "compile_seconds")
    return Figures(**dict.fromkeys(names, 0.0) | changed)


def planned(part: str, runs: int, parameters: float, **changed: float) -> report.Planned:
    def lower() -> None:
        raise AssertionError("a table compiles nothing")

    return report.Planned(Program(part, "step", runs, parameters, lower), figures(**changed))  # type: ignore[arg-type]


def test_the_slowest_of_the_three_sets_the_time() -> None:
    one = figures(flops=275e12, moved=2.4e12, exchanged=9e9)
    assert seconds_by_roof(one, V4) == pytest.approx({"compute": 1.0, "memory": 2.0, "exchange": 0.1})
    assert seconds(one, V4) == pytest.approx(2.0)


@given(st.lists(st.floats(0, 1e15), min_size=3, max_size=3), st.floats(1.001, 1e3))
def test_more_work_never_takes_less_time(work: list[float], more: float) -> None:
    names = ("flops", "moved", "exchanged")
    whole = seconds(figures(**dict(zip(names, work, strict=True))), V4)
    assert seconds(figures(**dict(zip(names, [w * more for w in work], strict=True))), V4) >= whole


def test_memory_is_all_parameters_and_the_largest_program() -> None:
    programs = [
        planned("64", 1, 5.0, arguments=7.0, temporaries=1.0),
        planned("64", 9, 5.0, arguments=5.0, temporaries=9.0),
        planned("256", 9, 2.0, arguments=3.0, outputs=1.0),
    ]
    assert report.held(programs) == 5.0 + 2.0 + 9.0


def test_a_table_sums_all_runs() -> None:
    def programs() -> Iterator[report.Planned]:
        yield planned("text", 1, GIB, arguments=GIB, flops=27.5e12)
        yield planned("64", 256, 4 * GIB, arguments=4 * GIB, temporaries=GIB, flops=2.75e12, moved=1.2e9)

    *_, first, second, total, _, roofs, verdict = report.drawing_table(programs(), V4)
    assert first == "| text | step | 1.00 | 27.500 | 0.00 | 0.000 | compute | 1 | 0.10 | 0.20 | 0.33 |"
    assert second == "| 64 | step | 5.00 | 2.750 | 1.20 | 0.000 | compute | 256 | 2.56 | 5.12 | 8.53 |"
    assert total == "| all | | 6.00 | | | | | | 2.66 | 5.32 | 8.87 |"
    assert roofs == (
        "At peak rates, operations alone take 2.66 s, moving bytes alone 0.26 s, and exchanging them alone 0.00 s."
    )
    assert verdict == "6.00 GiB per device fit in the 30.75 GiB of a device; v4:2x2x1 has 4 devices."


def test_a_program_that_does_not_fit_is_reported() -> None:
    assert "do NOT fit" in report.verdict(CHIPS["v4"].memory + 1, V4)


def test_training_steps_are_not_added_up() -> None:
    *_, row, _, verdict = report.training_table(iter([planned("64", 1, 0.0, arguments=GIB, flops=275e12)]), V4)
    assert row == "| 64 | step | 1.00 | 275.000 | 0.00 | 0.000 | compute | 1 | 1.00 | 2.00 | 3.33 |"
    assert verdict.startswith("1.00 GiB per device fit")


def test_a_topology_is_parsed() -> None:
    assert (V4.name, V4.chips, V4.links) == ("v4:2x2x1", 4, 2)
    assert (parse_topology("v5e:1x1").chips, parse_topology("v5e:1x1").links) == (1, 0)
    assert parse_topology("v4:4x4x4").chips == 64


def test_a_chip_of_two_devices_has_twice_as_many() -> None:
    ironwood = parse_topology("tpu7x:2x2x1")
    assert (ironwood.chips, ironwood.devices, ironwood.links) == (4, 8, 2)
    # The data sheet's figures are of a chip.
    assert 2 * ironwood.chip.flops == 2307e12
    assert 2 * ironwood.chip.bandwidth == 7.38e12
    assert report.verdict(GIB, ironwood).endswith("tpu7x:2x2x1 has 8 devices on 4 chips.")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("v5e:1x1", (1, 1, 1)),
        ("v5e:2x4", (2, 4, 1)),
        ("v6e:2x4", (2, 4, 1)),
        ("v6e:4x4", (2, 2, 1)),
        ("v4:2x2x4", (2, 2, 1)),
        ("tpu7x:2x2x1", (2, 2, 1)),
    ],
)
def test_a_slice_has_one_host_if_it_fits(text: str, host: tuple[int, int, int]) -> None:
    assert parse_topology(text).host == host


def test_gpus_are_compiled_for_as_many_devices_of_a_tpu() -> None:
    one = figures(flops=989.5e12, moved=1e15, unpadded=6.7e12)
    for count in (1, 2, 4, 8):
        gpus = parse_topology(f"h100:{count}")
        assert gpus.compiled.name.startswith("v5p:")
        assert gpus.compiled.devices == gpus.devices == count
        # Without the unused parts of tiles, which GPUs do not have.
        assert seconds_by_roof(one, gpus) == pytest.approx({"compute": 1.0, "memory": 2.0, "exchange": 0.0})
    assert V4.compiled is V4


@pytest.mark.parametrize("text", ["v4", "a100:4", "h100:2x2", "h100:3", "v4:2x0x1", "v4:2", "v4:2x2x1x1", "v4:2x2x1 "])
def test_other_topologies_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^topology: must be a TPU and a slice's sides, such as v4:2x2x1"):
        parse_topology(text)
