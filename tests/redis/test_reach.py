"""How long a slot insists on a server that does not answer: for ever on its only one, once where it has others."""

import time
from collections.abc import Iterator

import pytest
from support.holder import QUEUE, Holder, put, stats
from support.servers import RedisServer

from qslots.debts import Owed, pay
from qslots.errors import QueueServerDown
from qslots.outcomes import Outcome
from qslots.queueserver import Kept, QueueServer
from qslots.reach import Leave, Reach
from qslots.records import decode_fate
from qslots.servers import QueueServers
from qslots.work import TERM


class Pauses:
    """Stands where a slot waits and listens: notes how long, and what is then done."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.act = lambda: None

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.act()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    monkeypatch.setattr(TERM, "asked", False)
    return Pauses()


@pytest.fixture
def servers(server: QueueServer, redis_server: RedisServer) -> Iterator[QueueServers]:
    """``there`` answers, ``away`` does not."""
    urls = {"there": server.url, "away": f"unix://{redis_server.folder}/none"}
    made = QueueServers(urls, {}, name="slot", single=True)
    yield made
    made.close()


def ping(server: QueueServer) -> tuple[int, ...]:
    return server.version()


def test_only_server_is_asked_until_told_to_leave(servers: QueueServers, pauses: Pauses) -> None:
    reach = Reach(servers, pauses)
    reach.use(["away"])

    def leave_at_last() -> None:
        TERM.asked = len(pauses.seconds) == 7

    pauses.act = leave_at_last
    with pytest.raises(Leave):
        reach.ask("away", ping)
    assert len(pauses.seconds) == 7
    assert 0.04 < pauses.seconds[0] < 0.06 and 1.6 < pauses.seconds[6] < 2.4
    assert reach.away_until("away") == 0.0


def test_one_of_two_is_tried_once_and_then_left_alone_for_a_while(servers: QueueServers, pauses: Pauses) -> None:
    reach = Reach(servers, pauses)
    reach.use(["there", "away"])
    tries = 0

    def operation(server: QueueServer) -> tuple[int, ...]:
        nonlocal tries
        tries += 1
        return server.version()

    for _ in range(3):
        with pytest.raises(QueueServerDown):
            reach.ask("away", operation)
    assert tries == 1
    assert reach.away_until("away") > time.clock_gettime(time.CLOCK_BOOTTIME)
    assert reach.ask("there", ping) >= (6, 2)
    assert pauses.seconds == []


def test_slot_that_gets_another_server_meanwhile_insists_no_more(servers: QueueServers, pauses: Pauses) -> None:
    reach = Reach(servers, pauses)
    reach.use(["away"])
    pauses.act = lambda: reach.use(["there"])
    with pytest.raises(QueueServerDown):
        reach.ask("away", ping)
    assert len(pauses.seconds) == 1


def test_what_is_owed_is_paid_once_however_often_it_is_said(server: QueueServer) -> None:
    slot = Holder(server, "s")
    put(server, "a", "b", "c", "d")
    assert slot.work() == ["a", "b", "c", "d"]
    failed = Outcome("fail", "boom", 9, base=6e7, cap=6e7)
    owed = Owed(f"{QUEUE}@b", 1, {3: failed}, marks=b"\1\1\0\0", busy=0.25)
    assert pay(server, "s", owed)
    assert not pay(server, "s", owed)
    found = stats(server)
    assert (found.done, found.failed, found.returned, found.busy) == (2, 1, 1, 0.25)
    assert (found.active, found.inactive, found.locked) == (1, 1, 0)
    assert decode_fate(server.redis.hget(server.keys_of(QUEUE).part("fate"), "c")).failures == 1
    assert slot.work() == ["d"]  # who owed lives on


def test_outcomes_go_before_marks(server: QueueServer) -> None:
    slot = Holder(server, "s")
    put(server, "a", "b")
    assert slot.work() == ["a", "b"]
    assert pay(server, "s", Owed(f"{QUEUE}@b", 1, {2: Outcome("bury", "no")}, marks=b"\1\1"))
    found = stats(server)
    assert (found.done, found.buried, found.active) == (1, 1, 0)


def test_result_that_could_not_be_told_is_kept(server: QueueServer) -> None:
    slot = Holder(server, "s")
    put(server, "a", "b")
    assert slot.work() == ["a", "b"]
    assert pay(server, "s", Owed(f"{QUEUE}@b", 1, {1: Outcome("done")}, {1: Kept("a", b"42", 60.0)}))
    assert server.redis.get(server.keys_of(QUEUE).result("a")) == b"42"
    found = stats(server)
    assert (found.done, found.returned, found.active) == (1, 1, 1)


def test_request_that_nobody_will_repeat_gives_its_pack_back(server: QueueServer) -> None:
    slot = Holder(server, "s")
    put(server, "a", "b")
    slot.take()  # the answer was lost
    assert pay(server, "s", Owed(f"{QUEUE}@b", 1))
    found = stats(server)
    assert (found.active, found.returned, found.locked) == (2, 2, 0)
