"""The pack at hand of a slot: locked on its queue server, vouched for, and ended: settled, handed back, or owed.

A slot has one pack at most. It never stands still for a server that is away while there are others to serve: what the
pack owes there is given to the master, and the slot's hands are free.
"""

import logging
import socket
from collections.abc import Mapping
from functools import partial

from . import debts, orders
from .cascades import NO_CASCADE, Cascade
from .errors import QueueServerDown, QueueServerError
from .outcomes import Outcome
from .queueserver import Kept, Pack, QueueServer, lock_name
from .reach import Reach
from .reports import QueueDeclared
from .scoreboard import DONE, LOOK_UP, RUNS, Field, Record, boot_ns
from .servers import parted

log = logging.getLogger("qslots.slot")
TRUSTED = 0.75  # of a lock's ttl: the rest covers an extension's way and the time to kill


class Holding:
    """The pack of one slot; ``source`` says where it came from, None while there is none."""

    def __init__(
        self, reach: Reach, record: Record, holder: str, queues: Mapping[str, QueueDeclared], channel: socket.socket
    ) -> None:
        self._reach = reach
        self._record = record
        self._holder = holder
        self._declared = queues
        self._channel = channel
        self._untold: dict[int, Outcome] = {}  # ends of tasks that its server could not be told
        self._unkept: dict[int, Kept] = {}
        self._unsent: Cascade = NO_CASCADE
        self._settled = bytearray()  # marks of what the server knows to have ended
        self._settle_at = 0  # when to settle what is marked since (ns since boot)
        self.source: str | None = None

    @property
    def seq(self) -> int | None:
        """The number under which it was taken."""
        return self._record.words[Field.HELD] if self.source is not None else None

    @property
    def busy(self) -> float:
        """Seconds that handlers ran and that were not told yet."""
        return self._record.untold(boot_ns()) / 1e9

    def begin(self, now: int) -> None:
        """Its handler begins (ns since boot)."""
        self._record.words[Field.UNTOLD] = now

    def over(self, now: int) -> None:
        """Its handler has ended: what comes now is no work on this pack."""
        self._record.words[Field.UNTOLD] = -self._record.untold(now)

    def take(self, source: str, seq: int, pack: Pack, asked: int) -> None:
        """A pack is here; the request that was answered with it was sent at ``asked`` (ns since boot)."""
        words, ttl = self._record.words, self._declared[parted(source)[0]].lock
        words[Field.TTL] = int(ttl * 1e9)
        words[Field.LOCK_UNTIL] = asked + int(ttl * TRUSTED * 1e9)
        self._record.hold(seq, source.encode(), pack.handler.encode(), len(pack.ids))
        self._settled, self._settle_at = bytearray(len(pack.ids)), asked + LOOK_UP
        self.source = source

    def tell(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
        """Stores how tasks ended; False if the run of this pack is to stop: its lock is gone, or its server away."""
        queue, server, seq, window = self._facts()

        def settle(there: QueueServer) -> bool:
            return there.settle(queue, self._holder, seq, outcomes, window=window, results=kept, cascade=cascade)

        try:
            found = self._reach.ask(server, settle)
        except QueueServerDown:
            self._untold, self._unkept, self._unsent = dict(outcomes), dict(kept), cascade
            return False
        for position in outcomes:
            self._settled[position - 1] = DONE
        return found

    def settle_marked(self, now: int) -> bool:
        """Once a second settles what is marked, so that a lost server repeats no more than that; the rest stays at
        hand. A server that does not answer is left alone: it is told later. False if the pack was taken away. It is
        not told where nothing has ended that it does not know: it would not count the time.
        """
        marks = self._marks().replace(bytes([RUNS]), b"\0")
        if now < self._settle_at or marks == self._settled:
            return True
        queue, server, seq, window = self._facts()
        words, busy = self._record.words, self._record.untold(now) / 1e9

        def settle(there: QueueServer) -> bool:
            return there.settle(queue, self._holder, seq, {}, marks=marks, window=window, busy=busy)

        self._settle_at = now + LOOK_UP
        before, words[Field.UNTOLD] = words[Field.UNTOLD], now  # first: if this slot dies, nobody is to book it again
        try:
            found = self._reach.once(server, settle)
        except QueueServerError:
            words[Field.UNTOLD] = before
            return True
        self._settled = bytearray(marks)
        return found

    def vouch(self) -> bool:
        """Nobody has extended the lock in time: does it here; False if the pack is to be given up."""
        queue, server, seq, _ = self._facts()
        ttl, lock = self._declared[queue].lock, lock_name(self._holder, seq)
        asked = boot_ns()
        try:
            gone = self._reach.ask(server, lambda there: there.extend(queue, ttl, [lock]))
        except QueueServerDown:
            return False
        self._record.words[Field.LOCK_UNTIL] = asked + int(ttl * TRUSTED * 1e9)
        return not gone

    def settled(self, *, gone: bool) -> None:
        """The pack is no longer this slot's."""
        if gone:
            log.warning("the pack was taken away before it was settled; its tasks may run again")
        self.source = None
        self._untold, self._unkept, self._unsent = {}, {}, NO_CASCADE
        self._record.drop()

    def stopped(self, *, together: bool, leave: bool) -> None:
        """The run has stopped before its end: what has not begun goes back. ``together``: the handler had all tasks at
        once, so if there is an end to tell, all have ended, and those of which nothing is said are done.
        """
        if self._untold:
            self.owe(b"\1" * self._record.words[Field.SIZE] if together else self._marks())
        else:
            self.release(leave=leave)

    def release(self, *, leave: bool) -> None:
        """Hands back what has not begun; what is marked is done. ``leave``: the slot asks nothing afterwards."""
        queue, server, seq, window = self._facts()
        marks, busy = self._marks(), self.busy

        def release(there: QueueServer) -> bool:
            return there.release(queue, self._holder, held=seq, marks=marks, busy=busy, leave=leave, window=window)

        try:
            found = self._reach.ask(server, release)
        except QueueServerDown:
            self.owe(marks)
        else:
            self.settled(gone=not found)

    def owe(self, marks: bytes | None = None) -> None:
        """Its server is away: how the pack ended is left to the master."""
        _, server, seq, window = self._facts()
        marks = self._marks() if marks is None else marks
        owed = debts.Owed(
            str(self.source), seq, self._untold, self._unkept, marks, self.busy, window, dict(self._unsent)
        )
        if not orders.send(self._channel, owed):
            self._reach.insist(server, partial(debts.pay, holder=self._holder, owed=owed))
        self._record.words[Field.ASKED] += 1  # if the slot dies, what it asked for last goes back: this pack does not
        self.settled(gone=False)

    def _facts(self) -> tuple[str, str, int, float]:
        """Queue, server, seq, and how long the ids of its finished tasks stay known."""
        queue, server = parted(str(self.source))
        return queue, server, self._record.words[Field.HELD], self._declared[queue].dedupe_window

    def _marks(self) -> bytes:
        return bytes(self._record.marks[: self._record.words[Field.SIZE]])
