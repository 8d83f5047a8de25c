"""The ``qmanager`` command. Errors are one line; exit 0 ok, 1 error, 2 usage; those of ``status`` are its own."""

import contextlib
import json
import os
import sys

import click

from qslots import __version__, logs
from qslots.completion import completion_of
from qslots.daemon.faults import EX_SOFTWARE, Broken
from qslots.errors import Error, SettingsError
from qslots.program import Program
from qslots.settings import Settings, read

from .admin.command import file_option, json_option, named, redis_option
from .plancommand import plan_
from .statuscommand import status


class _Commands(Program):
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
@click.option("--take-over", is_flag=True, help="Reign even if another manager reigned a moment ago.")
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
        with contextlib.closing(Place(settings)) as place:
            Manager(settings, place, take_over=take_over, standby=standby).run()
    except Error as error:
        click.echo(f"qmanager: {error}", err=True)
        sys.exit(EX_SOFTWARE if isinstance(error, Broken) else 1)


@main.command("check")
@file_option
@redis_option
@json_option
def check_(file: str | None, redis: str | None, as_json: bool) -> None:
    """Say whether a manager could reign from here, and who reigns just now. Exit 1: it could not."""
    from .check import check, lines

    try:
        found = check(named(file, redis))
    except Error as error:
        click.echo(f"qmanager: {error}", err=True)
        sys.exit(1)
    click.echo(json.dumps(found.document(), indent=2) if as_json else "\n".join(lines(found)))
    sys.exit(1 if found.errors else 0)


def _named(file: str | None, redis: str | None) -> Settings:
    """Settings that name a queue server."""
    settings = read(file, os.environ, redis=redis)
    if not settings.queue_servers:
        raise SettingsError(
            "no queue server: give --redis URL, set QSLOTS_REDIS, or list it under queue_servers in the settings file"
        )
    return settings


main.add_command(plan_)
main.add_command(status)
main.add_command(completion_of(main, "qmanager"))
