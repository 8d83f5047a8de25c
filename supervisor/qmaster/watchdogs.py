"""What the master does about slots that live and are of no use: silent, idle beside tasks that wait, out of reach, or
at work on what is no longer theirs. It decides little: ``liveness`` and ``watch`` do.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial

from qslots.scoreboard import Field, Record, boot_ns
from qslots.servers import parted

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

    def look(self, living: dict[int, Child], records: dict[int, Record], now: float) -> None:
        """Looks at all slots, by index, and does what must be done. A slot that waits for a queue server which does
        not answer has patience for it, as it should.
        """
        self._end_untrusted(living, records)
        self._retire_out_of_reach(living.values())
        at_work = [
            child for child in living.values() if child.phase is Phase.LIVE and self._couriers.answer(child.queues)
        ]
        signs = {child.index: sign(child, records[child.index]) for child in at_work}
        self._move(self._liveness.look(signs, now), now)

    def retiring(self) -> dict[int, str]:
        """Slots that are to leave after their task, and why; never the next tenant of such a place."""
        children = self._nursery.living() if self._unreachable else []
        return {child.index: "its channel is broken" for child in children if child.holder in self._unreachable}

    def postpone(self, seconds: float) -> None:
        """The master was not there for so long: nobody's silence is counted from before."""
        self._liveness.postpone(seconds)
        self._untrusted = {}

    def _move(self, moves: Iterable[Move], now: float) -> None:
        for move in moves:
            child = self._nursery.children.tenants[move.index]
            match move:
                case Poke():
                    log.debug("slot %d is poked", move.index)
                    self._nursery.poke(child)
                case LookUp():
                    self._look_up(child, now)
                case Replace(_, why, reason):
                    self._nursery.kill(child, why, reason)

    def _look_up(self, child: Child, now: float) -> None:
        """Does any task wait for this slot?"""
        known = {queue.name: [each.name for each in queue.handlers] for queue in self._molds.declared.queues}
        sources = self._couriers.sources(tuple(queue for queue in child.queues if known.get(queue)))
        by_server: dict[str, dict[str, list[str]]] = {}
        for queue, server in map(parted, sources):
            by_server.setdefault(server, {})[queue] = known[queue]
        for server, handlers in by_server.items():
            found = partial(self._found, index=child.index, holder=child.holder, now=now)
            self._once(server, f"find {child.index}", Find(handlers), found, now)

    def _found(self, reply: Reply, *, index: int, holder: str, now: float) -> None:
        child = self._nursery.children.by_holder(holder)
        if isinstance(reply, Found) and child is not None and child.phase is Phase.LIVE:
            self._move(self._liveness.tasks_wait(index, holder, sum(reply.waiting.values()), now), now)

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


def sign(child: Child, record: Record) -> Sign:
    """What is to be seen of a slot."""
    words = record.words
    return Sign(
        child.holder, tuple(words[each] for each in _LIFE), words[Field.TAKES], has_begun=words[Field.BEAT] > 0,
        has_task=words[Field.TASK] != 0, has_pack=words[Field.HELD] != 0,
    )  # fmt: skip
