"""The event loop of a slot, kept from pack to pack, so that what async handlers have opened in it lives on.

It goes on until what was asked for is over, whatever a handler does to it: asyncio lets SystemExit and
KeyboardInterrupt of any task of a loop through to whoever runs it, and any handler can stop it. Tasks that a handler
leaves behind are cancelled at the end of its pack: nobody would answer for them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from .forks import end_if_forked
from .running import Running, enter

log = logging.getLogger("qslots.slot")
_GRACE = 1.0  # seconds for what was cancelled to end


class EventLoop:
    """One asyncio loop, owned."""

    def __init__(self) -> None:
        self.asyncio = asyncio.new_event_loop()
        self._told: set[str] = set()  # handlers of which it was said that they leave tasks behind

    def run(self, handler: str, is_over: Callable[[], bool]) -> None:
        """Runs what was begun for this handler, until ``is_over`` says so after a ``stop``."""
        while not is_over():
            try:
                self.asyncio.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                end_if_forked()
                log.warning("%s: an asyncio task has raised %s; its slot goes on", handler, type(error).__name__)

    def finish(self, handler: str, call: Callable[[], Awaitable[object]], running: Running) -> BaseException | None:
        """Runs one coroutine to its end; returns what it has raised."""
        errors: list[BaseException] = []

        async def guarded() -> None:
            enter(running)
            try:
                await call()
            except BaseException as error:
                errors.append(error)

        task = self.asyncio.create_task(guarded())
        task.add_done_callback(lambda _: self.asyncio.stop())
        self.run(handler, task.done)
        self.cancel_left(handler, str(running.parent))
        return errors[0] if errors else asyncio.CancelledError() if task.cancelled() else None

    def cancel_left(self, handler: str, whose: str) -> None:
        """The pack of this handler is over, and with it all that it has started. ``whose``: its first task."""
        left = asyncio.all_tasks(self.asyncio)
        if not left:
            return
        if handler not in self._told:
            self._told.add(handler)
            log.warning(
                "%s left %d asyncio task(s) behind after its pack (of %s); they are cancelled: await what it starts",
                handler, len(left), whose,
            )  # fmt: skip
        for task in left:
            task.cancel()
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            self.asyncio.run_until_complete(asyncio.wait(left, timeout=_GRACE))
        end_if_forked()

    def cancel(self) -> None:
        """Cancels whatever runs, also from a signal handler or another thread."""
        for task in asyncio.all_tasks(self.asyncio):
            self.asyncio.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """Ends what async generators had open, as far as that is quick, and the loop."""
        with contextlib.suppress(TimeoutError, SystemExit, KeyboardInterrupt):
            self.asyncio.run_until_complete(asyncio.wait_for(self.asyncio.shutdown_asyncgens(), _GRACE))
        self.asyncio.close()
