"""Whole decisions, cycle after cycle, with a cluster of plain data that does at once what the map says."""

import math
import random

import msgspec
import pytest
from support.plans import Cluster, many, numbers, queue, report

from qmanager.planning.board import LEAST_MOVES
from qmanager.planning.grant import Holding
from qmanager.planning.masters import summed
from qmanager.planning.planner import Memory, PlanResult, plan
from qslots.reports import Declared, QueueDeclared, QueueStats, SlotReport


def observed(queues: list[QueueDeclared], *living: SlotReport, taken: dict[str, int]) -> PlanResult:
    declared = Declared(tuple(queues))
    return plan(
        declared={declared.digest(): declared},
        stats={each.name: QueueStats(each.name, 9.0, taken=taken.get(each.name, 0)) for each in queues},
        reports=[report("x", declared.digest(), 4, living)], current={}, now=9.0, memory=Memory(),
    )  # fmt: skip


def test_laptop_with_four_slots_serves_thirty_queues() -> None:
    cluster = Cluster(many(30))
    result = cluster.cycle()
    assert cluster.heard() == {each.name for each in cluster.queues}
    assert numbers(result, "q00").granted == 2 / 30
    assert numbers(result, "q00").reason.endswith("; shares 2 slots with 29 others")


def test_minimum_of_one_queue_leaves_nobody_deaf() -> None:  # case 44
    cluster = Cluster([queue("greedy", min_slots=4), *many(29)])
    cluster.cycle()
    assert cluster.heard() == {each.name for each in cluster.queues}
    assert cluster.own("greedy") == 3


def test_running_task_counts_for_its_queue_after_its_slot_left_the_group() -> None:
    slot = SlotReport(0, 1, 1, "busy", ("q01",), handler="do_q00", task_age=40.0, queue="q00")
    result = observed(many(3), slot, taken={"q00": 1})
    assert numbers(result, "q00").mean_time == 40.0
    assert numbers(result, "q01").mean_time is None


def test_running_task_of_a_slot_that_leaves_counts_too() -> None:
    slot = SlotReport(0, 1, 1, "leaving", (), handler="do_q00", task_age=40.0, queue="q00")
    assert numbers(observed(many(2), slot, taken={"q00": 1}), "q00").mean_time == 40.0


def test_master_that_does_not_tell_the_queue_is_understood_by_the_handler() -> None:
    slot = SlotReport(0, 1, 1, "busy", ("q00", "q01"), handler="do_q01", task_age=40.0)
    assert numbers(observed(many(2), slot, taken={"q01": 1}), "q01").mean_time == 40.0


@pytest.mark.parametrize(
    ("queues", "slots", "note"),
    [
        (2, 1, "; shares a slot with 1 other"),
        (4, 2, "; shares 2 slots with 3 others"),
        (1, 9, "; one slot so that somebody listens"),
    ],
)
def test_reason_tells_an_idle_queue_that_there_is_nothing_to_do(queues: int, slots: int, note: str) -> None:
    assert numbers(Cluster(many(queues), {"x": slots}).cycle(), "q00").reason == "nothing to do" + note


def test_minimum_and_backlog_come_before_what_idle_queues_keep() -> None:
    idle = many(8)
    cluster = Cluster(idle, {"x": 12}, waiting={each.name: 6 for each in idle})
    for _ in range(12):
        cluster.cycle()
    assert not cluster.running
    assert sum(cluster.own(each.name) for each in idle) >= 8  # kept from the peak, while there is room
    cluster.servers["x"] = 4
    cluster.cycle()
    cluster.queues.append(queue("urgent", min_slots=4, priority=80))
    cluster.waiting["urgent"] = 50
    result = cluster.cycle()
    assert cluster.own("urgent") == 3  # the fourth is where the others are heard
    assert cluster.heard() == {each.name for each in cluster.queues}
    assert numbers(result, "urgent").reason.endswith("; short of slots: 3 of 4")
    for _ in range(20):
        cluster.cycle()
        assert cluster.own("urgent") == 3


def test_queues_that_share_do_not_wait_for_a_long_task_while_idle_queues_keep_slots() -> None:
    cluster = Cluster([queue(f"own{i}") for i in range(3)], {"x": 4}, waiting={f"own{i}": 10 for i in range(3)})
    for _ in range(25):
        cluster.cycle()
    assert all(cluster.own(f"own{i}") for i in range(3))
    assert not cluster.running
    cluster.takes = 25.0
    cluster.queues += many(8)
    cluster.cycle()
    cluster.waiting = {"q00": 1, "q05": 1}
    cluster.cycle()
    cluster.cycle()
    assert sorted(name for name, _ in cluster.running.values()) == ["q00", "q05"]


