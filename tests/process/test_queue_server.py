"""The queue server dies and comes back; locks of long tasks are kept."""

import itertools
import os
import signal
import time

import pytest
from process.fleet import Fleet, lives
from support.waiting import wait_for

from qslots.errors import QueueServerDown

SHORT = """\
@task(batch=20)
def work(n: int) -> None:
    time.sleep(0.01)
    note("end", n)
"""
LONG = """\
@task(lock="3s")
def work(n: int) -> None:
    note("begin", n)
    if n == 0:
        gate("open")
    note("end", n)
"""


def kill_redis(fleet: Fleet) -> None:
    assert fleet.redis is not None and fleet.redis.process is not None
    fleet.redis.process.kill()
    fleet.redis.process.wait()


def restart_redis(fleet: Fleet) -> None:
    assert fleet.redis is not None
    fleet.redis.spawn()
    fleet.redis.wait_ready(lambda _: None)


def test_work_goes_on_when_redis_comes_back_and_nothing_is_lost_or_run_twice(fleet: Fleet) -> None:
    master = fleet.launch(SHORT, ("work",), ("work",))
    before = [fleet.pid_of(index) for index in range(2)]
    fleet.app.work.enqueue_many([(n,) for n in range(200)])
    fleet.wait_run("end", count=50)
    kill_redis(fleet)
    wait_for(lambda: fleet.status()["queue_server_down"], "the master to notice")
    restart_redis(fleet)
    fleet.wait_empty()
    ran = [run.words[1] for run in fleet.runs("end")]
    assert sorted(map(int, ran)) == list(range(200))
    assert [fleet.pid_of(index) for index in range(2)] == before
    assert (fleet.stats().done, fleet.fates()) == (200, {})
    wait_for(lambda: not fleet.status()["queue_server_down"], "the master to be in contact again")
    assert master.process.poll() is None


def test_an_idle_fleet_survives_a_restart_of_redis(fleet: Fleet) -> None:
    fleet.launch(SHORT, ("work",), ("work",))
    before = [fleet.pid_of(0), fleet.pid_of(1)]
    wait_for(lambda: [slot["state"] for slot in fleet.live()] == ["idle", "idle"], "idle slots")
    kill_redis(fleet)
    restart_redis(fleet)
    fleet.app.work.enqueue(1)
    assert fleet.wait_run("end", 1, within=5.0)[0].pid in before
    assert [fleet.pid_of(0), fleet.pid_of(1)] == before


def test_a_slot_killed_while_redis_is_away_is_settled_when_it_is_back(fleet: Fleet) -> None:
    fleet.launch(LONG, ("work",))
    fleet.app.work.enqueue(0)
    [run] = fleet.wait_run("begin", 0)
    kill_redis(fleet)
    os.kill(run.pid, signal.SIGKILL)
    wait_for(lambda: not fleet.live(), "the slot to be gone")
    fleet.open()
    restart_redis(fleet)
    wait_for(lambda: [fate.crashes for fate in fleet.fates().values()] == [1], "the crash to be charged", 10.0)
    fleet.client.redis.zadd("qs:{work}:schedule:work", {next(iter(fleet.fates())): 0}, xx=True)  # no backoff
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 0)
    assert len(fleet.runs("begin", 0)) == 2


def test_the_lock_of_a_task_that_runs_longer_is_extended(fleet: Fleet) -> None:
    fleet.launch(LONG, ("work",), ("work",))
    fleet.app.work.enqueue(0)
    [long] = fleet.wait_run("begin", 0)
    numbers = itertools.count(1)

    def still_alone() -> bool:
        """Each short task makes the other slot look for locks that have expired."""
        fleet.app.work.enqueue(next(numbers))
        others = fleet.runs("begin")[1:]
        assert all(run.pid != long.pid for run in others)
        return bool(others) and others[-1].at > long.at + 6.0  # twice the lock

    wait_for(still_alone, "5 s to pass", 20.0)
    fleet.open()
    fleet.wait_empty()
    assert (len(fleet.runs("begin", 0)), len(fleet.runs("end", 0)), fleet.fates()) == (1, 1, {})


def test_a_task_goes_on_beyond_its_lock_while_nobody_is_served(fleet: Fleet) -> None:
    master = fleet.launch(LONG, ("work",))
    fleet.app.work.enqueue(0)
    [run] = fleet.wait_run("begin", 0)
    fleet.client.redis.config_set("appendfsync", "always")
    kill_redis(fleet)
    wait_for(lambda: time.monotonic() > run.at + 8.0, "its lock to run out", 20.0)
    assert lives(run.pid), master.said()
    restart_redis(fleet)
    fleet.open()
    fleet.wait_run("end", 0)
    fleet.wait_empty()
    assert len(fleet.runs("begin", 0)) == 1


def test_a_queue_server_without_memory_is_drained_and_nobody_is_ended(fleet: Fleet) -> None:
    master = fleet.launch(LONG, ("work",), ("work",))
    before = [fleet.pid_of(index) for index in range(2)]
    fleet.app.work.enqueue(0)
    [run] = fleet.wait_run("begin", 0)
    fleet.client.redis.config_set("maxmemory", "1mb")  # less than it uses
    with pytest.raises(QueueServerDown, match="maxmemory"):
        fleet.app.work.enqueue(1)
    wait_for(lambda: time.monotonic() > run.at + 5.0, "its lock to be extended more than once", 20.0)
    fleet.open()
    fleet.wait_empty()
    fleet.client.redis.config_set("maxmemory", "0")
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 1)
    assert [fleet.pid_of(index) for index in range(2)] == before
    assert (len(fleet.runs("begin", 0)), fleet.fates(), fleet.status()["deaths"]) == (1, {}, {})
    assert master.process.poll() is None
