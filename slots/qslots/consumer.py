"""An ad hoc consumer: any process takes a few tasks, holds them while a block runs, and settles when it ends.

It is a holder like a slot, without a master: so it extends its own lock, in a thread, and forgets nothing about a lock
that was lost. A process that dies inside the block loses it by its expiry, without a charge.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from . import foreign
from .bell import Bell
from .client import override
from .errors import ArgumentsError, LockLost, QueueServerDown
from .handlers import REGISTRY
from .outcomes import Bury, Outcome, Postpone, Retry, decided, micros, put_off, told
from .producer import insist
from .queries import owner_of
from .queueserver import RATE_AS_IT_IS, Exchange, Pack, QueueServer, lock_name
from .records import Fate, body, put_at
from .servers import QueueServers
from .tasks import Task
from .work import jitter, unfit

_EXTEND = 6  # times within the life of a lock


class Consumer:
    """``with queue.take(n) as tasks``."""

    def __init__(self, servers: QueueServers, queue: str, count: int, timeout: float) -> None:
        self._servers = servers
        self._queue = queue
        self._declared = REGISTRY.queue(queue, override(queue))
        self._count = count
        self._timeout = timeout
        self._holder = f"{socket.gethostname()}/take/{os.getpid()}.{secrets.token_hex(6)}"
        self._seq = 0
        self._held = 0  # the number of the request that was answered with the tasks
        self._doubts: set[QueueServer] = set()  # whose last request was served or not: it is asked again
        self._server: QueueServer | None = None  # the one that has given the tasks, or was asked last
        self._asked: dict[QueueServer, int] = {}  # the number of the last request to each
        self._answering: list[str] = []  # the places that have answered the last time
        self._given: dict[int, Task] = {}  # position -> task
        self._outcomes: dict[int, Outcome] = {}
        self._over = threading.Event()
        self._lost = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> list[Task]:
        try:
            pack = self._awaited()
            if pack is None:
                self._leave()
                return []
            self._read(pack)
        except BaseException:
            self._abandon(list(self._asked))
            raise
        self._thread = threading.Thread(target=self._extend, name="qslots-take", daemon=True)
        self._thread.start()
        return list(self._given.values())

    def _awaited(self) -> Pack | None:
        """The tasks, or None if there are none in time."""
        until = time.monotonic() + self._timeout
        while True:
            answer = self._take()
            left = until - time.monotonic()
            if answer.pack is None and answer.wait == 0:
                continue  # what was looked at was gated; what follows it may be due
            if answer.pack is not None or left <= 0:
                return answer.pack
            self._listen(min(left, answer.wait))

    def _take(self) -> Exchange:
        """From the first server that has something. QueueServerDown if none of them answers."""
        empty: Exchange | None = None
        fault: QueueServerDown | None = None
        self._answering.clear()
        for place in self._servers.places(self._queue):
            server = self._servers[place]
            try:
                answer = self._ask(server)
            except QueueServerDown as error:
                fault = error
                continue
            self._server = server
            self._answering.append(place)
            if answer.pack is not None:
                return answer
            if empty is None or answer.wait < empty.wait:
                empty = answer
        if empty is None:
            assert fault is not None
            raise fault
        return empty

    def _ask(self, server: QueueServer) -> Exchange:
        here = [each.name for each in REGISTRY.of_queue(self._queue)]
        names = {*server.handlers(self._queue), *here} or {self._queue}  # who wants something is registered as waiting
        declared = self._declared
        rate = declared.rate if here else declared.rate or RATE_AS_IT_IS
        if server not in self._doubts:
            self._seq += 1
            self._asked[server] = self._seq
            self._doubts.add(server)
        self._held = self._asked[server]
        answer = server.exchange(
            self._queue, self._holder, self._held, settle=None, want=dict.fromkeys(sorted(names), self._count),
            ttl=declared.lock, rate=rate, window=declared.dedupe_window,
        )  # fmt: skip
        self._doubts.remove(server)
        return answer

    def _listen(self, seconds: float) -> None:
        """Waits for a token of any of the queue's servers that answer."""
        singly = self._servers.singly("take")
        try:
            tokens = {place: [singly[place].keys_of(self._queue).wake] for place in self._answering}
            Bell(singly).wait(tokens, seconds, [])
        finally:
            singly.close()

    def _read(self, pack: Pack) -> None:
        handler = foreign.handler(self._queue, pack.handler)
        for position, (raw_id, record, fate) in enumerate(zip(pack.ids, pack.records, pack.fates, strict=True), 1):
            known, task_id = fate or Fate(), raw_id.decode(errors="replace")
            try:
                args, kwargs = handler.arguments.call(body(record))
            except (ArgumentsError, ValueError) as error:
                self._outcomes[position] = unfit(handler, error, record)
                continue
            self._given[position] = Task(
                task_id, self._queue, handler.name, args, kwargs, retries=known.retries, failures=known.failures,
                crashes=known.crashes, put_at=put_at(record), owner=owner_of(self._holder), record=record,
            )  # fmt: skip
        self._options = handler.options

    def _extend(self) -> None:
        """Until the block is over, or the lock is gone."""
        assert self._server is not None
        ttl = self._declared.lock
        while not self._over.wait(ttl / _EXTEND):
            try:
                if self._server.extend(self._queue, ttl, [lock_name(self._holder, self._held)]):
                    self._lost = True
                    return
            except QueueServerDown:
                continue  # locks age only while the server serves; it is asked again

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._thread is None:
            return False
        self._over.set()
        self._thread.join()
        self._settle(error)
        return isinstance(error, (Retry, Postpone, Bury))

    def _settle(self, error: BaseException | None) -> None:
        assert self._server is not None
        size = len(self._given) + len(self._outcomes)
        for position, task in self._given.items():
            outcome = task.outcome or self._of_error(error)
            if outcome is not None:
                self._outcomes[position] = put_off(outcome, self._options.backoff, jitter())
        handed_back = error is not None and not isinstance(error, Exception)
        done = bytes(not handed_back and position not in self._outcomes for position in range(1, size + 1))
        server, outcomes = self._server, self._outcomes
        found = not outcomes or self._told(lambda: server.settle(self._queue, self._holder, self._held, outcomes))
        if not (self._told(lambda: self._leave(done)) and found) or self._lost:
            raise LockLost(f"the tasks taken from queue {self._queue} were taken away: they may run again")

    def _told(self, say: Callable[[], bool]) -> bool:
        """Says how the tasks ended, again if need be; False if the lock was gone, and that is not our own doing."""
        assert self._server is not None
        until, unheard = time.monotonic() + self._server.timeout, False

        def attempt(_: float) -> int:
            nonlocal unheard
            try:
                return say() or unheard
            except QueueServerDown as error:
                unheard = unheard or error.sent
                raise

        try:
            return bool(attempt(0.0))
        except QueueServerDown as error:
            return bool(insist(attempt, error, until))

    def _of_error(self, error: BaseException | None) -> Outcome | None:
        """Who is to blame is only known of a task that was alone; the others come back in a smaller pack."""
        if not isinstance(error, Exception):
            return None
        if len(self._given) == 1:
            return decided(error, self._options, jitter())
        return Outcome("loss", told(error), delay=micros(self._options.backoff.first * jitter()))

    def _abandon(self, servers: Sequence[QueueServer]) -> None:
        """Asks no more there; what was given but never seen goes back without a charge."""
        for server in servers:
            with contextlib.suppress(QueueServerDown):  # then its lock expires
                asked = self._asked[server]
                server.settle_dead(self._queue, self._holder, held=None, asked=asked, outcomes={}, marks=b"")

    def _leave(self, done: bytes = b"") -> bool:
        assert self._server is not None
        held = self._held if done else None
        window = self._declared.dedupe_window
        self._abandon([server for server in self._asked if server is not self._server])
        return self._server.release(self._queue, self._holder, held=held, marks=done, window=window, leave=True)
