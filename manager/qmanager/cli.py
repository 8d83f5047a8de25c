"""The ``qmanager`` command. Errors are one line; exit 0 ok, 1 error, 2 usage."""

import os
import sys

import click

from qslots import __version__, logs
from qslots.connection import KINDS
from qslots.errors import Error, SettingsError
from qslots.servers import QueueServers
from qslots.settings import read


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
@click.option("-c", "file", metavar="FILE", help="Settings file; QSLOTS_CONFIG by default.")
@click.option("--redis", metavar="URL", help=f"The queue server: {KINDS}.")
@click.option("--take-over", is_flag=True, help="Reign even if another manager published a moment ago.")
def run(file: str | None, redis: str | None, take_over: bool) -> None:
    """Run the manager in the foreground; TERM stops it."""
    from .loop import Manager

    try:
        settings = read(file, os.environ, redis=redis)
        if not settings.queue_servers:
            raise SettingsError(
                "no queue server: give --redis URL, set QSLOTS_REDIS, "
                "or list it under queue_servers in the settings file"
            )
        servers = QueueServers.listed(settings, name="check")
        servers.check()
        servers.close()
        logs.to_stderr("qmanager", settings.log_level)
        Manager(settings, take_over=take_over).run()
    except Error as error:
        click.echo(f"qmanager: {error}", err=True)
        sys.exit(1)
