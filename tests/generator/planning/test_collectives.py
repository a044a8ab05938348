"""Traffic between devices, read from the text of compiled programs."""

import pytest

from reimagen_generator.planning.collectives import exchanged_bytes

LINES = {
    "%ar = f32[8,16]{1,0:T(8,128)} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add": 2
    * 512
    * 3
    / 4,
    "ROOT %ag.1 = bf16[4,2,16]{2,1,0} all-gather(%x), channel_id=2, replica_groups=[2,2]<=[4], dimensions={0}": 256 / 2,
    "%rs = f32[10]{0} reduce-scatter(%x), replica_groups=[1,4]<=[4], dimensions={0}": 40 * 4 * 3 / 4,
    "%aa = (f32[4]{0}, f32[4]{0}) all-to-all(%x, %y), replica_groups={{0,1},{2,3}}": 32 / 2,
    "%cp = bf16[6]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}": 12,
    "%s = (bf16[4]{0}, bf16[16]{0}) all-gather-start(%x), replica_groups=[1,4]<=[4], dimensions={0}": 32 * 3 / 4,
    "%am = f32[6]{0} all-reduce(%x), channel_id=1, replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}, "
    "use_global_device_ids=true": 2 * 24 * 3 / 4,
    "%gm = f32[8]{0} all-gather(%x), replica_groups=mesh['a'=2,'b'=8] {'a','b':(2)4}, dimensions={0}": 32 * 7 / 8,
    "%d = bf16[16]{0} all-gather-done(%s)": 0,
    "%f = f32[8]{0} fusion(%all-reduce.3), kind=kLoop, calls=%fused": 0,
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[0])
def test_each_kind_of_collective_is_counted(line: str) -> None:
    assert exchanged_bytes(f"ENTRY %main {{\n  {line}\n}}\n") == LINES[line]


def test_the_traffic_of_a_program_is_the_sum_of_its_lines() -> None:
    assert exchanged_bytes("\n".join(f"  {line}" for line in LINES)) == sum(LINES.values())


def test_unknown_groups_of_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown devices: .*replica_groups=other"):
        exchanged_bytes("  %r = f32[8]{0} all-reduce(%x), replica_groups=other, to_apply=%add\n")
