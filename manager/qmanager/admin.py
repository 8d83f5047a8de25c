"""The ``qslots`` command: what people and scripts ask of a fleet. It reads, prints and ends; ``up`` alone stays.

Exit codes: 0 ok, 1 error, 2 usage, 130 after ^C, 141 when the reader of our output has gone. An error is one line on
stderr, never a traceback; with ``--json`` stdout carries one document and nothing else.
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import sys
import time
import typing
from collections.abc import Callable

import click
from click.shell_completion import get_completion_class
from rich.console import Console, RenderableType
from rich.live import Live

from qslots import keys, settings
from qslots.client import url_of
from qslots.connection import translated
from qslots.errors import Error, QueueServerDown
from qslots.queueserver import QueueServer

from . import tables, views

WATCH = 1.0  # s between two looks
UNLIMITED = 1000  # columns where the output is no terminal: numbers are never cut for a pipe
BROKEN_PIPE = 141  # 128 + SIGPIPE, as the shell shows it for any other program
_P = typing.ParamSpec("_P")


def _version() -> str:
    try:
        return importlib.metadata.version("qslots")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="qslots")
def main() -> None:
    """Look after a fleet of slots that drains queues.

    The queue server is the one of --redis, QSLOTS_REDIS or the settings file, else the private one of `qslots up` in
    this folder. Tab completion: `qslots completion bash` and follow what it says.
    """


def _quiet(command: Callable[_P, None]) -> Callable[_P, None]:
    """Errors in one line, ^C and a broken pipe without a word."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except Error as error:
            click.echo(f"qslots: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
            sys.exit(BROKEN_PIPE)

    return run


def _of_a_fleet(command: Callable[..., None]) -> Callable[..., None]:
    """A command that talks to a queue server: -c and --redis."""
    command = click.option("--redis", metavar="URL", help="The queue server: redis://, rediss:// or unix://.")(command)
    return click.option("-c", "file", metavar="FILE", type=click.Path(), help="The settings file.")(command)


def _reading(command: Callable[..., None]) -> Callable[..., None]:
    """A command that prints what it has read."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    return _of_a_fleet(as_json(_quiet(command)))


def _open(file: str | None, redis: str | None) -> QueueServer:
    client = QueueServer(url_of(settings.read(file, os.environ, redis=redis)), name="admin")
    client.version()
    return client


def _read(client: QueueServer, view: Callable[[QueueServer], views.View]) -> typing.Any:
    """The view's document; its notes go to stderr."""
    with translated(client.url):
        seen = view(client)
    for note in seen.notes:
        click.echo(f"qslots: {note}", err=True)
    return seen.document


def _console() -> Console:
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=UNLIMITED, highlight=False)


def _print(document: typing.Any, as_json: bool, table: Callable[[int], RenderableType]) -> None:
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    console = _console()
    with console.capture() as capture:
        console.print(table(console.width))
    for line in capture.get().rstrip().splitlines():
        click.echo(line.rstrip(), color=True)


@main.command("map")
@click.option("--watch", is_flag=True, help="Go on until ^C, about once a second.")
@_reading
def map_command(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The slot map: how many slots each queue wants, is granted and has on each server; ▼ where short."""
    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together: call `qslots map --json` again and again")
    client = _open(file, redis)
    if watch:
        _watch(client)
    document = _read(client, views.map_view)
    _print(document, as_json, functools.partial(_map_table, client, document))


def _map_table(client: QueueServer, slot_map: views.Document, width: int) -> RenderableType:
    queues, servers = _read(client, views.queues_view), _read(client, views.servers_view)
    return tables.map_table(slot_map, queues, servers, width)


def _watch(client: QueueServer) -> typing.NoReturn:
    """A live picture on a terminal, a line a second elsewhere; a queue server that is away is waited for."""
    if not sys.stdout.isatty():
        while True:
            click.echo(f"{time.strftime('%H:%M:%S')} {_or_why(lambda: _line(client))}")
            sys.stdout.flush()
            time.sleep(WATCH)
    console = _console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_or_why(lambda: _picture(client, console.width)), refresh=True)
            time.sleep(WATCH)


_T = typing.TypeVar("_T")


def _or_why(look: Callable[[], _T]) -> _T | str:
    try:
        return look()
    except QueueServerDown as error:
        return str(error)


def _line(client: QueueServer) -> str:
    with translated(client.url):
        return tables.map_line(views.map_view(client).document, views.queues_view(client).document)


def _picture(client: QueueServer, width: int) -> RenderableType:
    """The map without the notes: they would tear the picture, and `qslots map` tells them."""
    with translated(client.url):
        queues, servers = views.queues_view(client).document, views.servers_view(client).document
        return tables.map_table(views.map_view(client).document, queues, servers, width)


@main.command()
@_reading
def queues(file: str | None, redis: str | None, as_json: bool) -> None:
    """The queues: what waits, what it needs, and why."""
    document = _read(_open(file, redis), views.queues_view)
    _print(document, as_json, lambda width: tables.queues_table(document, width))


@main.command()
@_reading
def servers(file: str | None, redis: str | None, as_json: bool) -> None:
    """The servers: slots, memory, generation of the code."""
    document = _read(_open(file, redis), views.servers_view)
    _print(document, as_json, lambda _: tables.servers_table(document))


@main.command()
@_reading
def slots(file: str | None, redis: str | None, as_json: bool) -> None:
    """The slots: state, current task and its age, memory."""
    client = _open(file, redis)
    document = _read(client, views.slots_view)
    with translated(client.url):
        any_server = bool(client.redis.exists(keys.REPORTS))
    _print(document, as_json, lambda _: tables.slots_table(document, any_server=any_server))


@main.command()
@click.option("--app", "apps", metavar="MODULE", multiple=True, help="What to import; may be given several times.")
@click.option("--data", metavar="DIR", envvar="QSLOTS_DATA", type=click.Path(path_type=pathlib.Path),
              default=".qslots", show_default=True, help="Where the private queue server keeps its data.")  # fmt: skip
@click.option("--server", metavar="NAME", help="The name of this server; the host's unless given.")
@_of_a_fleet
@_quiet
def up(
    apps: tuple[str, ...], data: pathlib.Path, server: str | None, file: str | None, redis: str | None
) -> None:  # fmt: skip
    """All in one for one machine: queue server, qmanager, qmaster; ^C stops all in good order.

    Without a URL a private queue server runs in DIR; what is queued there survives ^C and the next `up`.
    """
    from . import up as all_in_one

    chosen = settings.read(file, os.environ, app=tuple(apps), redis=redis, server=server)
    sys.exit(all_in_one.run(chosen, data=data, file=file or os.environ.get("QSLOTS_CONFIG")))


@main.command(epilog='bash: eval "$(qslots completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; '
              "fish: qslots completion fish > ~/.config/fish/completions/qslots.fish")  # fmt: skip
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes Tab complete the words of `qslots` in this SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "qslots", "_QSLOTS_COMPLETE").source())


if __name__ == "__main__":
    main()
