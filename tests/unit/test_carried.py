"""What servers can carry, in slots; and what none can."""

import pytest
from support.plans import queue

from qmanager.planning.board import Server
from qmanager.planning.carried import carried, too_large
from qmanager.planning.planner import Memory, plan
from qslots.reports import Declared, Report

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


def test_a_queue_that_fits_nowhere_takes_nothing_from_others_and_says_why() -> None:
    declared = Declared((queue("mail", min_slots=4), queue("huge", min_slots=5, memory=1000)))
    digest = declared.digest()

    def report(name: str, budget: int) -> Report:
        return Report(
            server=name, incarnation="i", host="h", pid=1, generation=1, declared=digest, budget=budget, max_slots=6,
            pss=1, free_memory=1, slot_size=100, slot_sizes={"huge": 1000}, epoch=0, seq=0,
        )  # fmt: skip

    reports, memory, rows = [report(name, 600) for name in "xyz"], Memory(), {}
    for now in (1.0, 2.0):
        result = plan(declared={digest: declared}, stats={}, reports=reports, current=rows, now=now, memory=memory)
        memory, rows = result.memory, result.rows
        told = {each.name: each for each in result.queues}
        assert [told["mail"].granted, told["huge"].granted] == [4.0, 0.0]
        assert told["huge"].reason.count("one slot needs 1K, more than any server has") == 1
    result = plan(
        declared={digest: declared}, stats={}, reports=[*reports, report("large", 6000)], current=rows, now=3.0,
        memory=memory,
    )  # fmt: skip
    assert sum(queues == ("huge",) for queues in result.rows["large"]) == 5
