"""The memory of this master's slots: what they say of it and what is measured, given to ``recycling``, and its verdicts
carried out. Slots over their hard limit are killed here, in the middle of their task.

It reads statm of working slots itself (6 µs each, no lock of theirs); whatever costs more is the courier's to read.
"""

import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qslots import orders
from qslots.footprint import anonymous
from qslots.scoreboard import Field
from qslots.settings import ServerSettings
from qslots.units import duration, size

from . import growth, recycling
from .books import Books
from .children import Child, Phase
from .imported import Imported
from .molds import Molds
from .nursery import Nursery
from .reasons import Reason
from .watch import Overdue

log = logging.getLogger("qmaster")
LOOKED_AT = 500  # slots whose statm is read in one second
SUSPECTS = 1000  # tasks that are remembered for having been killed where others may be to blame
NOT_BEFORE = 0.05  # seconds from one look at all slots to the next, however many have something to say


@dataclass(slots=True)
class Tenant:
    """One slot's memory since its birth, bytes."""

    fresh: orders.Fresh
    jitter: float
    mark: growth.Mark
    measured_at: float = 0.0
    seen: int = 0  # growth when it was looked at last
    done: int = 0  # tasks that it had ended by then
    start: int = 0  # of the task that it ran then
    before: int = 0  # growth that was seen before that task
    is_alone: bool = True  # nothing else has ended between that look and this task
    asked: bool = False
    tidied: int | None = None


