"""The ``qmaster`` command: run one server's master, ask it, stop it. Exit 0 ok, 1 error (one line), 2 usage."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator

import click

from qslots import __version__, logs
from qslots.completion import completion_of
from qslots.connection import KINDS
from qslots.daemon.faults import Broken
from qslots.errors import Error, SettingsError
from qslots.program import Program
from qslots.settings import read

from . import prepare, privileges
from .identity import assume
from .remote import common, drain, in_one_line, recycle, refork, reload, status, stop, undrain
from .revision import Source

NO_APP = "no application: give --app MODULE, set QSLOTS_APP, or list it under app in the settings"


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
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
    with logged_to(settings.server.log_file):
        master = Master(settings, assume(settings.server), last, source)
        fault = master.run()
        if fault and settings.server.log_file:
            logging.getLogger("qmaster").error("ended: %s", fault)
    if fault:
        raise Broken(fault) if master.is_broken else Error(fault)


@contextlib.contextmanager
def logged_to(path: str | None) -> Iterator[None]:
    """Within this block stdout and stderr of this process, and of all it starts, are this file."""
    if path is None:
        yield
        return
    before = os.dup(1), os.dup(2)
    try:
        logs.into(path)
    except OSError as error:
        raise SettingsError(f"server.log_file: {path} cannot be opened: {error.strerror}") from None
    try:
        yield
    finally:
        for number, descriptor in enumerate(before, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


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
    """Say whether the application can be served, and how well.

    Loads it in a throw-away mold: is it safe to fork, what comes late, how many slots fit.
    """
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


for command in (status, reload, refork, drain, undrain, recycle, stop):
    main.add_command(command)
main.add_command(completion_of(main, "qmaster"))
