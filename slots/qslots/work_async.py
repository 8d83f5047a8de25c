"""Runs the tasks of a pack beside each other in the slot's event loop. Each has its own mark.

A mark says that its task is running from the moment it begins, and that it is done when nothing of it lives in this
process alone. So after a death those that had begun come back as a loss, whoever of them was to blame, and the others
as if nothing had been. What ends in one turn of the loop is told to the queue server in one request; the loop stands
still meanwhile.

There is no coroutine but those of the handler's tasks: nothing of ours that a handler could cancel.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from .cascades import Children
from .deadlines import Deadlines
from .errors import ArgumentsError
from .eventloop import EventLoop
from .forks import end_if_forked
from .outcomes import Outcome
from .queueserver import Kept
from .records import body
from .running import Running, enter
from .scoreboard import DONE, LOOK_UP, Field, boot_ns
from .work import TERM, PackRun


def run_async(run: PackRun, loop: EventLoop) -> int:
    """How many tasks have ended and are marked."""
    pack = _Concurrent(run, loop.asyncio)
    pack.fill()
    loop.run(run.handler.name, pack.is_over)
    pack.close()
    if pack.fault is not None:
        raise pack.fault
    loop.cancel_left(run.handler.name, run.several(range(1, len(run.pack.ids) + 1)))
    return pack.marked


class _Concurrent:
    """One pack while its tasks run. Positions count from 1."""

    def __init__(self, run: PackRun, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._deadlines = Deadlines(run.record, run.pack.ids, run.limit)
        self._positions = iter(range(1, len(run.pack.ids) + 1))
        self._limit = run.handler.options.concurrency or len(run.pack.ids)
        self._alive = 0  # coroutines that have not ended
        self._ends: dict[int, Outcome | None] = {}
        self._untold: dict[int, Outcome] = {}
        self._kept: dict[int, Kept] = {}
        self._left: dict[int, Sequence[Children]] = {}  # what they have enqueued with their settlement
        self._news = False  # something is untold that the queue server was not asked to store
        self._telling = False
        self._stopped = False  # no more tasks begin
        self._refused = False  # it could not be told; tried once more when all have ended
        self._look_up = 0  # until when tasks may begin without looking up (ns since boot)
        self._timer = loop.call_later(LOOK_UP / 1e9, self._look_round)
        self.fault: BaseException | None = None
        self.marked = 0

    def is_over(self) -> bool:
        """All that has begun has ended, and what could be told is told."""
        return self.fault is not None or not (self._alive or self._telling)

    def fill(self) -> None:
        """Lets as many tasks begin as may run beside each other."""
        while self._alive < self._limit and not self._stopped and self.fault is None:
            position = next(self._positions, 0)
            if not position:
                break
            self._alive += 1
            task = self._loop.create_task(self._one(position))
            task.add_done_callback(partial(self._over, position))
        if self._news and not self._telling and not (self._refused and self._alive) and self.fault is None:
            self._telling = True
            self._loop.call_soon(self._tell)
        if self.is_over():
            self._loop.stop()

    def close(self) -> None:
        """Nothing is to ring any more."""
        self._timer.cancel()

    async def _one(self, position: int) -> None:
        """One task: it is looked at when its turn has come, which may be long after it was made."""
        if not self._may_begin():
            self._stopped = True
            return
        self._deadlines.begin(position)
        if self._run.is_watched:
            self._run.begins(position)
        outcome = await self._attempt(position)
        if self._run.is_watched:
            self._run.ended(position, outcome)
        if outcome is None:  # here, not when asyncio tells: what others do in this turn may end the process
            self._mark(position)
        self._ends[position] = outcome

    async def _attempt(self, position: int) -> Outcome | None:
        run = self._run
        running = Running.beside_others(run.id_of(position), run, position)
        running.until = partial(self._extend, position)
        running.still = self._deadlines.stood_still
        enter(running)
        try:
            args, kwargs = run.handler.arguments.call(body(run.pack.records[position - 1]))
        except (ArgumentsError, ValueError) as error:
            return run.misfit(position, error)
        try:
            value = await run.coroutine(running, *args, **kwargs)
        except BaseException as error:
            return run.raised(position, error)
        end_if_forked()
        seconds = run.handler.options.keep_result
        if seconds is not None:
            self._kept[position] = run.result(position, value, seconds)
        elif running.kept is None:
            return None
        self._left |= running.left_by(position)
        return run.done()

    def _extend(self, position: int, deadline: int) -> None:
        self._loop.call_soon_threadsafe(self._deadlines.move, position, deadline)

    def _may_begin(self) -> bool:
        if self._stopped or self._run.misfits.is_too_long:
            return False
        return (boot_ns() < self._look_up and not TERM.asked) or self._may_go_on()

    def _may_go_on(self) -> bool:
        """Looks up from the tasks: what is done is settled meanwhile, and it shows whether more may begin."""
        with self._deadlines.standing_still():
            granted = self._run.may_go_on(boot_ns())
        self._look_up = min(self._run.record.trusted_until(), boot_ns() + LOOK_UP)
        return granted

    def _look_round(self) -> None:
        """Once in a while also where no task begins."""
        self._timer = self._loop.call_later(LOOK_UP / 1e9, self._look_round)
        try:
            self._stopped = self._stopped or not self._may_go_on()
        except BaseException as error:
            self.fault = error
            self._loop.stop()

    def _over(self, position: int, task: "asyncio.Task[None]") -> None:
        self._alive -= 1
        if not task.cancelled() and task.exception() is not None:  # the slot is to leave, or a fault of ours
            self.fault = task.exception()
        elif position in self._ends:
            outcome = self._ends.pop(position)
            self._deadlines.over(position)
            if outcome is not None:
                self._untold[position] = outcome
                self._news = True
        self.fill()

    def _tell(self) -> None:
        self._telling = self._news = False
        kept = {position: self._kept[position] for position in self._untold if position in self._kept}
        left = {position: self._left[position] for position in self._untold if position in self._left}
        try:
            with self._deadlines.standing_still():
                stored = self._run.report(self._untold, kept, left)
        except BaseException as error:
            self.fault = error
        else:
            if stored:
                for position in self._untold:
                    self._mark(position)
                    self._kept.pop(position, None)
                    self._left.pop(position, None)
                self._untold = {}
            self._stopped = self._stopped or not stored
            self._refused = self._refused or not stored
        self.fill()

    def _mark(self, position: int) -> None:
        self._run.record.marks[position - 1] = DONE
        self._run.record.words[Field.DONE] += 1
        self.marked += 1
