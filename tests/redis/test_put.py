"""What `put` promises: stored once whatever gets lost on the way, all or nothing, in order of activation time."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, stats
from support.servers import RedisServer

from qslots import records
from qslots.connection import Link
from qslots.errors import DuplicateTask, QueueServerDown, QueueServerError
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer
from qslots.scripts import Argument, Script

run_script = Script.run


@pytest.fixture
def lost_replies(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Every script runs, but its reply is lost as often as the list says: it is filled by the test."""
    after: list[object] = []

    def run(self: Script, link: Link, *commands: tuple[Argument, ...], wait: float = 0.0) -> list[object]:
        replies = run_script(self, link, *commands, wait=wait)
        if after:
            what = after.pop(0)
            if callable(what):
                what()
            raise QueueServerDown("lost")
        return replies

    monkeypatch.setattr(Script, "run", run)
    yield after
    assert not after


def test_lost_reply_is_asked_for_again_and_the_task_stored_once(
    server: QueueServer, lost_replies: list[object]
) -> None:
    server.version()
    lost_replies.append(None)
    assert put(server, "a", "b") == 2
    assert stats(server).active == 2
    assert stats(server).put == 2


def test_lost_reply_does_not_put_again_what_ran_meanwhile(server: QueueServer, lost_replies: list[object]) -> None:
    worker = Holder(QueueServer(server.url, name="w"), "w")

    def runs_it() -> None:
        assert worker.work() == ["a"]
        worker.work()

    server.version()
    lost_replies.append(runs_it)
    assert put(server, "a") == 1
    assert stats(server).done == 1
    assert stats(server).active == 0
    assert server.redis.hlen(server.keys_of(QUEUE).part("tasks")) == 0


def test_replies_lost_all_the_time_are_an_error_within_the_time_out_and_the_next_put_is_its_own(
    server: QueueServer, lost_replies: list[object]
) -> None:
    hasty = QueueServer(server.url, name="hasty", timeout=1.0)
    hasty.version()
    lost_replies += [None] * 1000
    began = time.monotonic()
    with pytest.raises(QueueServerDown):
        put(hasty, "a")
    assert time.monotonic() - began < 3.0
    assert 0 < len(lost_replies) < 998
    lost_replies.clear()
    assert put(hasty, "b") == 1
    assert stats(server).active == 2


