"""The ``qmaster`` command: run one server's master, ask it, stop it. Exit 0 ok, 1 error (one line), 2 usage."""

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

from qslots import __version__, logs
from qslots.connection import KINDS
from qslots.errors import Error, SettingsError
from qslots.settings import Settings, read

from . import control, figures, prepare, privileges
from .identity import assume, runtime_dir, server_name
from .revision import Source

NO_APP = "no application: give --app MODULE, set QSLOTS_APP, or list it under app in the settings"
_P = ParamSpec("_P")
_R = TypeVar("_R")


def in_one_line(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Errors of ours as one line on stderr and exit 1."""

    @wraps(command)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except Error as error:
            click.echo(f"qmaster: {error}", err=True)
            sys.exit(1)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    return told


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every command has."""
    command = click.option("--server", metavar="NAME", help="This server's name; the host's by default.")(command)
    return click.option("-c", "file", metavar="FILE", help="Settings file; QSLOTS_CONFIG by default.")(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qmaster")
def main() -> None:
    """One server's supervisor of copy-on-write slots."""


@main.command()
@common
@click.option("--app", multiple=True, metavar="MODULE", help="What the mold imports; may be given several times.")
@click.option("--redis", metavar="URL", help=f"The queue server: {KINDS}.")
@in_one_line
def run(file: str | None, server: str | None, app: tuple[str, ...], redis: str | None) -> None:
    """Run the master in the foreground; TERM stops it gracefully."""
    from .master import Master

    source = Source(file, app, redis, server)
    settings = read(file, os.environ, app=app, redis=redis, server=server)
    if not settings.app:
        raise SettingsError(NO_APP)
    if not settings.queue_servers:
        raise SettingsError(
            "no queue server: give --redis URL, set QSLOTS_REDIS, or list it under queue_servers in the settings file"
        )
    logs.to_stderr("qmaster", settings.log_level)
    prepare.become_oneself(settings.server)
    last = prepare.last_map(settings)
    prepare.check_queue_servers(settings, last)
    fault = Master(settings, assume(settings.server), last, source).run()
    if fault:
        raise Error(fault)


@main.command("check")
@common
@click.option("--app", multiple=True, metavar="MODULE", help="What the mold imports; may be given several times.")
@click.option("--redis", metavar="URL", help=f"The queue server: {KINDS}; need not be there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--strict", is_flag=True, help="Exit 1 if there are warnings too.")
@in_one_line
def check_(
    file: str | None, server: str | None, app: tuple[str, ...], redis: str | None, as_json: bool, strict: bool
) -> None:
    """Load the application in a throw-away mold: can it be served, is it safe to fork, how many slots fit."""
    from rich.console import Console

    from .check import check
    from .checkview import show

    settings = read(file, os.environ, app=app, redis=redis, server=server)
    if not settings.app:
        raise SettingsError(NO_APP)
    privileges.become(settings.server.user, no_new_privileges=settings.server.no_new_privileges)
    document = check(settings)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        show(document, Console())
    sys.exit(1 if strict and document["warnings"] else 0)


@main.command()
@common
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@in_one_line
def status(file: str | None, server: str | None, as_json: bool) -> None:
    """What the master of this server does just now."""
    answer = _asked(read(file, os.environ, server=server), {"command": "status"}, 5.0)
    if answer is None:
        raise Error("qmaster closed the connection: it is ending")
    click.echo(json.dumps(answer, indent=2) if as_json else described(answer))


@main.command()
@common
@click.option("--fast", is_flag=True, help="Kill the slots; their tasks go back.")
@in_one_line
def stop(file: str | None, server: str | None, fast: bool) -> None:
    """Stop the master of this server and wait until it has ended."""
    settings = read(file, os.environ, server=server)
    _asked(settings, {"command": "stop", "fast": fast}, 3600.0)


def _asked(settings: Settings, request: dict[str, Any], timeout: float) -> dict[str, Any] | None:
    path = runtime_dir(settings.server) / f"{server_name(settings.server)}.sock"
    return control.ask(path, request, timeout)


def described(answer: dict[str, Any]) -> str:
    """The status for people."""
    mega = 1 << 20
    app = ", ".join(answer["app"])
    who = f"qmaster {answer['server']} (pid {answer['pid']})"
    lines = [
        f"{who} is {answer['stage']}, generation {answer['generation']}: {app}",
        *(
            f"queue server {name}, {known['url']}: {known['down'] or 'answers'}"
            for name, known in answer["queue_servers"].items()
        ),
        *figures.memory_lines(answer),
    ]
    for slot in answer["slots"]:
        private = f"{slot['private'] // mega} MB private" if slot["private"] is not None else "not measured"
        task = f", {slot['handler']} {slot['task']} for {slot['task_age']:.1f} s" if slot["task"] else ""
        queues = ",".join(slot["queues"]) or "-"
        lines.append(
            f"  slot {slot['index']:3} pid {slot['pid']} {slot['state']} {queues}: {slot['done']} done, {private}{task}"
        )
    return "\n".join(lines)
