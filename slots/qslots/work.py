"""One pack under work: what is known of it, and what becomes of a task that did not end well. It runs nothing itself.

The three ways to run a pack are ``work_each`` (one task after another), ``work_together`` (the handler has them all at
once) and, for coroutines, ``work_async``. They share one rule: a task is marked done only when nothing of it lives in
this process alone: success at once; a failure, a retry, a postponement after the queue server has stored it.
"""

import logging
import random
import traceback
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Protocol, cast

from . import tracing
from .cascades import NO_CASCADE, Cascade, done
from .coroutines import Limited
from .errors import ArgumentsError
from .forks import end_if_forked
from .handlers import Handler
from .hooks import HOOKS, hooked, told, word
from .limits import NEVER, named, timed
from .misfits import MisfitRow
from .outcomes import Bury, Outcome, Postpone, Retry, charged, decided, micros, spoken
from .queries import Owner, owner_of
from .queueserver import Kept, Pack
from .records import Fate, body, head, put_at, trace
from .results import kept
from .running import Running
from .scoreboard import Field, Record
from .stacks import below_ours, place
from .tasks import Task

log = logging.getLogger("qslots.slot")
LONGEST_LINE = 200  # characters of an error's text in the log; the whole of it is kept with the task
MayGoOn = Callable[[int], bool]  # whether another task may begin at this time (ns since boot)
Raised = tuple[type[BaseException], BaseException, TracebackType | None]
Witness = Callable[[int, BaseException], None]  # sees what was raised, and at which position


class Report(Protocol):
    """Stores outcomes on the queue server, what is to be kept of tasks that are done, and what they have enqueued with
    their settlement; False: the lock is gone.
    """

    def __call__(
        self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE, /
    ) -> bool: ...


def jitter() -> float:
    """0.85 to 1.15: what fails together shall not come back together."""
    return random.uniform(0.85, 1.15)


class Term:
    """What has happened to this process from outside while a handler ran: whether it was told to leave."""

    asked = False


TERM = Term()


def unwitnessed(position: int, error: BaseException) -> None:
    """Nobody wants to see the error itself: its text is kept with the task."""