def test_server_that_hangs_is_given_up_within_the_time_out_though_its_connection_was_opened_anew(
    server: QueueServer, redis_server: RedisServer
) -> None:
    hasty = QueueServer(server.url, name="hasty", timeout=2.0)
    put(hasty, "a")
    redis_server.send(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(QueueServerDown) as error:
            put(hasty, "b")
        assert time.monotonic() - began < 3.5  # 4 s if each of the two connections had its own time-out
    finally:
        redis_server.send(signal.SIGCONT)
    assert error.value.sent


def test_request_that_comes_after_its_successor_stores_nothing(
    server: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet held up in the network: its task may have run long since (case 12)."""
    sent: list[tuple[object, ...]] = []

    def note(self: Script, link: Link, *commands: tuple[Argument, ...], wait: float = 0.0) -> list[object]:
        sent.append(commands[0])
        return run_script(self, link, *commands, wait=wait)

    monkeypatch.setattr(Script, "run", note)
    put(server, "a")
    put(server, "b")
    worker = Holder(server, "w")
    assert worker.work() == ["a", "b"]
    worker.work()
    with pytest.raises(QueueServerError, match="LATE"):
        server.link.call(*sent[0])
    assert stats(server).active == 0


def test_processes_forked_from_one_client_do_not_take_each_other_for_a_repetition(server: QueueServer) -> None:
    put(server, "before")
    children = []
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if put(server, f"child-{n}") == 1 else 1
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    put(server, "after")
    assert stats(server).active == 5


def test_threads_that_share_a_client_do_not_take_each_other_for_a_repetition(server: QueueServer) -> None:
    threads = [threading.Thread(target=lambda n=n: [put(server, f"{n}-{i}") for i in range(20)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stats(server).active == 80


def test_duplicate_of_a_living_task_is_refused_and_nothing_of_the_call_stored(server: QueueServer) -> None:
    put(server, "a", own_ids=True)
    with pytest.raises(DuplicateTask, match=r"^a$"):
        put(server, "new", "a", own_ids=True)
    assert stats(server).active == 1


@pytest.mark.parametrize("place", ["scheduled", "delayed", "locked", "buried"])
def test_duplicate_is_known_wherever_the_task_is(server: QueueServer, place: str) -> None:
    put(server, "a", when="+1000000000" if place == "delayed" else "")
    worker = Holder(server, "w")
    if place in ("locked", "buried"):
        assert worker.work() == ["a"]
    if place == "buried":
        assert worker.settle({1: Outcome("bury", "bad")})
    with pytest.raises(DuplicateTask):
        put(server, "a", own_ids=True)
    assert put(server, "a", own_ids=True, on_duplicate="ignore") == 0


def test_duplicate_within_one_call_counts_once(server: QueueServer) -> None:
    assert put(server, "a", "a", own_ids=True, on_duplicate="ignore") == 1
    with pytest.raises(DuplicateTask):
        put(server, "b", "b", own_ids=True)
    assert stats(server).active == 1


def test_id_of_a_finished_task_may_be_used_again(server: QueueServer) -> None:
    worker = Holder(server, "w")
    for _ in range(2):
        put(server, "a", own_ids=True)
        assert worker.work() == ["a"]
        worker.work()
    assert stats(server).done == 2


def test_tasks_run_in_order_of_activation_and_ties_by_id(server: QueueServer) -> None:
    now = micros_now(server)
    for id_, at in (("late", now - 10), ("b", now - 20), ("a", now - 20), ("early", 1)):
        put(server, id_, when=str(at))
    put(server, "future", when="+60000000")
    assert Holder(server, "w").work() == ["early", "a", "b", "late"]


def test_delay_is_counted_on_the_servers_clock_to_the_microsecond(server: QueueServer) -> None:
    before = micros_now(server)
    put(server, "a", when="+90000001")
    after = micros_now(server)
    score = server.redis.zscore(server.keys_of(QUEUE).schedule(HANDLER), "a")
    assert before + 90_000_001 <= score <= after + 90_000_001
    assert stats(server).inactive == 1


@pytest.mark.parametrize("when", ["soon", "nan", "inf", "-1", "+", "1e9", "0x10", "++1"])
def test_bad_time_is_refused_before_anything_is_stored(server: QueueServer, when: str) -> None:
    with pytest.raises(QueueServerError, match="BADTIME"):
        put(server, "a", "b", when=["", when])
    assert not server.redis.exists(server.keys_of(QUEUE).part("tasks"))


def test_record_is_stamped_with_the_time_of_the_server(server: QueueServer) -> None:
    before = micros_now(server) / 1e6
    put(server, "a")
    pack = Holder(server, "w").take().pack
    assert pack is not None
    assert before <= records.head(pack.records[0]).put_time <= micros_now(server) / 1e6
    assert records.body(pack.records[0]) == b"\x80"


def test_thousand_tasks_are_one_call(server: QueueServer) -> None:
    assert put(server, *(f"{n:04}" for n in range(1000))) == 1000
    assert Holder(server, "w").work(1000) == [f"{n:04}" for n in range(1000)]
    assert server.queue_names() == [QUEUE]
    assert server.handlers(QUEUE) == [HANDLER]


def test_producers_are_forgotten_after_a_quarter_of_an_hour(server: QueueServer) -> None:
    put(server, "a")
    (key,) = server.redis.keys(server.keys_of(QUEUE).producer("*"))
    assert 890_000 < server.redis.pttl(key) <= 900_000


@pytest.fixture
def full(server: QueueServer) -> Iterator[None]:
    put(server, *(f"{n:03}" for n in range(20)))
    server.redis.config_set("maxmemory", 1)
    yield
    server.redis.config_set("maxmemory", 0)


@pytest.mark.usefixtures("full")
def test_full_server_refuses_a_put_clearly_and_stores_nothing_of_it(server: QueueServer) -> None:
    with pytest.raises(QueueServerError, match=r"OOM|maxmemory"):
        put(server, "more")
    assert stats(server).active == 20


@pytest.mark.usefixtures("full")
def test_full_server_drains_all_the_same(server: QueueServer) -> None:  # case 7
    worker, other = Holder(server, "w"), Holder(server, "x")
    assert len(worker.work(5)) == 5
    assert len(other.work(5)) == 5
    assert server.extend(QUEUE, 60.0, ["w:1"]) == []
    assert worker.settle({2: Outcome("retry", delay=9e9)})
    assert other.release([1], leave=True)
    assert worker.work(5)
    assert worker.die(done=[1])
    assert stats(server).done == 6
