"""One session of a run: puts the tasks, watches the results grow, kills one slot on the way, knows when it is over.

Ends by condition only: the results are there and the queues are empty, or the queues are empty and nothing more
comes, or nothing moves at all any more. It never puts a task a second time once all were put.
"""

import asyncio
import dataclasses
import signal
import time
from collections.abc import Mapping

from . import children, fleet, progress, tasks
from .ledger import Ledger, Stage, write_ledger
from .plan import DemoError, Places
from .view import View

KILL_AT = 1 / 3  # of all tasks
LOOK_EVERY = 0.25  # seconds between two looks at the results
ASK_EVERY = 1.0  # seconds between two questions to qslots; each costs an interpreter's start
EMPTY_LOOKS = 5  # empty queues in a row, with results missing, before the run is called over
STALLED_AFTER = 120.0  # seconds without any progress; back-offs in the demo are 10 s at most


@dataclasses.dataclass(slots=True)
class Session:
    """What the session knows just now."""

    run: Ledger
    places: Places
    environ: Mapping[str, str]
    view: View
    up: children.Process
    tracks: tuple[progress.Track, ...] = ()
    slots: tuple[fleet.Slot, ...] = ()
    queues: tuple[fleet.Queue, ...] = ()
    empty_looks: int = 0

    async def work(self) -> None:
        """Until the run is over; DemoError if ``qslots up`` ends before, or if nothing moves."""
        self.tracks = progress.begin(self.run, self.places, time.monotonic())
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(self._fail_with_up())
            looking = group.create_task(self._look())
            if self.run.stage is Stage.PLANNED:
                await asyncio.to_thread(enqueue_all, self.run)
                self._note(self.run.at(Stage.ENQUEUED))
            await self._ask_until_over()
            looking.cancel()
            ending.cancel()
        self._advance()

    async def _look(self) -> None:
        while True:
            self._advance()
            self._fail_if_stalled()
            await asyncio.sleep(LOOK_EVERY)

    async def _ask_until_over(self) -> None:
        while not self._is_over():
            complete = self._is_complete()
            self.slots = await children.ask("slots", tuple[fleet.Slot, ...], self.environ) or self.slots
            self._kill_if_due()
            queues = await children.ask("queues", tuple[fleet.Queue, ...], self.environ)
            self._judge(queues or (), complete=complete)
            if not complete:
                await asyncio.sleep(ASK_EVERY)

    async def _fail_with_up(self) -> None:
        code = await self.up.wait()
        reason = children.last_line(self.places.log)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit {code}: {reason}"
        raise DemoError(f"qslots up {how} (more in {self.places.log}); make demo goes on where it stopped")

    def _advance(self) -> None:
        now = time.monotonic()
        self.tracks = progress.advance(self.tracks, self.places, now)
        self.view.show(self.tracks, self.slots, now)

    def _judge(self, queues: tuple[fleet.Queue, ...], *, complete: bool) -> None:
        """Note what the queues hold; ``complete`` must have been read before they were asked."""
        known = {queue.name for queue in queues} >= set(tasks.QUEUES)
        if known:
            self.queues = queues
        empty = known and not any(queue.alive for queue in queues if queue.name in tasks.QUEUES)
        self.empty_looks = self.empty_looks + 1 if empty else 0
        if empty and complete:
            self.empty_looks = EMPTY_LOOKS

    def _is_complete(self) -> bool:
        return all(track.done == track.total for track in self.tracks)

    def _is_over(self) -> bool:
        return self.empty_looks >= EMPTY_LOOKS

    def _kill_if_due(self) -> None:
        share = progress.share(self.tracks)
        if self.run.killed or share < KILL_AT:
            return
        slot = fleet.pick_slot(self.slots)
        killed = fleet.kill(slot, self.up.pid) if slot else None
        if killed:
            self._note(self.run.with_killed(f"{killed}, at {100 * share:.0f} % of the work"))
            self.view.say(f"killed with SIGKILL: {self.run.killed}")

    def _fail_if_stalled(self) -> None:
        if time.monotonic() - max(track.last for track in self.tracks) > STALLED_AFTER:
            state = ", ".join(f"{queue.name} {queue.alive} left" for queue in self.queues) or "no queue answers"
            raise DemoError(f"nothing has moved for {STALLED_AFTER:.0f} s ({state}); see {self.places.log}")

    def _note(self, run: Ledger) -> None:
        write_ledger(self.places.ledger, run)
        self.run = run


def enqueue_all(run: Ledger) -> None:
    """Put every task of the plan. An id follows from the path, so what is in the queue already is left alone.

    A run that was killed just here puts what has run meanwhile again, which makes the same results again.
    """
    for path in run.sources:
        tasks.index.using(id=tasks.task_id(path), on_duplicate="ignore").enqueue(path)
    for photo, target in run.pictures:
        tasks.thumbnail.using(id=tasks.task_id(target), on_duplicate="ignore").enqueue(photo, target)
