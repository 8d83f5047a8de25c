"""The commands that ask the running master of this server. They do nothing themselves: see ``requests`` and ``desk``.

One clear line for people, one document with ``--json``; exit 0 if it is done, 1 if it is not, with why on stderr.
"""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import click

from qslots.daemon.faults import EX_SOFTWARE, Broken
from qslots.daemon.places import runtime_dir
from qslots.errors import Error
from qslots.settings import ServerSettings, read
from qslots.units import counted

from .asking import ask, servers_in
from .identity import server_name

_P = ParamSpec("_P")
_R = TypeVar("_R")
PATIENCE = 5.0  # seconds for an answer that need not wait for anything


def in_one_line(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Errors of ours as one line on stderr and exit 1."""

    @wraps(command)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except Error as error:
            click.echo(f"qmaster: {error}", err=True)
            sys.exit(EX_SOFTWARE if isinstance(error, Broken) else 1)

    return told


def _names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What Tab makes of the beginning of a master's name."""
    try:
        folder = runtime_dir(read(ctx.params.get("file"), os.environ).server)
    except Error:
        return []
    return [name for name in servers_in(folder) if name.startswith(incomplete)]


def _indexes(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What Tab makes of the beginning of a slot's index."""
    try:
        answer = ask(_socket(ctx.params.get("file"), ctx.params.get("server")), {"command": "status"}, timeout=1.0)
    except Error:
        return []
    found = [str(slot["index"]) for slot in (answer or {}).get("slots", [])]
    return [index for index in found if index.startswith(incomplete)]


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every command has."""
    name = click.option(
        "--server", metavar="NAME", shell_complete=_names, help="This server's name; the host's by default."
    )
    return click.option("-c", "file", metavar="FILE", help="Settings file; QSLOTS_CONFIG by default.")(name(command))


def _asking(command: Callable[..., None]) -> click.Command:
    """A command of this module."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    return click.command()(common(as_json(in_one_line(command))))


def _socket(file: str | None, server: str | None) -> pathlib.Path:
    settings: ServerSettings = read(file, os.environ, server=server).server
    return runtime_dir(settings) / f"{server_name(settings)}.sock"


def _asked(path: pathlib.Path, request: dict[str, Any], *, wait: bool = False) -> dict[str, Any]:
    """The answer; Error if the master ended instead of giving one. Whoever waits at a terminal sees how it goes."""
    with _watched(path) if wait else contextlib.nullcontext() as meanwhile:
        answer = ask(path, request, timeout=None if wait else PATIENCE, meanwhile=meanwhile)
    if answer is None:
        raise Error("qmaster has closed the connection without an answer: it has ended, its log says why")
    return answer


@contextlib.contextmanager
def _watched(path: pathlib.Path) -> Iterator[Callable[[], None] | None]:
    from . import screen

    with screen.progress(partial(_asked, path, {"command": "status"})) as meanwhile:
        yield meanwhile


def _told(answer: dict[str, Any], line: str, *, as_json: bool) -> None:
    """What has come of an order: exit 1 if it was not done."""
    done = bool(answer.get("ok"))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif done:
        click.echo(line)
    if not done:
        raise Error(str(answer.get("why")) or "it was not done")


@click.option("--watch", is_flag=True, help="Look again every second until ^C.")
@_asking
def status(file: str | None, server: str | None, as_json: bool, watch: bool) -> None:
    """What the master of this server does just now."""
    path = _socket(file, server)
    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together: call it with --json again and again")
    ask_it = partial(_asked, path, {"command": "status"})
    if as_json:
        click.echo(json.dumps(ask_it(), indent=2))
        return
    from . import screen

    if watch:
        screen.watch(ask_it)
    screen.show(ask_it())


def _renew(command: str, file: str | None, server: str | None, *, as_json: bool, wait: bool) -> None:
    answer = _asked(_socket(file, server), {"command": command, "wait": wait}, wait=wait)
    done = f"generation {answer.get('generation')} has taken over"
    _told(answer, done if wait else "asked for: `qmaster status` shows how it goes", as_json=as_json)


_no_wait = click.option("--no-wait", is_flag=True, help="Return at once; `qmaster status` shows how it goes.")


@_no_wait
@_asking
def reload(file: str | None, server: str | None, as_json: bool, no_wait: bool) -> None:
    """Load settings and code anew, without a pause (HUP).

    The slots are replaced a few at a time; waits until the new generation has taken over. What does not load leaves the
    old generation at work: exit code 1.
    """
    _renew("reload", file, server, as_json=as_json, wait=not no_wait)


@_no_wait
@_asking
def refork(file: str | None, server: str | None, as_json: bool, no_wait: bool) -> None:
    """Load the code anew, with the settings in force (USR2)."""
    _renew("refork", file, server, as_json=as_json, wait=not no_wait)


@click.option("--wait", is_flag=True, help="Return when the last slot has left.")
@_asking
def drain(file: str | None, server: str | None, as_json: bool, wait: bool) -> None:
    """Let all slots leave after their task; the master stays.

    Their queues go to other servers, until `qmaster undrain` or the next start.
    """
    answer = _asked(_socket(file, server), {"command": "drain", "wait": wait}, wait=wait)
    left = f"{counted(answer.get('slots', 0), 'slot')} still here" if answer.get("slots") else "no slot is left"
    _told(answer, f"drained, {left}; `qmaster undrain` brings them back", as_json=as_json)


@_asking
def undrain(file: str | None, server: str | None, as_json: bool) -> None:
    """Let the slots of this server come back."""
    answer = _asked(_socket(file, server), {"command": "undrain"})
    _told(answer, answer.get("why") or "no longer drained, slots come back with the next map", as_json=as_json)


@click.option("--all", "every", is_flag=True, help="All slots, a few at a time.")
@click.argument("indexes", metavar="[INDEX]...", nargs=-1, type=click.IntRange(min=0), shell_complete=_indexes)
@_asking
def recycle(file: str | None, server: str | None, as_json: bool, every: bool, indexes: tuple[int, ...]) -> None:
    """Let slots leave after their task; each is forked again."""
    if every == bool(indexes):
        raise click.UsageError("name the INDEX of one slot or of several, or give --all")
    answer = _asked(_socket(file, server), {"command": "recycle", "slots": indexes, "all": every})
    going = answer.get("slots", [])
    named = ", ".join(map(str, going)) if len(going) <= 10 else str(len(going))
    _told(answer, f"recycled after their task: {named}" if going else "no slot lives", as_json=as_json)


@click.option("--fast", is_flag=True, help="Kill the slots; their tasks go back.")
@_asking
def stop(file: str | None, server: str | None, as_json: bool, fast: bool) -> None:
    """Stop the master of this server and wait until it has ended."""
    path = _socket(file, server)
    with _watched(path) as meanwhile:
        answer = ask(path, {"command": "stop", "fast": fast}, timeout=None, meanwhile=meanwhile)
    if answer is None:  # it was killed, or is of an older version
        answer = {"ok": True, "why": ""}
    _told(answer, "stopped", as_json=as_json)
