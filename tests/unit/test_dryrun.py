"""A dry run goes on from what was published: at rest nothing changes; it says who falls short."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from support.plans import Cluster, many, queue, report
from support.properties import examples

from qmanager import dryrun
from qmanager.dryrun import Given, document, lines, outcome
from qmanager.planning.planner import Memory, PlanResult
from qslots.reports import Declared, Plan


def published(cluster: Cluster, result: PlanResult) -> Given:
    """What is there after a cycle of a real manager."""
    declared = Declared(tuple(cluster.queues))
    return Given(
        plan=Plan(7, 3, "m", cluster.now - 0.5, result.queues),
        rows=dict(cluster.rows),
        reports=[
            report(name, declared.digest(), slots, cluster._living(name)) for name, slots in cluster.servers.items()
        ],
        declared={declared.digest(): declared},
        queues={each.name: each for each in cluster.queues},
        places={},
        now=cluster.now,
        interval=1.0,
    )


def steady(cluster: Cluster, cycles: int = 40, **arrivals: int) -> Given:
    for _ in range(cycles):
        for name, tasks in arrivals.items():
            cluster.waiting[name] = cluster.waiting.get(name, 0) + tasks
        result = cluster.cycle()
    return published(cluster, result)


def without(given: Given, *names: str) -> Given:
    return replace(given, reports=[each for each in given.reports if each.server not in names])


def shown(given: Given, *names: str) -> dict[str, Any]:
    begun = without(given, *names)
    return document(begun, outcome(begun), without=names)


def test_at_rest_nothing_changes() -> None:
    given = steady(Cluster(many(5), servers={"x": 8, "y": 8}), q00=4, q01=1)
    found = shown(given)
    assert (found["changes"], found["cycles"]) == ([], 0)
    assert lines(found) == [
        "nothing changes; every queue has what it wants",
        "worked out from plan 7.3 of m, 500ms old (its demands are taken as they stand), and what servers report now",
    ]


@examples(30)
@example(sizes=[3], load=[0, 1, 2, 1], cycles=1)  # in a shortage who has a slot depends on what was held before
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.integers(1, 30),
)
def test_beside_a_manager_at_rest_nothing_changes(sizes: list[int], load: list[int], cycles: int) -> None:
    queues = [queue(f"q{i:02}", priority=(50, 90, 10)[i % 3]) for i in range(len(load))]
    cluster = Cluster(queues, servers={f"s{i}": size for i, size in enumerate(sizes)})
    begun = steady(cluster, 30 + cycles, **{f"q{i:02}": tasks for i, tasks in enumerate(load)})
    if cluster.cycle().changes or cluster.cycle().changes:
        event("it does not rest")
        return
    event("it rests")
    assert outcome(begun).changes == ()


@examples(30)
@example(sizes=[2], load=[0, 0, 1])
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_beside_a_manager_that_has_just_begun_nothing_changes(sizes: list[int], load: list[int]) -> None:
    queues = [queue(f"q{i:02}", priority=(50, 90, 10)[i % 3]) for i in range(len(load))]
    cluster = Cluster(queues, servers={f"s{i}": size for i, size in enumerate(sizes)})
    steady(cluster, 30, **{f"q{i:02}": tasks for i, tasks in enumerate(load)})
    cluster.memory = Memory()
    begun = steady(cluster, 3)
    if cluster.cycle().changes or cluster.cycle().changes:
        event("it does not rest")
        return
    event("it rests")
    assert outcome(begun).changes == ()


def test_a_server_that_is_thought_away_shows_who_falls_short_and_by_how_much() -> None:
    queues = [queue("urgent", priority=90, min_slots=3), queue("usual", min_slots=5)]
    given = steady(Cluster(queues, servers={"x": 4, "y": 4}))
    found = shown(given, "y")
    assert {each["name"]: (each["before"], each["after"], each["short"]) for each in found["queues"]} == {
        "urgent": (3, 3, 0.0), "usual": (5, 1, 4.0),
    }  # fmt: skip
    assert [(each["name"], each["after"], each["there"]) for each in found["servers"]] == [
        ("x", 4, True),
        ("y", 0, False),
    ]
    told = lines(found)
    assert told[0].startswith("without y: ") and told[0].endswith("1 queue short: usual")
    assert any(line.startswith("queue usual: 5 -> 1 slot, 4 short of 5 (short of slots: 1 of 5)") for line in told)
    assert "server y: 4 -> 0 slots" in told


def test_without_any_server_every_queue_that_wants_something_falls_short() -> None:
    given = steady(Cluster([queue("a", min_slots=2), queue("b")], servers={"x": 6}))
    found = shown(given, "x")
    assert [(each["name"], each["after"], each["short"]) for each in found["queues"]] == [("a", 0, 2.0), ("b", 0, 0.0)]
    assert lines(found)[0].endswith("; 1 queue short: a; 1 queue left without a slot: b")


def test_a_pin_that_no_plan_has_seen_yet_shows() -> None:
    given = steady(Cluster([queue("a"), queue("b")], servers={"x": 6}))
    pinned = Declared((queue("a", min_slots=3, max_slots=3), queue("b")))
    digest = given.reports[0].declared
    found = shown(replace(given, declared={digest: pinned}, queues={each.name: each for each in pinned.queues}))
    [a] = [each for each in found["queues"] if each["name"] == "a"]
    assert (a["after"], a["short"]) == (3, 0.0)
    assert found["changes"]


def test_a_fleet_without_a_plan_gets_minima_and_places_to_listen() -> None:
    given = steady(Cluster([queue("a", min_slots=2), queue("b")], servers={"x": 6}), cycles=1)
    found = shown(replace(given, plan=None, rows={}))
    assert found["rests_on"] is None
    assert {each["name"]: each["after"] for each in found["queues"]}.items() >= {"a": 2}.items()
    assert lines(found)[-1].startswith("no manager has published yet")


@pytest.mark.parametrize("gone", [(), ("x",), ("x", "y")])
def test_it_comes_to_rest(gone: tuple[str, ...]) -> None:
    given = steady(Cluster(many(12), servers={"x": 40, "y": 40, "z": 20}), q00=20, q01=9, q02=3)
    assert shown(given, *gone)["cycles"] < dryrun.MOST_CYCLES


def test_what_is_granted_and_finds_no_place_is_short() -> None:
    given = steady(Cluster([queue("a")], servers={"x": 8, "y": 4}))
    both = Declared((queue("a"), queue("new", min_slots=8)))
    x, y = given.reports
    begun = replace(
        given, reports=[x, msgspec.structs.replace(y, declared=both.digest())],
        declared={**given.declared, both.digest(): both}, queues={each.name: each for each in both.queues},
    )  # fmt: skip
    found = shown(begun)
    [new] = [each for each in found["queues"] if each["name"] == "new"]
    assert (new["granted"], new["after"], new["short"]) == (8.0, 4, 4.0)
    assert new["reason"].endswith("4 of 8 have a place")
    assert lines(found)[0].endswith("1 queue short: new")
