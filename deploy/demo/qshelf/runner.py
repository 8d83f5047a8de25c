"""The demo from start to end: one run, taken up again if it was interrupted, and its summary.

Exit 0 only if every result was found on disk. Whatever happens, what was started here is stopped here.
"""

import asyncio
import contextlib
import fcntl
import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

import qslots

from . import children, summary, tasks
from .ledger import Ledger, Stage, write_ledger
from .plan import DemoError, Places, prepare
from .session import Session
from .view import open_view

HOME = pathlib.Path(__file__).resolve().parents[1]
STOPPED = 130  # as a shell says of ^C


def main() -> int:
    """Run the demo; the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=100)
    try:
        places = Places.of(os.environ, pathlib.Path.cwd())
        with _locked(places, console) as lock:
            run = prepare(places, os.environ)
            _announce(console, run)
            session, outcomes = asyncio.run(_run(console, places, run, lock))
        summary.report(console, session.run, places, session.tracks, outcomes)
        return 1 if summary.total_lost(outcomes) else 0
    except (DemoError, qslots.Error) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("demo: stopped; what was queued stays queued, make demo goes on from here")
        return STOPPED


async def _run(console: Console, places: Places, run: Ledger, lock: int) -> tuple[Session, tuple[summary.Outcome, ...]]:
    """What was done, all children stopped."""
    _cancel_on_signals()
    async with contextlib.AsyncExitStack() as stack:
        sink, address = await children.start_sink(places.maildir, environment(places, ""))
        stack.push_async_callback(children.stop_sink, sink)
        environ = environment(places, address)
        up = await children.start_up(places, environ, lock)
        stack.push_async_callback(children.stop_up, up)  # before the sink: its slots may have mails to send
        qslots.connect(places.url)
        with open_view(console) as view:
            session = Session(run, places, {**environ, "QSLOTS_REDIS": places.url}, view, up)
            await _work(session)
        outcomes = summary.inspect(session.run, places, session.queues)
        write_ledger(places.ledger, session.run.at(Stage.ENDED))
    return session, outcomes


async def _work(session: Session) -> None:
    try:
        await session.work()
    except ExceptionGroup as group:  # its tasks fail for one reason; the first to say so has it
        raise group.exceptions[0] from None


def environment(places: Places, address: str) -> dict[str, str]:
    """What the children live in: our folder to import from, where results and mails go, no settings but ours."""
    path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name not in ("QSLOTS_REDIS", "QSLOTS_APP")}
    return {
        **inherited,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",  # `up` writes to a file and must be read at once
        "QSLOTS_CONFIG": os.devnull,
        tasks.RESULTS: str(places.results),
        tasks.SMTP: address,
    }


def _announce(console: Console, run: Ledger) -> None:
    begin = "goes on with the run of" if run.sessions > 1 else "begins a run,"
    console.print(
        f"[bold]qslots demo[/] {begin} {run.run}: {len(run.sources)} source files to index, "
        f"{len(run.pictures)} pictures ({escape(run.photos)}), {len(run.directories)} directories to tell of by mail",
        highlight=False, soft_wrap=not console.is_terminal,
    )  # fmt: skip


def _cancel_on_signals() -> None:
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop() -> None:
        for each in signals:
            loop.add_signal_handler(each, lambda: None)  # a second ^C must not break the stopping
        work.cancel()

    for each in signals:
        loop.add_signal_handler(each, stop)


@contextlib.contextmanager
def _locked(places: Places, console: Console) -> Iterator[int]:
    """Alone in the folder; gives the lock that ``qslots up`` shall hold, once a former ``up`` has let go of it."""
    places.root.mkdir(parents=True, exist_ok=True)
    with (places.root / "demo.lock").open("a") as ours, (places.root / "up.lock").open("a") as ups:
        if not _take(ours.fileno()):
            raise DemoError(
                f"another demo is at work in {places.root}; wait for it, or set DEMO_DATA to another folder"
            )
        deadline = time.monotonic() + children.STOP_WITHIN
        said = False
        while not _take(ups.fileno()):
            if not said:
                console.print("the qslots up of the interrupted run is still stopping")
                said = True
            if time.monotonic() > deadline:
                raise DemoError(f"a former qslots up still works in {places.queue}; stop it")
            time.sleep(children.LOOK_AGAIN)
        yield ups.fileno()


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
