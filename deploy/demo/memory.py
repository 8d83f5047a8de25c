"""Entry of ``make demo-memory``: what a slot of the demo costs, with and without gc.freeze in the mold.

Does the demo's work twice in a folder of its own under /tmp, the second time with QSLOTS_FREEZE=0, each time with four
slots and none killed; then prints the medians of what ``qslots slots --json`` says of the slots that worked.
"""

import asyncio
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from show import fleet, runner
from show.plan import DemoError, Places, prepare
from show.session import Session
from show.view import megabytes, open_view

import qslots

SLOTS = 4
MEASURED_WITHIN = 5.0  # seconds; the master measures each slot about once a second


async def work(places: Places, freeze: str, lock: int, console: Console) -> tuple[fleet.Slot, ...]:
    """Do the demo's work; the slots that did it, as measured afterwards."""
    runner.cancel_on_signals()
    run = prepare(places, os.environ)
    async with runner.at_work(places, lock, QSLOTS_FREEZE=freeze, QSLOTS_MAX_SLOTS=str(SLOTS)) as crew:
        with open_view(console) as view:
            await Session(run, places, crew, view, disturbed=False).work()
        await asyncio.sleep(MEASURED_WITHIN)
        return tuple(slot for slot in await fleet.ask_slots() if slot.done)


def table(measured: dict[str, Sequence[fleet.Slot]]) -> Table:
    """One row a run; medians over its slots."""
    drawn = Table(box=box.SIMPLE_HEAD, title="memory of a slot after the work, median")
    drawn.add_column("gc.freeze", style="cyan")
    for column in ("slots", "tasks", "PSS", "private"):
        drawn.add_column(column, justify="right")
    for name, slots in measured.items():
        sizes = (median([slot.pss for slot in slots]), median([slot.private for slot in slots]))
        drawn.add_row(name, str(len(slots)), str(sum(slot.done for slot in slots)), *sizes)
    return drawn


def median(sizes: Sequence[int | None]) -> str:
    """In MB; a dash where nothing was measured."""
    known = [size for size in sizes if size is not None]
    return megabytes(round(statistics.median(known)) if known else None)


def main() -> int:
    """Measure; the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=100)
    measured: dict[str, Sequence[fleet.Slot]] = {}
    try:
        for name, freeze in (("yes", "1"), ("no", "0")):
            with tempfile.TemporaryDirectory(prefix="qshelf-") as folder:
                console.print(f"[bold]gc.freeze: {name}[/]", highlight=False)
                places = Places.under(pathlib.Path(folder))
                with runner.alone(places, console) as lock:
                    measured[name] = asyncio.run(work(places, freeze, lock, console))
    except (DemoError, qslots.Error) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return runner.STOPPED
    console.print(table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
