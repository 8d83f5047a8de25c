"""The ``qslots`` command: what people and scripts ask of a fleet. It reads, prints and ends; ``up`` alone stays.

Exit codes: 0 ok, 1 error, 2 usage, 130 after ^C, 141 when the reader of our output has gone. An error is one line on
stderr, never a traceback; with ``--json`` stdout carries one document and nothing else.
"""

import dataclasses
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
from qslots.connection import KINDS, translated
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
    command = click.option("--redis", metavar="URL", help=f"The queue server: {KINDS}.")(command)
    return click.option("-c", "file", metavar="FILE", type=click.Path(), help="The settings file.")(command)


def _reading(command: Callable[..., None]) -> Callable[..., None]:
    """A command that prints what it has read, once or again and again."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    watch = click.option("--watch", is_flag=True, help="Look again every second until ^C.")
    return _of_a_fleet(watch(as_json(_quiet(command))))


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


@dataclasses.dataclass(frozen=True, slots=True)
class _Show:
    """One reading command: what it reads, how that is drawn, and its line where nothing can be redrawn."""

    view: Callable[[QueueServer], views.View]
    table: Callable[[QueueServer, typing.Any, int], RenderableType]  # client, document, columns
    line: Callable[[QueueServer, typing.Any], str] | None = None

    def run(self, file: str | None, redis: str | None, *, as_json: bool, watch: bool) -> None:
        """Once, or until ^C."""
        if watch and as_json:
            raise click.UsageError("--watch and --json do not go together: call it with --json again and again")
        client = _open(file, redis)
        if watch:
            self._watch(client)
        document = _read(client, self.view)
        if as_json:
            click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        else:
            _print(lambda width: self.table(client, document, width))

    def _watch(self, client: QueueServer) -> typing.NoReturn:
        """A live picture on a terminal, lines elsewhere; a queue server that is away is waited for."""
        if not sys.stdout.isatty():
            while True:
                self._print_again(client)
                sys.stdout.flush()
                time.sleep(WATCH)
        console = _console()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_or_why(lambda: self._picture(client, console.width)), refresh=True)
                time.sleep(WATCH)

    def _print_again(self, client: QueueServer) -> None:
        if self.line is None:
            _print(lambda width: _or_why(lambda: self._picture(client, width)))
        else:
            line = self.line
            click.echo(f"{time.strftime('%H:%M:%S')} {_or_why(lambda: line(client, self._document(client)))}")

    def _document(self, client: QueueServer) -> typing.Any:
        """Without the notes: they would tear the picture, and the command without --watch tells them."""
        with translated(client.url):
            return self.view(client).document

    def _picture(self, client: QueueServer, width: int) -> RenderableType:
        return self.table(client, self._document(client), width)


_T = typing.TypeVar("_T")


def _or_why(look: Callable[[], _T]) -> _T | str:
    try:
        return look()
    except QueueServerDown as error:
        return str(error)


def _print(table: Callable[[int], RenderableType]) -> None:
    console = _console()
    with console.capture() as capture:
        console.print(table(console.width))
    for line in capture.get().rstrip().splitlines():
        click.echo(line.rstrip(), color=True)


def _map_table(client: QueueServer, slot_map: views.Document, width: int) -> RenderableType:
    with translated(client.url):
        queues, servers = views.queues_view(client).document, views.servers_view(client).document
    return tables.map_table(slot_map, queues, servers, width)


def _map_line(client: QueueServer, slot_map: views.Document) -> str:
    with translated(client.url):
        return tables.map_line(slot_map, views.queues_view(client).document)


def _slots_table(client: QueueServer, document: typing.Any, _: int) -> RenderableType:
    with translated(client.url):
        any_server = bool(client.redis.exists(keys.REPORTS))
    return tables.slots_table(document, any_server=any_server)


MAP = _Show(views.map_view, _map_table, _map_line)
QUEUES = _Show(views.queues_view, lambda _, document, width: tables.queues_table(document, width))
SERVERS = _Show(views.servers_view, lambda _, document, __: tables.servers_table(document))
SLOTS = _Show(views.slots_view, _slots_table)


@main.command("map")
@_reading
def map_command(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The slot map: how many slots each queue wants, is granted and has on each server; ▼ where short."""
    MAP.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@_reading
def queues(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The queues: what waits, what it needs, and why."""
    QUEUES.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@_reading
def servers(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The servers: slots, memory, generation of the code."""
    SERVERS.run(file, redis, as_json=as_json, watch=watch)


@main.command()
@_reading
def slots(file: str | None, redis: str | None, as_json: bool, watch: bool) -> None:
    """The slots: state, current task and its age, memory."""
    SLOTS.run(file, redis, as_json=as_json, watch=watch)


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
