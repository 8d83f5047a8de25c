"""What came out: each result looked at, what is missing, and the words for it.

``lost`` counts results that are missing and whose task the queue has not buried: a buried task is not lost, it lies
there with its reason. The verdict never rests on what the queue says alone.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import fleet, mail, pictures, shelf, sources
from .ledger import Ledger
from .plan import Places
from .progress import Track

QUESTION = 'fork AND "child process"'
THUMBNAIL_SIZE = 128


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One queue's results: wanted, missing on disk, buried in the queue."""

    queue: str
    wanted: int
    missing: int
    buried: int

    @property
    def lost(self) -> int:
        """Missing without a reason."""
        return max(0, self.missing - self.buried)


def inspect(run: Ledger, places: Places, queues: Iterable[fleet.Queue]) -> tuple[Outcome, ...]:
    """Look at every single result: sections counted, thumbnails decoded, Message-IDs read."""
    buried = {queue.name: queue.buried for queue in queues}
    with shelf.open_shelf(places.index) as opened:
        intact = shelf.intact_files(opened)
    seen = set(mail.message_ids(places.maildir))
    missing = {
        "index": sum(path not in intact for path in run.sources),
        "thumbnail": sum(not pictures.is_thumbnail(target, THUMBNAIL_SIZE) for _, target in run.pictures),
        "notify": sum(mail.message_id(directory) not in seen for directory in run.directories),
    }
    wanted = {"index": len(run.sources), "thumbnail": len(run.pictures), "notify": len(run.directories)}
    return tuple(Outcome(name, wanted[name], missing[name], buried.get(name, 0)) for name in wanted)


def total_lost(outcomes: Iterable[Outcome]) -> int:
    """Over all queues."""
    return sum(outcome.lost for outcome in outcomes)


def report(console: Console, run: Ledger, places: Places, tracks: Sequence[Track], outcomes: Sequence[Outcome]) -> None:
    """Print the summary."""
    console.print()
    console.print(_table(tracks, outcomes))
    for name, text in _lines(run, places):
        console.print(f"  [dim]{name:<12}[/]{text}", soft_wrap=True, highlight=False)
    _print_answer(console, places)
    lost = total_lost(outcomes)
    console.print(f"\n  [bold {'red' if lost else 'green'}]tasks lost: {lost}[/]\n", highlight=False)


def _table(tracks: Sequence[Track], outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True)
    table.add_column("queue", style="cyan")
    for column in ("tasks", "done", "seconds", "tasks/s", "buried", "lost"):
        table.add_column(column, justify="right")
    for track, outcome in zip(tracks, outcomes, strict=True):
        done = outcome.wanted - outcome.missing
        numbers = (outcome.wanted, done, f"{track.seconds:.1f}", f"{track.rate:.0f}", outcome.buried, outcome.lost)
        table.add_row(outcome.queue, *(str(number) for number in numbers))
    return table


def _lines(run: Ledger, places: Places) -> Iterable[tuple[str, str]]:
    if run.sessions > 1:
        yield "went on", f"the run of {run.run} was interrupted {_times(run.sessions - 1)} and went on where it stopped"
    yield "slot killed", escape(run.killed or "none: no busy slot was seen in time")
    yield "pictures", escape(run.photos)
    yield "index", escape(f"{places.index} ({places.index.stat().st_size / 1e6:.0f} MB)")
    yield "thumbnails", escape(f"{places.thumbs}/")
    found = mail.message_ids(places.maildir)
    yield "mails", escape(f"{places.maildir}/ ({len(found)}, {len(found) - len(set(found))} repeated)")


def _print_answer(console: Console, places: Places) -> None:
    with shelf.open_shelf(places.index) as opened:
        hits = shelf.search(opened, QUESTION, 4)
    console.print(f"\n  the index, asked for [bold]{QUESTION}[/]:", highlight=False)
    for hit in hits:
        console.print(
            f"    [cyan]{escape(_short(hit.path))}:{hit.line}[/] [bold]{escape(hit.name)}[/]", highlight=False
        )
        console.print(f"      [dim]{escape(hit.snippet)}[/]", highlight=False, no_wrap=True, overflow="ellipsis")


def _short(path: str) -> str:
    root = sources.library()
    return str(pathlib.Path(path).relative_to(root)) if pathlib.Path(path).is_relative_to(root) else path


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
