"""The queue against its model: whatever happens in whatever order, every task is where it must be, and counted.

Several clients, each with what it has last seen of the queue; requests repeated as after lost replies, or much later;
answers never read; slots that die, leave, come too late; drops that stop half-way. ``queue_model`` says what is right.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from support.holder import QUEUE, Holder, ids, micros_now, resume_long_ago, stats
from support.properties import examples
from support.queue_model import BORN, Moment, QueueModel, Record
from support.queue_moves import (
    CLIENTS,
    COLLECTION,
    GATES,
    HANDLER,
    HANDLERS,
    HOW,
    KNOWN,
    NAMES,
    OUTCOMES,
    POSITIONS,
    SOME,
    WHEN,
    Slot,
)
from support.queue_state import agree, compare_counts, compare_places, look

from qslots.errors import DuplicateTask, HolderDead, QueueServerError, TaskLocked, UnknownTask
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queueserver import Kept, QueueServer
from qslots.records import formed, header

BUSY = 1_500_000  # µs that every pack takes its handler


class Queue(RuleBasedStateMachine):
    clients: list[QueueServer]

    def __init__(self) -> None:
        super().__init__()
        self.server = self.clients[3]
        self.keys = self.server.keys_of(QUEUE)
        self.server.redis.flushall()
        for client in self.clients:
            client.known(QUEUE)
        resume_long_ago(self.server)
        self.before = micros_now(self.server)
        self.model = QueueModel(now=self.before)
        self.made = itertools.count()
        self.last_put: dict[int, tuple[list[str], dict[str, Any], int]] = {}
        self.slots = [self.new_slot(number) for number in range(3)]
        for handler, collection, which in (("h", "", [0, 1, 2]), ("x", "c", [1, 3, 5]), ("h", "c", [4, 5])):
            self.put(0, which, handler, handler, collection, "1", "refuse", 0)

    def new_slot(self, number: int) -> Slot:
        return Slot(Holder(self.clients[number], f"s{number}-{next(self.made)}"), KNOWN[number])

    def living(self, number: int) -> Slot:
        """The slot of this number; one declared dead is refused everything, and replaced."""
        slot = self.slots[number]
        if slot.holder.name in self.model.dead:
            assert not slot.holder.settle({1: Outcome("bury")})
            assert not slot.holder.release({1})
            try:
                slot.holder.take(slot.want)
            except HolderDead:
                slot = self.slots[number] = self.new_slot(number)
            else:
                raise AssertionError("a dead holder was served")
        return slot

    def holding(self) -> list[Slot]:
        """The slots that have a pack and know it."""
        return [slot for slot in self.slots if not slot.unread and slot.lock(slot.holder.held) in self.model.packs]

    def some_task(self, some: int) -> str:
        """Mostly a living one."""
        names = [*sorted(self.model.tasks), "unknown"]
        return names[some % len(names)]

    def new_body(self) -> bytes:
        return formed(b"%d" % next(self.made))

    # Producers

    @rule(client=CLIENTS, which=st.lists(st.integers(0, 6), min_size=1, max_size=6), handler=HANDLER | st.none(),
          theirs=HANDLER, collection=COLLECTION, when=WHEN, how=HOW, repeats=st.integers(0, 1))  # fmt: skip
    def put(
        self, client: int, which: list[int], handler: str | None, theirs: str, collection: str, when: str, how: str,
        repeats: int,
    ) -> None:  # fmt: skip
        """``theirs``: the handler that tasks of these ids mostly have."""
        names, handler = [NAMES[theirs][n] for n in which], handler or theirs
        body = self.new_body()
        request: dict[str, Any] = {
            "handler": handler, "head": header(handler, 7, collection), "ids": names, "bodies": [body] * len(names),
            "when": when, "on_duplicate": how, "own_ids": True,
        }  # fmt: skip
        record = Record(handler, collection, body, Moment(0, fresh=True))
        stored = self.model.put(names, record, Moment.of(when), how)
        try:
            assert self.clients[client].put(QUEUE, **request) == stored
        except DuplicateTask:
            assert stored is None
            self.last_put.pop(client, None)
            return
        self.last_put[client] = (names, request, stored or 0)
        for _ in range(repeats):
            self.put_again(client)

    @precondition(lambda self: self.last_put)
    @rule(client=CLIENTS)
    def put_again(self, client: int) -> None:
        """The reply was lost, and whatever has happened since: the repetition gets the first answer."""
        if client in self.last_put:
            _, request, stored = self.last_put[client]
            self.clients[client]._producer.request -= 1
            assert self.clients[client].put(QUEUE, **request) == stored

    # Slots

    @rule(number=CLIENTS, most=st.integers(0, 6), window=st.booleans(), repeats=st.integers(0, 2), read=st.booleans())
    def take(self, number: int, most: int, window: bool, repeats: int, read: bool) -> None:
        slot = self.living(number)
        if slot.unread:
            self.read(number)
            return
        slot.most, held = most, slot.holder.held
        if slot.holder.name in self.model.waiting and slot.handlers == HANDLERS:
            self.server.redis.lpop(self.keys.wake)
        previous = None if held is None else slot.lock(held)
        while True:
            busy = BUSY if previous else 0
            answer = slot.holder.take(slot.want, wait=3600.0, window=float(window) * 3600, busy=busy / 1e6)
            seq = slot.holder.seq
            gone = self.model.visit(slot.holder.name, previous, slot.want, window=window, busy=busy, seq=seq)
            offered = self.model.offer(slot.handlers) if most else None
            assert answer.gone == gone
            self.compare_pack(slot, ids(answer), answer.pack.handler if answer.pack else "", offered)
            slot.holder.held = previous = None
            if answer.pack or offered is None:
                break
            assert answer.wait == 0  # the heads were gated: ask at once
        if most and answer.pack is None:
            self.model.waiting.add(slot.holder.name)
        for _ in range(repeats):
            assert ids(slot.holder.again(slot.want)) == ids(answer)
        slot.unread = True
        if read:
            self.read(number)

    def compare_pack(self, slot: Slot, taken: list[str], handler: str, offered: tuple[str, list[str]] | None) -> None:
        """The first of those that may be taken, at least one; narrower where one of them was lost before."""
        best, clear = offered or ("", [])
        assert taken == clear[: len(taken)]
        assert bool(taken) == bool(clear)
        losses = [int((self.model.tasks[name].fate or BORN)[3]) for name in taken]
        assert len(taken) <= max(1, math.ceil(slot.most / 8 ** max(losses, default=0)))
        if taken:
            assert handler == best
            self.model.take(slot.lock(slot.holder.seq), handler, taken)

    @precondition(lambda self: any(slot.unread for slot in self.slots))
    @rule(number=CLIENTS)
    def read(self, number: int) -> None:
        """The answer comes after all, to a repeated request."""
        slot = self.living(number)
        if slot.unread:
            pack = self.model.packs.get(slot.lock(slot.holder.seq))
            assert slot.holder.keep(slot.holder.again(slot.want)) == (pack.ids if pack else [])
            slot.unread = False
            if pack:
                pack.expired = False

    @precondition(lambda self: self.holding())
    @rule(some=SOME, said=st.dictionaries(st.integers(1, 6), OUTCOMES, min_size=1, max_size=3),
          repeats=st.integers(0, 1), window=st.booleans())  # fmt: skip
    def settle(self, some: int, said: dict[int, Outcome], repeats: int, window: bool) -> None:
        slot = self.holding()[some % len(self.holding())]
        pack = self.model.packs[slot.lock(slot.holder.held)]
        outcomes = {1 + position % len(pack.ids): each for position, each in said.items()}
        results = {
            position: Kept(pack.ids[position - 1] or "ended", b"result", 600.0)
            for position in outcomes
            if outcomes[position].kind == "done"
        }
        for _ in range(repeats + 1):
            assert slot.holder.settle(outcomes, results=results, window=float(window) * 3600)
        assert self.model.end(slot.lock(slot.holder.held), outcomes, set(), "keep", window=window)

    @rule(number=CLIENTS, done=POSITIONS, leave=st.booleans(), repeats=st.integers(0, 1))
    def release(self, number: int, done: set[int], leave: bool, repeats: int) -> None:
        slot = self.living(number)
        if slot.unread:
            return
        found = self.model.end(slot.lock(slot.holder.held), {}, done, "back")
        assert slot.holder.release(done, leave=leave) == found
        for _ in range(repeats):
            assert not slot.holder.release(done, leave=leave)
        slot.holder.held = None
        self.model.waiting.discard(slot.holder.name)
        if leave:
            self.model.dead.add(slot.holder.name)

    @rule(number=CLIENTS, done=POSITIONS, ran=st.integers(0, 6), rest=st.sampled_from(["back", "loss"]),
          on_its_way=st.booleans())  # fmt: skip
    def die(self, number: int, done: set[int], ran: int, rest: str, on_its_way: bool) -> None:
        """``on_its_way``: it had noted its next request, but the server never saw it."""
        slot = self.living(number)
        slot.holder.seq += on_its_way and not slot.unread
        charge = {ran: Outcome("crash", "killed", limit=3, cap=9.0)} if ran and ran not in done else {}
        found = self.model.end(slot.lock(slot.holder.held), charge, done, rest, "why")
        self.model.end(slot.lock(slot.holder.seq), {}, set(), "back")
        self.model.ran(BUSY if found else 0)
        assert slot.holder.die(charge, done, rest, "why", BUSY / 1e6) == found
        assert not slot.holder.die(charge, done, rest, "why", BUSY / 1e6)
        self.model.dead.add(slot.holder.name)
        self.model.waiting.discard(slot.holder.name)

    @precondition(lambda self: self.model.waiting)
    @rule(number=CLIENTS)
    def no_longer_waits(self, number: int) -> None:
        name = self.slots[number].holder.name
        self.clients[number].unwait(name, {QUEUE: list(HANDLERS)})
        self.model.waiting.discard(name)

    @precondition(lambda self: self.model.packs)
    @rule(number=CLIENTS)
    def expire(self, number: int) -> None:
        slot = self.slots[number]
        for lock in self.model.packs.keys() & {slot.lock(slot.holder.held), slot.lock(slot.holder.seq)}:
            self.server.redis.zadd(self.keys.part("locks"), {lock: 1}, xx=True)
            self.model.packs[lock].expired = True

    @precondition(lambda self: self.model.packs)
    @rule()
    def extend(self) -> None:
        assert self.server.extend(QUEUE, 60.0, [*self.model.packs, "nobody:1"]) == ["nobody:1"]
        for pack in self.model.packs.values():
            pack.expired = False

    @precondition(lambda self: any(pack.expired for pack in self.model.packs.values()))
    @rule()
    def reclaim(self) -> None:
        assert self.server.reclaim(QUEUE, 60.0) == self.model.reap(HANDLERS)

    # Operators

    def served(self, operation: Callable[[], object], refusal: str) -> bool:
        """Whether an operation on a task was, or had to be refused."""
        try:
            operation()
        except (UnknownTask, TaskLocked) as error:
            assert refusal == ("unknown" if isinstance(error, UnknownTask) else "locked")
            return False
        assert not refusal
        return True

    @rule(client=CLIENTS, some=SOME, when=WHEN)
    def move(self, client: int, some: int, when: str) -> None:
        name, inspector = self.some_task(some), Inspector(self.clients[client], QUEUE)
        if self.served(lambda: inspector.move(name, when), self.model.refusal(name)):
            self.model.move(name, Moment.of(when))

    @rule(client=CLIENTS, some=SOME)
    def bury(self, client: int, some: int) -> None:
        name, inspector = self.some_task(some), Inspector(self.clients[client], QUEUE)
        if self.served(lambda: inspector.bury(name, "by hand"), self.model.refusal(name)):
            self.model.bury(name, "by hand")

    @rule(client=CLIENTS, some=SOME)
    def delete(self, client: int, some: int) -> None:
        name = self.some_task(some)
        inspector, refusal = Inspector(self.clients[client], QUEUE), self.model.refusal(name)
        if self.served(lambda: inspector.delete(name), refusal.replace("locked", "")):
            self.model.delete(name)

    @rule(client=CLIENTS, some=SOME, elsewhere=st.booleans())
    def update(self, client: int, some: int, elsewhere: bool) -> None:
        """``elsewhere``: with another collection, which is refused."""
        name = self.some_task(some)
        inspector, refusal = Inspector(self.clients[client], QUEUE), self.model.refusal(name)
        old = self.model.tasks[name].record if name in self.model.tasks else Record("h", "", b"", Moment(0))
        new = Record(old.handler, "another" if elsewhere else old.collection, self.new_body(), old.put)
        try:
            said = header(new.handler, 7, new.collection) + new.body
            if self.served(lambda: inspector.update(name, said), refusal):
                assert not elsewhere
                self.model.tasks[name].record = new
        except QueueServerError as error:
            assert error.code == "CHANGED"
            assert elsewhere

    @precondition(lambda self: self.model.placed("buried"))
    @rule(client=CLIENTS, count=st.integers(1, 5))
    def kick(self, client: int, count: int) -> None:
        assert Inspector(self.clients[client], QUEUE).kick(count) == self.model.kick(count)

    @rule(client=CLIENTS, gate=GATES)
    def pause(self, client: int, gate: str) -> None:
        Inspector(self.clients[client], QUEUE).pause(gate)
        self.model.gates[gate] = "paused"

    @precondition(lambda self: self.model.gates)
    @rule(client=CLIENTS, gate=GATES, interrupted=st.booleans())
    def resume(self, client: int, gate: str, interrupted: bool) -> None:
        """``interrupted``: the caller died after its first page, and slots bring back the rest."""
        if gate not in self.model.gates:
            assert Inspector(self.clients[client], QUEUE).resume(gate) == 0
        elif interrupted and gate.startswith("collection:"):
            self.server.redis.hset(self.keys.part("gates"), gate, "resuming")
            self.model.gates[gate] = "resuming"
        elif gate.startswith("collection:"):
            assert Inspector(self.clients[client], QUEUE).resume(gate) == self.model.bring_back(gate, HANDLERS)
        else:
            Inspector(self.clients[client], QUEUE).resume(gate)
            del self.model.gates[gate]

    @rule(client=CLIENTS, collection=COLLECTION, pages=st.integers(1, 6))
    def drop(self, client: int, collection: str, pages: int) -> None:
        """So many pages of it; then the caller dies unless it was the last. Which tasks a page has, the server says."""
        instant, cursor = b"", b""
        for _ in range(pages):
            instant, cursor, _, gone, _ = self.clients[client].inside(QUEUE, "drop", [collection, instant, cursor, 2])
            self.model.drops[collection] = int(instant)
            actual = look(self.server, HANDLERS)
            due = self.model.droppable(collection, int(instant))
            met = {name for name in due if name not in actual.tasks or actual.wishes.get(name, [""])[0] == "gone"}
            assert len(met) == gone
            for name in met:
                self.model.drop(name)
            if not cursor:
                del self.model.drops[collection]
                assert met == due
                break

    @precondition(lambda self: self.model.finished)
    @rule()
    def finished_tasks_are_forgotten(self) -> None:
        """Their dedupe window is over."""
        self.server.redis.zadd(self.keys.part("finished"), dict.fromkeys(self.model.finished, 1), xx=True)
        self.model.finished = set()

    @rule(client=CLIENTS)
    def look_through(self, client: int) -> None:
        """What an operator sees, page by page."""
        inspector, model = Inspector(self.clients[client], QUEUE), self.model
        _, found = inspector.get([*NAMES["h"], *NAMES["x"]])
        seen = {each.id: (each.place, each.wish) for each in found if each}
        assert seen == {name: (task.place, task.wish.kind if task.wish else "") for name, task in model.tasks.items()}
        assert set(itertools.chain(*inspector.every_id())) == set(model.tasks)
        assert set(itertools.chain(*inspector.scheduled())) == {*model.placed("scheduled"), *model.placed("parked")}
        assert set(itertools.chain(*inspector.buried())) == set(model.placed("buried"))
        assert {name for page in inspector.locked() for name in page} == set(model.placed("locked"))

    # What must hold after each step

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        actual = look(self.server, HANDLERS)
        agree(self.model, actual, self.before)
        self.before = actual.now
        compare_places(self.model, actual)
        compare_counts(self.model, stats(self.server), HANDLERS)
        unheard = self.model.unheard({slot.holder.name: slot.handlers for slot in self.slots})
        assert self.server.redis.llen(self.keys.wake) or not unheard, f"{unheard} is due, somebody waits, none was rung"

    def teardown(self) -> None:
        """Whatever has happened, the queue can be drained to the last task."""
        operator = Inspector(self.server, QUEUE)
        for gate in self.model.gates:
            operator.resume(gate)
        for slot in self.slots:
            slot.holder.die()
        for name in list(itertools.chain(*operator.scheduled())):
            operator.move(name, "")
        operator.kick(1000)
        last = Holder(self.server, "last")
        while last.keep(last.take(dict.fromkeys(HANDLERS, 1000))) or stats(self.server).takeable:
            pass
        assert not stats(self.server).tasks
        left = {key.decode().rpartition("}:")[2].partition(":")[0] for key in self.server.redis.keys("*}:*")}
        assert not left & {"tasks", "schedule", "parked", "packs", "locks", "buried", "fate", "again"}


def test_queue_behaves_like_its_model(server: QueueServer) -> None:
    Queue.clients = [*(QueueServer(server.url, name=f"client-{n}") for n in range(3)), server]
    config = {"hash-max-ziplist-entries": 0}  # else the pages of a drop are all one page
    before = server.redis.config_get(*config)
    many = examples(70, stateful_step_count=50, suppress_health_check=list(HealthCheck))
    try:
        server.redis.config_set(*config.popitem())
        run_state_machine_as_test(Queue, settings=many)
    finally:
        server.redis.config_set(*before.popitem())