def test_nothing_grows_towards_a_peak_that_is_over() -> None:
    cluster = Cluster(many(3), {"x": 4}, takes=0.2)
    grown = peak = 0.0
    for cycle in range(60):
        cluster.servers["x"] = min(64, 4 * 2 ** (cycle // 4))
        cluster.waiting["q00"] = cluster.waiting.get("q00", 0) + (200 if cycle < 5 else 20)
        before = cluster.own("q00")
        result = cluster.cycle()
        wanted, own = numbers(result, "q00").wanted, cluster.own("q00")
        peak = max(peak, wanted)
        if own > before:
            assert own <= math.ceil(wanted * 1.15)
            grown = cycle
    assert peak > 40
    assert cluster.waiting["q00"] == 0
    assert grown < 20
    assert numbers(result, "q00").granted == cluster.own("q00") < 40


def test_unchanged_input_gives_the_unchanged_map() -> None:
    cluster = Cluster([*many(5), queue("big", min_slots=6)], {"x": 5, "y": 5})
    cluster.cycle()
    rows = cluster.rows
    for _ in range(5):
        assert cluster.cycle().changes == ()
    assert cluster.rows == rows


def test_busy_queue_gets_growing_slots_and_keeps_them_for_the_window() -> None:
    cluster = Cluster(many(3), {"x": 20, "y": 20}, waiting={"q00": 3000})
    counts = []
    for _ in range(12):
        cluster.cycle()
        counts.append(cluster.own("q00"))
    assert counts == sorted(counts)
    assert counts[0] <= 2
    assert counts[-1] >= 30
    cluster.waiting["q00"] = 0
    cluster.interval = 10.0
    for _ in range(14):
        result = cluster.cycle()
        assert numbers(result, "q00").granted >= 30
    for _ in range(20):
        result = cluster.cycle()
    assert numbers(result, "q00").granted < 1
    assert cluster.own("q00") >= 30  # surplus that nobody claims stays
    cluster.queues.append(queue("late", min_slots=30))
    cluster.cycle()
    assert cluster.own("late") == 30


def test_half_hour_tasks_worth_a_dozen_slots_do_not_oscillate() -> None:  # case 41
    draw = random.Random(41)
    cluster = Cluster([queue("film"), *many(3)], {"x": 50, "y": 50}, takes=1800.0, interval=30.0)
    counts, changes, due = [], 0, 0.0
    for step in range(480):
        while due <= step * 30:
            cluster.waiting["film"] = cluster.waiting.get("film", 0) + 1
            due += draw.uniform(0.5, 1.5) * 1800 / 12.5
        result = cluster.cycle()
        if step > 180:  # an hour and a half
            counts.append(numbers(result, "film").granted)
            changes += len(result.changes)
    assert min(counts) >= 13
    assert max(counts) <= 22
    assert changes <= 8


def test_missing_statistics_change_nothing() -> None:
    cluster = Cluster(many(3), {"x": 9}, waiting={"q00": 1000})
    for _ in range(8):
        before = cluster.cycle()
    cluster.blind = True
    after = cluster.cycle()
    assert numbers(after, "q00").wanted == numbers(before, "q00").wanted > 1
    assert after.changes == ()


def test_new_manager_takes_nothing_away() -> None:  # case 43
    cluster = Cluster(many(3), {"x": 9}, waiting={"q00": 1000})
    for _ in range(8):
        cluster.cycle()
    cluster.memory, cluster.blind = Memory(), True
    assert cluster.cycle().changes == ()


def test_nothing_is_forgotten_while_no_declaration_is_known() -> None:
    cluster = Cluster(many(3))
    cluster.cycle()
    result = plan(
        declared={}, stats={}, reports=[report("x", "", 4)], current=cluster.rows, now=9.0, memory=cluster.memory
    )
    assert (result.rows, result.changes, result.memory) == (cluster.rows, (), cluster.memory)


def test_lost_server_has_no_row_and_its_slots_go_elsewhere() -> None:
    cluster = Cluster([queue("a", min_slots=4)], {"x": 8, "y": 8})
    cluster.cycle()
    del cluster.servers["x"]
    result = cluster.cycle()
    assert list(result.rows) == ["y"]
    assert cluster.own("a") == 4


def test_newest_declaration_counts_and_a_queue_goes_only_where_it_is_known() -> None:
    old, new = Declared((queue("a", min_slots=1),)), Declared((queue("a", min_slots=3), queue("b", min_slots=2)))
    result = plan(
        declared={old.digest(): old, new.digest(): new}, stats={}, current={}, now=1.0, memory=Memory(),
        reports=[report("x", old.digest(), 8, generation=7), report("y", new.digest(), 8)],
    )  # fmt: skip
    assert numbers(result, "a").min == 3
    assert sum(queues == ("a",) for row in result.rows.values() for queues in row) == 3
    assert [queues for queues in result.rows["y"] if "b" in queues] == [("b",), ("b",)]
    assert not any("b" in queues for queues in result.rows["x"])


def test_queue_without_a_handler_gets_no_slot() -> None:
    cluster = Cluster([QueueDeclared("orphan"), queue("a")])
    result = cluster.cycle()
    assert cluster.heard() == {"a"}
    assert numbers(result, "orphan").reason == "no handler"


def test_only_queues_of_the_same_queue_servers_share_a_slot() -> None:
    declared = Declared(tuple(many(4)))
    places = {"q00": ("main",), "q01": ("b",), "q02": ("main",), "q03": ("b",)}
    result = plan(
        declared={declared.digest(): declared}, stats={}, reports=[report("x", declared.digest(), 4)], current={},
        now=9.0, memory=Memory(), places=places,
    )  # fmt: skip
    assert set(result.rows["x"]) == {("q00", "q02"), ("q01", "q03")}


def test_a_queue_of_a_server_that_is_away_says_so_and_no_more_than_that() -> None:
    declared = Declared((queue("far"), queue("near"), queue("spread")))
    result = plan(
        declared={declared.digest(): declared}, stats={}, reports=[report("x", declared.digest(), 4)], current={},
        now=9.0, memory=Memory(), places={"far": ("b",), "near": ("main",), "spread": ("main", "b")}, silent={"b"},
    )  # fmt: skip
    far, near, spread = result.queues
    assert far.reason.startswith("no answer from b, where it lives; one slot")
    assert near.reason.startswith("no statistics yet")
    assert spread.reason.startswith("no answer from b, whose last counts stay; no statistics yet")


def test_a_queue_whose_servers_do_not_answer_keeps_its_demand_for_a_while() -> None:
    declared = Declared((queue("far"),))

    def planned(now: float, done: int, memory: Memory, silent: set[str]) -> PlanResult:
        return plan(
            declared={declared.digest(): declared},
            stats={"far": QueueStats("far", now, taken=done, done=done, busy=done * 0.5)},
            reports=[report("x", declared.digest(), 90)], current={}, now=now, memory=memory,
            places={"far": ("b",)}, silent=silent,
        )  # fmt: skip

    memory = Memory()
    for second in range(90):
        memory = planned(1000.0 + second, second * 10, memory, set()).memory
    for seconds, wanted in ((1.0, 6.25), (590.0, 6.25), (700.0, 0.0)):
        result = planned(1089.0 + seconds, 890, memory, {"b"})
        assert numbers(result, "far").wanted == pytest.approx(wanted, rel=0.1, abs=0.7)
        assert numbers(result, "far").reason.startswith("no answer from b")


def test_a_queue_that_was_paused_leaves_its_slots_to_those_who_need_them() -> None:
    cluster = Cluster([queue("spring"), queue("summer")], {"x": 12}, waiting={"spring": 1000})
    for _ in range(12):
        cluster.cycle()
    assert cluster.own("spring") >= 8
    cluster.paused.add("spring")
    result = cluster.cycle()
    assert numbers(result, "spring").wanted == 0
    assert "paused" in numbers(result, "spring").reason
    cluster.running.clear()
    cluster.waiting["summer"] = 1000
    for _ in range(12):
        cluster.cycle()
    assert cluster.own("summer") >= 10


def test_burst_of_a_small_queue_changes_no_slot_of_the_group_that_it_leaves() -> None:
    cluster = Cluster(many(12), {"x": 8, "y": 8}, takes=0.5)
    for _ in range(3):
        cluster.cycle()
    shared = [
        (name, i, queues) for name, row in cluster.rows.items() for i, queues in enumerate(row) if len(queues) > 1
    ]
    assert shared
    cluster.interval = 4.0
    for _ in range(2):
        cluster.waiting["q03"] = 60
        for _ in range(50):
            assert not [each for each in cluster.cycle().changes if len(each.before) > 1]
        assert cluster.own("q03")
    assert all(cluster.rows[name][i] == queues for name, i, queues in shared)


def test_slots_of_a_group_that_a_queue_with_a_max_leaves_are_left_to_the_others() -> None:
    cluster = Cluster([*many(5), queue("few", max_slots=2)], {"x": 8}, takes=0.5)
    cluster.cycle()
    cluster.waiting["few"] = 60
    for _ in range(30):
        cluster.cycle()
        assert sum("few" in queues for row in cluster.rows.values() for queues in row) <= 2
    assert cluster.own("few") == 2


def test_masters_may_be_summed_up_before() -> None:
    declared = Declared(tuple(many(3)))
    slots = (
        SlotReport(0, 1, 1, "busy", ("q00", "q01"), handler="do_q01", task_age=40.0),
        SlotReport(1, 1, 1, "leaving", ("q02",), handler="do_q02", task_age=2.0, queue="q02"),
        SlotReport(2, 1, 1, "idle", ("q02",)),
    )
    reports = [report("y", declared.digest(), 4, slots), report("x", declared.digest(), 4)]
    stats = {name: QueueStats(name, 9.0, taken=1) for name in ("q00", "q01", "q02")}
    results = [
        plan(
            declared={declared.digest(): declared}, stats=stats, reports=each, current={"y": (("q00", "q01"),)},
            now=9.0, memory=Memory(),
        )
        for each in (reports, summed(reports))
    ]  # fmt: skip
    assert results[0] == results[1]
    assert summed(reports)[1].idle == {2}
    assert summed(reports)[1].listening == (("q00", "q01"), ("q02",))


@pytest.mark.parametrize(("oldest", "target_delay", "taken"), [
    (1.0, 5.0, LEAST_MOVES + 1),  # the first slot counts as no move; one is left to the other queue
    (60.0, 5.0, 59),
    (0.1, 2.0, 59),  # it is to be done so soon that to be overdue would be too late
])  # fmt: skip
def test_overdue_queues_take_what_is_spare_at_once_others_little_by_little(
    oldest: float, target_delay: float, taken: int
) -> None:
    cluster = Cluster([queue("a", min_slots=60)], {"x": 30, "y": 30})
    cluster.cycle()
    cluster.queues = [queue("a"), queue("b", target_delay=target_delay)]
    declared = Declared(tuple(cluster.queues))
    counts = QueueStats("b", 2000.0, active=500, takeable=500, taken=900, done=900, busy=900.0, oldest=oldest)
    result = plan(
        declared={declared.digest(): declared}, stats={"a": QueueStats("a", 2000.0), "b": counts},
        reports=[report(name, declared.digest(), 30) for name in "xy"], current=cluster.rows, now=2000.0,
        memory=Memory(holding=Holding()),
    )  # fmt: skip
    assert sum(each.after == ("b",) for each in result.changes) == taken


def test_slots_that_still_end_tasks_of_others_are_made_up_for_while_the_queue_is_late() -> None:
    declared = Declared((queue("urgent", priority=90, target_delay=1.0), queue("slow")))
    busy = tuple(
        SlotReport(index, index + 1, 1, "busy", ("urgent",), task_age=3.0, queue="slow" if index < 6 else "urgent")
        for index in range(10)
    )
    history = [QueueStats("urgent", 1000.0 + i, put=10 * i, taken=10 * i, done=10 * i, busy=5.0 * i) for i in range(60)]
    memory, rows = Memory(), {"x": (("urgent",),) * 10}
    for each in [*history, QueueStats("urgent", 1060.0, 5, takeable=5, taken=600, done=600, busy=300.0, oldest=0.9)]:
        result = plan(
            declared={declared.digest(): declared}, stats={"urgent": each, "slow": QueueStats("slow", each.now)},
            reports=[report("x", declared.digest(), 40, busy)], current=rows, now=each.now, memory=memory,
        )  # fmt: skip
        memory = result.memory
    numbers_of_it = numbers(result, "urgent")
    assert (numbers_of_it.away, numbers_of_it.slots) == (6, numbers_of_it.need + 6)
    assert numbers_of_it.reason.endswith("as long as 6 of them still end tasks of others")


def test_a_fifth_of_the_servers_lost_leaves_the_important_queue_all_it_wants_at_once() -> None:
    queues = [queue("urgent", min_slots=40, priority=90), *(queue(f"q{i}", min_slots=12) for i in range(10))]
    cluster = Cluster(queues, {f"s{i:02}": 16 for i in range(10)})
    for _ in range(4):
        cluster.cycle()
    assert cluster.own("urgent") == 40
    del cluster.servers["s03"], cluster.servers["s07"]
    assert sum(row.count(("urgent",)) for name, row in cluster.rows.items() if name in cluster.servers) == 32
    cluster.cycle()
    assert cluster.own("urgent") == 40


@pytest.mark.parametrize(("bound", "left"), [("memory", 40), ("setting", 39)])
def test_noise_of_what_memory_carries_cuts_no_slot_a_setting_does(bound: str, left: int) -> None:
    cluster = Cluster([queue("a", min_slots=40)], {"x": 40})
    cluster.cycle()
    declared = Declared(tuple(cluster.queues))
    said = msgspec.structs.replace(report("x", declared.digest(), 39), bound=bound)
    result = plan(
        declared={declared.digest(): declared}, stats={}, reports=[said], current=cluster.rows, now=1001.0,
        memory=cluster.memory,
    )  # fmt: skip
    assert len(result.rows["x"]) == left
