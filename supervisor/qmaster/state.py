"""What of a master outlives it: the last row of the map, in ``state_dir/NAME.state``.

Read once when a master starts, written by its courier, never by the master itself. A file that is damaged or another
server's is set aside and told of; it must never keep a master from starting.
"""

import contextlib
import logging
import os
import pathlib

import msgspec

from qslots.reports import UNDECODABLE, MapRow

log = logging.getLogger("qmaster")


class State(msgspec.Struct, frozen=True):
    """The content of the file, JSON: whose it is, and what was in force."""

    server: str
    queue_server: str  # URL of the one that keeps the map, without its password
    row: MapRow


def write(path: pathlib.Path, state: State) -> None:
    """The file, whole or as it was, also after a loss of power. OSError."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: pathlib.Path, server: str, queue_server: str) -> MapRow | None:
    """The row that was in force when the last master of this server ended; None if none is known."""
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the last map is not known: state file %s cannot be read: %s", path, error.strerror)
        return None
    except UNDECODABLE as error:
        _set_aside(path, f"is damaged ({error})")
        return None
    if (state.server, state.queue_server) != (server, queue_server):
        _set_aside(path, f"is that of {state.server} at {state.queue_server}")
        return None
    return state.row


def _set_aside(path: pathlib.Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.aside")
    with contextlib.suppress(OSError):  # a read-only disk: it stays where it is
        path.replace(aside)
    log.warning("the last map is not known: state file %s %s; it is set aside as %s", path, why, aside.name)
