"""What the master does once a second: extend locks, watch deadlines, measure, report. All of it goes by courier.

Of each kind of letter one is under way at most: what is late is not made later by asking again.
"""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from qslots.holding import TRUSTED
from qslots.reports import MapRow, Orders, Report, SlotReport
from qslots.scoreboard import Field, Record, boot_ns
from qslots.servers import parted

from . import memory, relief, watch
from .books import Books, Figures, Mark, MoldSize, monotonic
from .bounds import megabytes
from .children import Phase
from .couriers import Couriers
from .lastmap import LastMap
from .lateness import Late
from .letters import Beat, Extend, Extended, Failed, Heard, Letter, Measure, Measured, Reply, SendReport
from .molds import Molds
from .nursery import Nursery
from .pacing import Pace
from .reasons import Reason
from .recycler import Recycler
from .watchdogs import Watchdogs

log = logging.getLogger("qmaster")
TICK = 1.0  # seconds
FIRST_TICK = 0.2  # until the first row of the map is here: nothing works before
_SLEEPS = 100  # remembered, the newest


class Duties:
    """The regular work of one master."""

    def __init__(
        self, server: str, incarnation: str, books: Books, nursery: Nursery, molds: Molds,
        couriers: Couriers, last: LastMap, recycler: Recycler,
    ) -> None:  # fmt: skip
        self._last = last
        self._server = server
        self._incarnation = incarnation
        self._books = books
        self._nursery = nursery
        self._molds = molds
        self._published: tuple[int, int] | None = None  # budget and slots, before there were two molds
        self._couriers = couriers
        self._recycler = recycler
        self._under_way: set[tuple[str, str]] = set()  # (queue server, kind of letter)
        self._declaration_wanted = True
        self._overdue: dict[int, watch.Overdue] = {}
        self._standing: dict[int, relief.Standing] = {}
        self._relieved: dict[int, relief.Standing] = {}
        self._told: dict[int, int] = {}  # slot -> start of the last task that took unusually long
        self._slept: list[tuple[int, int]] = []  # when this machine woke up, and how long it had slept; ns since boot
        self.watchdogs = Watchdogs(nursery, couriers, molds, self._once)
        self._again_at: float | None = None  # when to read both a second time
        self._next = 0.0
        self._warned = False
        self._pace = Pace()
        self._unread = ""  # what was said last of memory that cannot be read
        self._unheard = ""  # what was said last of a report that was not answered
        self.replaced = False  # another master has taken our name
        self.draining = False
        self.orders = Orders()  # what people have said to the queue server

    @property
    def row(self) -> MapRow | None:
        """The map row in force."""
        return self._last.in_force(away=bool(self._couriers.first.down))

    def check(self, now: float) -> float:
        """Does what is due; returns when something will be due again."""
        if now >= self._next:
            self._next = now + (TICK if self.row is not None and self._molds.ready is not None else FIRST_TICK)
            self._tick(now)
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self._act_on_overdue()
            self._relieve(now)
        self._recycler.hear(now)
        return min(self._next, self._again_at or self._next)

    def _tick(self, now: float) -> None:
        records = [self._nursery.record(child.index) for child in self._nursery.living()]
        self._extend(records, now)
        for name in self._couriers.others:
            self._once(name, "beat", Beat(), lambda _: None, now)
        if self._again_at is None:
            self._look(records)
            self._again_at = now + watch.AGREE if self._overdue or self._standing else None
        self._tell_of_slow(records)
        self._note_busy(now)
        self._look_after({record.index: record for record in records}, now)
        self._nursery.look_at_memory_kills()
        self._save(now)
        self._recycler.look()
        if self._molds.ready is not None:  # measured before, it would leave nothing of its share for the first slots
            self._measure(now)
            self._report(now)

    def _assess(self, now: float) -> None:
        """As soon as memory was measured: what a slot that leaves later gives back would be in no reading."""
        ready, pid = self._molds.ready, self._molds.pid
        if ready is None:
            return
        mold = MoldSize(pid, ready.pss, self._molds.present, tuple(self._molds.pids - {pid}))
        self._books.assess(self._nursery.children, self._nursery.record, mold, ready.declared, now)
        if self.row is not None and not self.draining:
            self._books.shed(self._nursery.children, self._nursery.record, dict(enumerate(self.row.slots)), now)
        self._warn_of_no_room()

    def _look_after(self, records: dict[int, Record], now: float) -> None:
        living = {child.index: child for child in self._nursery.living() if child.index in records}
        self.watchdogs.look(living, records, now)
        wanted = set(self.row.slots) if self.row is not None else set()
        pairs = [(child, records[index]) for index, child in living.items()]
        self._nursery.losses.look(pairs, wanted, self._molds.present, now)

    def come_late(self, late: Late, now: float) -> None:
        """The turn before the next one comes far too late: locks first; what was read before it counts no more."""
        self._extend([self._nursery.record(child.index) for child in self._nursery.living()], now)
        self._slept = [*self._slept, (boot_ns(), int(late.asleep * 1e9))][-_SLEEPS:]
        self._again_at, self._overdue, self._standing = None, {}, {}
        self.watchdogs.postpone(late.stalled)

    def _warn_of_no_room(self) -> None:
        """Once: a server that can carry no slot looks like one that has nothing to do."""
        capacity = self._books.capacity
        if capacity is not None and capacity.max_slots == 0 and not self._warned:
            self._warned = True
            reserve = megabytes(capacity.reserve)
            log.warning("not one slot is allowed here: %s; server.reserve_memory keeps %s", capacity.limit, reserve)

    def _once(self, server: str, kind: str, letter: Letter, on_reply: Callable[[Reply], None], now: float) -> None:
        key = (server, kind)
        if key in self._under_way:
            return
        self._under_way.add(key)

        def answered(reply: Reply) -> None:
            self._under_way.discard(key)
            on_reply(reply)

        self._couriers.send(server, letter, answered, now)

    def _extend(self, records: list[Record], now: float) -> None:
        for (source, ttl), locks in watch.to_extend(records, boot_ns()).items():
            on_reply = partial(self._extended, locks=locks, ttl=ttl)
            self._once(parted(source)[1], f"extend {source}", Extend(source, ttl, list(locks)), on_reply, now)

    def _extended(self, reply: Reply, *, locks: dict[str, Record], ttl: float) -> None:
        """Locks that live are trusted longer. "Gone" counts only if the slot still works on that very pack."""
        if not isinstance(reply, Extended):
            return
        for lock, record in locks.items():
            if not watch.holds_still(record, lock):
                continue
            if lock not in reply.gone:
                record.words[Field.EXTENDED_UNTIL] = reply.asked + int(ttl * TRUSTED * 1e9)
                continue
            child = self._nursery.children.by_holder(record.text("holder"))
            if child is not None and child.phase in (Phase.LIVE, Phase.LEAVING):
                self._nursery.kill(child, "its pack was taken away: another may run it", Reason.LOCK_LOST)

    def _tell_of_slow(self, records: list[Record]) -> None:
        """Once for each task."""
        for index, found in watch.slow(records, boot_ns(), self._told).items():
            self._told[index] = found.start
            usual = f"; it usually takes {found.usual:.3g} s" if found.usual else ""
            log.warning(
                "slot %d: %s %s has been running for %.0f s%s", index, found.handler, found.task, found.age, usual
            )

    def _look(self, records: list[Record]) -> None:
        """The first of two readings."""
        self._overdue = watch.overdue(records, boot_ns(), self._slept)
        self._standing = relief.standing(records, boot_ns(), self._relieved)
        for index, at in self._standing.items():
            self._nursery.record(index).stop_after(at.seq, at.position)

    def _relieve(self, now: float) -> None:
        """What could not begin before STOP_AFTER was written cannot begin any more."""
        windows = {queue.name: queue.dedupe_window for queue in self._molds.declared.queues}
        living = {child.index for child in self._nursery.living()}
        for index in self._standing.keys() & living:
            at = self._standing[index]
            letter = relief.settlement(self._nursery.record(index), at, windows)
            if letter is not None:
                log.debug("slot %d stands at task %d: %d go back", index, at.position, len(letter.back))
                on_reply = partial(self._was_relieved, index=index, at=at)
                self._once(parted(letter.source)[1], f"relieve {index}", letter, on_reply, now)

    def _was_relieved(self, reply: Reply, *, index: int, at: relief.Standing) -> None:
        """Asked again while the queue server is down, and the slot stands there."""
        if isinstance(reply, Failed) and reply.code == "down":
            return
        if isinstance(reply, Failed):
            log.error("slot %d could not be relieved of its pack: %s", index, reply.why)
        self._relieved[index] = at

    def _act_on_overdue(self) -> None:
        living = {child.index: child for child in self._nursery.living()}
        records = [self._nursery.record(index) for index in self._overdue if index in living]
        for index in watch.confirmed(self._overdue, watch.overdue(records, boot_ns(), self._slept)):
            if living[index].phase < Phase.KILLED:
                living[index].overdue = self._overdue[index]
                self._nursery.kill(living[index], self._overdue[index].did, Reason.TIME_LIMIT)

    def _note_busy(self, now: float) -> None:
        """A slot that was asked to leave has its grace after its pack, however long that takes."""
        for child in self._nursery.living():
            if self._nursery.record(child.index).words[Field.HELD]:
                child.busy_at = now

    def _save(self, now: float) -> None:
        first = self._couriers.first
        letter = self._last.unsaved(first.url)
        if letter is not None:
            self._once(first.name, "state", letter, partial(self._last.was_saved, row=letter.state.row), now)

    def _pids(self) -> list[int]:
        return [child.pid for child in self._nursery.living() if child.pid]

    def _measure(self, now: float) -> None:
        marks = self._marks(now)
        letter = Measure(self._books.to_measure(marks, now), self._pace.allowed(now))
        on_reply = partial(self._measured, asked=now, marks=marks)
        self._once(self._couriers.first.name, "measure", letter, on_reply, now)

    def _marks(self, now: float) -> dict[int, Mark]:
        """By pid. A mold that loads grows; a loaded one is shared among its slots, so it counts as another one when
        these are twice as many or half as many.
        """
        record, living = self._nursery.record, self._nursery.living()
        marks = {child.pid: self._books.mark(child, record(child.index), now) for child in living if child.pid}
        rests = self._molds.ready is not None and not self._molds.state.two
        return marks | dict.fromkeys(self._molds.pids, Mark(len(marks).bit_length(), at_work=0.0 if rests else now))

    def _measured(self, reply: Reply, *, asked: float, marks: Mapping[int, Mark]) -> None:
        match reply:
            case Measured():
                if self._books.capacity is None:
                    self._next = 0.0  # the first reading: do not let the first slots wait for the next tick
                self._pace = self._pace.spent(reply.spent, monotonic())
                self._books.measured(reply, asked, marks)
                self._recycler.measured(monotonic())
                self._assess(monotonic())
                self._tell_of_refused(reply)
            case Failed() if reply.code != "down" and reply.why != self._unread:
                self._unread = reply.why
                log.error("memory is not known, the number of slots stays: %s", reply.why)

    def _tell_of_refused(self, reply: Measured) -> None:
        """Once: such slots count as large as those that were measured, or as private_limit says."""
        refused = next((pid for pid, found in reply.sizes.items() if found is None), None)
        if refused is not None and not self._unread:
            self._unread = str(memory.Refused(refused))
            log.error("%s", self._unread)

    def slots(self) -> list[SlotReport]:
        """All slots as they are now."""
        return [self._books.slot_report(child, self._nursery.record(child.index)) for child in self._nursery.living()]

    def _figures(self) -> Figures | None:
        pid = self._molds.pid
        return self._books.figures(pid, [*self._pids(), *(self._molds.pids - {pid})])

    def _frozen(self, figures: Figures) -> Figures:
        """While there are two molds the map need not follow what a reload takes for a while."""
        if self._published is None or not self._molds.state.two:
            self._published = (figures.budget, figures.max_slots)
        budget, max_slots = self._published
        return msgspec.structs.replace(figures, budget=budget, max_slots=max_slots)

    def figures(self) -> dict[str, Any]:
        """What is known of memory and capacity, by the names of the report; all null before the first measurement."""
        found = self._figures()
        return dict.fromkeys(Figures.__struct_fields__) if found is None else msgspec.structs.asdict(found)

    def _report(self, now: float) -> None:
        declared = self._molds.declared
        figures = self._figures()
        if figures is None:
            return
        report = Report(
            server=self._server,
            incarnation=self._incarnation,
            host=socket.gethostname(),
            pid=os.getpid(),
            generation=self._molds.present,
            declared=declared.digest(),
            **msgspec.structs.asdict(self._frozen(figures)),
            epoch=self._last.row.epoch if self._last.row else 0,  # no manager may begin below it
            seq=self._last.row.seq if self._last.row else 0,
            draining=self.draining,
            slots=tuple(self.slots()),
            deaths=dict(self._nursery.losses.counts),
            parked=self._nursery.losses.parked_queues(),
        )
        letter = SendReport(report, declared if self._declaration_wanted else None)
        self._once(self._couriers.first.name, "report", letter, self._reported, now)

    def _reported(self, reply: Reply) -> None:
        match reply:
            case Heard(row, wanted, orders, planned):
                self._declaration_wanted = wanted
                self.orders = orders
                self._last.heard(row, planned=planned)
                self._unheard = ""
            case Failed("REPLACED"):
                self.replaced = True
            case Failed(code, why) if code != "down" and why != self._unheard:
                self._unheard = why
                log.error("no answer to a report, slots go on with the last map: %s", why)
