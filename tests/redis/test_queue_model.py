"""The queue against a simple model: whatever happens in whatever order, each task is in exactly one place.

Requests are repeated as after lost replies, answers are never read, slots die, leave and let their locks expire.
"""

from dataclasses import dataclass, field

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from support.holder import QUEUE, Holder, ids, marks, put, resume_long_ago, stats

from qslots.errors import HolderDead
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer

SLOTS = st.integers(0, 2)
HANDLERS = ("h", "x")
KINDS = ("fail", "crash", "retry", "loss", "postpone", "bury", "done", "back")
POSITIONS = st.sets(st.integers(1, 6), max_size=4)


@dataclass
class Slot:
    """What the model knows of one incarnation."""

    holder: Holder
    tasks: list[str] = field(default_factory=list)  # of its pack, by position
    open: set[int] = field(default_factory=set)  # positions not ended yet
    handler: str = ""
    expired: bool = False
    number: int = 0


class Queue(RuleBasedStateMachine):
    def __init__(self, server: QueueServer) -> None:
        super().__init__()
        self.server = server
        server.redis.flushall()
        resume_long_ago(server)
        self.made = 0
        self.scheduled: set[str] = set()
        self.buried: set[str] = set()
        self.done: set[str] = set()
        self.slots = [self.new_slot(n) for n in range(3)]
        for handler in HANDLERS:
            self.put(12, handler, False)

    def new_slot(self, number: int) -> Slot:
        self.made += 1
        return Slot(Holder(self.server, f"s{number}-{self.made}"), number=number)

    def end(self, slot: Slot, done: set[int]) -> None:
        """The open tasks of its pack: those in ``done`` are, the others go back."""
        for position in slot.open:
            (self.done if position in done else self.scheduled).add(slot.tasks[position - 1])
        slot.open, slot.tasks, slot.expired, slot.holder.held = set(), [], False, None

    def reap(self) -> None:
        """What any visitor does with expired locks."""
        for slot in self.slots:
            if slot.expired:
                self.end(slot, set())
                self.refused(slot)

    @rule(count=st.integers(1, 12), handler=st.sampled_from(HANDLERS), twice=st.booleans())
    def put(self, count: int, handler: str, twice: bool) -> None:
        names = [f"{self.made:05}-{n}" for n in range(count)]
        self.made += 1
        assert put(self.server, *names, handler=handler, own_ids=True) == count
        if twice:
            assert put(self.server, *names, handler=handler, own_ids=True, on_duplicate="ignore") == 0
        self.scheduled |= set(names)

    @rule(number=SLOTS, most=st.integers(0, 6), repeats=st.integers(0, 2), fate=st.integers(0, 4))
    def take(self, number: int, most: int, repeats: int, fate: int) -> None:
        slot = self.slots[number]
        if slot.expired:  # its own lock is settled before the others are reaped
            slot.expired = False
        want = dict.fromkeys(HANDLERS, most)
        answer = slot.holder.take(want)
        for _ in range(repeats):
            assert ids(slot.holder.again(want)) == ids(answer)
        self.end(slot, set(slot.open))
        self.reap()
        taken = ids(answer)
        assert set(taken) <= self.scheduled
        assert len(taken) <= most
        assert taken or not self.scheduled or not most
        if fate == 0:  # the slot dies before it has read this
            slot.holder.die()
            self.slots[number] = self.new_slot(number)
            return
        self.scheduled -= set(taken)
        slot.holder.keep(answer)
        slot.tasks, slot.open = taken, set(range(1, len(taken) + 1))
        slot.handler = answer.pack.handler if answer.pack else ""

    @rule(number=SLOTS, position=st.integers(1, 6), kind=st.sampled_from(KINDS), repeats=st.integers(0, 2))
    def settle(self, number: int, position: int, kind: str, repeats: int) -> None:
        slot = self.slots[number]
        if slot.holder.held is None:
            return
        position = 1 + position % len(slot.tasks)
        outcome = Outcome(kind, "why", limit=2, base=0.0, cap=0.0, delay=0.0)
        for _ in range(repeats + 1):
            assert slot.holder.settle({position: outcome})
        if position in slot.open:
            slot.open.remove(position)
            task = slot.tasks[position - 1]
            if task in {
                name.decode() for name in self.server.redis.zrange(self.server.keys_of(QUEUE).part("buried"), 0, -1)
            }:
                assert kind in ("fail", "crash", "bury")
                self.buried.add(task)
            elif kind == "done":
                self.done.add(task)
            else:
                assert kind != "bury"
                self.scheduled.add(task)

    @rule(number=SLOTS, done=POSITIONS, leave=st.booleans(), repeats=st.integers(0, 1))
    def release(self, number: int, done: set[int], leave: bool, repeats: int) -> None:
        slot = self.slots[number]
        held = slot.holder.held is not None
        assert slot.holder.release(done, leave=leave) == held
        for _ in range(repeats):
            assert not slot.holder.release(done, leave=leave)
        self.end(slot, done)
        if leave:
            self.refused(slot)

    @rule(number=SLOTS, done=POSITIONS, ran=st.integers(0, 6), rest=st.sampled_from(["back", "loss"]))
    def die(self, number: int, done: set[int], ran: int, rest: str) -> None:
        slot = self.slots[number]
        charge = {ran: Outcome("crash", "killed", limit=99)} if ran and ran not in done else {}
        slot.holder.die(charge, done, rest)
        slot.holder.die(charge, done, rest)
        self.end(slot, done)
        self.refused(slot)

    def refused(self, slot: Slot) -> None:
        """Nothing of a dead incarnation is obeyed any more."""
        try:
            slot.holder.take()
        except HolderDead:
            self.slots[slot.number] = self.new_slot(slot.number)
        else:
            raise AssertionError("a dead holder was served")

    @rule(number=SLOTS)
    def expire(self, number: int) -> None:
        slot = self.slots[number]
        if slot.holder.held is not None:
            lock = f"{slot.holder.name}:{slot.holder.held}"
            self.server.redis.zadd(self.server.keys_of(QUEUE).part("locks"), {lock: 1}, xx=True)
            slot.expired = True

    @rule()
    def extend(self) -> None:
        held = [slot for slot in self.slots if slot.holder.held is not None]
        locks = [f"{slot.holder.name}:{slot.holder.held}" for slot in held]
        assert self.server.extend(QUEUE, 60.0, [*locks, "nobody:1"]) == ["nobody:1"]
        for slot in held:
            slot.expired = False

    @invariant()
    def each_task_is_in_exactly_one_place(self) -> None:
        redis, keys = self.server.redis, self.server.keys_of(QUEUE)
        schedules = [name.decode() for handler in HANDLERS for name in redis.zrange(keys.schedule(handler), 0, -1)]
        packs = [
            task
            for packed in redis.hvals(keys.part("packs"))
            for task in msgspec.msgpack.decode(packed, strict=False)[1][::2]
            if task
        ]
        buried = [name.decode() for name in redis.zrange(keys.part("buried"), 0, -1)]
        held = [slot.tasks[position - 1] for slot in self.slots for position in slot.open]
        assert sorted(schedules) == sorted(self.scheduled)
        assert sorted(packs) == sorted(held)
        assert sorted(buried) == sorted(self.buried)
        living = {name.decode() for name in redis.hkeys(keys.part("tasks"))}
        assert living == self.scheduled | self.buried | set(held)
        assert stats(self.server).done == len(self.done)
        assert not self.done & living
        assert redis.hlen(keys.part("packs")) == redis.zcard(keys.part("locks"))
        assert {name.decode() for name in redis.hkeys(keys.part("fate"))} <= living

    def teardown(self) -> None:
        """Whatever happened, the queue can be drained to the last task."""
        for slot in self.slots:
            slot.holder.die()
            self.end(slot, set())
        last = Holder(self.server, "last")
        for _ in range(200):
            if not last.keep(last.take(dict.fromkeys(HANDLERS, 1000))):
                break
        assert stats(self.server).done == len(self.done) + len(self.scheduled)
        assert (stats(self.server).active, stats(self.server).locked) == (0, 0)


def test_queue_behaves_like_its_model(server: QueueServer) -> None:
    assert marks([2]) == b"\0\1"
    run_state_machine_as_test(
        lambda: Queue(server),
        settings=settings(
            max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
