"""Several queue servers: a spread queue is drained on both; one that goes away holds up its own share alone."""

import os
import re
import signal
import statistics
import time

import pytest
from process.fleet import Fleet
from support.waiting import wait_for

from qslots.embedded import Embedded

WORK = """\
@task(batch=20, backoff="100ms..100ms")
def work(n: int) -> None:
    note("begin", n)
    if n < 0:
        gate(f"open{n}")
    if n == -2 and times("begin", n) == 1:
        raise ValueError("its first run fails")
    time.sleep(0.002)
    note("end", n)


@task(batch=20, backoff="50ms..50ms")
def packs(tasks: list[Task]) -> None:
    for each in tasks:
        note("begin", *each.args)
    if len(tasks) > 1:
        gate("open")
    for each in tasks:
        if each.args == (1,) and times("begin", 1) == 1:
            each.retry(delay=0)
        else:
            note("end", *each.args)
"""


@pytest.fixture
def second(fleet: Fleet) -> Embedded:
    return fleet.spread("work", "packs")


def kill(redis: Embedded) -> None:
    assert redis.process is not None
    redis.process.kill()
    redis.process.wait()


def restart(redis: Embedded) -> None:
    redis.spawn()
    redis.wait_ready(lambda _: None)


def put(fleet: Fleet, *numbers: int) -> None:
    fleet.app.work.enqueue_many([(n,) for n in numbers])


def put_on_second(fleet: Fleet, *numbers: int) -> None:
    with fleet.at_second():
        put(fleet, *numbers)


def wait_both_empty(fleet: Fleet, queue: str = "work") -> None:
    fleet.wait_empty(queue)
    with fleet.at_second():
        fleet.wait_empty(queue)


def done(fleet: Fleet, queue: str = "work") -> tuple[int, int]:
    """Tasks done on the first and on the second."""
    first = fleet.stats(queue).done
    with fleet.at_second():
        return first, fleet.stats(queue).done


def ended(fleet: Fleet) -> list[int]:
    return sorted(int(run.words[1]) for run in fleet.runs("end"))


def wait_noticed(fleet: Fleet) -> None:
    wait_for(lambda: fleet.status()["queue_servers"]["b"]["down"], "the master to notice")


def wait_settled_on_second(fleet: Fleet, tasks: int) -> None:
    with fleet.at_second():
        wait_for(lambda: fleet.stats().done == tasks, lambda: f"{fleet.stats()}; {fleet.all_said()}")
        assert fleet.locked() == []


