"""The order of images: shortest remaining time first, and no starvation."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.engine.image_row import STRETCH, Request
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.scheduler import Scheduler
from reimagen_generator.engine.step_times import StepKind, StepTimes
from reimagen_generator.engine.work import Work

KIND = StepKind(0, 0, 1)


@dataclass(eq=False)
class Row:
    """An image of so many steps of one second."""

    request: Request
    left: int
    kind: StepKind = KIND

    @property
    def begun(self) -> bool:
        return False


def row(arrived: float, steps: int, caller: str = "") -> Row:
    request = Request(
        RequestHandle(timeout=1),
        Work(1, 64, 0, (), caller=caller),
        remaining=steps,
        alone=steps,
        slowdown=1.0,
        arrived=arrived,
        seconds_left=range(steps + 1),
    )
    found = Row(request, steps)
    request.rows = [found]  # type: ignore[list-item]
    return found


class Device:
    """A device on which every step takes a second."""

    def __init__(self) -> None:
        times = StepTimes()
        times.add(KIND, {1: 1.0})
        self.scheduler: Scheduler[Row] = Scheduler(times, 1)
        self.now = 0.0
        self.finished: dict[Row, float] = {}
        self.left = 0

    def add(self, row: Row) -> None:
        self.left += row.left
        self.scheduler.add(row)

    def step(self) -> None:
        batch = self.scheduler.next_batch()
        self.now += 1
        self.left -= len(batch)
        self.scheduler.charge(batch, 1.0)
        for row in batch:
            row.left -= 1
            row.request.measure()
            if row.left == 0:
                self.scheduler.remove(row)
                self.finished[row] = self.now


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 30)), min_size=1, max_size=40))
def test_whoever_arrives_after_a_request_is_due_does_not_delay_it(requests: Sequence[tuple[int, int]]) -> None:
    device = Device()
    arriving, now = [], 0
    for pause, steps in requests:
        now += pause
        arriving.append(row(float(now), steps))
    due = {image: image.request.due for image in arriving}
    bounds: dict[Row, float] = {}
    waiting = list(arriving)
    while waiting or device.left:
        while waiting and waiting[0].request.arrived <= device.now:
            device.add(waiting.pop(0))
        for request in arriving:
            if request not in bounds and device.now >= due[request]:
                bounds[request] = device.now + device.left
        device.step()
    for request, finished in device.finished.items():
        assert finished <= bounds.get(request, due[request])
    assert len(device.finished) == len(arriving)


def test_a_stream_of_short_requests_starves_nobody() -> None:
    device = Device()
    long = row(0.0, 20)
    device.add(long)
    while long not in device.finished:
        device.add(row(device.now, 1))
        device.step()
        # Ten times its length, and then the short ones that arrived before.
        assert device.now <= 2 * STRETCH * 20


def test_of_one_caller_the_shortest_remaining_request_is_first() -> None:
    device = Device()
    long, short = row(0.0, 12), row(1.0, 5)
    device.add(long)
    device.step()
    device.add(short)
    for _ in range(5):
        device.step()
    assert list(device.finished) == [short]
    for _ in range(7):
        device.step()
    # One that is nearly finished is not interrupted for a shorter one that is new.
    shorter = row(device.now, 4)
    device.add(shorter)
    for _ in range(8):
        device.step()
    assert list(device.finished) == [short, long, shorter]


def test_callers_share_equally_however_long_their_requests_are() -> None:
    device = Device()
    long = row(0.0, 30, "a")
    device.add(long)
    while long not in device.finished:
        device.add(row(device.now, 1, "b"))
        device.step()
    assert 58 <= device.now <= 62
