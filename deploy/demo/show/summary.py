"""The closing words: what was done, how fast, where it lies, what the index answers, and what was lost."""

import pathlib
from collections.abc import Iterator, Sequence

from qshelf import mail, shelf
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .plan import Places, Run
from .results import Outcome, Track, total_lost

QUESTION = 'fork AND "child process"'


def report(console: Console, run: Run, places: Places, tracks: Sequence[Track], outcomes: Sequence[Outcome]) -> None:
    """Print the summary."""
    console.print()
    console.print(_table(tracks, outcomes))
    for name, text in _lines(run, places):
        console.print(f"  [dim]{name:<12}[/]{text}", soft_wrap=True, highlight=False)
    _print_answer(console, places, run.library)
    lost = total_lost(outcomes)
    console.print(f"\n  [bold {'red' if lost else 'green'}]tasks lost: {lost}[/]\n", highlight=False)


def _table(tracks: Sequence[Track], outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True)
    table.add_column("queue", style="cyan")
    for column in ("tasks", "done", "seconds", "tasks/s", "buried", "lost"):
        table.add_column(column, justify="right")
    for track, outcome in zip(tracks, outcomes, strict=True):
        done = outcome.wanted - outcome.missing
        numbers = (
            outcome.wanted,
            done,
            f"{track.seconds:.1f}",
            f"{track.rate(track.last):.0f}",
            outcome.buried,
            outcome.lost,
        )
        table.add_row(outcome.queue, *(str(number) for number in numbers))
    return table


def _lines(run: Run, places: Places) -> Iterator[tuple[str, str]]:
    if run.sessions > 1:
        yield (
            "went on",
            f"the run of {run.began} was interrupted {_times(run.sessions - 1)} and went on where it stopped",
        )
    yield "slot killed", escape(run.killed or "none: no busy slot was seen in time")
    yield "pictures", escape(run.photos)
    yield "index", escape(f"{places.index} ({places.index.stat().st_size / 1e6:.1f} MB)")
    yield "thumbnails", escape(f"{places.thumbs}/")
    found = mail.message_ids(places.maildir)
    yield "mails", escape(f"{places.maildir}/ ({len(found)}, {len(found) - len(set(found))} repeated)")


def _print_answer(console: Console, places: Places, root: str) -> None:
    with shelf.open_shelf(places.index) as opened:
        hits = shelf.search(opened, QUESTION, 4)
    console.print(f"\n  the index, asked for [bold]{QUESTION}[/]:{'' if hits else ' nothing there'}", highlight=False)
    for hit in hits:
        console.print(
            f"    [cyan]{escape(_short(hit.path, root))}:{hit.line}[/] [bold]{escape(hit.name)}[/]", highlight=False
        )
        console.print(f"      [dim]{escape(hit.snippet)}[/]", highlight=False, no_wrap=True, overflow="ellipsis")


def _short(path: str, root: str) -> str:
    return str(pathlib.Path(path).relative_to(root)) if pathlib.Path(path).is_relative_to(root) else path


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
