"""A real slot that serves several queues: time goes by priority, none starves, and nothing polls."""

import os
import pathlib
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from support.holder import QUEUE, Holder, put, stats
from support.waiting import wait_for

import qslots
import qslots.tasks
from qslots import client, orders
from qslots.handlers import Registry
from qslots.queueserver import QueueServer
from qslots.scoreboard import Scoreboard
from qslots.servers import QueueServers
from qslots.slot import IDLE_WAIT, LOOK_ROUND, Slot
from qslots.work import TERM

Serve = Callable[..., None]
HOLDER = "web/0/x.1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, server: QueueServer) -> Iterator[Registry]:
    made = Registry()
    monkeypatch.setattr(qslots.tasks, "REGISTRY", made)
    monkeypatch.setattr(client, "_overrides", {})
    monkeypatch.setattr(client, "_current", None)
    servers = client.connect(server.url)
    yield made
    servers.close()


@pytest.fixture
def serve(registry: Registry, server: QueueServer, tmp_path: pathlib.Path) -> Iterator[Serve]:
    """Starts a slot of these queues, a process of its own that ends with the test."""
    board = Scoreboard.create(str(tmp_path / "board"))
    record = board.record(0)
    record.clear(holder=HOLDER, generation=1)
    master, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started: list[int] = []

    def work() -> None:
        servers = QueueServers({"main": server.url}, {}, name="slot", single=True)
        declared = {queue.name: queue for queue in registry.declared({}).queues}
        master.close()
        TERM.forked = False  # not the child of a slot that another test has made
        Slot(servers, record, HOLDER, registry, declared, channel).run()

    def start(*queues: str) -> None:
        orders.send(master, orders.Serve(queues))
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(0)
        started.append(pid)

    yield start
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    master.close()
    channel.close()
    os.close(board.descriptor)


def busy_for(seconds: float) -> None:
    select.select([], [], [], seconds)


def declare(name: str, seconds: float, priority: int) -> None:
    """A queue whose tasks take so long, one a pack, with more of them than a test can wait for."""

    @qslots.task(name=name, queue=name, priority=priority, batch=1)
    def handler() -> None:
        busy_for(seconds)

    handler.enqueue_many([()] * 5000)


def ran(server: QueueServer, queue: str, tasks: int) -> None:
    wait_for(lambda: stats(server, queue).done >= tasks, f"{tasks} tasks of {queue} to be done", 60.0)


def requests(server: QueueServer) -> int:
    """How many scripts the server was asked to run."""
    return int(server.redis.info("commandstats")["cmdstat_evalsha"]["calls"])


def counter(server: QueueServer, queue: str, name: str) -> int:
    """A counter of a queue, read without a script."""
    return int(server.redis.hget(server.keys_of(queue).part("counters"), name) or 0)


def test_no_queue_starves_beside_one_of_a_hundred_times_its_priority(server: QueueServer, serve: Serve) -> None:
    declare("low", 0.002, priority=1)
    declare("high", 0.002, priority=100)
    serve("low", "high")
    ran(server, "low", 12)
    share = stats(server, "high").busy / stats(server, "low").busy
    assert 25 < share < 400


def test_time_and_not_turns_are_shared_between_short_and_long_tasks(server: QueueServer, serve: Serve) -> None:
    declare("short", 0.001, priority=50)
    declare("long", 0.03, priority=50)
    serve("short", "long")
    ran(server, "long", 20)
    ran(server, "short", 200)
    assert 0.2 < stats(server, "long").busy / stats(server, "short").busy < 5.0  # 30 if turns were shared


def test_idle_slot_asks_each_queue_once_in_three_seconds(server: QueueServer, serve: Serve) -> None:
    for name in ("a", "b"):
        declare(name, 0.0, priority=50)
        server.redis.delete(*server.keys_of(name).vector, server.keys_of(name).schedule(name))
    serve("a", "b")
    wait_for(lambda: counter(server, "a", "empty") and counter(server, "b", "empty"), "the slot to find nothing")
    looked, asked, began = counter(server, "a", "empty"), requests(server), time.monotonic()
    wait_for(lambda: counter(server, "a", "empty") > looked, "the slot to look again")
    assert time.monotonic() - began > 0.8 * IDLE_WAIT
    assert requests(server) - asked <= 2


def test_busy_slot_asks_now_and_then_what_is_due_in_its_other_queues(server: QueueServer, serve: Serve) -> None:
    declare("busy", 0.001, priority=50)

    @qslots.task
    def quiet() -> None: ...

    serve("busy", "quiet")
    ran(server, "busy", 100)
    packs, asked, began = counter(server, "busy", "packs"), requests(server), time.monotonic()
    wait_for(lambda: counter(server, "busy", "packs") > packs + 500, "more packs")
    span = time.monotonic() - began
    looks = requests(server) - asked - (counter(server, "busy", "packs") - packs)
    assert looks <= span / LOOK_ROUND + 5
    quiet.enqueue()
    began = time.monotonic()
    wait_for(lambda: counter(server, "quiet", "done"), "the task of the quiet queue")
    assert time.monotonic() - began < 0.5
    assert counter(server, "quiet", "empty") <= 3  # it was looked at when the slot began, not again and again


def test_takes_that_find_nothing_are_counted(server: QueueServer) -> None:
    slot = Holder(server, "s")
    slot.take()
    slot.take()
    put(server, "a")
    assert slot.work() == ["a"]
    assert (stats(server, QUEUE).empty, stats(server, QUEUE).packs) == (2, 1)
