"""How a task can end other than well: what a handler may raise, and what the queue server is told. Pure."""

import datetime
import traceback
from typing import Protocol

import msgspec

from .errors import Error, UsageError
from .stacks import below_ours
from .units import duration, moment

LONGEST_TEXT = 4000  # characters of a traceback that are kept with a task


class Retry(Error):
    """Raise it in a handler: run this task again, after ``delay`` or the handler's backoff; no failure is counted."""

    def __init__(self, delay: str | float | None = None, why: str = "") -> None:
        super().__init__(why or "the handler asked for a retry")
        self.delay = None if delay is None else duration(delay, "Retry: delay")


class Postpone(Error):
    """Raise it in a handler: not now; ``at`` Unix time or a datetime, or after ``delay``. Nothing is counted.

    Without either the task waits as long as after a first failure.
    """

    def __init__(self, at: float | datetime.datetime | None = None, *, delay: str | float | None = None) -> None:
        super().__init__("the handler postponed the task")
        if at is not None and delay is not None:
            raise UsageError("Postpone: give at or delay, not both")
        self.at = None if at is None else moment(at, "Postpone: at", "raise Postpone(delay='1h')")
        self.delay = None if delay is None else duration(delay, "Postpone: delay")


class Bury(Error):
    """Raise it in a handler: this task can never succeed; bury it with the reason."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why or "the handler buried the task")


class SoftTimeLimit(Error):
    """Raised inside a handler whose soft time limit has passed, so that it can tidy up."""


class Backoff(msgspec.Struct, frozen=True):
    """The first and the longest delay between two attempts, in seconds: min(longest, first * 2^(retries - 1))."""

    first: float = 5.0
    longest: float = 900.0


class Judged(Protocol):
    """What of a handler's options says how its failures end."""

    @property
    def backoff(self) -> Backoff: ...
    @property
    def max_failures(self) -> int: ...
    @property
    def never_retry(self) -> tuple[type[BaseException], ...]: ...


class Outcome(msgspec.Struct):
    """One task's end, as the ``settle`` script reads it; times in µs. ``kind`` is a name in its table of ends."""

    kind: str
    why: str = ""
    limit: int = 0
    delay: float | None = None
    at: float | None = None
    base: float = 0.0
    cap: float = 0.0
    jitter: float = 1.0


def micros(seconds: float) -> float:
    """Whole µs, as the scripts want them."""
    return float(round(seconds * 1e6))


def charged(kind: str, why: str, limit: int, backoff: Backoff, jitter: float) -> Outcome:
    """An end that counts against the task and backs off: ``fail`` or ``crash``, buried when ``limit`` is reached."""
    return Outcome(kind, cut(why), limit, base=micros(backoff.first), cap=micros(backoff.longest), jitter=jitter)


def decided(error: BaseException, options: "Judged", jitter: float) -> Outcome:
    """What becomes of a task whose handler raised. Errors are its own too: what reading one raises is a failure."""
    try:
        return _decided(error, options, jitter)
    except BaseException as fault:
        why = f"{type(error).__name__}, which cannot be read: {type(fault).__name__}: {spoken(fault)}"
        return charged("fail", why, options.max_failures, options.backoff, jitter)


def _decided(error: BaseException, options: "Judged", jitter: float) -> Outcome:
    backoff = options.backoff
    match error:
        case Retry():
            delay = None if error.delay is None else micros(error.delay)
            return put_off(Outcome("retry", spoken(error), delay=delay), backoff, jitter)
        case Postpone():
            at = None if error.at is None else micros(error.at)
            delay = None if error.delay is None else micros(error.delay)
            return put_off(Outcome("postpone", at=at, delay=delay), backoff, jitter)
        case Bury():
            return Outcome("bury", spoken(error))
    if isinstance(error, options.never_retry):
        return Outcome("bury", told(error))
    return charged("fail", told(error), options.max_failures, backoff, jitter)


def put_off(outcome: Outcome, backoff: Backoff, jitter: float) -> Outcome:
    """A retry or "not now" that names no time waits for the backoff, the latter for its first: at once would be a hot
    loop.
    """
    if outcome.kind in ("retry", "postpone") and outcome.at is None and outcome.delay is None:
        outcome.base, outcome.cap, outcome.jitter = micros(backoff.first), micros(backoff.longest), jitter
    return outcome


def cut(text: str) -> str:
    """The last part of a text that is too long: of a traceback, the part that says what happened."""
    text = text if len(text) <= LONGEST_TEXT else "… " + text[-LONGEST_TEXT:]
    return text.encode(errors="replace").decode()  # lone surrogates cannot be stored


def spoken(error: BaseException) -> str:
    """The text of an error, even of one whose ``str`` raises."""
    try:
        return cut(str(error))
    except BaseException as fault:
        return f"(its text cannot be had: {type(fault).__name__})"


def told(error: BaseException) -> str:
    """The traceback of an error, without the frames of qslots above the handler's own."""
    try:
        return cut("".join(traceback.format_exception(type(error), error, below_ours(error.__traceback__))).rstrip())
    except BaseException as fault:
        return f"{type(error).__name__}: {spoken(error)} (its traceback cannot be had: {type(fault).__name__})"
