"""The simulated fleet: servers whose slots take tasks, and a manager's cycle over them, event by event.

It does what masters and slots do, in their times: a master obeys the map and reports once a second, each at its own
moment; a slot takes time to be forked and finishes its pack before it serves another queue; the tail of a pack that
stands behind a long task goes back; the tasks of a lost server are locked until their lock ends. It decides nothing:
how many slots serve what is the policy's.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from qslots.lottery import PackSize
from qslots.reports import QueueStats, Report, SlotReport

from ..presence import Presence, present
from .line import Line
from .server import SLOT_SIZE, Pack, Row, Server, Size, Slot

CLOCK = 1e9  # the queue server's time at 0
DIGEST = "simulated"  # of the one declaration that all servers report
FORK = 0.1  # s from the order to a slot that takes
BIRTHS = 8  # under way at a time, of one server
RELIEF = 1.0  # s that a task may run before those behind it in its pack go back


class Policy(Protocol):
    """A way to allot slots."""

    detailed: bool  # whether it reads single slots in the reports

    def rows(self, now: float, reports: Sequence[Report], stats: Mapping[str, QueueStats]) -> Mapping[str, Row]:
        """The next map, by the newest reports of the servers that live, and the counts of all queues."""


class Watcher(Protocol):
    """Who looks at the fleet once a cycle, after the policy."""

    def look(self, now: float, fleet: "Fleet", moved: int) -> None:
        """``moved``: slots of living servers whose queues have changed with this map."""


class Fleet:
    """All servers and queues, and what is to happen."""

    def __init__(self, lines: Iterable[Line], size: Size, policy: Policy, seed: int) -> None:
        self.size = size
        self.lines = {line.name: line for line in lines}
        self.servers = [Server(f"s{number:0{len(str(size.servers))}}") for number in range(1, size.servers + 1)]
        self.adrift: list[Pack] = []  # packs of lost servers
        self._policy = policy
        self._presence = Presence()
        self._sizes = {line.name: line.declared.memory for line in self.lines.values() if line.declared.memory}
        self._random = Random(f"{seed}/fleet")
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[float, Any], None], Any]] = []

    def at(self, when: float, action: Callable[[float, Any], None], of: Any) -> None:
        """Something that is to happen."""
        heapq.heappush(self._events, (when, next(self._numbers), action, of))

    def play(self, start: float, end: float, watcher: Watcher) -> None:
        """From ``start`` to ``end``."""
        for line in self.lines.values():
            for phase in line.load.phases:
                self.at(max(start, phase.at), self._turn, line)
            if line.times:
                self.at(line.times[0], self._arrive, line)
        for server in self.servers:
            self.at(start + self._random.random(), self._beat, server)
        self.at(start, self._cycle, watcher)
        events = self._events
        while events and events[0][0] < end:
            now, _, action, of = heapq.heappop(events)
            action(now, of)
        for line in self.lines.values():
            line.note(end)

    def _turn(self, now: float, line: Line) -> None:
        line.turn_to(now)

    # The queue server and the slots.

    def _arrive(self, now: float, line: Line) -> None:
        line.put += 1
        if line.put < len(line.times):
            heapq.heappush(self._events, (line.times[line.put], next(self._numbers), self._arrive, line))
        if line.idle:
            self._wake(now, line)
        elif not line.listening:
            line.note(now)

    def _wake(self, now: float, line: Line) -> None:
        """Who has waited longest takes."""
        slot, _ = line.idle.popitem(last=False)
        if len(slot.lines) > 1:
            for each in slot.lines:
                each.idle.pop(slot, None)
        self._take(now, slot, line)

    def _take(self, now: float, slot: Slot, line: Line) -> None:
        tasks = line.take(1 if line.batch == 1 else self._fitting(slot, line))
        pack = slot.pack = Pack(slot, line, now, tasks)
        line.running += 1
        mean = line.mean if line.running <= line.parallel else line.mean * line.running / line.parallel
        until = now + mean * line.sizes[tasks[0]]
        if line.load.pack_cost:
            until = now + line.load.pack_cost + mean * sum(line.sizes[task] for task in tasks)
            pack.starts *= len(tasks)
        elif len(tasks) > 1:
            until = self._one_by_one(pack, mean)
        heapq.heappush(self._events, (until, next(self._numbers), self._end, pack))

    def _one_by_one(self, pack: Pack, mean: float) -> float:
        """When a pack ends whose tasks run one after the other; what stands behind a long one is to go back."""
        line, tasks, until = pack.line, pack.tasks, pack.begun
        for position, task in enumerate(tasks, 1):
            begins, until = until, until + mean * line.sizes[task]
            if position == len(tasks):
                break
            if until - begins > RELIEF:
                pack.tail, pack.whole = tasks[position:], False
                del tasks[position:]
                self.at(begins + RELIEF, self._relieve, pack)
                break
            pack.starts.append(until)
        return until

    def _fitting(self, slot: Slot, line: Line) -> int:
        """How many tasks a slot asks for and is given, as the script ``exchange`` divides them."""
        size = slot.sizes.setdefault(line.name, PackSize(line.batch))
        takers = line.running + len(line.idle) + 1
        return max(1, min(size.want(), math.ceil(line.waiting / takers)))

    def _relieve(self, now: float, pack: Pack) -> None:
        """What stands behind a long task goes back."""
        if pack.slot.pack is pack and pack.tail:
            pack.line.returned += len(pack.tail)
            pack.line.give_back(pack.tail)
            pack.tail = []
            self._offer(now, pack.line)

    def _offer(self, now: float, line: Line) -> None:
        while line.idle and line.waiting:
            self._wake(now, line)

    def _end(self, now: float, pack: Pack) -> None:
        slot, line = pack.slot, pack.line
        if slot.pack is not pack:
            return  # its server was lost
        if pack.tail:
            self._relieve(now, pack)
        slot.pack = None
        line.running -= 1
        line.ended(pack.tasks, pack.starts, now - pack.begun, whole=pack.whole)
        if line.batch > 1:
            slot.sizes[line.name].ran(len(pack.tasks), now - pack.begun)
        if len(slot.lines) > 1:
            slot.lottery.ran(line.name, now - pack.begun)
        if slot.leaving:
            del slot.server.tenants[slot.index]
            self._fork(now, slot.server)
        else:
            self._next(now, slot)

    def _next(self, now: float, slot: Slot) -> None:
        """A free slot takes from one of its queues, by lottery, or waits for all of them."""
        lines = slot.lines
        if len(lines) > 1:
            lines = [self.lines[name] for name in slot.lottery.draw(now, self._random.random)]
        for line in lines:
            if line.waiting:
                self._take(now, slot, line)
                return
        for line in lines:
            line.idle[slot] = None
            line.empty += 1

    # The masters.

    def _beat(self, now: float, server: Server) -> None:
        """Once a second a master obeys the map and reports."""
        self.at(now + 1.0, self._beat, server)
        if not server.alive:
            return
        if server.row != server.wanted:
            server.row = server.wanted
            self._obey(now, server)
        server.seen = now, self._report(now, server)

    def _report(self, now: float, server: Server) -> Report:
        tenants = server.tenants
        budget = self.size.slots * SLOT_SIZE
        mean = max(1, sum(slot.bytes for slot in tenants.values()) // len(tenants)) if tenants else SLOT_SIZE
        slots: Iterable[SlotReport] = ()
        if self._policy.detailed:
            slots = (tenants[index].report(now) for index in sorted(tenants))
        return Report(
            server.name, "simulated", server.name, 1, 1, DIGEST, budget, min(self.size.slots, budget // mean), 0, 0,
            SLOT_SIZE, self._sizes, 1, 1, slots=tuple(slots),
        )  # fmt: skip

    def _obey(self, now: float, server: Server) -> None:
        """As ``reconcile`` of a master: ask to leave, tell other queues, fork."""
        for index, slot in list(server.tenants.items()):
            names = server.row[index] if index < len(server.row) else ()
            if slot.starting or slot.leaving or names == slot.names:
                continue
            self._leave_lines(now, slot)
            if names:
                self._serve(now, slot, names)
            elif slot.pack is not None:
                slot.leaving = True
            else:
                del server.tenants[index]
        self._fork(now, server)

    def _fork(self, now: float, server: Server) -> None:
        """Slots that the row names and that are not there, a few at a time, as long as their bytes fit."""
        missing = [index for index, names in enumerate(server.row) if names and index not in server.tenants]
        if not missing:
            return
        free = self.size.slots * SLOT_SIZE - sum(slot.bytes for slot in server.tenants.values())
        births = BIRTHS - sum(slot.starting for slot in server.tenants.values())
        for index in missing:
            slot = Slot(server, index, [self.lines[name] for name in server.row[index]])
            if births and slot.bytes <= free:
                server.tenants[index] = slot
                births, free = births - 1, free - slot.bytes
                self.at(now + FORK, self._born, slot)

    def _born(self, now: float, slot: Slot) -> None:
        server = slot.server
        if server.tenants.get(slot.index) is not slot:
            return  # the server was lost
        slot.starting = False
        names = server.row[slot.index] if slot.index < len(server.row) else ()
        if names:
            self._serve(now, slot, names)
        else:
            del server.tenants[slot.index]
        self._fork(now, server)

    def _serve(self, now: float, slot: Slot, names: tuple[str, ...]) -> None:
        slot.serve([self.lines[name] for name in names])
        for line in slot.lines:
            line.hears(1, 1 / len(slot.lines), now)
        if slot.pack is None:
            self._next(now, slot)

    def _leave_lines(self, now: float, slot: Slot) -> None:
        for line in slot.lines:
            line.idle.pop(slot, None)
            line.hears(-1, -1 / len(slot.lines), now)

    # Servers that are lost, and come back.

    def lose(self, now: float, servers: int) -> None:
        """So many of the servers that live, the last ones by name; what they held stays locked."""
        for server in [server for server in self.servers if server.alive][-servers:]:
            server.alive = False
            for slot in server.tenants.values():
                if not slot.starting and not slot.leaving:
                    self._leave_lines(now, slot)
                if slot.pack is not None:
                    slot.pack.line.running -= 1
                    self.adrift.append(slot.pack)
                    self.at(now + slot.pack.line.declared.lock, self._reclaim, slot.pack)
                    slot.pack = None
            server.tenants, server.row, server.wanted = {}, (), ()

    def come_back(self, _: float, servers: int) -> None:
        """So many of those lost, empty."""
        for server in [server for server in self.servers if not server.alive][:servers]:
            server.alive = True

    def _reclaim(self, now: float, pack: Pack) -> None:
        """The lock of a lost server's pack is over."""
        self.adrift.remove(pack)
        tasks = [*pack.tasks, *pack.tail]
        pack.line.lost += len(tasks)
        pack.line.give_back(tasks)
        self._offer(now, pack.line)
        pack.line.note(now)

    # The manager.

    def _cycle(self, now: float, watcher: Watcher) -> None:
        self.at(now + self.size.interval, self._cycle, watcher)
        moved = 0 if self._looked(now) else self._published(now)
        watcher.look(now, self, moved)

    def _looked(self, now: float) -> bool:
        """Which servers are there, as a manager sees it; whether so many are gone at once that the map stays."""
        seen = {server.name: server.seen[0] for server in self.servers if server.seen is not None}
        self._presence = present(seen, self._presence, now, lost_after=self.size.lost_after)
        return self._presence.held

    def _published(self, now: float) -> int:
        """The policy's next map; returns how many slots of living servers got other queues."""
        there = self._presence.there
        reports = [server.seen[1] for server in self.servers if server.seen is not None and server.name in there]
        stats = {name: line.stats(now, CLOCK) for name, line in self.lines.items()}
        rows, moved = self._policy.rows(CLOCK + now, reports, stats), 0
        for server in self.servers:
            wanted = rows.get(server.name, ())
            if wanted != server.wanted and server.alive:
                both = itertools.zip_longest(server.wanted, wanted, fillvalue=())
                moved += sum(before not in ((), after) for before, after in both)
            server.wanted = wanted
        return moved
