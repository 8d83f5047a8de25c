"""``qslots explain``, ``pin`` and ``unpin``: why a queue has its slots, and how many people want it to have."""

import functools

import click

from qslots.connection import translated
from qslots.control import Control
from qslots.given import MOST_OF_A_QUEUE
from qslots.units import counted

from . import explaining, queueviews
from .command import as_document, complete_queue, json_option, of_a_fleet, opened, tell
from .show import Show, reading

name_argument = click.argument("name", metavar="QUEUE", shell_complete=complete_queue)


@click.command()
@name_argument
@reading
def explain(name: str, file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """Every number behind the slots that QUEUE wants and is granted."""
    view = functools.partial(explaining.explain_view, name=name)
    table = Show(view, lambda _, document, __: explaining.explain_table(document))
    table.run(file, redis, as_json=as_json, watch=watch)


@click.command()
@name_argument
@click.argument("slots", metavar="N", type=click.IntRange(min=0, max=MOST_OF_A_QUEUE))
@json_option
@of_a_fleet
def pin(name: str, slots: int, file: str | None, redis: str | None, as_json: bool) -> None:
    """Give QUEUE exactly N slots, whatever it needs, until `qslots unpin`."""
    servers = opened(file, redis)
    control = Control(servers.control)
    with translated(servers.control.url):
        queueviews.existing(servers, name)
    control.pin(name, slots)
    most = explaining.ceiling(name, *queueviews.fleet(servers))
    if slots > most:
        tell(f"the servers that report can carry {counted(most, 'slot')} of queue {name}: it cannot have more")
    _print(as_json, name, slots, f"queue {name} is pinned to {counted(slots, 'slot')} from the next plan on")


@click.command()
@name_argument
@json_option
@of_a_fleet
def unpin(name: str, file: str | None, redis: str | None, as_json: bool) -> None:
    """Let QUEUE have again what it needs."""
    servers = opened(file, redis)
    control = Control(servers.control)
    pinned = control.pins().get(name)
    if pinned is None:
        with translated(servers.control.url):
            queueviews.existing(servers, name)
    control.pin(name, None)
    before = "was not pinned" if pinned is None else f"is no longer pinned to {counted(pinned, 'slot')}"
    _print(as_json, name, None, f"queue {name} {before}")


def _print(as_json: bool, name: str, slots: int | None, line: str) -> None:
    click.echo(as_document({"queue": name, "pinned": slots}) if as_json else line)
