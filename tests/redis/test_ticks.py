"""One tick is stored once, whoever makes it and however often; what waits makes room, goes, or stands in the way.

The script's contract, on every server. ``Handler`` is a manager as the queue server sees it.
"""

import math
import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, stats
from support.properties import examples
from support.waiting import wait_for

from qmanager.schedules import AHEAD, MOST, step
from qslots import keys, ticks
from qslots.errors import QueueServerDown, QueueServerError
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.periodic import Step, Ticks, tick_id
from qslots.queueserver import QueueServer
from qslots.records import body, head
from qslots.reports import Periodic
from qslots.ticks import Seen

PLACE = QUEUE, HANDLER
HOUR = 3600
NEVER = 1_000_000_000  # s: such an instant came in 2001, and comes in 2033


class Handler:
    """A periodic handler, and what its manager does for it."""

    def __init__(self, server: QueueServer, every: int = NEVER, **options: object) -> None:
        self.server = server
        self.periodic = Periodic(every=every, signature=7, **options)  # type: ignore[arg-type]
        self.now = math.floor(micros_now(server) / 1e6)

    def see(self) -> Seen:
        return ticks.read(self.server, [PLACE])[1][0]

    @property
    def known(self) -> Ticks:
        """What is remembered."""
        found = self.see().ticks
        assert found is not None
        return found

    def store(self, *offsets: int, seen: Seen | None = None, upto: int | None = None, **how: object) -> bool:
        """Stores the ticks so many seconds from the beginning of the test, and says no more than that."""
        seen = seen or self.see()
        begin = seen.ticks.cursor if seen.ticks else self.now - 10 * HOUR
        instants = tuple(self.now + offset for offset in offsets)
        until = self.now + upto if upto is not None else max([begin, *instants])
        return ticks.store(
            self.server, PLACE, self.periodic, seen, Step(begin, until, instants, **how)  # type: ignore[arg-type]
        )  # fmt: skip

    def id(self, offset: int) -> str:
        return tick_id(HANDLER, self.now + offset)

    def waiting(self) -> set[int]:
        """The offsets of the ticks that are there, wherever."""
        found = self.server.redis.hkeys(f"qs:{{{QUEUE}}}:tasks")
        ids = {self.id(offset): offset for offset in range(-30, 91)}
        return {ids[each.decode()] for each in found}

    def cycle(self, seen: Seen | None = None) -> bool:
        """A manager's cycle, upon what it has seen before or sees now; whether it did anything."""
        now, [newest] = ticks.read(self.server, [PLACE])
        seen = seen or newest
        chosen = step(self.periodic, seen.ticks, now)
        return chosen is not None and ticks.store(self.server, PLACE, self.periodic, seen, chosen)


def test_tick_is_a_task_without_arguments_that_is_due_at_its_instant(server: QueueServer) -> None:
    handler = Handler(server)
    assert handler.store(30)
    now, [found] = Inspector(server, QUEUE).get([handler.id(30)])
    assert found is not None and now < found.at == handler.now + 30
    assert (body(found.record), head(found.record).signature, head(found.record).handler) == (b"\x80", 7, HANDLER)
    assert (stats(server).inactive, stats(server).put) == (1, 1)
    assert server.queue_names() == [QUEUE] and server.handlers(QUEUE) == [HANDLER]


def test_tick_that_is_late_is_due_at_once_and_not_overdue(server: QueueServer) -> None:
    handler = Handler(server)
    handler.store(-HOUR)
    assert stats(server).oldest < 5
    assert Holder(server, "s").work() == [handler.id(-HOUR)]


def test_what_was_seen_before_another_manager_stored_is_refused(server: QueueServer) -> None:  # case 22
    handler = Handler(server)
    nothing = handler.see()
    assert handler.store(10)
    one = handler.see()
    assert handler.store(20)
    for seen in (nothing, one):
        assert not handler.store(30, seen=seen)
    assert handler.waiting() == {10, 20}


