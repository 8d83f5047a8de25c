"""Runs what is due in this process, by the very code that a slot runs it with; only forks and kills are missing.

It stands where slot and master stand otherwise: it takes packs, has them run, and settles them. Backoffs have no jitter
here, so that a test can say when a task comes again.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..client import override
from ..errors import Error
from ..handlers import REGISTRY
from ..hooks import word
from ..queueserver import Pack, QueueServer
from ..records import Fate
from ..reports import QueueDeclared
from ..running import RUNNING
from ..scoreboard import DONE
from ..servers import source
from .hand import Hand, Watch
from .look import arguments, written

_numbers = itertools.count(1)


class DrainLimit(Error):
    """More tasks were due than one drain may run: tasks that put tasks without end?"""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a task, and how it ended.

    ``outcome``: done, failed (it comes again), buried, retry, postponed; or lost, of a pack handler that raised on
    several tasks: they come again in smaller packs.
    """

    id: str
    queue: str
    handler: str
    outcome: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None

    def __str__(self) -> str:
        return f"{written(self.handler, self.args, self.kwargs)} {self.outcome}"


class Drain:
    """One drain. It may be used once."""

    def __init__(self, server: QueueServer, place: str, hand: Hand, *, limit: int, raises: bool) -> None:
        self._server = server
        self._place = place
        self._limit = limit
        self._raises = raises
        self._holder = f"testing/0/{os.getpid()}.{next(_numbers)}"
        self._hand = hand
        self._record = hand.record
        self._record.clear(holder=self._holder)
        self._asked: dict[str, int] = {}  # queue -> seq of the last request
        self._seq = 0
        self._taken = 0
        self.ran: list[Ran] = []
        self.error: BaseException | None = None  # that ended it

    def run(self, queue: str | None, handler: str | None) -> None:
        """Takes packs from a queue or all, of a handler or all, until nothing is due or there is an error."""
        try:
            while self.error is None and any(self._take(name, handler) for name in self._queues(queue)):
                pass
        finally:
            RUNNING.begin(None)
            RUNNING.work = None
            for name, seq in self._asked.items():  # what was taken and has not run goes back
                self._server.settle_dead(name, self._holder, held=None, asked=seq, outcomes={}, marks=b"")

    def _queues(self, queue: str | None) -> Sequence[str]:
        return self._server.queue_names() if queue is None else [queue]

    def _take(self, queue: str, only: str | None) -> bool:
        """Runs one pack of a queue; False if nothing is due there that can run here."""
        most = max(1, self._limit - self._taken)
        known = [each for each in REGISTRY.of_queue(queue) if only in (None, each.name)]
        want = {each.name: min(most, each.options.batch) for each in known}
        declared = REGISTRY.queue(queue, override(queue))
        while want:
            self._seq = self._asked[queue] = self._seq + 1
            answer = self._server.exchange(
                queue, self._holder, self._seq, settle=None, want=want, ttl=declared.lock, rate=declared.rate,
                window=declared.dedupe_window,
            )  # fmt: skip
            if answer.pack is not None:
                self._work(declared, answer.pack)
                return True
            if answer.wait > 0:
                break
        return False

    def _work(self, declared: QueueDeclared, pack: Pack) -> None:
        if self._taken >= self._limit:
            raise DrainLimit(
                f"drain has run {self._limit:,} tasks and {pack.handler} of queue {declared.name} is still due: does a "
                "task put itself again and again? drain(limit=…) allows more"
            )
        self._taken += len(pack.ids)
        handler = REGISTRY.handlers[pack.handler]
        window = declared.dedupe_window
        settle = partial(self._server.settle, declared.name, self._holder, self._seq, window=window)
        watch = Watch(handler, raises=self._raises, settle=settle)
        self._record.hold(self._seq, source(declared.name, self._place).encode(), handler.name.encode(), len(pack.ids))
        self._hand.run(watch, pack, self._server.url)
        marks = bytes(self._record.marks[: len(pack.ids)])
        self._record.drop()
        self._server.release(declared.name, self._holder, held=self._seq, marks=marks, leave=False, window=window)
        ended = list(_ended(declared.name, watch, pack, marks))
        self.ran += ended
        if (error := watch.unwanted) is not None:
            by = next((each for each in ended if each.error is error), handler.name)
            error.add_note(f"raised in drain: {by}")
            self.error = error.with_traceback(_own_frames(error))


def _ended(queue: str, watch: Watch, pack: Pack, marks: bytes) -> Iterator[Ran]:
    """The tasks of the pack that have run, in order."""
    for position, mark in enumerate(marks, 1):
        if mark == DONE:
            args, kwargs = arguments(pack.records[position - 1])
            outcome = word(watch.outcomes.get(position), pack.fates[position - 1] or Fate())
            task = pack.ids[position - 1].decode(errors="replace")
            yield Ran(task, queue, watch.handler.name, outcome, args, kwargs, watch.errors.get(position))


def _own_frames(error: BaseException) -> Any:
    """The traceback from the handler on."""
    trace = error.__traceback__
    return trace.tb_next or trace if trace is not None else None
