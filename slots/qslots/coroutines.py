"""The coroutine of an async handler, under its soft time limit and its alert if it has any.

When the limit passes, SoftTimeLimit is thrown into it where it awaits: what it awaits is cancelled, and the
cancellation replaced on its way up. Code that blocks the loop is out of reach; for that there is the hard limit.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any

from .limits import NEVER
from .outcomes import SoftTimeLimit, cut
from .stacks import shown

log = logging.getLogger("qslots.slot")


class Limited:
    """Awaits a coroutine; ``alert`` is called with the seconds that it has run, after ``alert_after`` of them. The
    seconds that its loop has stood still by our doing, all in all, ``still()``, do not count for its limit.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, object], name: str, *, soft: float, alert_after: float,
        alert: Callable[[float], object], still: Callable[[], float] = float,
    ) -> None:  # fmt: skip
        self._coroutine = coroutine
        self._name = name
        self._soft = soft
        self._alert_after = alert_after
        self._alert = alert
        self._still = still
        self._stood_still = 0.0  # when the limit was set
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._passed = self._over = False

    def __await__(self) -> Generator[Any, Any, object]:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._rearm()
        bell = self._loop.call_later(self._alert_after, self._call_alert) if self._alert_after < NEVER else None
        try:
            return (yield from self._driven())
        finally:
            self._over = True
            if bell is not None:
                bell.cancel()
            if self._timer is not None:
                self._timer.cancel()

    def _driven(self) -> Generator[Any, Any, object]:
        """What ``await`` does, but for the one error that takes the place of another."""
        error: BaseException | None = None
        while True:
            try:
                waited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            try:
                yield waited
            except BaseException as raised:
                error = raised
            if self._due:
                self._due = False
                assert self._task is not None
                self._task.uncancel()
                error = SoftTimeLimit(f"ran longer than its soft limit of {self._soft:g} s")

    def postpone(self, seconds: float) -> bool:
        """The soft limit is so far from now instead; False if there is none, or it has passed. From any thread."""
        if self._soft == NEVER or self._passed:
            return False
        self._soft = seconds
        self._loop.call_soon_threadsafe(self._rearm)
        return True

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._soft < NEVER and not self._passed and not self._over:
            self._stood_still = self._still()
            self._timer = self._loop.call_later(self._soft, self._ring)

    def _ring(self) -> None:
        lost = self._still() - self._stood_still
        if lost > 0:
            self._stood_still += lost
            self._timer = self._loop.call_later(lost, self._ring)
            return
        stack = cut(shown(_frames(self._coroutine)))
        log.warning("%s ran into its soft limit of %g s here:\n%s", self._name, self._soft, stack)
        self._due = self._passed = True
        assert self._task is not None
        self._task.cancel()

    def _call_alert(self) -> None:
        try:
            self._alert(self._alert_after)
        except Exception:
            log.exception("the hook on_alert raised")


def _frames(coroutine: Any) -> list[tuple[FrameType, int]]:
    """Where a coroutine waits, from the outermost frame to the innermost."""
    found = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        found.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found