def test_tick_that_has_run_is_not_stored_again_by_whoever_repeats(server: QueueServer) -> None:  # case 22
    handler = Handler(server)
    seen = handler.see()
    assert handler.store(-1, seen=seen)
    slot = Holder(server, "s")
    assert slot.work() == [handler.id(-1)]
    slot.take()
    assert not handler.store(-1, seen=seen)  # the reply to the first was lost, or another manager was as fast
    assert (stats(server).tasks, stats(server).done) == (0, 1)


def test_managers_at_once_store_each_tick_once(server: QueueServer) -> None:  # case 22
    handler = Handler(server, every=1)
    handler.store(upto=-300)
    clients = [QueueServer(server.url, name=f"m{n}") for n in range(4)]
    handler.periodic = Periodic(every=1, catch_up="all", signature=7)

    def reign(client: QueueServer) -> None:
        mine = Handler(client, every=1, catch_up="all")
        for _ in range(20):
            mine.cycle()

    threads = [threading.Thread(target=reign, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    known = handler.known
    assert stats(server).put == known.cursor - (handler.now - 300)
    assert known.cursor >= handler.now + AHEAD
    assert (known.missed, known.dropped) == (0, 0)


def test_first_sight_begins_now(server: QueueServer) -> None:
    handler = Handler(server, every=7)
    assert handler.cycle()
    assert not handler.cycle() or handler.known.cursor > handler.now + AHEAD
    assert min(handler.known.waiting) > handler.now
    assert {handler.now + each for each in handler.waiting()} == set(handler.known.waiting)


def test_of_ticks_that_nobody_takes_one_waits(server: QueueServer) -> None:
    handler = Handler(server)
    handler.store(-30, -20, -10)
    assert handler.waiting() == {-10}
    assert (handler.known.missed, handler.known.last) == (2, handler.now - 10)
    handler.store(-5, 30, 60)
    assert handler.waiting() == {-5, 30, 60}
    assert (handler.known.missed, stats(server).deleted) == (3, 3)
    assert handler.known.waiting == tuple(handler.now + each for each in (-5, 30, 60))


def test_tick_that_was_stored_ahead_sends_the_one_before_away_when_its_time_comes(server: QueueServer) -> None:
    handler = Handler(server)
    handler.store(-10, 1, 30)
    assert handler.waiting() == {-10, 1, 30}
    wait_for(lambda: handler.cycle() and handler.waiting() == {1, 30}, "the older one to go")
    assert (handler.known.missed, handler.known.last) == (1, handler.now + 1)
    assert not handler.cycle()


@pytest.mark.parametrize(("policy", "ran"), [("once", {1}), ("skip", {1}), ("all", {-2, -1, 0, 1})])
def test_queue_that_was_paused_has_one_tick_to_run_unless_all_are_wanted(
    server: QueueServer, policy: str, ran: set[int]
) -> None:
    handler, inspector = Handler(server, catch_up=policy), Inspector(server, QUEUE)
    inspector.pause("queue:")
    handler.store(-2, -1, 0, 1, 60)
    wait_for(lambda: micros_now(server) > (handler.now + 1) * 1_000_000, "the last of them to be due")
    handler.cycle()
    inspector.resume("queue:")
    assert set(Holder(server, "s").work()) == {handler.id(offset) for offset in ran}
    assert handler.known.missed == 4 - len(ran)


def test_all_ticks_that_nobody_takes_wait_where_all_are_wanted(server: QueueServer) -> None:
    handler = Handler(server, catch_up="all")
    handler.store(-30, -20, -10)
    handler.store(-5, 30)
    assert handler.waiting() == {-30, -20, -10, -5, 30}
    assert handler.known.missed == 0
    assert handler.known.waiting == (handler.now + 30,)


@pytest.mark.parametrize("how", ["taken", "postponed", "failed", "buried", "moved"])
def test_a_tick_that_was_begun_or_moved_makes_room_for_none(server: QueueServer, how: str) -> None:
    handler = Handler(server)
    handler.store(-30)
    slot = Holder(server, "s")
    if how == "moved":
        Inspector(server, QUEUE).move(handler.id(-30), "+30000000")
    else:
        slot.work()
    outcomes = {
        "postponed": Outcome("postpone", delay=30_000_000), "failed": Outcome("fail", "why", limit=9, delay=0),
        "buried": Outcome("bury", "why"),
    }  # fmt: skip
    if how in outcomes:
        slot.settle({1: outcomes[how]})
    handler.store(-20)
    assert handler.waiting() == {-30, -20}
    handler.store(-10)
    assert handler.waiting() == {-30, -10}
    assert handler.known.missed == 1


def test_without_overlap_a_tick_whose_predecessor_lives_is_dropped_and_counted(server: QueueServer) -> None:
    handler = Handler(server, overlap=False)
    slot = Holder(server, "s")
    handler.store(-30)
    assert slot.work() == [handler.id(-30)]
    handler.store(-20, -10, 30)
    assert handler.waiting() == {-30}
    assert (handler.known.dropped, handler.known.missed) == (2, 0)
    assert handler.known.cursor == handler.now + 29  # that one has time to see its predecessor end
    slot.take()
    handler.store(30, 60)
    assert handler.waiting() == {30}
    assert handler.known.dropped == 2


@pytest.mark.parametrize("how", ["waits", "failed", "buried", "deleted"])
def test_predecessor_lives_until_it_is_done_buried_or_deleted(server: QueueServer, how: str) -> None:
    handler = Handler(server, overlap=False)
    handler.store(-30)
    if how == "failed":
        slot = Holder(server, "s")
        slot.work()
        slot.settle({1: Outcome("fail", "why", limit=9, base=1e9, cap=1e9)})
    elif how == "buried":
        Inspector(server, QUEUE).bury(handler.id(-30), "why")
    elif how == "deleted":
        Inspector(server, QUEUE).delete(handler.id(-30))
    handler.store(-20)
    assert handler.known.dropped == (1 if how in ("waits", "failed") else 0)
    assert (-20 in handler.waiting()) == (how in ("buried", "deleted"))


def test_what_waits_for_its_time_is_withdrawn_and_what_is_due_is_not(server: QueueServer) -> None:
    handler = Handler(server)
    handler.store(-10, 30, 60)
    now, [seen] = ticks.read(server, [PLACE])
    changed = step(Periodic(every=45), seen.ticks, now)
    assert changed is not None and changed.withdraw
    assert handler.store(withdraw=True, upto=0)
    assert handler.waiting() == {-10}
    assert (handler.known.cursor, handler.known.waiting) == (handler.now, (handler.now - 10,))


@pytest.mark.parametrize("taken", [True, False])
def test_a_tick_whose_time_has_come_since_it_was_read_is_neither_withdrawn_nor_doubled(
    server: QueueServer, taken: bool
) -> None:
    handler = Handler(server)
    handler.store(1, 30)
    seen, slot = handler.see(), Holder(server, "s")
    wait_for(lambda: micros_now(server) > (handler.now + 1) * 1_000_000, "the first of them to be due")
    if taken:
        assert slot.work() == [handler.id(1)]
        slot.take()
    late = Step(handler.now, handler.now + 30, (handler.now + 1, handler.now + 30), withdraw=True)
    assert ticks.store(server, PLACE, handler.periodic, seen, late)
    assert handler.waiting() == ({30} if taken else {1, 30})
    assert (handler.known.last, stats(server).put) == (handler.now + 1, 3)


def test_nothing_is_stored_up_to_where_a_step_begins(server: QueueServer) -> None:
    handler = Handler(server)
    chosen = Step(handler.now, handler.now + 30, (handler.now - 5, handler.now, handler.now + 30))
    assert ticks.store(server, PLACE, handler.periodic, handler.see(), chosen)
    assert handler.waiting() == {30}


def test_a_tick_that_was_kicked_before_its_time_is_not_made_again(server: QueueServer) -> None:
    handler = Handler(server)
    handler.store(30, 60)
    Inspector(server, QUEUE).move(handler.id(30), "")
    slot = Holder(server, "s")
    assert slot.work() == [handler.id(30)]
    slot.take()
    seen = handler.see()
    assert ticks.store(
        server,
        PLACE,
        handler.periodic,
        seen,
        Step(handler.now, handler.now + 60, (handler.now + 30, handler.now + 60), withdraw=True),
    )
    assert handler.waiting() == {60}
    assert stats(server).put == 3


def test_a_task_of_that_id_that_somebody_has_put_stays(server: QueueServer) -> None:
    handler = Handler(server)
    put(server, handler.id(30), own_ids=True, body=b"own")
    assert handler.store(30)
    _, [found] = Inspector(server, QUEUE).get([handler.id(30)])
    assert found is not None and body(found.record) == b"own"


def test_drop_takes_the_ticks_whose_time_has_come(server: QueueServer) -> None:
    handler = Handler(server)
    handler.store(-10, 30)
    assert sum(gone for _, gone in Inspector(server, QUEUE).drop("")) == 1
    assert handler.waiting() == {30}


def test_idle_slot_is_woken_for_a_tick(server: QueueServer) -> None:
    assert Holder(server, "idle").take(wait=3.0).pack is None
    Handler(server).store(-1)
    assert server.redis.llen(f"qs:{{{QUEUE}}}:wake") == 1


def test_what_is_remembered_and_cannot_be_read_is_begun_anew(server: QueueServer) -> None:
    handler = Handler(server, every=1)
    server.redis.hset(f"qs:{{{QUEUE}}}:ticks", HANDLER, b"\xc1")
    assert handler.see() == Seen(b"\xc1", None)
    assert handler.cycle()
    assert handler.known.cursor >= handler.now + AHEAD


def test_full_server_keeps_the_ticks_for_later(server: QueueServer) -> None:
    handler = Handler(server)
    handler.store(upto=-HOUR)
    before = handler.see()
    server.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueServerDown):
            handler.store(-10)
    finally:
        server.redis.config_set("maxmemory", 0)
    assert handler.see() == before
    assert handler.store(-10)


def test_arguments_that_are_none_of_it_are_refused(server: QueueServer) -> None:
    vector = server.keys_of(QUEUE)
    names = [*vector.vector, vector.ticks, keys.QUEUES, vector.schedule(HANDLER)]
    with pytest.raises(QueueServerError, match="BADARGS"):
        server.run("queue", "tick", names, [QUEUE, HANDLER, "", "every 1h", "x"])
    assert server.handlers(QUEUE) == []


def test_a_month_of_ticks_comes_in_portions(server: QueueServer) -> None:
    handler = Handler(server, every=1, catch_up="all")
    handler.store(upto=-30 * 86400)
    for turn in range(1, 4):
        assert handler.cycle()
        assert stats(server).put == turn * MOST


MOVES = st.lists(st.sampled_from(["cycle", "stale", "lost", "take", "postpone", "pause", "resume"]), max_size=25)


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MOVES, st.sampled_from(["once", "skip", "all"]))
def test_no_order_of_events_stores_a_tick_twice_or_forgets_one(
    emptied: Callable[[], QueueServer], moves: list[str], policy: str
) -> None:
    server = emptied()
    handler = Handler(server, every=1, catch_up=policy)
    handler.store(upto=-30)
    slot, ran, stale = Holder(server, "s"), list[str](), handler.see()
    for move in moves:
        if move == "cycle":
            handler.cycle()
        elif move == "stale":
            handler.cycle(stale)
            stale = handler.see()
        elif move == "lost":
            seen = handler.see()
            handler.cycle(seen)
            assert not handler.cycle(seen)
        elif move == "take":
            ran += slot.work(2)
        elif move == "postpone" and slot.held:
            slot.settle({1: Outcome("postpone", delay=10**9)})
        elif move in ("pause", "resume"):
            server.inside(QUEUE, "gate", [move, "queue:", 0])
    assert len(ran) == len(set(ran))
    known, counted = handler.known, stats(server)
    assert counted.put - counted.deleted + known.missed == known.cursor - (handler.now - 30)


@pytest.fixture
def emptied(server: QueueServer) -> Callable[[], QueueServer]:
    """Gives the server, empty for each example."""

    def empty() -> QueueServer:
        server.redis.flushall()
        return server

    return empty
