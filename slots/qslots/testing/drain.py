"""Runs what is due in this process, by the very code that a slot runs it with; only forks and kills are missing.

It stands where slot and master stand otherwise: it takes packs, has them run, and settles them. Backoffs have no jitter
here, so that a test can say when a task comes again.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..client import override
from ..errors import Error
from ..handlers import REGISTRY, Handler
from ..outcomes import Bury, Outcome, Postpone, Retry, micros
from ..queueserver import Kept, Pack, QueueServer
from ..records import Fate
from ..reports import QueueDeclared
from ..running import RUNNING
from ..scoreboard import Record
from ..servers import source
from ..worker import Worker
from .look import arguments, written

_WISHES = (Retry, Postpone, Bury)
WORDS = {
    "done": "done",
    "fail": "failed",
    "retry": "retried",
    "postpone": "postponed",
    "bury": "buried",
    "loss": "lost",
}
_numbers = itertools.count(1)


class DrainLimit(Error):
    """More tasks were due than one drain may run: tasks that put tasks without end?"""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a task, and how it ended.

    ``outcome``: done, failed (it comes again), buried, retried, postponed; or lost, of a pack handler that raised on
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

    def __init__(self, server: QueueServer, place: str, *, limit: int, raises: bool) -> None:
        self._server = server
        self._place = place
        self._limit = limit
        self._raises = raises
        self._holder = f"testing/0/{os.getpid()}.{next(_numbers)}"
        self._record = Record.unshared()
        self._record.clear(holder=self._holder)
        self._asked: dict[str, int] = {}  # queue -> seq of the last request
        self._seq = 0
        self.ran: list[Ran] = []
        self.error: BaseException | None = None  # that ended it

    def run(self, queue: str | None, handler: str | None) -> None:
        """Takes packs from a queue or all, of a handler or all, until nothing is due or there is an error."""
        try:
            while self.error is None and any(self._take(name, handler) for name in self._queues(queue)):
                pass
        finally:
            RUNNING.begin(None)
            for name, seq in self._asked.items():  # what was taken and has not run goes back
                self._server.settle_dead(name, self._holder, held=None, asked=seq, outcomes={}, marks=b"")

    def _queues(self, queue: str | None) -> Sequence[str]:
        return self._server.queue_names() if queue is None else [queue]

    def _take(self, queue: str, only: str | None) -> bool:
        """Runs one pack of a queue; False if nothing is due there that can run here."""
        most = max(1, self._limit - len(self.ran))
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
        if len(self.ran) >= self._limit:
            raise DrainLimit(
                f"drain has run {self._limit:,} tasks and {pack.handler} of queue {declared.name} is still due: does a "
                "task put itself again and again? drain(limit=…) allows more"
            )
        handler = REGISTRY.handlers[pack.handler]
        run = _Run(self._server, self._holder, self._seq, declared, handler, raises=self._raises)
        self._record.hold(self._seq, source(declared.name, self._place).encode(), handler.name.encode(), len(pack.ids))
        Worker(self._record, run.tell, run.may_go_on, run.see).run(handler, pack)
        marks = bytes(self._record.marks[: len(pack.ids)])
        self._settle(declared, marks)
        ended = run.ended(pack, marks)
        self.ran += ended
        if (error := run.unwanted) is not None:
            by = next((each for each in ended if each.error is error), handler.name)
            error.add_note(f"raised in drain: {by}")
            self.error = error.with_traceback(_own_frames(error))

    def _settle(self, declared: QueueDeclared, marks: bytes) -> None:
        self._record.drop()
        self._server.release(
            declared.name, self._holder, held=self._seq, marks=marks, leave=False, window=declared.dedupe_window
        )


class _Run:
    """What is seen and said of one pack."""

    def __init__(
        self, server: QueueServer, holder: str, seq: int, declared: QueueDeclared, handler: Handler, *, raises: bool
    ) -> None:
        self._server = server
        self._lock = declared.name, holder, seq
        self._window = declared.dedupe_window
        self._handler = handler
        self._raises = raises
        self._outcomes: dict[int, Outcome] = {}
        self._errors: dict[int, BaseException] = {}
        self.unwanted: BaseException | None = None  # the first that the test is to see

    def see(self, position: int, error: BaseException) -> None:
        """What a handler has raised. That of the test itself, or of who runs it (^C), is never kept from them."""
        self._errors[position] = error
        failed = self._raises and not isinstance(error, _WISHES)
        if self.unwanted is None and (failed or not isinstance(error, (Exception, SystemExit))):
            self.unwanted = error

    def may_go_on(self, _now: int) -> bool:
        """Not behind an error: what has not begun goes back untouched."""
        return self.unwanted is None

    def tell(self, outcomes: dict[int, Outcome], kept: dict[int, Kept]) -> bool:
        """Stores how tasks have ended, without jitter."""
        for outcome in outcomes.values():
            outcome.jitter = 1.0
            if outcome.kind == "loss":
                outcome.delay = micros(self._handler.options.backoff.first)
        self._outcomes |= outcomes
        return self._server.settle(*self._lock, outcomes, window=self._window, results=kept)

    def ended(self, pack: Pack, marks: bytes) -> list[Ran]:
        """The tasks of the pack that have run, in order."""
        return [self._ran(pack, position) for position, mark in enumerate(marks, 1) if mark]

    def _ran(self, pack: Pack, position: int) -> Ran:
        args, kwargs = arguments(pack.records[position - 1])
        word = _word(self._outcomes.get(position), pack.fates[position - 1] or Fate())
        task, queue = pack.ids[position - 1].decode(errors="replace"), self._lock[0]
        return Ran(task, queue, self._handler.name, word, args, kwargs, self._errors.get(position))


def _word(outcome: Outcome | None, fate: Fate) -> str:
    if outcome is None:
        return "done"
    if outcome.kind == "fail" and fate.failures + 1 >= outcome.limit:
        return "buried"
    return WORDS[outcome.kind]


def _own_frames(error: BaseException) -> Any:
    """The traceback from the handler on."""
    trace = error.__traceback__
    return trace.tb_next or trace if trace is not None else None
