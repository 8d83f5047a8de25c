"""What is seen while the work goes on: bars and the slots on a terminal, a plain line a second anywhere else.

Only draws what it is given; a terminal is left as it was found.
"""

import contextlib
import typing
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .fleet import Slot
from .plan import DemoError
from .results import Track

MOST_ROWS = 10
LINE_EVERY = 1.0  # seconds


class View(typing.Protocol):
    """Both kinds of view."""

    def show(self, tracks: Sequence[Track], slots: Sequence[Slot], now: float) -> None:
        """Draw the state of things."""

    def say(self, text: str) -> None:
        """Tell an event, once."""


class LiveView:
    """Bars and slots, redrawn in place; events scroll away above."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, tracks: Sequence[Track], slots: Sequence[Slot], now: float) -> None:
        """Redraw."""
        with _somebody_reads():
            self._live.update(Group(bars(tracks, now), slot_table(slots)), refresh=True)

    def say(self, text: str) -> None:
        """Print above the picture."""
        with _somebody_reads():
            self._live.console.print(f"  {escape(text)}", highlight=False)


class PlainView:
    """A line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, tracks: Sequence[Track], slots: Sequence[Slot], now: float) -> None:
        """Print the line if it is time."""
        if now >= self._next:
            self._next = now + LINE_EVERY
            self.say(plain_line(tracks, slots, now))

    def say(self, text: str) -> None:
        """Print a line."""
        with _somebody_reads():
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def open_view(console: Console) -> Iterator[View]:
    """The view that suits where the output goes."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    with Live(console=console, auto_refresh=False) as live:  # no thread of its own: we fork
        yield LiveView(live)


@contextlib.contextmanager
def _somebody_reads() -> Iterator[None]:
    """Rich exits where the output is closed; we have children to stop first."""
    try:
        yield
    except SystemExit:
        raise DemoError("nobody reads the output any more; stopped, make demo goes on from here") from None


def plain_line(tracks: Sequence[Track], slots: Sequence[Slot], now: float) -> str:
    """``12 s  index 400/1790 …  slots 4, 2 busy``."""
    parts = [f"{track.queue} {track.done}/{track.total} ({track.rate(now):.0f}/s)" for track in tracks]
    busy = sum(slot.busy for slot in slots)
    return "   ".join([f"{now - tracks[0].began:4.0f} s", *parts, f"slots {len(slots)}, {busy} busy"])


def bars(tracks: Sequence[Track], now: float) -> Table:
    """One bar a queue."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", width=12)
    grid.add_column(width=40)
    for _ in range(3):
        grid.add_column(justify="right")
    for track in tracks:
        bar = ProgressBar(total=max(1, track.total), completed=track.done, finished_style="green")
        share = 100 * track.done / max(1, track.total)
        rate = f"[dim]{track.rate(now):.0f}/s[/]"
        grid.add_row(f"  {track.queue}", bar, f"{track.done}/{track.total}", f"{share:.0f}%", rate)
    return grid


def slot_table(slots: Sequence[Slot]) -> Table:
    """The slot map with what each slot does just now."""
    more = f"and {len(slots) - MOST_ROWS} more" if len(slots) > MOST_ROWS else None
    table = Table(box=box.SIMPLE_HEAD, caption=more, caption_justify="left")
    for column in ("slot", "pid", "serves", "state"):
        table.add_column(column)
    for column in ("done", "PSS", "private"):
        table.add_column(column, justify="right")
    for slot in slots[:MOST_ROWS]:
        state = Text(slot.state, style="green" if slot.busy else "dim")
        numbers = (str(slot.done or 0), megabytes(slot.pss), megabytes(slot.private))
        table.add_row(slot.name, str(slot.pid or "-"), ", ".join(slot.queues), state, *numbers)
    return table


def megabytes(size: int | None) -> str:
    """Bytes for people; a dash while unknown."""
    return "-" if size is None else f"{size / 2**20:.1f} MB"