@pytest.mark.usefixtures("second")
def test_a_spread_queue_is_drained_on_both(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",), ("work",))
    put(fleet, *range(60))
    put_on_second(fleet, *range(60, 160))
    wait_both_empty(fleet)
    assert ended(fleet) == list(range(160))
    assert done(fleet) == (60, 100)
    known = fleet.status()["queue_servers"]
    assert {name: server["down"] for name, server in known.items()} == {"main": "", "b": ""}


@pytest.mark.usefixtures("second")
def test_a_slot_that_waits_on_two_starts_at_once_what_comes_to_either(fleet: Fleet) -> None:
    fleet.launch(WORK, ("work",))
    delays = []
    for n in range(10):
        wait_for(lambda: [slot["state"] for slot in fleet.live()] == ["idle"], "an idle slot")
        began = time.monotonic()
        (put_on_second if n % 2 else put)(fleet, n)
        delays.append(fleet.wait_run("begin", n)[0].at - began)
    assert max(delays) < 2.0 and statistics.median(delays) < 0.2, delays  # they look again by themselves after 3 s


@pytest.mark.usefixtures("second")
def test_tasks_that_come_to_both_at_once_wake_two_slots(fleet: Fleet) -> None:  # case 14
    fleet.launch(WORK, ("work",), ("work",))
    for n in range(1, 11):
        wait_for(lambda: [slot["state"] for slot in fleet.live()] == ["idle", "idle"], "idle slots")
        began = time.monotonic()
        put(fleet, n)
        put_on_second(fleet, 100 + n)
        runs = [fleet.wait_run("begin", each, within=5.0)[0] for each in (n, 100 + n)]
        assert max(run.at for run in runs) - began < 2.0


def test_the_others_tasks_go_on_while_one_is_dead_and_nothing_is_lost_or_run_twice(
    fleet: Fleet, second: Embedded
) -> None:
    fleet.launch(WORK, ("work",), ("work",))
    put_on_second(fleet, *range(1000, 1300))
    put(fleet, *range(300))
    wait_for(lambda: len(fleet.runs("end")) > 100, "work on both")
    kill(second)
    put(fleet, *range(300, 600))
    fleet.wait_empty()
    assert [n for n in ended(fleet) if n < 1000] == list(range(600))
    wait_noticed(fleet)
    assert not fleet.status()["queue_servers"]["main"]["down"]
    restart(second)
    wait_both_empty(fleet)
    assert ended(fleet) == [*range(600), *range(1000, 1300)]
    wait_settled_on_second(fleet, 300)
    assert done(fleet) == (600, 300)
    wait_for(lambda: not fleet.status()["queue_servers"]["b"]["down"], "b to be answering")
    said = fleet.all_said()
    assert (said.count("b: queue server"), said.count("queue server b answers again")) == (1, 1)


def test_slots_whose_servers_are_all_dead_wait_and_go_on_with_both(fleet: Fleet, second: Embedded) -> None:
    fleet.launch(WORK, ("work",), ("work",))
    before = [fleet.pid_of(0), fleet.pid_of(1)]
    put(fleet, *range(100))
    put_on_second(fleet, *range(100, 200))
    wait_for(lambda: len(fleet.runs("end")) > 50, "work on both")
    assert fleet.redis is not None
    kill(fleet.redis)
    kill(second)
    wait_noticed(fleet)
    restart(fleet.redis)
    restart(second)
    wait_both_empty(fleet)
    assert ended(fleet) == list(range(200))
    assert [fleet.pid_of(0), fleet.pid_of(1)] == before


def test_a_pack_done_while_its_server_is_dead_does_not_hold_up_its_slot_nor_run_again(
    fleet: Fleet, second: Embedded
) -> None:
    fleet.launch(WORK, ("work",))
    put_on_second(fleet, -1)
    [run] = fleet.wait_run("begin", -1)
    kill(second)
    fleet.open("open-1")
    put(fleet, 1, 2)
    assert [each.pid for each in fleet.wait_run("end", 2)] == [run.pid]
    fleet.wait_empty()
    restart(second)
    wait_settled_on_second(fleet, 1)
    put_on_second(fleet, 3)
    fleet.wait_run("end", 3)
    assert len(fleet.runs("begin", -1)) == 1


def test_a_failure_that_could_not_be_told_is_told_when_the_server_is_back(fleet: Fleet, second: Embedded) -> None:
    fleet.launch(WORK, ("work",))
    put_on_second(fleet, 1, 2)
    fleet.wait_run("end", 2)  # packs grow: the next one is of four
    put_on_second(fleet, 3, 4, 5, -2, 6)
    fleet.wait_run("begin", -2)
    kill(second)
    fleet.open("open-2")
    put(fleet, 7)
    fleet.wait_run("end", 7)
    restart(second)
    fleet.wait_run("end", -2)
    wait_settled_on_second(fleet, 7)
    assert ended(fleet) == [-2, 1, 2, 3, 4, 5, 6, 7]
    assert len(fleet.runs("begin", -2)) == 2
    with fleet.at_second():
        assert fleet.stats().failed == 1


def test_a_list_handlers_outcomes_are_told_when_the_server_is_back(fleet: Fleet, second: Embedded) -> None:
    fleet.write_app(WORK)
    with fleet.at_second():
        fleet.app.packs.enqueue_many([(0,), (1,), (2,)])
    fleet.publish(("packs",))
    fleet.start_master()
    fleet.wait_run("begin", 2)  # the second pack is of two
    kill(second)
    fleet.open()
    fleet.app.packs.enqueue(9)
    fleet.wait_run("end", 9)
    restart(second)
    wait_both_empty(fleet, "packs")
    assert ended(fleet) == [0, 1, 2, 9]
    assert [len(fleet.runs("begin", n)) for n in (0, 1, 2)] == [1, 2, 1]


def test_the_place_of_a_slot_that_died_does_not_wait_for_a_dead_server(fleet: Fleet, second: Embedded) -> None:
    fleet.launch(WORK, ("work",))
    put_on_second(fleet, -1)
    [run] = fleet.wait_run("begin", -1)
    kill(second)
    wait_noticed(fleet)
    os.kill(run.pid, signal.SIGKILL)
    put(fleet, 1)
    fleet.wait_run("end", 1)
    fleet.open("open-1")
    restart(second)
    fleet.wait_run("end", -1)
    wait_settled_on_second(fleet, 1)
    with fleet.at_second():
        assert fleet.stats().crashed == 1


def test_a_master_begins_without_a_server_that_is_not_the_first(fleet: Fleet, second: Embedded) -> None:
    kill(second)
    fleet.launch(WORK, ("work",))
    put(fleet, 1)
    fleet.wait_run("end", 1)
    wait_noticed(fleet)
    status = fleet.start("qmaster", "status")
    assert status.ended() == 0
    lines = status.said().splitlines()
    assert [line for line in lines if re.match(r" +queue server +main, .*: answers$", line)]
    assert [line for line in lines if re.match(r" +queue server +b, .* does not answer", line)]
    restart(second)
    put_on_second(fleet, 2)
    fleet.wait_run("end", 2)


def test_a_master_that_stops_pays_what_is_owed_within_its_grace(fleet: Fleet, second: Embedded) -> None:
    master = fleet.launch(WORK, ("work",))
    put_on_second(fleet, -1)
    fleet.wait_run("begin", -1)
    kill(second)
    fleet.open("open-1")
    put(fleet, 1)
    fleet.wait_run("end", 1)
    fleet.wait_empty()
    wait_noticed(fleet)
    master.signal(signal.SIGTERM)
    wait_for(lambda: fleet.status().get("stage") == "settling", "the slots to be gone")
    restart(second)
    assert master.ended() == 0
    wait_settled_on_second(fleet, 1)


@pytest.mark.usefixtures("second")
def test_a_successor_settles_what_a_killed_master_left_on_both(fleet: Fleet) -> None:
    first = fleet.launch(WORK, ("work",), ("work",))
    put(fleet, -1)
    put_on_second(fleet, -3)
    fleet.wait_run("begin", -1)
    fleet.wait_run("begin", -3)
    first.signal(signal.SIGKILL)
    first.ended()
    fleet.open("open-1")
    fleet.open("open-3")
    fleet.start_master()
    fleet.wait_run("end", -1, within=10.0)  # the locks would have lasted 60 s
    fleet.wait_run("end", -3, within=10.0)
    wait_both_empty(fleet)
    assert done(fleet) == (1, 1)


@pytest.mark.usefixtures("second")
def test_the_lock_of_a_long_task_is_extended_on_its_own_server(fleet: Fleet) -> None:
    (fleet.folder / "qslots.yml").write_text(
        (fleet.folder / "qslots.yml").read_text().replace('"work": {', '"work": {"lock": "3s", ')
    )
    fleet.launch(WORK, ("work",))
    with fleet.at_second() as there:
        put(fleet, -1)
        fleet.wait_run("begin", -1)
        locks = there.keys_of("work").part("locks")
        [(lock, first)] = there.redis.zrange(locks, 0, -1, withscores=True)
        wait_for(lambda: float(there.redis.zscore(locks, lock) or 0) > first + 1e6, "the lock to be extended")
    fleet.open("open-1")
    wait_both_empty(fleet)


def test_a_server_that_hangs_does_not_keep_slots_from_the_other(fleet: Fleet, second: Embedded) -> None:
    fleet.launch(WORK, ("work",))
    put_on_second(fleet, 1)
    fleet.wait_run("end", 1)
    assert second.process is not None
    second.process.send_signal(signal.SIGSTOP)
    try:
        put(fleet, *range(100, 400))
        fleet.wait_empty(within=12.0)
        wait_noticed(fleet)
    finally:
        second.process.send_signal(signal.SIGCONT)
    put_on_second(fleet, 2)
    fleet.wait_run("end", 2)