class Recycler:
    """Of one master."""

    def __init__(self, settings: ServerSettings, books: Books, nursery: Nursery, molds: Molds) -> None:
        self.settings = settings  # may be replaced by others
        self._books = books
        self._nursery = nursery
        self._molds = molds
        self._tenants: dict[str, Tenant] = {}  # by holder
        self._state = recycling.State()
        self._late = Imported()
        self._growth: dict[str, growth.Growth] = {}  # by handler, of one generation
        self._generation = 0
        self._recycled: Counter[str] = Counter()
        self._suspects: deque[str] = deque(maxlen=SUSPECTS)  # ids
        self._decided_at = 0.0
        self._turn = 0

    def hear(self, now: float) -> None:
        """Takes what slots have said of their memory since the last turn."""
        if not self._nursery.said:
            return
        said, self._nursery.said = self._nursery.said, []
        for child, message in said:
            match message:
                case orders.Fresh(grown):
                    jitter = random.uniform(recycling.LEAST_JITTER, recycling.MOST_JITTER)
                    self._tenants[child.holder] = Tenant(message, jitter, growth.Mark("", 0, grown))
                case orders.Tidied(grown) if child.holder in self._tenants:
                    tenant = self._tenants[child.holder]
                    tenant.asked, tenant.tidied = False, grown
                    self._books.outdated(child.pid or 0)
                    self._grew(child, tenant, grown)
                case orders.Imported(modules, more):
                    line = self._late.heard(child.generation, child.index, modules, more)
                    if line:
                        log.warning("%s", line)
        if now >= self._decided_at + NOT_BEFORE:
            self._decide(now)

    def look(self) -> None:
        """Once a second: kills whose task has outgrown twice its limit. Of very many a part is looked at each time."""
        living = self._nursery.living()
        holders = {child.holder for child in living}
        self._tenants = {holder: tenant for holder, tenant in self._tenants.items() if holder in holders}
        limits = self._limits()
        self._turn += 1
        parts = 1 + len(living) // LOOKED_AT
        for child in living[self._turn % parts :: parts]:
            if child.holder in self._tenants and child.phase < Phase.KILLED:
                self._stop_growing(child, self._tenants[child.holder], limits)

    def _stop_growing(self, child: Child, tenant: Tenant, limits: Callable[[Child], int]) -> None:
        record = self._nursery.record(child.index)
        words = record.words
        task, start, deadline = words[Field.TASK], words[Field.START], words[Field.DEADLINE]
        if not task and words[Field.DONE] == tenant.done:
            return  # nothing has run since the last look
        done, name = words[Field.DONE], record.text("task")  # read last: another end makes this task a suspect only
        if start != tenant.start:
            tenant.start, tenant.before, tenant.is_alone = start, tenant.seen, done == tenant.done
        tenant.done = done
        tenant.seen = anonymous(child.pid or 0) - tenant.fresh.anonymous
        why, is_own = recycling.beyond(tenant.seen, tenant.before, limits(child))
        if why and task and (words[Field.TASK], words[Field.START]) == (task, start):
            if is_own and not tenant.is_alone:  # those that ended meanwhile may have done it; not so a second time
                is_own = name in self._suspects
                self._suspects.append(name)
            if is_own:
                child.overdue = Overdue(task, start, deadline, why)
            self._nursery.kill(child, why if is_own else f"it {why}", Reason.MEMORY)

    def measured(self, now: float) -> None:
        """There are new measurements, about once a second."""
        for child in self._nursery.living():
            tenant, known = self._tenants.get(child.holder), self._books.found(child.pid or 0)
            if tenant is None or known is None or known.found is None or known.at <= child.ordered_at:
                continue
            if known.at > tenant.measured_at:
                tenant.measured_at = known.at
                self._grew(child, tenant, known.found.grown)
        self._decide(now)

    def _grew(self, child: Child, tenant: Tenant, grown: int) -> None:
        record = self._nursery.record(child.index)
        mark = growth.Mark(record.text("handler"), record.words[Field.DONE], grown)
        if child.generation > self._generation:
            self._growth, self._generation = {}, child.generation
        if child.generation == self._generation:
            self._growth = growth.booked(self._growth, child.index, tenant.mark, mark)
        tenant.mark = mark

    def _decide(self, now: float) -> None:
        after = self.settings.recycle_after
        policy = recycling.Policy(self.settings.recycle_after_tasks, None if after is None else duration(after))
        tenants = {child.index: child for child in self._nursery.living() if child.holder in self._tenants}
        limits, self._decided_at = self._limits(), now
        readings = [self._reading(child, limits(child), now) for child in tenants.values()]
        verdicts, self._state = recycling.decide(readings, policy, self._state, now)
        for verdict in verdicts:
            match verdict:
                case recycling.Tidy(index):
                    self._tenants[tenants[index].holder].asked = self._nursery.tidy(tenants[index])
                case recycling.Plateau(_, why):
                    log.warning("%s", why)
                case recycling.Recycle(index, reason, why):
                    self._recycled[reason] += 1
                    level = logging.INFO if reason == "growth" else logging.DEBUG  # the others are as the settings say
                    log.log(level, "slot %d is recycled: it %s%s", index, why, self._blamed(tenants[index], reason))

    def _blamed(self, child: Child, reason: str) -> str:
        """What the handler that a slot has served last grows by, in words for the log."""
        handler = self._tenants[child.holder].mark.handler
        if reason != "growth" or handler not in self._growth:
            return ""
        return f"; {growth.told(handler, self._growth[handler])}"

    def _reading(self, child: Child, limit: int, now: float) -> recycling.Reading:
        tenant = self._tenants[child.holder]
        return recycling.Reading(
            index=child.index,
            holder=child.holder,
            queues=child.queues,
            generation=child.generation,
            live=child.phase is Phase.LIVE,
            baseline=tenant.fresh.grown,
            grown=tenant.mark.grown if self._shares(child) else None,
            limit=limit,
            jitter=tenant.jitter,
            done=self._nursery.record(child.index).words[Field.DONE],
            age=now - child.ordered_at,
            asked=tenant.asked,
            tidied=tenant.tidied,
        )

    def _shares(self, child: Child) -> bool:
        """Whether its mold lives. Without it, what a slot shared may be its own by now because the others are gone."""
        return child.generation in self._molds.state.molds

    def _limits(self) -> Callable[[Child], int]:
        """Bytes that a slot may grow: one of a queue that has declared more memory has that."""
        least = size(self.settings.private_limit)
        declared = {queue.name: queue.memory or 0 for queue in self._molds.declared.queues}
        return lambda child: max(least, *(declared.get(queue, 0) for queue in child.queues), 0)

    def retiring(self) -> dict[int, str]:
        """The slots that are to leave after their task, and why."""
        tenants = self._nursery.children.tenants
        return {
            index: f"it {gone.why}"
            for index, gone in self._state.away.items()
            if index in tenants and tenants[index].holder == gone.holder
        }

    def status(self) -> dict[str, Any]:
        """For the control socket."""
        grown = sorted(self._growth.items(), key=lambda each: -each[1].a_task)
        return {
            "growth": {
                handler: {"bytes_a_task": round(each.a_task), "tasks": each.tasks, "slots": len(each.slots)}
                for handler, each in grown
            },
            "late_imports": self._late.status(),
            "recycled": {reason: self._recycled[reason] for reason in ("growth", "tasks", "age")},
            "plateaus": [
                {"queues": list(queues), "limit": streak.limit, "growth": streak.most, "needed": streak.needed << 20}
                for queues, streak in self._state.streaks.items()
                if streak.is_plateau
            ],
        }
