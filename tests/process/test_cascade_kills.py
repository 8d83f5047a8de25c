"""Slots killed at random around the settlements of tasks that leave others behind: both happen or neither, always."""

import contextlib
import os
import pathlib
import random
import select
import signal
import socket
from collections import defaultdict
from collections.abc import Iterator

import pytest
from support.waiting import wait_for

import qslots
from qmaster.deaths import decode, left_behind
from qslots import Queue, Task, client, orders, task
from qslots.handlers import REGISTRY
from qslots.queueserver import QueueServer
from qslots.scoreboard import Field, Record, Scoreboard
from qslots.servers import QueueServers, parted
from qslots.slot import Slot

KILLS = int(os.environ.get("QSLOTS_TEST_KILLS", "120"))  # thousands for a long run
CHILDREN = 3
LIFE = 0.004  # s at most from a slot's first pack to its end
FEED = 300  # parents that wait at least


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Iterator[Record]:
    board = Scoreboard.create(str(tmp_path / "board"))
    yield board.record(0)
    os.close(board.descriptor)


@pytest.fixture
def application(server: QueueServer, monkeypatch: pytest.MonkeyPatch) -> QueueServer:
    """Two kinds of parents in one queue; each task has a number, and its children have it too."""
    for name in ("handlers", "_said", "_queues"):
        monkeypatch.setattr(REGISTRY, name, {})
    monkeypatch.setattr(client, "_current", None)
    qslots.connect(server.url)

    @task
    def child(parent: int, n: int) -> None: ...

    later = child.using(with_settlement=True)

    @task(queue="parents", backoff="1ms..1ms", max_crashes=1_000_000, max_failures=1_000_000)
    def single(number: int) -> None:
        for n in range(CHILDREN):
            later.enqueue(number, n)
        if random.random() < 0.1:
            raise ValueError

    @task(queue="parents", backoff="1ms..1ms", max_crashes=1_000_000, max_failures=1_000_000)
    def together(tasks: list[Task]) -> None:
        if len(tasks) > 1:
            random.choice(tasks).postpone(delay=0)
        done = [each.kwargs["number"] for each in tasks if each.outcome is None]
        later.enqueue_many([(number, n) for number in done for n in range(CHILDREN)])

    return server


def test_parents_that_are_done_have_exactly_their_children_and_others_none(
    application: QueueServer, record: Record
) -> None:
    dice, parents, put = random.Random(7), Queue("parents"), 0
    for life in range(KILLS):
        if parents.stats().tasks < FEED:
            for handler in ("single", "together"):
                parents.put_many([{"number": put + n} for n in range(FEED)], handler=handler)
                put += FEED
        with slot(application, record, f"web/0/{life}"):
            wait_for(lambda: record.words[Field.HELD], "a pack")
            select.select([], [], [], dice.uniform(0.0, LIFE))  # as chance has it
        if life % 50 == 0:
            check(application, put)
    check(application, put)
    assert Queue("parents").stats().done > KILLS


@contextlib.contextmanager
def slot(server: QueueServer, record: Record, holder: str) -> Iterator[None]:
    """A process that works as a slot; at the end of the block it is killed, and settled for as its master would."""
    record.clear(holder=holder, generation=1)
    master, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    orders.send(master, orders.Serve(("parents",)))
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            servers = QueueServers({"main": server.url}, {}, name="slot", single=True)
            declared = {queue.name: queue for queue in REGISTRY.declared({}).queues}
            Slot(servers, record, holder, REGISTRY, declared, channel).run()
        os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        master.close()
        channel.close()
        assert os.WIFSIGNALED(status), "the slot has ended by itself"
        for letter in left_behind(record, decode(status), 1.0):
            server.settle_dead(
                parted(letter.source)[0], letter.holder, held=letter.held, asked=letter.asked,
                outcomes=letter.outcomes, marks=letter.marks, rest=letter.rest, why=letter.why,
            )  # fmt: skip


def check(server: QueueServer, put: int) -> None:
    """Nothing runs: each parent is there with no child, or gone with all of its own."""
    assert not server.redis.hlen(server.keys_of("parents").part("packs"))
    living = {info.kwargs["number"] for info in Queue("parents").find()}
    children: dict[int, list[int]] = defaultdict(list)
    for info in Queue("child").find():
        children[info.kwargs["parent"]].append(info.kwargs["n"])
    wrong = {
        number: (number in living, sorted(children[number]))
        for number in range(put)
        if sorted(children[number]) != ([] if number in living else list(range(CHILDREN)))
    }
    assert not wrong, wrong
