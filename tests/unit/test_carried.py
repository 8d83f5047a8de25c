"""What servers can carry, in slots; and what none can."""

import pytest
from support.plans import queue

from qmanager.planning.board import Server
from qmanager.planning.carried import carried, too_large
from qmanager.planning.grant import Names
from qmanager.planning.planner import Memory, plan
from qslots.reports import Declared, QueueDeclared, QueuePlan, Report

ABC = frozenset("abc")


def server(name: str, budget: int, slots: int = 10, *, draining: bool = False, **sizes: int) -> Server:
    return Server(name, slots, budget, 100, sizes, draining=draining, knows=ABC)


@pytest.mark.parametrize(
    ("servers", "weights", "slots"),
    [
        pytest.param([server("x", 1000)], {"a": 1}, 10, id="equal slots"),
        pytest.param([server("x", 850, 20), server("y", 850, 20)], {"a": 1}, 16, id="what is left of each is no slot"),
        pytest.param([server("x", 1000, 4)], {"a": 1}, 4, id="max_slots"),
        pytest.param([server("x", 1000, draining=True)], {"a": 1}, 0, id="it drains"),
        pytest.param([server("x", 1000, b=400)], {"a": 1, "b": 1}, 4, id="the mean size"),
        pytest.param([server("x", 600, 6, b=500)] * 4, {"a": 12, "b": 2}, 15, id="small ones beside large ones"),
        pytest.param([server("x", 90, b=80)], {"a": 9, "b": 1}, 1, id="one of the smallest"),
    ],
)
def test_slots_that_can_be_carried(servers: list[Server], weights: dict[str, int], slots: int) -> None:
    assert carried(servers, weights) == slots


def test_too_large_is_what_no_server_can_carry_and_none_has() -> None:
    small, large = server("x", 500, a=600, b=700), server("y", 800, a=900, b=700)
    assert too_large([small], {}, ABC) == {"a": 600, "b": 700}
    assert too_large([small, large], {}, ABC) == {"a": 600}
    assert too_large([small], {("a",): 1}, ABC) == {"b": 700}
    assert too_large([small, server("z", 5000, draining=True)], {}, {"a"}) == {"a": 600}


def report(name: str, digest: str, budget: int, **sizes: int) -> Report:
    return Report(
        server=name, incarnation="i", host="h", pid=1, generation=1, declared=digest, budget=budget, max_slots=6,
        pss=1, free_memory=1, slot_size=100, slot_sizes=sizes, epoch=0, seq=0,
    )  # fmt: skip


class Mixed:
    """A fleet of servers of six slots and 600 bytes, and what a manager plans for it."""

    def __init__(self, servers: int, **sizes: int) -> None:
        self.servers, self.sizes = [f"s{i}" for i in range(servers)], sizes
        self.memory, self.rows, self.now = Memory(), dict[str, tuple[Names, ...]](), 0.0

    def plan(self, *queues: QueueDeclared, cycles: int = 1, large: int = 0) -> dict[str, QueuePlan]:
        declared = Declared(queues)
        digest = declared.digest()
        reports = [report(name, digest, 600, **self.sizes) for name in self.servers]
        reports += [report("large", digest, large, **self.sizes)] if large else []
        for _ in range(cycles):
            self.now += 1.0
            result = plan(
                declared={digest: declared}, stats={}, reports=reports, current=self.rows, now=self.now,
                memory=self.memory,
            )  # fmt: skip
            self.memory, self.rows = result.memory, result.rows
        return {each.name: each for each in result.queues}

    def own(self, name: str) -> int:
        return sum(queues == (name,) for row in self.rows.values() for queues in row)


def test_a_queue_that_fits_nowhere_takes_nothing_from_others_and_says_why() -> None:
    fleet, queues = Mixed(3, huge=1000), (queue("mail", min_slots=4), queue("huge", min_slots=5))
    told = fleet.plan(*queues, cycles=2)
    assert [told["mail"].granted, told["huge"].granted] == [4.0, 0.0]
    assert told["huge"].reason.count("one slot needs 1K, more than any server has") == 1
    fleet.plan(*queues, large=6000)
    assert fleet.own("huge") == 5


def test_minima_of_large_and_small_slots_that_fit_are_there() -> None:
    fleet = Mixed(4, big=500)
    told = fleet.plan(queue("mail", min_slots=12), queue("big", min_slots=2), cycles=5)
    assert (fleet.own("mail"), fleet.own("big")) == (12, 2)
    assert "short" not in told["mail"].reason + told["big"].reason


def test_a_pin_comes_before_the_minimum_of_a_less_important_queue() -> None:
    fleet, mail = Mixed(3, big=500), queue("mail", priority=20, min_slots=18)
    fleet.plan(mail, queue("big", priority=90), cycles=5)
    told = fleet.plan(mail, queue("big", priority=90, min_slots=2, max_slots=2), cycles=30)
    assert (fleet.own("big"), fleet.own("mail")) == (2, 8)
    assert told["mail"].reason.endswith("8 of 10 have a place")


def test_a_minimum_comes_before_what_is_kept_of_a_peak() -> None:
    fleet, big = Mixed(4, big=300), queue("big", max_slots=3)
    fleet.plan(queue("mail", min_slots=20, max_slots=20), big, cycles=3)
    fleet.plan(queue("mail", min_slots=2), big, cycles=3)
    fleet.plan(queue("mail", min_slots=2), queue("big", min_slots=5, max_slots=5), cycles=30)
    assert fleet.own("big") == 5 and fleet.own("mail") >= 2
