"""The slot: one process, one thread, one plain loop: draw a queue, exchange, run, repeat.

It writes to the scoreboard before it acts, so that its master can settle for it at any moment; it starts no task after
``trusted_until``; it never answers for anything but its own packs. Any fault of the connection closes it, backs off
with jitter and connects from scratch.
"""

import logging
import os
import random
import select
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NoReturn, TypeVar

from .bell import Bell
from .errors import HolderDead, QueueServerDown
from .handlers import Registry
from .lottery import Lottery, PackSize
from .orders import Serve, receive
from .outcomes import Outcome
from .queueserver import Exchange, Kept, Pack, QueueServer
from .reports import QueueDeclared
from .scoreboard import Field, Record, boot_ns
from .states import SlotState
from .work import TERM, PackRun, jitter

log = logging.getLogger("qslots.slot")
IDLE_WAIT = 3.0  # seconds that an idle slot waits at most before it looks again
LOOK_ROUND = 0.005  # seconds between two questions of a busy slot what is due in its other queues
TRUSTED = 0.75  # of a lock's ttl: the rest covers an extension's way and the time to kill
_FIRST_RETRY = 0.05  # seconds
_SLOWEST_RETRY = 2.0
_R = TypeVar("_R")


class Leave(Exception):
    """The slot is to end now: told to, or its master is gone."""


