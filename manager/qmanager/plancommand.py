"""``qmanager plan``: what would change, and why. It reads, prints and ends; nothing is published."""

import logging
import os
import sys
from collections.abc import Sequence

import click

from qslots import given
from qslots.connection import translated
from qslots.control import Control
from qslots.errors import Error
from qslots.servers import QueueServers
from qslots.settings import Settings, read
from qslots.units import duration

from .admin.command import Told, as_document, complete_server, file_option, json_option, opened, redis_option
from .admin.views import silence
from .dryrun import Given, document, lines, outcome
from .presence import begun_with
from .published import newest_plan
from .roster import Roster


@click.command("plan")
@click.option("--without", metavar="SERVER", multiple=True, shell_complete=complete_server,
              help="As if this server were lost; may be given several times.")  # fmt: skip
@file_option
@redis_option
@json_option
def plan_(without: tuple[str, ...], file: str | None, redis: str | None, as_json: bool) -> None:
    """Say what the next plans would change, and why; publish nothing.

    It may be asked beside a running manager: it goes on from the plan that was published last.
    """
    logging.getLogger("qmanager").handlers = [Told(_tell)]  # what is not believed of the fleet
    try:
        begun = _given(read(file, os.environ, redis=redis), opened(file, redis), without)
        found = document(begun, outcome(begun), without=without)
    except Error as error:
        _tell(str(error))
        sys.exit(1)
    if begun.plan is not None:
        for note in silence("the plan", begun.now - begun.plan.published):
            _tell(note)
    click.echo(as_document(found) if as_json else "\n".join(lines(found)))


def _tell(note: str) -> None:
    click.echo(f"qmanager: {note}", err=True)


def _given(settings: Settings, servers: QueueServers, without: Sequence[str]) -> Given:
    """What is there now. Error if a server that is to be thought away is not."""
    control = Control(servers.control)
    with translated(servers.control.url):
        plan, _ = newest_plan(servers.control.redis)
    roster = Roster(control, settings.queues, duration(settings.manager.lost_after))
    roster.begin((), plan.declared if plan else ())
    fleet = roster.look()
    rows = begun_with({name: row.slots for name, row in control.rows().items()}, fleet.reports)
    for name in without:
        if name not in rows:
            raise Error(f"there is no server {name}: {given.meant(name, sorted(rows))}")
    return Given(
        plan=plan, rows=rows, reports=[each for each in fleet.reports if each.server not in without],
        declared=fleet.declared, queues=fleet.queues, places={name: servers.places(name) for name in fleet.queues},
        now=fleet.now, interval=duration(settings.manager.interval),
    )  # fmt: skip
