"""The limits of the task that runs here that are kept in this process: its soft time limit, and its alert.

Both ring by SIGALRM (ITIMER_REAL), which is armed only for handlers that have one of them, anew for each task. Python
runs the signal's handler between two bytecodes of whatever runs then, so C code defers it, and it may come late. It
must raise nowhere but inside of the application's handler: what is raised in our own code would leave a task half
settled, and the next task has done nothing. The hard limit is the master's; it stands on the scoreboard.

A SIGALRM of the application's own must not end the slot, which is what the system does with it where nobody handles it.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from .connection import packed
from .errors import UsageError
from .handlers import Handler
from .outcomes import SoftTimeLimit, cut
from .running import RUNNING, Running, here
from .scoreboard import Field, Record, boot_ns
from .stacks import shown
from .units import duration

log = logging.getLogger("qslots.slot")
NEVER = float("inf")
_SOON = 0.001  # seconds until it rings again, if it has rung just outside of the handler
_MOST_SHOWN = 3000  # characters of a stack in the log: the innermost part


class Alarm:
    """What rings while a task runs. One a process, as its signal."""

    def __init__(self) -> None:
        self.armed = False
        self._alert_at = self._soft_at = NEVER  # monotonic
        self._seconds = 0.0
        self._stack = ""
        self._alert: Callable[[], None] | None = None
        self._at_rest: Any = None  # in a slot, what handles the signal while no task is timed

    def listen(self) -> None:
        """For a slot, at its birth. What the application has set up when it was imported stays."""
        found = signal.getsignal(signal.SIGALRM)
        self._at_rest = found if callable(found) else self._ring
        signal.signal(signal.SIGALRM, self._at_rest)

    def calm(self) -> None:
        """Takes down what a handler has left of its own, so that it cannot hit the next one."""
        if self._at_rest is None:
            return  # this process is not ours alone
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        if left:
            log.info("a handler has left an alarm behind, to ring in %.1f s: taken down", left)
        if signal.getsignal(signal.SIGALRM) != self._at_rest:
            signal.signal(signal.SIGALRM, self._at_rest)

    def arm(self, soft: float, alert_after: float, alert: Callable[[], None] | None) -> None:
        """From here on it may ring: after so many seconds, or NEVER."""
        if signal.getsignal(signal.SIGALRM) != self._ring:
            signal.signal(signal.SIGALRM, self._ring)
        now = time.monotonic()
        self._seconds, self._soft_at, self._alert_at, self._alert = soft, now + soft, now + alert_after, alert
        self._stack = ""
        self.armed = True
        self._set(now)

    def over(self, handler: Handler) -> None:
        """It rings no more; ``armed`` was taken back before. What was seen when it rang is logged only now: a log may
        wait for a lock that the interrupted code holds.
        """
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._stack:
            name = named(handler, RUNNING)
            log.warning("%s ran into its soft limit of %g s here:\n%s", name, self._seconds, self._stack)

    def postpone(self, seconds: float) -> bool:
        """The soft limit is so far from now instead; False if there is none, or it has passed."""
        if not self.armed or self._soft_at == NEVER:
            return False
        now = time.monotonic()
        self._seconds, self._soft_at = seconds, now + seconds
        self._set(now)
        return True

    def _set(self, now: float) -> None:
        at = min(self._soft_at, self._alert_at)
        signal.setitimer(signal.ITIMER_REAL, max(at - now, _SOON) if at < NEVER else 0)

    def _ring(self, _: int, frame: FrameType | None) -> None:
        if not self.armed:
            return  # late, or the application's own
        if (
            frame is None or frame.f_code in _OURS or _is_packing(frame)
        ):  # the handler has not begun, is over, or must not be hit here
            signal.setitimer(signal.ITIMER_REAL, _SOON)
            return
        now = time.monotonic()
        if now >= self._alert_at and self._alert is not None:
            self._alert_at = NEVER
            _call(self._alert)
        if now >= self._soft_at:
            self.armed = False
            self._stack = cut(shown(_inside(frame))[-_MOST_SHOWN:])
            raise SoftTimeLimit(f"ran longer than its soft limit of {self._seconds:g} s")
        self._set(now)


ALARM = Alarm()


def timed(handler: Handler, record: Record) -> Callable[..., Any]:
    """The function of a handler, under its soft limit and its alert if it has any; see coroutines for async ones."""
    options, function = handler.options, handler.function
    if handler.is_async or (options.soft_time_limit is None and options.on_alert is None):
        return function
    soft = NEVER if options.soft_time_limit is None else options.soft_time_limit
    after = record.words[Field.ALERT_AFTER] / 1e9 if options.on_alert is not None else 0.0

    def alert() -> None:
        assert options.on_alert is not None
        options.on_alert(RUNNING.parent or "", (boot_ns() - record.words[Field.START]) / 1e9)

    def limited(*args: Any, **kwargs: Any) -> Any:
        return _under_alarm(function, args, kwargs, soft=soft, after=after or NEVER, alert=alert, handler=handler)

    return limited


def _under_alarm(
    function: Callable[..., Any], args: Any, kwargs: Any, *, soft: float, after: float,
    alert: Callable[[], None], handler: Handler,
) -> Any:  # fmt: skip
    ALARM.arm(soft, after, alert)
    try:
        return function(*args, **kwargs)
    finally:
        ALARM.armed = False  # no call before this: the interpreter looks for signals where a function begins or ends
        ALARM.over(handler)


def named(handler: Handler, running: Running) -> str:
    """What runs, in words for the log."""
    return f"{handler.name} {running.parent}" + (" with its pack" if handler.arguments.takes_pack else "")


# In the last one hiredis packs numbers, for which Python looks for signals; it does not survive what is raised there.
_OURS = {_under_alarm.__code__, Alarm.arm.__code__, Alarm._set.__code__}


def _is_packing(frame: FrameType | None) -> bool:
    """Whether a request is being packed; large numbers are written out by code in Python below that."""
    while frame is not None and frame.f_code is not _under_alarm.__code__:
        if frame.f_code is packed.__code__:
            return True
        frame = frame.f_back
    return False


def _inside(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    """The frames of the handler, from the outermost to where it was."""
    found = []
    while frame is not None and frame.f_code is not _under_alarm.__code__:
        found.append((frame, frame.f_lineno))
        frame = frame.f_back
    return reversed(found)


def _call(alert: Callable[[], None]) -> None:
    try:
        alert()
    except Exception:
        log.exception("the hook on_alert raised")


def extend(seconds: str | float) -> None:
    """In a handler: its time limit comes so long from now (90, "90s"), whatever it was. Of a handler with both limits
    the soft one does, and the hard one as much later as declared. A handler without limits needs none. UsageError: no
    task runs here.
    """
    running = here()
    length, work = duration(seconds, "extend"), running.work
    if work is None or running.parent is None:
        raise UsageError("extend: no task runs here; call it in a handler")
    options, words = work.handler.options, work.record.words
    postpone = running.postpone or ALARM.postpone
    later = 0.0
    if postpone(length) and options.time_limit is not None and options.soft_time_limit is not None:
        later = options.time_limit - options.soft_time_limit
    deadline = boot_ns() + int((length + later) * 1e9)
    if running.until is not None:
        running.until(deadline)
    elif words[Field.DEADLINE]:
        words[Field.DEADLINE] = deadline