class PackRun:
    """A pack with its handler. Positions count from 1, as on the scoreboard."""

    __slots__ = (
        "_may_go_on", "_owner", "function", "handler", "is_watched", "limit", "misfits", "pack", "record", "report",
        "url", "witness",
    )  # fmt: skip

    def __init__(
        self, handler: Handler, pack: Pack, record: Record, report: Report, may_go_on: MayGoOn,
        witness: Witness = unwitnessed, *, misfits: MisfitRow,
    ) -> None:  # fmt: skip
        self.handler = handler = tracing.handling(handler) if tracing.is_on() else handler
        self.function = timed(handler, record)  # what is called: the handler's function, under its alarms if it has any
        if HOOKS.before_task and not handler.arguments.takes_pack:
            self.function = hooked(self.function, is_async=handler.is_async)
        self.is_watched = bool(HOOKS.after_task) or log.isEnabledFor(logging.DEBUG)  # each task, when it ends
        self.pack = pack
        self.record = record
        self.report = report
        self.misfits = misfits
        self._may_go_on = may_go_on
        self.witness = witness
        self._owner: Owner | None = None
        self.url = ""  # of the server that the pack came from
        limit = handler.options.time_limit
        self.limit = 0 if limit is None else int(limit * 1e9)  # ns; 0 for none
        record.words[Field.MAX_CRASHES] = handler.options.max_crashes
        record.words[Field.BACKOFF_FIRST] = int(micros(handler.options.backoff.first))
        record.words[Field.BACKOFF_LONGEST] = int(micros(handler.options.backoff.longest))

    def may_go_on(self, now: int) -> bool:
        """Whether another task may begin at this time (ns since boot)."""
        return not self.misfits.is_too_long and self._may_go_on(now)

    def coroutine(self, running: Running, *args: Any, **kwargs: Any) -> Awaitable[object]:
        """What the call of an async handler gives, under its soft limit and its alert if it has any."""
        coroutine, options = self.function(*args, **kwargs), self.handler.options
        if options.soft_time_limit is None and options.on_alert is None:
            return cast(Awaitable[object], coroutine)
        after = self.record.words[Field.ALERT_AFTER] / 1e9 if options.on_alert is not None else 0.0
        limited = Limited(
            coroutine, named(self.handler, running), soft=options.soft_time_limit or NEVER, alert_after=after or NEVER,
            alert=partial(options.on_alert or print, running.parent or ""), still=running.still,
        )  # fmt: skip
        running.postpone = limited.postpone
        return limited

    def id_of(self, position: int) -> str:
        """The id of one of the tasks, as text."""
        return self.pack.ids[position - 1].decode(errors="replace")

    def several(self, positions: Iterable[int]) -> str:
        """Which tasks these are, in words for the log."""
        first, *others = positions
        return self.id_of(first) + (f" and {len(others)} more" if others else "")

    def done(self) -> Outcome:
        """The end of a task that is done, where the queue server is to be told of it."""
        return done(self.handler.options.max_failures, self.handler.options.backoff, jitter())

    @property
    def source(self) -> str:
        """Where the pack came from, ``queue@server``."""
        return self.record.text("held_source")

    def trace(self, position: int) -> bytes:
        """The trace of a task; 0 is the one that runs. Of a whole pack the one that all its tasks share, else none."""
        position = position or self.record.words[Field.TASK]
        traces = set(map(trace, self.pack.records if position <= 0 else self.pack.records[position - 1 : position]))
        return traces.pop() if len(traces) == 1 else b""

    def task(self, position: int) -> Task | None:
        """One of the tasks; 0 is the one that runs, None if that is the pack as a whole."""
        position = position or self.record.words[Field.TASK]
        if position <= 0:
            return None
        try:
            args, kwargs = self.handler.arguments.call(body(self.pack.records[position - 1]))
        except (ArgumentsError, ValueError):  # why it is not run is told elsewhere
            args, kwargs = (), {}
        return self.made(position, args, kwargs)

    def made(self, position: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        """One of the tasks, its arguments being known."""
        if self._owner is None:
            self._owner = owner_of(self.record.text("holder"))
        fate, record = self.fate(position), self.pack.records[position - 1]
        return Task(
            self.id_of(position), self.handler.queue, self.handler.name, args, kwargs, retries=fate.retries,
            failures=fate.failures, crashes=fate.crashes, put_at=put_at(record), owner=self._owner, record=record,
        )  # fmt: skip

    def raised(self, position: int, error: BaseException) -> Outcome:
        """What becomes of a task whose handler raised."""
        end_if_forked()
        return self._logged(position, decided(error, self.handler.options, jitter()), error, at_fault(error))

    def misfit(self, position: int, error: Exception) -> Outcome:
        """What becomes of a task that cannot be run: its record cannot be read, or its arguments do not fit."""
        self.misfits.met(position, spoken(error))
        return self._logged(position, unfit(self.handler, error, self.pack.records[position - 1]), error)

    def result(self, position: int, value: object, seconds: float) -> Kept:
        """What a task has returned, to be kept on the queue server for so long."""
        stored = kept(self.id_of(position), self.handler.name, self.record.text("holder"), value, seconds)
        if stored.missing:
            log.warning("%s %s is done, but %s", self.handler.name, stored.task, stored.missing)
        return stored

    def begins(self, position: int) -> None:
        """A task begins. Called of those that are watched."""
        log.debug("%s %s begins", self.handler.name, self.id_of(position))

    def ended(self, position: int, outcome: Outcome | None) -> None:
        """A task has ended so; None is success. Called of those that are watched."""
        how = word(outcome, self.fate(position))
        log.debug("%s %s has ended: %s", self.handler.name, self.id_of(position), how)
        if HOOKS.after_task:
            told(HOOKS.after_task, self.task(position), how)

    def failed(self, position: int, outcome: Outcome, error: BaseException) -> None:
        """The end of a task is one that the hooks for failures are to know."""
        if HOOKS.on_failure and outcome.kind in ("fail", "bury"):
            told(HOOKS.on_failure, self.task(position), error, word(outcome, self.fate(position)))

    def fate(self, position: int) -> Fate:
        """What befell a task before."""
        return self.pack.fates[position - 1] or Fate()

    def _logged(
        self, position: int, outcome: Outcome, error: BaseException, trace: Raised | None = None
    ) -> Outcome:  # fmt: skip
        level = logging.INFO if outcome.kind in ("retry", "postpone") else logging.WARNING
        what = happened(outcome, self.fate(position))
        log.log(level, "%s %s %s: %s", self.handler.name, self.id_of(position), what, briefly(error), exc_info=trace)
        self.failed(position, outcome, error)
        self.witness(position, error)
        return outcome


def at_fault(error: BaseException) -> Raised | None:
    """An error with its traceback, for the log; None if it is a wish of the handler, which says all, or has none that
    can be shown.
    """
    raised = type(error), error, below_ours(error.__traceback__)
    try:
        traceback.format_exception(*raised)
    except BaseException:
        return None
    return None if isinstance(error, Retry | Postpone | Bury) else raised


def happened(outcome: Outcome, fate: Fate) -> str:
    """What becomes of a task, in words for the log."""
    failures = fate.failures + 1
    match outcome.kind:
        case "fail" if failures >= outcome.limit:
            return f"is buried after {failures} failure{'s' if failures > 1 else ''}"
        case "fail":
            return f"has failed, {failures} of {outcome.limit}"
        case "bury":
            return "is buried"
        case "retry":
            return "is to be run again"
    return "is postponed"


def briefly(error: BaseException) -> str:
    """An error on one line: its kind, its first line, and where in the application it came from."""
    where = place(error.__traceback__)
    return f"{type(error).__name__}: {(spoken(error).splitlines() or [''])[0][:LONGEST_LINE]}" + (
        f" ({where})" if where else ""
    )


def unfit(handler: Handler, error: Exception, stored: bytes) -> Outcome:
    """A record that cannot be read, or arguments that do not fit.

    Hopeless if this very code stored them; else another version is being rolled out, and a later attempt may fit.
    """
    if not isinstance(error, ArgumentsError):
        return Outcome("bury", f"the record cannot be read: {error}")
    why = str(handler.misfit(error))
    try:
        hopeless = head(stored).signature == handler.arguments.signature
    except ValueError as fault:
        return Outcome("bury", f"the record cannot be read: {fault}")
    if hopeless:
        return Outcome("bury", why)
    return charged("fail", why, handler.options.max_failures, handler.options.backoff, jitter())
