"""What the master does about slots that live and are of no use: silent, idle beside tasks that wait, out of reach, or
at work on what is no longer theirs. It decides little: ``liveness`` and ``watch`` do.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial

from qslots.scoreboard import Field, Record, boot_ns
from qslots.servers import parted
from qslots.states import SlotState

from . import watch
from .children import Child, Phase
from .couriers import Couriers
from .letters import Find, Found, Letter, Reply
from .liveness import Liveness, LookUp, Move, Poke, Replace, Sign
from .molds import Molds
from .nursery import Nursery
from .reasons import Reason

log = logging.getLogger("qmaster")
_LIFE = (Field.BEAT, Field.TAKES, Field.ASKED, Field.DONE, Field.HELD, Field.STATE)
LOOK_UP_EVERY = 3.0  # seconds; one question for all slots that idle
UNTRUSTED = "it may no longer be trusted: its lock could not be extended"
Once = Callable[[str, str, Letter, Callable[[Reply], None], float], None]


class Watchdogs:
    """Those of one master; to be called once a second."""

    def __init__(self, nursery: Nursery, couriers: Couriers, molds: Molds, once: Once) -> None:
        self._nursery = nursery
        self._couriers = couriers
        self._molds = molds
        self._once = once
        self._liveness = Liveness()
        self._untrusted: dict[int, watch.Untrusted] = {}
        self._out_of_reach: set[str] = set()  # holders
        self._unreachable: set[str] = set()  # those of them that were so the last time, too
        self._look_up_at = 0.0
        self._down: frozenset[str] = frozenset()  # queue servers that did not answer when they were looked at last

    def look(self, living: dict[int, Child], records: dict[int, Record], now: float) -> None:
        """Looks at all slots, by index, and does what must be done. A slot that waits for a queue server which does
        not answer has patience for it, as it should.
        """
        self._end_untrusted(living, records)
        self._retire_out_of_reach(living.values())
        self._wake_after_outage(living.values())
        at_work = [
            child for child in living.values() if child.phase is Phase.LIVE and self._couriers.answer(child.queues)
        ]
        boot = boot_ns()
        signs = {child.index: sign(child, records[child.index], boot) for child in at_work}
        self._move(self._liveness.look(signs, now), now)

    def retiring(self) -> dict[int, str]:
        """Slots that are to leave after their task, and why; never the next tenant of such a place."""
        children = self._nursery.living() if self._unreachable else []
        return {child.index: "its channel is broken" for child in children if child.holder in self._unreachable}

    def postpone(self, seconds: float) -> None:
        """The master was not there for so long: nobody's silence is counted from before."""
        self._liveness.postpone(seconds)
        self._untrusted = {}

    def _wake_after_outage(self, living: Iterable[Child]) -> None:
        """A queue server answers again: a slot may sleep on a connection that nobody serves any more."""
        down, self._down = self._down, self._couriers.down
        if down - self._down:
            for child in living:
                self._nursery.poke(child)

    def _move(self, moves: Iterable[Move], now: float) -> None:
        idle = []
        for move in moves:
            child = self._nursery.children.tenants[move.index]
            match move:
                case Poke():
                    log.debug("slot %d is poked", move.index)
                    self._nursery.poke(child)
                case LookUp():
                    idle.append(child)
                case Replace(_, why, reason):
                    self._nursery.kill(child, why, reason)
        if idle and now >= self._look_up_at:
            self._look_up_at = now + LOOK_UP_EVERY
            self._look_up(idle, now)

    def _look_up(self, idle: list[Child], now: float) -> None:
        """Does any task wait for these slots?"""
        known = {queue.name: [each.name for each in queue.handlers] for queue in self._molds.declared.queues}
        queues = sorted({queue for child in idle for queue in child.queues if known.get(queue)})
        by_server: dict[str, dict[str, list[str]]] = {}
        for queue, server in map(parted, self._couriers.sources(tuple(queues))):
            by_server.setdefault(server, {})[queue] = known[queue]
        for server, handlers in by_server.items():
            found = partial(self._found, holders=[child.holder for child in idle], now=now)
            self._once(server, "find", Find(handlers), found, now)

    def _found(self, reply: Reply, *, holders: list[str], now: float) -> None:
        """As many slots are poked as tasks wait: one that does not stir is not asked again, but replaced."""
        if not isinstance(reply, Found):
            return
        left = dict(reply.waiting)
        for child in filter(None, map(self._nursery.children.by_holder, holders)):
            queue = next((queue for queue in child.queues if left.get(queue)), None)
            if queue is None or child.phase is not Phase.LIVE:
                continue
            tasks = sum(reply.waiting.get(each, 0) for each in child.queues)
            moves = self._liveness.tasks_wait(child.index, child.holder, tasks, now)
            left[queue] -= len(moves)
            self._move(moves, now)

    def _retire_out_of_reach(self, living: Iterable[Child]) -> None:
        """A slot whose channel is broken will see it between two tasks; one that does not is asked, then killed. Seen
        twice: a slot that has just died is reaped in between.
        """
        deaf = {child.holder for child in living if not self._nursery.reaches(child)}
        self._unreachable = deaf & self._out_of_reach
        self._out_of_reach = deaf

    def _end_untrusted(self, living: dict[int, Child], records: dict[int, Record]) -> None:
        """What still runs after its lock was last vouched for, in two readings a second apart: so the lock was not
        extended between them either. Where the queue server is not there at all nobody else gets the task.
        """
        running = {index: each for index, each in records.items() if living[index].phase < Phase.KILLED}
        found = watch.untrusted(running.values(), boot_ns())
        for index in list(found):
            if self._couriers.serves_nobody(records[index].text("held_source")):
                del found[index]
        for index in watch.confirmed(self._untrusted, found):
            self._nursery.kill(living[index], UNTRUSTED, Reason.UNTRUSTED)
        self._untrusted = found


def sign(child: Child, record: Record, now: int) -> Sign:
    """What is to be seen of a slot; ``now`` in ns since boot."""
    words = record.words
    return Sign(
        child.holder, tuple(words[each] for each in _LIFE), words[Field.TAKES],
        sleeps=words[Field.STATE] == SlotState.IDLE and words[Field.WAKES] > now, has_begun=words[Field.BEAT] > 0,
        has_task=words[Field.TASK] != 0, has_pack=words[Field.HELD] != 0,
    )  # fmt: skip
