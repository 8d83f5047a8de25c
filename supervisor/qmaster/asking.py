"""How a command asks a running master: a line to its control socket, a line back. It changes nothing by itself."""

import json
import pathlib
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from qslots.errors import Error

PATIENCE = 5  # seconds until we are let in
GLANCE = 0.5  # seconds from one look to the next while an answer is waited for


def ask(
    path: pathlib.Path, request: dict[str, Any], *, timeout: float | None, meanwhile: Callable[[], None] | None = None
) -> dict[str, Any] | None:
    """The answer; None if the connection was closed instead: the master has ended. Error if none runs, or refuses.

    ``meanwhile`` is called about twice a second while the answer is waited for.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        try:
            _connect(line, path)
            line.settimeout(timeout)
            line.sendall(json.dumps(request).encode() + b"\n")
            while meanwhile is not None and not select.select([line], [], [], GLANCE)[0]:
                meanwhile()
            answer = line.makefile("rb").readline()
        except (FileNotFoundError, ConnectionRefusedError):
            raise Error(absent(path)) from None
        except PermissionError:
            raise Error(f"qmaster at {path} may not be asked by this user: call it as its user, or as root") from None
        except BlockingIOError:
            raise Error(f"qmaster at {path} takes no more questions: others wait there since {PATIENCE} s") from None
        except TimeoutError:
            raise Error(f"qmaster at {path} did not answer within {timeout:.0f} s") from None
        except (BrokenPipeError, ConnectionResetError):
            return None
        except OSError as error:
            raise Error(f"qmaster at {path} cannot be asked: {error}") from None
    return _document(answer, path)


def _connect(line: socket.socket, path: pathlib.Path) -> None:
    """Where others wait to be let in a socket of Python's with a time-out is refused at once: the kernel's waits."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", PATIENCE, 0))
    line.connect(str(path))


def _document(answer: bytes, path: pathlib.Path) -> dict[str, Any] | None:
    if not answer:
        return None
    try:
        document = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Error(f"qmaster at {path} answers what cannot be read: {error}") from None
    if "error" in document:
        raise Error(f"qmaster refuses: {document['error']}")
    return document


def absent(path: pathlib.Path) -> str:
    """Nobody listens there: what to do about it, in one line."""
    others = [each.removesuffix(".sock") for each in servers_in(path.parent) if each != path.stem]
    if others:
        return f"no qmaster called {path.stem} is running here; there is {', '.join(others)}: --server {others[0]}"
    return (
        f"no qmaster is running here: nobody listens at {path}; start it with `qmaster run`, or if it runs ask as its "
        "user with its -c FILE and --server NAME, or in the folder of its `qslots up`"
    )


def servers_in(folder: pathlib.Path) -> list[str]:
    """The names of the masters that listen in this runtime folder."""
    try:
        found = sorted(path for path in folder.glob("*.sock") if path.is_socket())
    except OSError:
        return []
    return [path.stem for path in found if _listens(path)]


def _listens(path: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(GLANCE)
        try:
            line.connect(str(path))
        except OSError:
            return False
    return True
