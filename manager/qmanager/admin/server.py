"""``qslots server`` and ``qslots slot``: orders for one server, which its master hears with its next report."""

from collections.abc import Callable

import click

from qslots import given
from qslots.control import Control
from qslots.errors import Error
from qslots.reports import Report
from qslots.units import counted

from .command import as_document, complete_server, file_option, json_option, opened, quiet, redis_option


@click.group()
def server() -> None:
    """Take a server out of the fleet, or back into it."""


@click.group()
def slot() -> None:
    """Renew single slots of a server."""


def ordering(command: Callable[..., None]) -> Callable[..., None]:
    """A command for one server: -c, --redis, --json."""
    return file_option(redis_option(json_option(quiet(command))))


name_argument = click.argument("name", metavar="NAME", shell_complete=complete_server)


@server.command()
@name_argument
@ordering
def drain(name: str, file: str | None, redis: str | None, as_json: bool) -> None:
    """Let all slots of server NAME leave after their task.

    Its queues go to other servers. It stays drained until `qslots server undrain`, also over restarts.
    """
    control = _control(file, redis)
    report = _report(control, name)
    control.order(name, draining=True)
    _tell(as_json, {"server": name, "draining": True, "slots": len(report.slots)},
          f"server {name} is to drain: {counted(len(report.slots), 'slot')} to leave")  # fmt: skip


@server.command()
@name_argument
@ordering
def undrain(name: str, file: str | None, redis: str | None, as_json: bool) -> None:
    """Let the slots of server NAME come back."""
    control = _control(file, redis)
    if name not in control.orders():
        _report(control, name)
    control.order(name, draining=False)
    _tell(as_json, {"server": name, "draining": False}, f"server {name} is in the fleet again")


@slot.command()
@click.argument("name", metavar="SERVER", shell_complete=complete_server)
@click.argument("indexes", metavar="INDEX...", nargs=-1, required=True, type=click.IntRange(min=0))
@ordering
def recycle(name: str, indexes: tuple[int, ...], file: str | None, redis: str | None, as_json: bool) -> None:
    """Let slots of SERVER leave after their task; each is forked again."""
    control = _control(file, redis)
    pids = {each.index: each.pid for each in _report(control, name).slots}
    none = [str(index) for index in indexes if not pids.get(index)]
    if none:
        there = ", ".join(str(index) for index in sorted(pids)) or "none"
        raise Error(f"server {name} has no slot {', '.join(none)}; there are: {there}")
    chosen = {index: pids[index] for index in indexes}
    control.order(name, recycle=chosen)
    named = ", ".join(map(str, chosen))
    _tell(as_json, {"server": name, "slots": list(chosen)}, f"recycled after their task on {name}: {named}")


def _control(file: str | None, redis: str | None) -> Control:
    return Control(opened(file, redis).control)


def _report(control: Control, name: str) -> Report:
    """The newest report of a server; Error if none of this name has ever been seen."""
    reports, _, _ = control.reports()
    if name not in reports:
        raise Error(f"no server {name} reports: {given.meant(name, sorted(reports))}")
    return reports[name]


def _tell(as_json: bool, document: dict[str, object], line: str) -> None:
    click.echo(as_document(document) if as_json else line)
