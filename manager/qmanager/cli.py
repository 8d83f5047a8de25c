"""The ``qmanager`` command. Errors are one line; exit 0 ok, 1 error, 2 usage; those of ``status`` are its own."""

import os
import sys

import click

from qslots import __version__, logs
from qslots.completion import completion_of
from qslots.connection import KINDS
from qslots.daemon.faults import EX_SOFTWARE, Broken
from qslots.errors import Error, SettingsError
from qslots.settings import Settings, read

from .statuscommand import status

file_option = click.option("-c", "file", metavar="FILE", help="Settings file; QSLOTS_CONFIG by default.")
redis_option = click.option("--redis", metavar="URL", help=f"The queue server: {KINDS}.")


class _Commands(click.Group):
    """Finds ``simulate`` when it is asked for: a manager that runs needs nothing of it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "simulate"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "simulate":
            return super().get_command(ctx, cmd_name)
        from .simulate import simulate

        return simulate


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qmanager")
def main() -> None:
    """The cluster's one manager: from queue depths and reports it makes the slot map."""


@main.command()
@file_option
@redis_option
@click.option("--take-over", is_flag=True, help="Reign even if another manager published a moment ago.")
@click.option("--standby", is_flag=True, help="Wait while another manager reigns; follow it when it stops publishing.")
def run(file: str | None, redis: str | None, take_over: bool, standby: bool) -> None:
    """Run the manager in the foreground; TERM stops it.

    It needs no queue server to start: it asks on until one answers.
    """
    from .loop import Manager
    from .place import Place

    if take_over and standby:
        raise click.UsageError("--take-over and --standby do not go together")
    try:
        settings = _named(file, redis)
        logs.to_stderr("qmanager", settings.log_level)
        Manager(settings, Place(settings), take_over=take_over, standby=standby).run()
    except Error as error:
        click.echo(f"qmanager: {error}", err=True)
        sys.exit(EX_SOFTWARE if isinstance(error, Broken) else 1)


def _named(file: str | None, redis: str | None) -> Settings:
    """Settings that name a queue server."""
    settings = read(file, os.environ, redis=redis)
    if not settings.queue_servers:
        raise SettingsError(
            "no queue server: give --redis URL, set QSLOTS_REDIS, or list it under queue_servers in the settings file"
        )
    return settings


main.add_command(status)
main.add_command(completion_of(main, "qmanager"))
