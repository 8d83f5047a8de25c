"""A slot of two queue servers when the answer of one is lost: it asks the same again, and owes what is done."""

import os
import pathlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from support.holder import put, resume_long_ago, stats
from support.waiting import wait_for

import qslots
import qslots.tasks
from qslots import holding, orders, work_each
from qslots.connection import Link
from qslots.debts import Owed, pay
from qslots.errors import QueueServerDown
from qslots.handlers import Registry
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer
from qslots.scoreboard import RUNS, Field, Record, Scoreboard, boot_ns
from qslots.scripts import Script
from qslots.servers import QueueServers
from qslots.slot import Slot
from qslots.tasks import Using

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


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that looks up after each task, not only once a second."""
    monkeypatch.setattr(holding, "LOOK_UP", 0)
    monkeypatch.setattr(work_each, "LOOK_UP", 0)


def work_by(hand: Hand, function: Callable[[], None]) -> Any:
    """The next pack, whose tasks this function runs."""
    registry = hand.slot._registry
    registry.handlers[HANDLER] = msgspec.structs.replace(registry.handlers[HANDLER], function=function)
    hand.slot._size(HANDLER)._last = 10  # as if it had grown
    taken = hand.slot._take()
    assert taken is not None
    return taken


@pytest.mark.usefixtures("at_once")
def test_what_is_done_is_settled_while_the_pack_runs_and_counted_once(hand: Hand, second: QueueServer) -> None:
    put_work(second, *"abcde")
    seen: list[int] = []
    taken, began = work_by(hand, lambda: seen.append(stats(second, QUEUE).done)), time.monotonic()
    hand.work(taken)
    worked = time.monotonic() - began
    assert seen == [0, 1, 2, 3, 4]
    assert bytes(hand.record.marks[:5]) == b"\1" * 5
    before = stats(second, QUEUE)
    assert (before.done, before.locked) == (4, 1)
    assert before.busy > 0
    assert hand.take() is None
    after = stats(second, QUEUE)
    assert (after.done, after.locked, after.returned) == (5, 0, 0)
    assert before.busy < after.busy < worked
    assert after.packing.n == 0  # done in pieces, so it does not say how long a whole pack takes
    assert locked(second) == set()


def test_the_time_of_a_whole_pack_is_counted_by_its_size(hand: Hand, second: QueueServer) -> None:
    put_work(second, *"abcde")
    hand.work(work_by(hand, lambda: None))
    assert hand.take() is None
    after = stats(second, QUEUE)
    assert (after.packing.n, after.packing.k, after.packing.kk) == (1, 5, 25)
    assert after.packing.t == after.busy


@pytest.mark.usefixtures("at_once")
def test_lost_server_repeats_what_ran_since_the_last_settlement_and_no_more(hand: Hand, second: QueueServer) -> None:
    put_work(second, *"abcde")
    ran: list[int] = []

    def work() -> None:
        ran.append(1)
        if len(ran) == 4:
            raise KeyboardInterrupt  # its end cannot be told either: the server is lost

    taken = work_by(hand, work)
    seq = hand.record.words[Field.HELD]
    hand.slot._worker._report = lambda *_: False  # type: ignore[assignment]
    hand.slot._worker.run(hand.slot._registry.handlers[HANDLER], taken[1])
    name = f"{HOLDER}:{seq}"
    resume_long_ago(second)
    second.redis.zadd(second.keys_of(QUEUE).part("locks"), {name: 1})
    assert second.reclaim(QUEUE, 60.0)
    found = {raw.decode() for raw in second.redis.zrange(second.keys_of(QUEUE).schedule(HANDLER), 0, -1)}
    assert found == {"d", "e"}
    assert (stats(second, QUEUE).done, stats(second, QUEUE).lost) == (3, 2)


@pytest.mark.usefixtures("at_once")
def test_slot_dead_after_a_settlement_of_its_pack_is_settled_exactly(hand: Hand, second: QueueServer) -> None:
    put_work(second, *"abcde")
    record = hand.record
    died: list[tuple[int, bytes]] = []

    def work() -> None:
        if record.words[Field.TASK] == 4:
            died.append((record.words[Field.TASK], bytes(record.marks[:5])))

    taken = work_by(hand, work)
    seq = record.words[Field.HELD]
    hand.slot._worker.run(hand.slot._registry.handlers[HANDLER], taken[1])
    [(task, marks)] = died
    assert (task, marks) == (4, b"\1\1\1\0\0")
    crash = Outcome("crash", "killed", limit=3, base=0.0, cap=0.0)
    second.settle_dead(QUEUE, HOLDER, held=seq, asked=seq, outcomes={task: crash}, marks=marks)
    after = stats(second, QUEUE)
    assert (after.done, after.crashed, after.returned, after.locked) == (4, 0, 1, 0), "a to d were settled: e goes back"


@pytest.mark.usefixtures("at_once")
def test_at_any_time_the_record_says_what_time_is_not_booked_yet(hand: Hand, second: QueueServer) -> None:
    put_work(second, *"abcde")
    since: list[int] = []
    seen: list[tuple[float, float]] = []

    def look() -> None:
        now, booked = boot_ns(), stats(second, QUEUE).busy
        since.append(hand.record.words[Field.UNTOLD])
        seen.append((booked + hand.record.untold(now) / 1e9, (now - since[0]) / 1e9))

    hand.work(work_by(hand, look))
    assert since == sorted(set(since)), "told after each task"
    for said, ran in seen:
        assert said == pytest.approx(ran, abs=1e-5)
    left = hand.record.untold(boot_ns())
    assert 0 < left == hand.record.untold(boot_ns()), "while it is not settled it does not grow"
    before = stats(second, QUEUE).busy
    assert hand.take() is None
    assert stats(second, QUEUE).busy == pytest.approx(before + left / 1e9, abs=1e-5)
    assert hand.record.words[Field.UNTOLD] == 0


@pytest.mark.usefixtures("at_once")
def test_time_of_tasks_that_fail_is_booked_too(hand: Hand, second: QueueServer) -> None:
    put_work(second, *"abcde")
    began: list[int] = []

    def work() -> None:
        began.append(boot_ns())
        hand.record.marks[4] = RUNS  # as where several run
        wait_for(lambda: boot_ns() > began[-1] + 10_000_000, "some time to pass")
        raise ValueError

    hand.work(work_by(hand, work))
    assert hand.take() is None
    after = stats(second, QUEUE)
    assert (after.failed, after.packing.n) == (5, 0)
    assert 0.05 < after.busy < (boot_ns() - began[0]) / 1e9 + 0.01  # from shortly before the first one on


@pytest.mark.usefixtures("at_once")
def test_pack_that_was_taken_away_is_given_up_at_the_next_settlement(hand: Hand, second: QueueServer) -> None:
    put_work(second, *"abcde")
    ran: list[int] = []

    def work() -> None:
        ran.append(1)
        if len(ran) == 2:
            resume_long_ago(second)
            second.redis.zadd(second.keys_of(QUEUE).part("locks"), {f"{HOLDER}:{hand.record.words[Field.HELD]}": 1})
            second.reclaim(QUEUE, 60.0)

    hand.work(work_by(hand, work))
    assert len(ran) == 2


@pytest.mark.usefixtures("at_once")
def test_server_away_at_a_settlement_holds_up_nothing_and_is_told_at_the_end(
    hand: Hand, second: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_work(second, *"abcde")
    tried: list[int] = []

    def run(self: Script, link: Link, *commands: Any, wait: float = 0.0) -> list[Any]:
        if "-- settle: " in self.text:
            tried.append(1)
            raise QueueServerDown("away")
        return run_script(self, link, *commands, wait=wait)

    monkeypatch.setattr(Script, "run", run)
    hand.work(work_by(hand, lambda: None))
    assert bytes(hand.record.marks[:5]) == b"\1" * 5
    assert len(tried) == 1, "left alone for a while after the first try"
    untold = hand.record.untold(boot_ns()) / 1e9
    monkeypatch.setattr(Script, "run", run_script)
    monkeypatch.setattr(hand.slot._reach._outages, "_until", {})
    assert hand.take() is None
    assert (stats(second, QUEUE).done, stats(second, QUEUE).locked) == (5, 0)
    assert stats(second, QUEUE).busy == pytest.approx(untold, abs=1e-5)


def test_cascade_that_its_server_does_not_take_is_owed_and_paid_with_the_settlement(
    hand: Hand, second: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {QUEUE: ("a", "b"), "other": ("a", "b")}
    monkeypatch.setattr(qslots.client, "_current", QueueServers(hand.servers.urls, places, name="app"))
    later: Using[...] = Using(hand.slot._registry.handlers["other"], with_settlement=True)
    put_work(second, *"abcde")
    ran: list[int] = []

    def work() -> None:
        ran.append(1)
        if len(ran) == 2:
            later.enqueue()
            second.redis.execute_command("REPLICAOF", "127.0.0.1", "1")

    taken = work_by(hand, work)
    try:
        hand.work(taken)
    finally:
        second.redis.execute_command("REPLICAOF", "NO", "ONE")
    owed = hand.told()
    assert isinstance(owed, Owed)
    assert (len(ran), owed.marks, [each.queue for each in owed.cascade[2]]) == (2, b"\1\0\0\0\0", ["other"])
    assert (stats(second, "other").active, stats(second, QUEUE).done) == (0, 0)
    for _ in range(2):
        pay(second, HOLDER, owed)
        assert (stats(second, "other").put, stats(second, QUEUE).done, stats(second, QUEUE).active) == (1, 2, 3)
