"""What the deaths of slots add up to: counts by reason, assignments that wait or are parked, handlers that are parked.

It decides nothing (``crashloops`` does), and kills and forks nobody. Each thing is said once.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from qslots.scoreboard import Field, Record
from qslots.servers import parted

from . import deaths
from .children import Child, Children, Phase
from .couriers import Couriers
from .crashloops import PARK_AFTER, PROBE_EVERY, HandlerRows, Queues
from .deaths import Cause
from .letters import Failed, Park, Parked, Reply
from .reasons import FAILURES, Reason

log = logging.getLogger("qmaster")


class Losses:
    """Those of one master."""

    def __init__(self, children: Children, couriers: Couriers) -> None:
        self._children = children
        self._couriers = couriers
        self._rows = HandlerRows()
        self._generation = 0
        self.counts: Counter[str] = Counter()

    def died(self, child: Child, record: Record, cause: Cause, now: float) -> None:
        """A slot was reaped; its record is still as it has left it."""
        self.counts[cause.reason] += 1
        words = record.words
        if child.has_success(words[Field.DONE], words[Field.TAKES], now):
            self._succeeded(child)
        elif not words[Field.TASK] and (child.killed in FAILURES or child.phase is Phase.LIVE):
            self._failed(child, child.fault or cause.text, now)
        work = deaths.work(record)
        if work is not None and deaths.is_crash(cause, record):
            why = self._rows.crashed(work, record.text("task"), cause.text)
            if why:
                self._park(work.queue, work.handler, why, now)

    def never_born(self, child: Child, now: float) -> None:
        """A slot was ordered, and its channel has ended before it said that it lives."""
        self.counts[child.killed or Reason.UNBORN] += 1
        self._children.loops.hold_back(child.assignment, now)
        log.warning("slot %d was never born: %s", child.index, child.why or "its mold could not fork it")

    def look(
        self, living: Sequence[tuple[Child, Record]], wanted: Collection[Queues], generation: int, now: float
    ) -> None:
        """Once a second: who has success? ``wanted``: the assignments on the map."""
        loops = self._children.loops
        if generation != self._generation:
            self._generation = generation
            loops.forget()
        loops.keep(wanted)
        for child, record in living if loops.loops else ():
            if child.has_success(record.words[Field.DONE], record.words[Field.TAKES], now):
                self._succeeded(child)
        works = {child.holder: deaths.work(record) for child, record in living} if self._rows.rows else {}
        self._rows.look({holder: work for holder, work in works.items() if work is not None})

    def parked(self, now: float) -> list[dict[str, Any]]:
        """The assignments that are parked here; ``next``: seconds until another slot is tried."""
        return [
            {"queues": queues, "why": loop.why, "deaths": loop.deaths, "next": max(0.0, loop.not_before - now)}
            for queues, loop in sorted(self._children.loops.parked().items())
        ]

    def parked_queues(self) -> dict[str, str]:
        """The same for a report: queue -> why."""
        return {queue: loop.why for queues, loop in self._children.loops.parked().items() for queue in queues}

    def is_parked(self, child: Child) -> bool:
        """Whether this one was only tried: of its end all was said before."""
        return child.assignment in self._children.loops.parked()

    def _failed(self, child: Child, why: str, now: float) -> None:
        if self._children.loops.died(child.assignment, child.ordered_at, now, why):
            log.error(
                "%s is parked on this server: slots for it have died %d times in a row without any success, the last "
                "one: %s; one is tried every %.0f s",
                ", ".join(child.assignment), PARK_AFTER, why, PROBE_EVERY,
            )  # fmt: skip

    def _succeeded(self, child: Child) -> None:
        loop = self._children.loops.succeeded(child.assignment, child.ordered_at)
        if loop is not None and loop.is_parked:
            log.info("%s is parked no more: slot %d lives", ", ".join(child.assignment), child.index)

    def _park(self, queue: str, handler: str, why: str, now: float) -> None:
        """On all servers of the queue; one that is away is told when it answers."""
        told: list[bool] = []
        for source in self._couriers.sources((queue,)):
            on_reply = _told_once(queue, handler, why, told)
            self._couriers.send(parted(source)[1], Park(queue, handler, why), on_reply, now)


def _told_once(queue: str, handler: str, why: str, told: list[bool]) -> Callable[[Reply], None]:
    def parked(reply: Reply) -> None:
        if isinstance(reply, Failed):
            log.error("handler %s of queue %s could not be parked: %s", handler, queue, reply.why)
        elif isinstance(reply, Parked) and reply.by_this and not told:
            told.append(True)
            log.error("handler %s of queue %s is parked: %s", handler, queue, why)

    return parked
