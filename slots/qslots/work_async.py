"""Runs the tasks of a pack beside each other in the slot's event loop. Each has its own mark.

A mark says that its task is running from the moment it begins, and that it is done when nothing of it lives in this
process alone. So after a death those that had begun come back as a loss, whoever of them was to blame, and the others
as if nothing had been. What ends in one turn of the loop is told to the queue server in one request; the loop stands
still meanwhile, and no deadline runs.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from .cascades import Children
from .errors import ArgumentsError
from .eventloop import EventLoop
from .outcomes import Outcome
from .queueserver import Kept
from .records import body
from .running import Running, enter
from .scoreboard import DONE, RUNS, Field, boot_ns
from .work import TERM, PackRun, end_if_forked


def run_async(run: PackRun, loop: EventLoop) -> int:
    """How many tasks have ended and are marked."""
    pack = _Concurrent(run, loop.asyncio)
    pack.fill()
    loop.run(run.handler.name, pack.is_over)
    if pack.fault is not None:
        raise pack.fault
    loop.cancel_left(run.handler.name)
    return pack.marked


class _Concurrent:
    """One pack while its tasks run. Positions count from 1."""

    def __init__(self, run: PackRun, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._positions = iter(range(1, len(run.pack.ids) + 1))
        self._limit = run.handler.options.concurrency or len(run.pack.ids)
        self._alive = 0  # coroutines that have not ended
        self._begun: dict[
            int, tuple[int, int]
        ] = {}  # position -> when, and how long nothing had run then; oldest first
        self._ends: dict[int, Outcome | None] = {}
        self._untold: dict[int, Outcome] = {}
        self._kept: dict[int, Kept] = {}
        self._left: dict[int, Sequence[Children]] = {}  # what they have enqueued with their settlement
        self._news = False  # something is untold that the queue server was not asked to store
        self._telling = False
        self._stopped = False  # no more tasks begin
        self._refused = False  # it could not be told; tried once more when all have ended
        self._shown = 0  # position on the scoreboard
        self._still = 0  # ns that the loop stood still to tell
        self._trusted = 0
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

    async def _one(self, position: int) -> None:
        """One task: it is looked at when its turn has come, which may be long after it was made."""
        if not self._may_begin():
            self._stopped = True
            return
        self._begin(position)
        self._ends[position] = await self._attempt(position)

    async def _attempt(self, position: int) -> Outcome | None:
        run = self._run
        running = Running.beside_others(run.id_of(position), run, position)
        enter(running)
        try:
            args, kwargs = run.handler.arguments.call(body(run.pack.records[position - 1]))
        except (ArgumentsError, ValueError) as error:
            return run.misfit(position, error)
        try:
            value = await run.handler.coroutine(*args, **kwargs)
        except BaseException as error:
            end_if_forked()
            return run.raised(position, error)
        end_if_forked()
        seconds = run.handler.options.keep_result
        if seconds is not None:
            self._kept[position] = run.result(position, value, seconds)
        elif running.kept is None:
            return None
        self._left |= running.left_by(position)
        return run.done()

    def _may_begin(self) -> bool:
        now = boot_ns()
        if self._stopped or now >= self._trusted or TERM.asked:
            if self._stopped or not self._run.may_go_on(now):
                return False
            self._trusted = self._run.record.trusted_until()
        return True

    def _begin(self, position: int) -> None:
        self._run.record.marks[position - 1] = RUNS
        self._begun[position] = boot_ns(), self._still
        if not self._shown:
            self._show()

    def _over(self, position: int, task: "asyncio.Task[None]") -> None:
        self._alive -= 1
        if not task.cancelled() and task.exception() is not None:  # the slot is to leave, or a fault of ours
            self.fault = task.exception()
        elif position in self._ends:
            outcome = self._ends.pop(position)
            if outcome is None:
                self._mark(position)
            else:
                self._untold[position] = outcome
                self._news = True
            del self._begun[position]
            if position == self._shown:
                self._show()
        self.fill()

    def _tell(self) -> None:
        self._telling = self._news = False
        self._run.record.over()
        began = boot_ns()
        try:
            stored = self._run.report(self._untold, self._kept, self._left)
        except BaseException as error:
            self.fault = error
        else:
            if stored:
                for position in self._untold:
                    self._mark(position)
                self._untold, self._kept, self._left = {}, {}, {}
            self._stopped = self._stopped or not stored
            self._refused = self._refused or not stored
        self._still += boot_ns() - began
        self._show()
        self.fill()

    def _mark(self, position: int) -> None:
        self._run.record.marks[position - 1] = DONE
        self._run.record.words[Field.DONE] += 1
        self.marked += 1

    def _show(self) -> None:
        """The oldest running task stands on the scoreboard: its deadline comes first."""
        record, limit = self._run.record, self._run.limit
        self._shown = next(iter(self._begun), 0)
        if self._shown:
            start, still = self._begun[self._shown]
            deadline = start + limit + self._still - still if limit else 0
            record.begin(self._shown, start, deadline, self._run.pack.ids[self._shown - 1])
        else:
            record.end()
