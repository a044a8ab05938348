"""Shares of flows, by simulation."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.engine.fair_queue import FairQueue

Flow = tuple[str, str]
COSTS = st.floats(0.1, 10)


def zero(item: object) -> float:
    return 0.0


def serve(queue: FairQueue[tuple[Flow, int]], costs: dict[Flow, float], seconds: float) -> dict[Flow, float]:
    """Serve flows that never run out for a time, and return the seconds of each."""
    served: defaultdict[Flow, float] = defaultdict(float)
    while sum(served.values()) < seconds:
        flow, _ = next(queue.in_order())
        queue.charge(flow, costs[flow])
        served[flow] += costs[flow]
    return served


@settings(deadline=None)
@given(st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), COSTS, min_size=1))
def test_each_child_of_a_node_gets_an_equal_share(costs: dict[Flow, float]) -> None:
    queue: FairQueue[tuple[Flow, int]] = FairQueue(zero, zero)
    for flow in costs:
        queue.add(flow, (flow, 0))
    served = serve(queue, costs, 200)
    total, callers = sum(served.values()), Counter(caller for caller, _ in costs)
    for flow, seconds in served.items():
        fair = total / len(callers) / callers[flow[0]]
        assert abs(seconds - fair) <= 2 * sum(costs.values())


def test_weights_divide_the_first_level() -> None:
    queue: FairQueue[tuple[Flow, int]] = FairQueue(zero, zero, {"a": 4.0})
    costs = {("a", ""): 1.0, ("b", ""): 1.0}
    for flow in costs:
        queue.add(flow, (flow, 0))
    served = serve(queue, costs, 500)
    assert abs(served["a", ""] / served["b", ""] - 4) < 0.1


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), COSTS), max_size=50), COSTS)
def test_a_new_flow_waits_for_one_job_of_each_other_at_most(before: Sequence[tuple[str, float]], cost: float) -> None:
    queue: FairQueue[str] = FairQueue(zero, zero)
    for name in "abc":
        queue.add((name,), name)
    for _, used in before:
        queue.charge((next(queue.in_order()),), used)
    queue.add(("new",), "new")
    waited = 0
    while (name := next(queue.in_order())) != "new":
        queue.charge((name,), cost)
        waited += 1
    assert waited <= len("abc")


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_items_of_a_flow_keep_their_order_and_all_are_served(flows: Sequence[str]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(zero, zero)
    for number, flow in enumerate(flows):
        queue.add((flow,), (flow, number))
    served = []
    while (item := next(queue.in_order(), None)) is not None:
        queue.charge((item[0],), 1.0)
        queue.remove((item[0],), item)
        served.append(item)
    assert sorted(served, key=lambda item: item[1]) == list(zip(flows, range(len(flows)), strict=True))
    for flow in "abc":
        numbers = [number for name, number in served if name == flow]
        assert numbers == sorted(numbers)
