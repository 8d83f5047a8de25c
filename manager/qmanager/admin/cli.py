"""The ``qslots`` command: what people and scripts ask of a fleet. It reads, prints and ends; ``up`` alone stays.

``command`` has what all have in common; ``queue`` and ``task`` are groups of their own.
"""

import importlib.metadata
import os
import pathlib
import sys
import typing

import click
from rich.console import RenderableType

from qslots import keys, settings
from qslots.completion import completion_of
from qslots.connection import translated
from qslots.program import Program
from qslots.servers import QueueServers

from ..published import clock
from . import periodicviews, queueviews, tables, views
from .command import of_a_fleet
from .plan import explain, pin, unpin
from .queue import queue
from .server import server, slot
from .show import Show, reading
from .task import task


def _version() -> str:
    try:
        return importlib.metadata.version("qslots")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="qslots")
def main() -> None:
    """Look after a fleet of slots that drains queues.

    The queue server is the one of --redis, QSLOTS_REDIS or the settings file, else the private one of `qslots up` in
    this folder. Tab completion: `qslots completion bash` and follow what it says.
    """


def _map_view(servers: QueueServers) -> views.View:
    """The map, and notes of queue servers whose counts are not beside it."""
    seen = views.map_view(servers)
    return views.View(seen.document, (*seen.notes, *queueviews.queue_names(servers).notes))


def _map_table(servers: QueueServers, slot_map: views.Document, width: int) -> RenderableType:
    with translated(servers.control.url):
        queues, reporting = queueviews.queues_view(servers).document, views.servers_view(servers).document
    return tables.map_table(slot_map, queues, reporting, width)


def _map_line(servers: QueueServers, slot_map: views.Document) -> str:
    with translated(servers.control.url):
        return tables.map_line(slot_map, queueviews.queues_view(servers).document)


def _slots_table(servers: QueueServers, document: typing.Any, _: int) -> RenderableType:
    with translated(servers.control.url):
        any_server = bool(servers.control.redis.exists(keys.REPORTS))
    return tables.slots_table(document, any_server=any_server)


def _periodic_table(servers: QueueServers, document: typing.Any, _: int) -> RenderableType:
    with translated(servers.control.url):
        return tables.periodic_table(document, clock(servers.control))


MAP = Show(_map_view, _map_table, _map_line)
QUEUES = Show(queueviews.queues_view, lambda _, document, width: tables.queues_table(document, width))
PERIODIC = Show(periodicviews.periodic_view, _periodic_table)
SERVERS = Show(views.servers_view, lambda _, document, __: tables.servers_table(document))
SLOTS = Show(views.slots_view, _slots_table)


@main.command("map")
@reading
def map_command(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The slot map, servers x queues.

    How many slots each queue wants, is granted and has on each server; ▼ where short.
    """
    MAP.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@reading
def queues(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The queues: what waits, what it needs, and why."""
    QUEUES.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@reading
def periodic(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The periodic handlers: last and next run, what was missed."""
    PERIODIC.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@reading
def servers(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The servers: slots, memory, generation of the code."""
    SERVERS.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@reading
def slots(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The slots: state, current task and its age, memory."""
    SLOTS.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@click.option("--app", "apps", metavar="MODULE", multiple=True, help="What to import; may be given several times.")
@click.option("--data", metavar="DIR", envvar="QSLOTS_DATA", type=click.Path(path_type=pathlib.Path),
              default=".qslots", show_default=True, help="Where the private queue server keeps its data.")  # fmt: skip
@click.option("--server", metavar="NAME", help="The name of this server; the host's unless given.")
@of_a_fleet
def up(
    apps: tuple[str, ...], data: pathlib.Path, server: str | None, file: str | None, redis: str | None
) -> None:  # fmt: skip
    """Queue server, qmanager and qmaster of one machine.

    ^C stops all in good order.

    Without a URL a private queue server runs in DIR; what is queued there survives ^C and the next `up`.
    """
    from . import up as all_in_one

    chosen = settings.read(file, os.environ, app=tuple(apps), redis=redis, server=server)
    sys.exit(all_in_one.run(chosen, data=data, file=file or os.environ.get("QSLOTS_CONFIG")))


main.add_command(explain)
main.add_command(pin)
main.add_command(unpin)
main.add_command(queue)
main.add_command(task)
main.add_command(server)
main.add_command(slot)
main.add_command(completion_of(main, "qslots"))


if __name__ == "__main__":
    main()
