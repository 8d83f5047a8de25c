"""One session of a run: puts the tasks, watches the results grow, kills one slot on the way, knows when it is over.

Ends by condition only: the results are there and the queues are empty, or the queues are empty and nothing more
comes, or nothing moves at all any more. It never puts a task a second time once all were put.
"""

import asyncio
import dataclasses
import signal
import time
from collections.abc import Coroutine, Iterator

from qshelf import tasks

from . import children, fleet, results
from .plan import DemoError, Places, Run, Stage, write_ledger
from .view import View

KILL_AT = 1 / 3  # of all tasks
LOOK_EVERY = 0.25  # seconds between two looks at the results
ASK_EVERY = 1.0  # seconds between two questions to the fleet
EMPTY_LOOKS = 5  # empty queues in a row, with results missing, before the run is called over
STALLED_AFTER = 120.0  # seconds without any progress; back-offs in the demo are 10 s at most


@dataclasses.dataclass(slots=True)
class Session:
    """What the session knows just now."""

    run: Run
    places: Places
    crew: children.Crew
    view: View
    disturbed: bool = True  # by the killing of a slot
    tracks: tuple[results.Track, ...] = ()
    slots: tuple[fleet.Slot, ...] = ()
    queues: tuple[fleet.Queue, ...] = ()

    async def work(self) -> None:
        """Until the run is over; DemoError if a child ends before, or if nothing moves."""
        self.tracks = results.begin(self.run, self.places, time.monotonic())
        try:
            async with asyncio.TaskGroup() as group:
                loops = [group.create_task(each) for each in self._loops()]
                if self.run.stage is Stage.PLANNED:
                    await asyncio.to_thread(enqueue_all, self.run)
                    self._note(self.run.at(Stage.ENQUEUED))
                await self._until_over()
                for loop in loops:
                    loop.cancel()
        except ExceptionGroup as failed:  # its tasks fail for one reason; the first to say so has it
            raise failed.exceptions[0] from None
        self._advance()

    def _loops(self) -> Iterator[Coroutine[None, None, None]]:
        yield self._guard("qslots up", self.crew.up)
        yield self._guard("the mail server", self.crew.mail)
        yield self._look()
        yield self._watch_slots()

    async def _guard(self, name: str, child: children.Process) -> None:
        code = await child.wait()
        reason = children.last_line(self.places.log)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit {code}: {reason}"
        raise DemoError(f"{name} {how} (more in {self.places.log}); make demo goes on where it stopped")

    async def _look(self) -> None:
        while True:
            self._advance()
            if time.monotonic() - max(track.last for track in self.tracks) > STALLED_AFTER:
                left = ", ".join(f"{queue.name} {queue.alive} left" for queue in self.queues) or "no queue answers"
                raise DemoError(f"nothing has moved for {STALLED_AFTER:.0f} s ({left}); see {self.places.log}")
            await asyncio.sleep(LOOK_EVERY)

    def _advance(self) -> None:
        now = time.monotonic()
        self.tracks = results.advance(self.tracks, self.places, now)
        self.view.show(self.tracks, self.slots, now)

    async def _watch_slots(self) -> None:
        while True:
            self.slots = await fleet.ask_slots() or self.slots
            share = results.share(self.tracks)
            due = self.disturbed and not self.run.killed and share >= KILL_AT
            if due:
                self._kill_one(share)
            await asyncio.sleep(0 if due else ASK_EVERY)  # a busy slot is soon idle: strike while the news is fresh

    def _kill_one(self, share: float) -> None:
        slot = fleet.pick_slot(self.slots)
        killed = fleet.kill(slot, self.crew.up.pid) if slot else None
        if killed:
            self._note(self.run.with_killed(f"{killed}, at {100 * share:.0f} % of the work"))
            self.view.say(f"killed with SIGKILL: {self.run.killed}")

    async def _until_over(self) -> None:
        empty_looks = 0
        while empty_looks < EMPTY_LOOKS:
            complete = all(track.done == track.total for track in self.tracks)  # read before the queues are asked
            asked = await fleet.ask_queues()
            self.queues = asked or self.queues
            empty = fleet.are_empty(asked, tasks.QUEUES)
            if empty and complete:
                return
            empty_looks = empty_looks + 1 if empty else 0
            await asyncio.sleep(ASK_EVERY)

    def _note(self, run: Run) -> None:
        write_ledger(self.places.ledger, run)
        self.run = run


def enqueue_all(run: Run) -> None:
    """Put every task of the plan. An id follows from the path, so what is in the queue already is left alone.

    A run that was killed just here puts what has run meanwhile again, which makes the same results again.
    """
    for path in run.sources:
        tasks.index.using(id=tasks.task_id(path), on_duplicate="ignore").enqueue(path)
    for photo, target in run.pictures:
        tasks.thumbnail.using(id=tasks.task_id(target), on_duplicate="ignore").enqueue(photo, target)
