"""The slot: one process, one thread, one plain loop: draw a source, exchange, run, repeat.

It writes to the scoreboard before it acts, so that its master can settle for it at any moment; it starts no task after
``trusted_until``; it never answers for anything but its own packs. A queue server that is away holds up its own share
alone: what a pack owes there is given to the master, and the slot goes on with its other servers.
"""

import itertools
import logging
import os
import random
import select
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import NoReturn

from . import debts, gates, logs, orders
from .alerts import alert_after
from .bell import Bell
from .errors import HolderDead, QueueServerDown, QueueServerError
from .handlers import Handler, Registry
from .holding import Holding
from .late_imports import LateImports
from .limits import ALARM
from .lottery import Lottery, PackSize
from .queueserver import Exchange, Pack, QueueServer
from .reach import Leave, Reach, by_server
from .reports import QueueDeclared
from .scoreboard import Field, Record, boot_ns
from .servers import QueueServers, parted, source
from .states import SlotState
from .work import TERM, jitter
from .worker import Worker

log = logging.getLogger("qslots.slot")
IDLE_WAIT = 3.0  # seconds until an idle slot looks again, unless the queue server says that another one does
LOOK_ROUND = 0.015  # seconds between two questions of a busy slot what is due in its other queues


class Slot:
    """What one slot holds; ``run`` returns when it may exit."""

    def __init__(
        self, servers: QueueServers, record: Record, holder: str, registry: Registry,
        queues: Mapping[str, QueueDeclared], channel: socket.socket, tidy: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self._servers = servers
        self._reach = Reach(servers, self._hear)
        self._bell = Bell(servers)
        self._record = record
        self._holder = holder
        self._registry = registry
        self._declared = queues
        self._channel = channel
        self._tidy = tidy  # collects, trims, and returns how much has grown all the same
        self._imports = LateImports(channel)
        self._lottery = Lottery({})
        self._sizes: dict[str, PackSize] = {}
        self._left: set[str] = set()  # sources no longer served, where this slot may still count as waiting
        self._look_at = 0.0  # when to ask again what is due in sources that dropped out, seconds since boot
        self._waiting: set[str] = set()  # sources where it is registered as waiting
        self._sick: set[str] = set()  # sources that have refused a request: told of once
        self._doubts: dict[str, int] = {}  # source -> seq of a request that its server may have served or not
        self._pack = Holding(self._reach, record, holder, queues, channel)
        self._worker = Worker(record, self._pack.tell, self._may_go_on)
        TERM.asked = False
        ALARM.listen()
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
        finally:
            self._worker.close()

    def _told_to_leave(self, *_: object) -> None:
        TERM.asked = True

    def _hear(self, seconds: float) -> None:
        """Obeys what the master has said, waiting for it at most so long. Leave at the end of the channel."""
        ready, _, _ = select.select([self._channel, self._wakeup], [], [], seconds)
        if self._wakeup in ready:
            self._wakeup.recv(4096)
        if self._channel in ready:
            self._obey(orders.receive(self._channel))
        self._record.words[Field.BEAT] += 1

    def _obey(self, order: orders.Order | None) -> None:
        match order:
            case None:
                raise Leave
            case orders.Serve(queues):
                self._serve(queues)
            case orders.Leave():
                TERM.asked = True
            case orders.Poke():
                for each in self._lottery.sources:
                    self._lottery.refill(each)
            case orders.Reopen(path):
                logs.reopen(path)
            case orders.Tidy():
                orders.send(self._channel, orders.Tidied(self._tidy()))

    def _serve(self, queues: tuple[str, ...]) -> None:
        places = self._servers.sources(name for name in queues if name in self._declared)
        known = {source(*place): self._declared[place[0]].priority for place in places}
        if set(known) == set(self._lottery.sources):
            return
        self._left |= self._waiting - known.keys()
        self._waiting &= known.keys()
        self._lottery = Lottery(known)
        self._reach.use(server for _, server in places)

    def _take(self) -> tuple[str, Pack] | None:
        if self._left:
            self._wait_no_more(self._left)
            self._left.clear()
        now = boot_ns() / 1e9
        self._look_round(now)
        for drawn in itertools.chain(self._in_doubt(), self._lottery.draw(now, random.random), self._unheard()):
            try:
                answer = self._exchange(drawn)
            except QueueServerDown:
                self._waiting.discard(drawn)
                self._lottery.found_empty(drawn, self._reach.away_until(parted(drawn)[1]))
                continue
            except HolderDead:
                raise
            except QueueServerError as error:
                self._refused(drawn, error)
                continue
            if answer.pack is not None:
                self._wait_no_more(self._waiting)
                self._waiting.clear()
                return drawn, answer.pack
            self._waiting.add(drawn)
            self._lottery.found_empty(drawn, now + answer.wait)
        return None

    def _refused(self, drawn: str, error: QueueServerError) -> None:
        """A sick queue (a key of another kind, rights that are missing) is no reason not to serve the others."""
        if drawn not in self._sick:
            log.error("%s: %s; it is tried again every few seconds", drawn, error)
            self._sick.add(drawn)
        self._waiting.discard(drawn)
        self._lottery.found_empty(drawn, boot_ns() / 1e9 + IDLE_WAIT * jitter())

    def _in_doubt(self) -> list[str]:
        """Sources to be asked first: a request is in doubt there, and a pack may wait, locked for us. Where this slot
        will never ask again the pack goes back.
        """
        for left in self._doubts.keys() - set(self._lottery.sources) if self._doubts else ():
            if orders.send(self._channel, debts.Owed(left, self._doubts[left])):
                self._no_doubt(left)
        return [each for each in self._lottery.sources if each in self._doubts] if self._doubts else []

    def _unheard(self) -> Iterator[str]:
        """Nothing was drawn: before the slot waits it registers also where it was found empty some packs ago."""
        yield from [each for each in self._lottery.sources if each not in self._waiting]

    def _look_round(self, now: float) -> None:
        """A slot that works is registered nowhere: it asks what is due in the sources that dropped out."""
        if self._waiting or now < self._look_at or not self._lottery.dry:
            return
        self._look_at = now + LOOK_ROUND
        for server, queues in by_server(self._lottery.dry).items():
            handlers = self._handlers(queues)
            with suppress(QueueServerError):
                for queue in self._reach.ask(server, partial(QueueServer.due, handlers=handlers)):
                    self._lottery.refill(source(queue, server))

    def _handlers(self, queues: Iterable[str]) -> dict[str, list[str]]:
        """The handlers of these queues that this generation knows."""
        return {queue: [handler.name for handler in self._registry.of_queue(queue)] for queue in queues}

    def _wait_no_more(self, sources: Iterable[str]) -> None:
        """Others rely on who is registered as waiting: to hear of new tasks, to wake for the next due one."""
        for server, queues in by_server(sources).items():
            handlers = self._handlers(queues)
            with suppress(QueueServerError):
                self._reach.ask(server, partial(QueueServer.unwait, holder=self._holder, handlers=handlers))

    def _exchange(self, drawn: str) -> Exchange:
        """Takes from a source; a pack of the same source is settled on the way. QueueServerDown: serve others."""
        queue, server = parted(drawn)
        self._reach.spare(server)
        if self._pack.source not in (None, drawn):
            self._settle()
        seq = self._doubts.get(drawn) or self._next_seq(drawn)
        self._record.words[Field.TAKES] += 1
        want = {handler.name: self._size(handler.name).want() for handler in self._registry.of_queue(queue)}
        try:
            answer, asked = self._request(drawn, seq, want)
        except QueueServerDown:
            self._doubts[drawn] = seq
            self._record.put_doubts(self._doubts)
            if self._pack.source is not None:
                self._pack.owe()
            raise
        except QueueServerError as error:
            if self._pack.source is not None and not isinstance(error, HolderDead):
                self._pack.owe()
            raise
        if answer.pack is not None:
            self._pack.take(drawn, seq, answer.pack, asked)
        self._no_doubt(drawn)
        return answer

    def _next_seq(self, of: str) -> int:
        """The number of a new request, on the scoreboard before it is sent."""
        self._record.put_text("asked_source", of.encode())
        seq = self._record.words[Field.ASKED] + 1
        self._record.words[Field.ASKED] = seq
        return seq

    def _request(self, of: str, seq: int, want: Mapping[str, int]) -> tuple[Exchange, int]:
        """The answer, and when the request that was answered was sent (ns since boot)."""
        queue, server = parted(of)
        declared, wait, asked = self._declared[queue], IDLE_WAIT * jitter(), 0
        self._record.words[Field.STATE] = SlotState.TAKING

        def exchange(there: QueueServer) -> Exchange:
            nonlocal asked
            asked = boot_ns()
            return there.exchange(
                queue, self._holder, seq, settle=self._pack.seq, want=want, ttl=declared.lock, busy=self._pack.busy,
                wait=wait, rate=declared.rate, window=declared.dedupe_window,
            )  # fmt: skip

        answer = self._reach.ask(server, exchange)
        self._pack.settled(gone=answer.gone)
        self._waiting.discard(of)
        return answer, asked

    def _settle(self) -> None:
        """Ends the pack at hand, all of it done, without taking another."""
        held = str(self._pack.source)
        nothing = {handler.name: 0 for handler in self._registry.of_queue(parted(held)[0])}
        try:
            self._request(held, self._next_seq(held), nothing)
        except HolderDead:
            raise
        except QueueServerError:
            self._pack.owe()

    def _no_doubt(self, drawn: str) -> None:
        if self._doubts.pop(drawn, None) is not None:
            self._record.put_doubts(self._doubts)

    def _size(self, handler: str) -> PackSize:
        if handler not in self._sizes:
            known = self._registry.handlers[handler]
            whole = known.arguments.takes_pack
            self._sizes[handler] = PackSize(known.options.batch, known.beside, whole=whole)
        return self._sizes[handler]

    def _work(self, drawn: str, pack: Pack) -> None:
        self._record.words[Field.STATE] = SlotState.BUSY
        handler = self._registry.handlers[pack.handler]
        self._say_what_is_usual(handler, pack)
        start = boot_ns()
        self._pack.begin(start)
        self._imports.begin(start)
        began, whole = self._worker.run(handler, pack, self._servers.urls[parted(drawn)[1]])
        now = boot_ns()
        self._imports.end()
        seconds = (now - start) / 1e9
        self._pack.over(now)
        self._size(pack.handler).ran(began, seconds)
        self._lottery.ran(drawn, seconds)
        if self._worker.why_park:
            self._park(handler, self._worker.why_park)
        if not whole:
            self._pack.stopped(together=handler.arguments.takes_pack, leave=TERM.asked)

    def _park(self, handler: Handler, why: str) -> None:
        """Closes the gate of a handler on all servers of its queue that answer; the manager tells the others."""
        closed = False
        for place in self._servers.places(handler.queue):
            with suppress(QueueServerError):
                closed |= self._reach.ask(
                    place, partial(gates.park, queue=handler.queue, handler=handler.name, why=why)
                )
        if closed:  # else somebody was faster, and has said it
            log.error("handler %s of queue %s is parked: %s", handler.name, handler.queue, why)

    def _say_what_is_usual(self, handler: Handler, pack: Pack) -> None:
        """To the master: how long its tasks take as a rule, and when one is worth an alert."""
        mean = self._size(handler.name).mean
        usual = None if mean is None else mean * (len(pack.ids) if handler.arguments.takes_pack else 1)
        self._record.words[Field.USUAL] = int((usual or 0.0) * 1e9)
        self._record.words[Field.ALERT_AFTER] = int((alert_after(handler.options.alert_after, usual) or 0.0) * 1e9)

    def _may_go_on(self, now: int) -> bool:
        """Whether the next task may begin: not told to leave, and nobody else can have the pack."""
        if TERM.asked or not self._pack.settle_marked(now):
            return False
        return boot_ns() < self._record.trusted_until() or self._pack.vouch()

    def _idle(self) -> None:
        if self._pack.source is not None:  # nothing was drawn that could settle it on its way
            self._settle()
        self._record.words[Field.STATE] = SlotState.IDLE
        now = boot_ns() / 1e9
        seconds = self._lottery.earliest(now) if self._lottery.sources else IDLE_WAIT
        self._record.words[Field.WAKES] = int((now + seconds) * 1e9)
        there = {
            server: {self._servers[server].keys_of(queue).wake: queue for queue in queues}
            for server, queues in by_server(self._lottery.sources).items()
            if self._reach.away_until(server) <= now
        }
        if not there:
            self._hear(seconds)
            return
        rung = self._bell.wait({s: list(lists) for s, lists in there.items()}, seconds, [self._channel, self._wakeup])
        for server, name in rung.tokens:
            self._lottery.refill(source(there[server][name], server))
        for server in rung.down:  # nothing is known of it any more; the next exchange shows
            self._reach.lost(server)
            for queue in there[server].values():
                self._lottery.refill(source(queue, server))

    def _leave(self) -> None:
        self._record.words[Field.STATE] = SlotState.LEAVING
        if self._pack.source is not None:
            self._pack.release(leave=True)
        for queue, server in map(parted, {*self._lottery.sources, *self._left}):
            with suppress(QueueServerDown):  # the master settles there, when it can
                self._reach.ask(
                    server,
                    partial(QueueServer.release, queue=queue, holder=self._holder, held=None, marks=b"", leave=True),
                )


def end(code: int) -> NoReturn:
    """Leaves without the interpreter's own exit, which would copy the whole shared heap to tear it down."""
    logs.flush()
    os._exit(code)
