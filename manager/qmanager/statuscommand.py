"""``qmanager status``: what the manager of this machine does just now, for people and for whoever watches over it.

Exit codes: 0 it runs; 1 it has failed (it was killed, does not answer, or with ``--deep`` has published no map for too
long); 3 it is not running, the last one ended in good order. It changes nothing and asks no queue server.
"""

import json
import os
import pathlib
import sys
import time
from typing import Any, NoReturn

import click

from qslots.daemon.asking import Absent, ask
from qslots.errors import Error
from qslots.settings import read
from qslots.units import counted, duration

from .admin.command import file_option, json_option
from .place import folder_of, sign_in, socket_in

FAILED, NOT_RUNNING = 1, 3
PATIENCE = 8.0  # seconds: a cycle may wait for a queue server before it comes to answer


def _absent(path: pathlib.Path) -> str:
    return (
        f"no qmanager is running here: nobody listens at {path}; start it with `qmanager run`, or if it runs here ask "
        "as its user with its -c FILE, or in the folder of its `qslots up`; `qmanager check` says who reigns elsewhere"
    )


@click.command()
@file_option
@json_option
@click.option("--deep", metavar="AGE", help="Fail too if the last map was published longer ago than this.")
def status(file: str | None, as_json: bool, deep: str | None) -> None:
    """Say how the manager of this machine is. Exit 0: it runs, 1: it has failed, 3: it is not running."""
    try:
        folder = folder_of(read(file, os.environ))
        most = None if deep is None else duration(deep)
        answer = ask(socket_in(folder), {"command": "status"}, who="qmanager", absent=_absent, timeout=PATIENCE)
    except ValueError as error:
        raise click.UsageError(f"--deep: {error}") from None
    except Absent as error:
        _end(*_silent(folder, str(error)))
    except Error as error:
        _end(FAILED, str(error))
    if answer is None:
        _end(FAILED, "qmanager has closed the connection without an answer: its log says why")
    click.echo(json.dumps(answer, indent=2) if as_json else text(answer, time.time()))
    too_old = "" if most is None else overdue(answer, most, time.time())
    if too_old:
        _end(FAILED, too_old)


def _end(code: int, why: str) -> NoReturn:
    click.echo(f"qmanager: {why}", err=True)
    sys.exit(code)


def _silent(folder: pathlib.Path, absent: str) -> tuple[int, str]:
    """Nobody listens: because none runs, or because something is wrong."""
    sign = sign_in(folder)
    if sign is None:
        return NOT_RUNNING, absent
    if sign.lives():
        return FAILED, f"qmanager (pid {sign.pid}) runs, and does not listen in {folder}"
    return (
        FAILED,
        f"no qmanager is running here: the last one (pid {sign.pid}) was killed; start it with `qmanager run`",
    )


def overdue(answer: dict[str, Any], most: float, now: float) -> str:
    """Why it is of no use; "" if it has published or begun lately, or is not to."""
    age = answer["age"]
    if answer["stage"] == "standby" or (now - answer["since"] if age is None else age) <= most:
        return ""
    last = "no map was published yet" if age is None else f"the last map was published {age:.1f} s ago"
    return f"{last}; {answer['queue_server_down'] or 'the queue server answers'}"


def text(answer: dict[str, Any], now: float) -> str:
    """For people."""
    reign = "waits for its first contact" if answer["epoch"] is None else f"reigns with epoch {answer['epoch']}"
    if answer["stage"] == "standby":
        reign = "stands by, another one reigns"
    lines = [f"{answer['manager']} {reign}, since {now - answer['since']:.0f} s"]
    if answer["age"] is not None:
        lines.append(
            f"map {answer['seq']} published {answer['age']:.1f} s ago for {counted(answer['servers'], 'server')} and "
            f"{counted(answer['queues'], 'queue')}, in a cycle of {answer['cycle'] or 0:.3f} s"
        )
    if answer["queue_server_down"]:
        lines.append(answer["queue_server_down"])
    if answer["faults"]:
        lines.append(f"{answer['faults']} cycles in a row have failed: see the log")
    return "\n".join(lines)