class Slot:
    """What one slot holds; ``run`` returns when it may exit."""

    def __init__(
        self, server: QueueServer, record: Record, holder: str, registry: Registry,
        queues: Mapping[str, QueueDeclared], channel: socket.socket,
    ) -> None:  # fmt: skip
        self._server = server
        self._bell = Bell(server)
        self._record = record
        self._holder = holder
        self._registry = registry
        self._declared = queues
        self._channel = channel
        self._lottery = Lottery({})
        self._sizes: dict[str, PackSize] = {}
        self._left: set[str] = set()  # queues no longer served, where this slot may still count as waiting
        self._look_at = 0.0  # when to ask again what is due in queues that dropped out, seconds since boot
        self._waiting: set[str] = set()  # queues where it is registered as waiting
        self._held: str | None = None  # queue of the pack to settle with the next exchange
        self._busy = 0.0  # seconds that handlers ran since the last exchange
        TERM.asked = False
        TERM.watch()
        self._wakeup, waker = socket.socketpair()
        waker.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._told_to_leave)

    def run(self) -> None:
        """Works until told to leave (TERM, end of the channel) or declared dead."""
        try:
            while not TERM.asked:
                self._hear(0.0)
                taken = self._take()
                if taken is None:
                    self._idle()
                else:
                    self._work(*taken)
            self._leave()
        except Leave:
            log.info("left without the queue server; the master settles")
        except HolderDead as error:
            log.warning("ended: %s", error)

    def _told_to_leave(self, *_: object) -> None:
        TERM.asked = True

    def _hear(self, seconds: float) -> None:
        """Obeys what the master has said, waiting for it at most so long. Leave at the end of the channel."""
        ready, _, _ = select.select([self._channel, self._wakeup], [], [], seconds)
        if self._wakeup in ready:
            self._wakeup.recv(4096)
        if self._channel in ready:
            order = receive(self._channel)
            if order is None:
                raise Leave
            if isinstance(order, Serve):
                self._serve(order.queues)

    def _serve(self, queues: tuple[str, ...]) -> None:
        known = {name: self._declared[name].priority for name in queues if name in self._declared}
        if set(known) != set(self._lottery.queues):
            self._left |= self._waiting - known.keys()
            self._waiting &= known.keys()
            self._lottery = Lottery(known)

    def _insist(self, operation: Callable[[], _R]) -> _R:
        """Repeats an operation until the queue server answers; all of ours may be repeated. Leave if told to."""
        pause = _FIRST_RETRY
        while True:
            try:
                return operation()
            except QueueServerDown as error:
                log.debug("%s; trying again in %.2f s", error, pause)  # the master says it aloud, once for all
                self._server.close()
                self._hear(pause * jitter())
                pause = min(2 * pause, _SLOWEST_RETRY)
                if TERM.asked:
                    raise Leave from None

    def _take(self) -> tuple[str, Pack] | None:
        if self._left:
            self._wait_no_more(self._left)
            self._left.clear()
        now = boot_ns() / 1e9
        if self._lottery.dry and not self._waiting and now >= self._look_at:
            self._look_at = now + LOOK_ROUND
            for queue in self._insist(lambda: self._server.due(self._handlers(self._lottery.dry))):
                self._lottery.refill(queue)
        for queue in self._lottery.draw(now, random.random):
            answer = self._exchange(queue)
            if answer.pack is not None:
                self._wait_no_more(self._waiting)
                self._waiting.clear()
                return queue, answer.pack
            self._waiting.add(queue)
            self._lottery.found_empty(queue, now + answer.wait)
        return None

    def _handlers(self, queues: Iterable[str]) -> dict[str, list[str]]:
        """The handlers of these queues that this generation knows."""
        return {queue: [handler.name for handler in self._registry.of_queue(queue)] for queue in queues}

    def _wait_no_more(self, queues: Iterable[str]) -> None:
        """Others rely on who is registered as waiting: to hear of new tasks, to wake for the next due one."""
        handlers = self._handlers(queues)
        if handlers:
            self._insist(lambda: self._server.unwait(self._holder, handlers))

    def _exchange(self, queue: str, *, settle_only: bool = False) -> Exchange:
        if self._held not in (None, queue):
            self._exchange(str(self._held), settle_only=True)
        record, words, ttl = self._record, self._record.words, self._declared[queue].lock
        words[Field.STATE] = SlotState.TAKING
        record.put_text("asked_queue", queue.encode())
        seq = words[Field.ASKED] + 1
        words[Field.ASKED] = seq
        words[Field.TAKES] += 1
        want = {h.name: 0 if settle_only else self._size(h.name).want() for h in self._registry.of_queue(queue)}
        settle = words[Field.HELD] if self._held else None
        wait = IDLE_WAIT * jitter()
        asked = 0

        def exchange() -> Exchange:
            nonlocal asked
            asked = boot_ns()
            return self._server.exchange(
                queue,
                self._holder,
                seq,
                settle=settle,
                want=want,
                ttl=ttl,
                busy=self._busy,
                wait=wait,
                rate=self._declared[queue].rate,
                window=self._declared[queue].dedupe_window,
            )

        answer = self._insist(exchange)
        self._settled(answer.gone)
        self._waiting.discard(queue)
        if answer.pack is not None:
            words[Field.TTL] = int(ttl * 1e9)
            words[Field.LOCK_UNTIL] = asked + int(ttl * TRUSTED * 1e9)
            record.hold(seq, queue.encode(), answer.pack.handler.encode(), len(answer.pack.ids))
            self._held = queue
        return answer

    def _settled(self, gone: bool) -> None:
        if gone:
            log.warning("the pack was taken away before it was settled; its tasks may run again")
        self._held = None
        self._busy = 0.0
        self._record.drop()

    def _size(self, handler: str) -> PackSize:
        if handler not in self._sizes:
            self._sizes[handler] = PackSize(self._registry.handlers[handler].options.batch)
        return self._sizes[handler]

    def _work(self, queue: str, pack: Pack) -> None:
        words = self._record.words
        words[Field.STATE] = SlotState.BUSY
        seq = words[Field.HELD]

        window = self._declared[queue].dedupe_window

        def report(outcomes: dict[int, Outcome], kept: dict[int, Kept]) -> bool:
            return self._insist(
                lambda: self._server.settle(queue, self._holder, seq, outcomes, window=window, results=kept)
            )

        start = boot_ns()
        handler = self._registry.handlers[pack.handler]
        began, whole = PackRun(handler, pack, self._record, report, self._may_go_on).run()
        seconds = (boot_ns() - start) / 1e9
        self._busy += seconds
        self._size(pack.handler).ran(began, seconds)
        self._lottery.ran(queue, seconds)
        if not whole:
            self._release(leave=TERM.asked)

    def _may_go_on(self, now: int) -> bool:
        """Whether the next task may begin: not told to leave, and nobody else can have the pack."""
        if TERM.asked:
            return False
        return now < self._record.trusted_until() or self._vouched()

    def _vouched(self) -> bool:
        """Nobody has extended our lock in time: do it ourselves, or give the pack up."""
        queue, words = str(self._held), self._record.words
        ttl = self._declared[queue].lock
        asked = boot_ns()
        gone = self._insist(lambda: self._server.extend(queue, ttl, [f"{self._holder}:{words[Field.HELD]}"]))
        words[Field.LOCK_UNTIL] = asked + int(ttl * TRUSTED * 1e9)
        return not gone

    def _idle(self) -> None:
        if self._held is not None:  # nothing was drawn that could settle it on its way
            self._exchange(self._held, settle_only=True)
        self._record.words[Field.STATE] = SlotState.IDLE
        queues = self._lottery.queues
        if not queues:
            self._hear(IDLE_WAIT)
            return
        seconds = self._lottery.earliest(boot_ns() / 1e9)
        lists = [self._server.keys_of(queue).wake for queue in queues]
        try:
            rung = self._bell.wait(lists, seconds, [self._channel, self._wakeup])
        except QueueServerDown:
            for queue in self._lottery.dry:  # nothing is known any more; the next exchange insists
                self._lottery.refill(queue)
            return
        if rung is not None:
            self._lottery.refill(queues[lists.index(rung)])

    def _leave(self) -> None:
        self._record.words[Field.STATE] = SlotState.LEAVING
        if self._held is not None:
            self._release(leave=True)
        for queue in {*self._lottery.queues, *self._left}:
            self._insist(partial(self._server.release, queue, self._holder, held=None, marks=b"", leave=True))

    def _release(self, *, leave: bool) -> None:
        """Hands back what has not begun; what is marked is done."""
        record, queue = self._record, str(self._held)
        held, size = record.words[Field.HELD], record.words[Field.SIZE]
        marks = bytes(record.marks[:size])
        found = self._insist(
            lambda: self._server.release(
                queue,
                self._holder,
                held=held,
                marks=marks,
                busy=self._busy,
                leave=leave,
                window=self._declared[queue].dedupe_window,
            )
        )
        self._settled(not found)


def end(code: int) -> NoReturn:
    """Leaves without the interpreter's own exit, which would copy the whole shared heap to tear it down."""
    logging.shutdown()
    os._exit(code)
