"""A slot of two queue servers when the answer of one is lost: it asks the same again, and owes what is done."""

import os
import pathlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.holder import put, stats

import qslots
import qslots.tasks
from qslots import orders
from qslots.connection import Link
from qslots.debts import Owed
from qslots.errors import QueueServerDown
from qslots.handlers import Registry
from qslots.queueserver import QueueServer
from qslots.scoreboard import Field, Record, Scoreboard
from qslots.scripts import Script
from qslots.servers import QueueServers
from qslots.slot import Slot

HOLDER = "web/0/x.1"
QUEUE = HANDLER = "work"
run_script = Script.run


class Hand:
    """Drives the slot's loop turn by turn, and stands where its master stands."""

    def __init__(self, servers: QueueServers, record: Record, registry: Registry) -> None:
        self.servers = servers
        self.record = record
        self.master, self._channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.master.setblocking(False)
        declared = {queue.name: queue for queue in registry.declared({}).queues}
        self.slot = Slot(servers, record, HOLDER, registry, declared, self._channel)
        self.serve(QUEUE)

    def serve(self, *queues: str) -> None:
        orders.send(self.master, orders.Serve(queues))
        self.slot._hear(0.0)

    def take(self) -> tuple[str, list[str]] | None:
        """The source and the ids of the pack that the slot takes, None if there is none."""
        taken = self.slot._take()
        return (taken[0], [each.decode() for each in taken[1].ids]) if taken else None

    def work(self, taken: Any) -> None:
        self.slot._work(*taken)

    def told(self) -> object:
        """What the slot has told its master, None if nothing."""
        try:
            return orders.receive(self.master)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self.master.close()
        self._channel.close()


@pytest.fixture
def hand(
    server: QueueServer, second: QueueServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hand]:
    registry = Registry()
    monkeypatch.setattr(qslots.tasks, "REGISTRY", registry)

    @qslots.task(batch=10)
    def work() -> None: ...

    @qslots.task
    def other() -> None: ...

    servers = QueueServers(
        {"a": server.url, "b": second.url}, {QUEUE: ("a", "b")}, name="slot", timeout=2.0, single=True
    )
    board = Scoreboard.create(str(tmp_path / "board"))
    record = board.record(0)
    record.clear(holder=HOLDER, generation=1)
    before = signal.getsignal(signal.SIGTERM)
    made = Hand(servers, record, registry)
    yield made
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, before)
    made.close()
    servers.close()
    os.close(board.descriptor)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[QueueServer]]:
    """The next exchange with each of the servers listed here runs, but its answer is lost."""
    servers: list[QueueServer] = []

    def run(self: Script, link: Link, *commands: Any, wait: float = 0.0) -> list[Any]:
        replies = run_script(self, link, *commands, wait=wait)
        there = [server for server in servers if server.link is link]
        if there and "-- exchange: " in self.text:
            servers.remove(there[0])
            raise QueueServerDown("lost")
        return replies

    monkeypatch.setattr(Script, "run", run)
    yield servers
    assert not servers


def put_work(server: QueueServer, *ids: str) -> None:
    put(server, *ids, queue=QUEUE, handler=HANDLER)


def locked(server: QueueServer) -> set[str]:
    return {name.decode() for name in server.redis.hkeys(server.keys_of(QUEUE).part("packs"))}


def test_request_whose_answer_was_lost_is_asked_again_by_its_number(
    hand: Hand, server: QueueServer, second: QueueServer, lost: list[QueueServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_work(second, "b1")
    lost.append(hand.servers["b"])
    assert hand.take() is None
    assert hand.record.doubts() == {"work@b": seq_of(second)}
    asked = seq_of(second)
    put_work(server, "a1")
    hand.slot._lottery.refill("work@a")
    assert hand.take() == ("work@a", ["a1"])  # the other server is served meanwhile
    assert hand.record.words[Field.HELD] > asked
    monkeypatch.setattr(hand.slot._reach._outages, "_until", {})  # its pause is over
    assert hand.take() == ("work@b", ["b1"])
    assert hand.record.words[Field.HELD] == asked
    assert (hand.record.doubts(), locked(second)) == ({}, {f"{HOLDER}:{asked}"})
    assert (stats(second, QUEUE).taken, stats(server, QUEUE).done) == (1, 1)


def seq_of(server: QueueServer) -> int:
    """The last request of the slot that this server has seen."""
    [lock] = locked(server)
    return int(lock.rpartition(":")[2])


def test_pack_that_was_settled_by_a_request_whose_answer_was_lost_is_owed(
    hand: Hand, second: QueueServer, lost: list[QueueServer]
) -> None:
    put_work(second, "b1")
    taken = hand.slot._take()
    assert taken is not None
    hand.work(taken)
    seq = hand.record.words[Field.HELD]
    lost.append(hand.servers["b"])
    assert hand.take() is None
    owed = hand.told()
    assert isinstance(owed, Owed)
    assert (owed.source, owed.seq, owed.marks, owed.outcomes) == ("work@b", seq, b"\1", {})
    assert hand.record.words[Field.HELD] == 0
    assert hand.told() is None


def test_request_in_doubt_on_a_server_that_is_served_no_more_is_left_to_the_master(
    hand: Hand, second: QueueServer, lost: list[QueueServer]
) -> None:
    put_work(second, "b1")
    lost.append(hand.servers["b"])
    assert hand.take() is None
    seq = seq_of(second)
    hand.serve("other")
    assert hand.take() is None
    assert hand.told() == Owed("work@b", seq)
    assert hand.record.doubts() == {}


def test_slot_that_finds_work_on_one_server_waits_on_none(
    hand: Hand, server: QueueServer, second: QueueServer
) -> None:  # case 14
    assert hand.take() is None
    waiters = [each.redis.zscore(each.keys_of(QUEUE).part("waiters"), HOLDER) for each in (server, second)]
    assert None not in waiters
    put_work(server, "a1")
    put_work(second, "b1")
    hand.slot._idle()  # both have rung
    taken = hand.take()
    assert taken is not None
    for each in (server, second):
        assert each.redis.zscore(each.keys_of(QUEUE).part("waiters"), HOLDER) is None
