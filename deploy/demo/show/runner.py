"""The demo from start to end: one run, taken up again if it was interrupted, and its summary.

Exit 0 only if no result is missing without a reason. Whatever happens, what was started here is stopped here.
"""

import asyncio
import contextlib
import fcntl
import os
import pathlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator

from qshelf import tasks
from rich.console import Console
from rich.markup import escape

import qslots

from . import children, results, summary
from .plan import DemoError, Places, Run, Stage, prepare, write_ledger
from .session import Session
from .view import open_view

HOME = pathlib.Path(__file__).resolve().parents[1]
STOPPED = 130  # as a shell says of ^C


def main() -> int:
    """Run the demo; the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=100)
    try:
        places = Places.of(os.environ, pathlib.Path.cwd())
        with alone(places, console) as lock:
            run = prepare(places, os.environ)
            _announce(console, run)
            session, outcomes = asyncio.run(_run(console, places, run, lock))
        summary.report(console, session.run, places, session.tracks, outcomes)
        return 1 if results.total_lost(outcomes) else 0
    except (DemoError, qslots.Error) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("demo: stopped; what was queued stays queued, make demo goes on from here")
        return STOPPED


async def _run(console: Console, places: Places, run: Run, lock: int) -> tuple[Session, tuple[results.Outcome, ...]]:
    """What was done, all children stopped."""
    cancel_on_signals()
    async with at_work(places, lock) as crew:
        with open_view(console) as view:
            session = Session(run, places, crew, view)
            await session.work()
    outcomes = results.inspect(session.run, places, session.queues)
    write_ledger(places.ledger, session.run.at(Stage.ENDED))
    return session, outcomes


@contextlib.asynccontextmanager
async def at_work(places: Places, lock: int, **more: str) -> AsyncIterator[children.Crew]:
    """The mail server and ``qslots up``; ``more`` is added to their environment."""
    async with children.mail_server(places.maildir, environment(places)) as (mail, address):
        environ = {**environment(places), tasks.SMTP: address, **more}
        async with children.qslots_up(places, environ, lock) as up:  # ends first: its slots may have mails to send
            qslots.connect(places.url)
            yield children.Crew(up, mail)


def environment(places: Places) -> dict[str, str]:
    """What the children live in: our folder to import from, where results go, no settings but ours."""
    path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name not in ("QSLOTS_REDIS", "QSLOTS_APP")}
    return {
        **inherited,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",  # `up` writes to a file and must be read at once
        "QSLOTS_CONFIG": os.devnull,
        tasks.RESULTS: str(places.results),
    }


def _announce(console: Console, run: Run) -> None:
    begin = f"goes on with the run of {run.began}" if run.sessions > 1 else "begins"
    console.print(f"[bold]qslots demo[/] {begin}", highlight=False)
    for queue, text in (
        ("index", f"{len(run.sources)} source files of {run.library}"),
        ("thumbnail", f"{len(run.pictures)} pictures, {run.photos}"),
        ("notify", f"{len(run.directories)} directories to tell of by mail when they are in the index"),
    ):
        console.print(f"  [cyan]{queue:<12}[/]{escape(text)}", highlight=False, soft_wrap=True)
    console.print("[dim]starting qslots up: a private queue server, qmanager, qmaster[/]", highlight=False)


def cancel_on_signals() -> None:
    """^C, TERM and HUP cancel the running task, once."""
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
def alone(places: Places, console: Console) -> Iterator[int]:
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
