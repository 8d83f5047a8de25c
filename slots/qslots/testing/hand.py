"""What runs the packs of a test: the worker of a slot, with a record that no master sees, and an event loop of its own.

It lives as long as the block, as a slot lives from pack to pack, so that what async handlers have opened in the loop
lives on. It takes nothing and gives nothing back.
"""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ..cascades import NO_CASCADE, Cascade
from ..handlers import Handler
from ..outcomes import Bury, Outcome, Postpone, Retry, micros
from ..queueserver import Kept, Pack
from ..scoreboard import Record
from ..servers import source
from ..worker import Worker

_WISHES = (Retry, Postpone, Bury)


class Watch:
    """What is seen and said of one pack."""

    def __init__(self, handler: Handler, *, raises: bool, settle: Callable[..., bool]) -> None:
        self.handler = handler
        self._raises = raises
        self._settle = settle
        self.outcomes: dict[int, Outcome] = {}
        self.errors: dict[int, BaseException] = {}
        self.unwanted: BaseException | None = None  # the first that the test is to see

    def see(self, position: int, error: BaseException) -> None:
        """What a handler has raised. That of the test itself, or of who runs it (^C), is never kept from them."""
        self.errors[position] = error
        failed = self._raises and not isinstance(error, _WISHES)
        if self.unwanted is None and (failed or not isinstance(error, (Exception, SystemExit, asyncio.CancelledError))):
            self.unwanted = error

    def may_go_on(self, _now: int) -> bool:
        """Not behind an error: what has not begun goes back untouched."""
        return self.unwanted is None

    def tell(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade) -> bool:
        """Stores how tasks have ended, without jitter."""
        for outcome in outcomes.values():
            outcome.jitter = 1.0
            if outcome.kind == "loss":
                outcome.delay = micros(self.handler.options.backoff.first)
        self.outcomes |= outcomes
        return self._settle(outcomes, results=kept, cascade=cascade)


class Hand:
    """One of a block."""

    def __init__(self) -> None:
        self.record = Record.unshared()
        self._watch: Watch | None = None
        self._worker = Worker(self.record, self._tell, self._may_go_on, self._see)

    def run(self, watch: Watch, pack: Pack, url: str) -> None:
        """Runs a pack from the server at ``url``, and shows the watch how it goes."""
        self._watch = watch
        self.record.put_text("held_source", source(watch.handler.queue, "testing").encode())
        with _alarms_kept():
            if watch.handler.is_async:
                with self._interruptible(watch):
                    _outside_of_loops(lambda: self._worker.run(watch.handler, pack, url))
            else:
                self._worker.run(watch.handler, pack, url)

    def close(self) -> None:
        """No more packs come."""
        _outside_of_loops(self._worker.close)

    def _tell(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
        assert self._watch is not None
        return self._watch.tell(outcomes, kept, cascade)

    def _may_go_on(self, now: int) -> bool:
        assert self._watch is not None
        return self._watch.may_go_on(now)

    def _see(self, position: int, error: BaseException) -> None:
        assert self._watch is not None
        self._watch.see(position, error)

    @contextlib.contextmanager
    def _interruptible(self, watch: Watch) -> Iterator[None]:
        """^C ends what waits in the event loop, which in a slot nothing ends; a second one is raised as usual."""

        def interrupted(*_: object) -> None:
            if isinstance(watch.unwanted, KeyboardInterrupt):
                raise watch.unwanted
            watch.unwanted = KeyboardInterrupt()
            self._worker.cancel()

        usual = signal.getsignal(signal.SIGINT)
        if not _may_handle_signals() or usual is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)


def _may_handle_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _alarms_kept() -> Iterator[None]:
    """Soft limits ring by SIGALRM, and so does what watches over tests: it rings on afterwards."""
    if not _may_handle_signals():
        yield
        return
    usual, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) != usual:
            signal.signal(signal.SIGALRM, usual)
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001) if left else 0, interval)


def _outside_of_loops(work: Callable[[], object]) -> None:
    """Here; or, where an event loop runs in this thread, in another: a thread runs one loop at a time."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
