"""How a command asks a running daemon: a line to its control socket, a line back. It changes nothing by itself."""

import json
import pathlib
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import Error
from ..reports import UNDECODABLE

PATIENCE = 5  # seconds until we are let in
GLANCE = 0.5  # seconds from one look to the next while an answer is waited for


class Absent(Error):
    """Nobody listens there."""


def ask(
    path: pathlib.Path, request: dict[str, Any], *, who: str, absent: Callable[[pathlib.Path], str],
    timeout: float | None, meanwhile: Callable[[], None] | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """The answer of ``who``; None if the connection was closed instead: it has ended. Error if it refuses, ``Absent``
    with what ``absent`` says of this path if nobody listens there.

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
            raise Absent(absent(path)) from None
        except PermissionError:
            raise Error(f"{who} at {path} may not be asked by this user: call it as its user, or as root") from None
        except BlockingIOError:
            raise Error(f"{who} at {path} takes no more questions: others wait there since {PATIENCE} s") from None
        except TimeoutError:
            raise Error(f"{who} at {path} did not answer within {timeout:.0f} s") from None
        except (BrokenPipeError, ConnectionResetError):
            return None
        except OSError as error:
            raise Error(f"{who} at {path} cannot be asked: {error}") from None
    return _document(answer, path, who)


def _connect(line: socket.socket, path: pathlib.Path) -> None:
    """Where others wait to be let in a socket of Python's with a time-out is refused at once: the kernel's waits."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", PATIENCE, 0))
    line.connect(str(path))


def _document(answer: bytes, path: pathlib.Path, who: str) -> dict[str, Any] | None:
    if not answer:
        return None
    try:
        document = msgspec.json.decode(answer, type=dict[str, Any])
    except UNDECODABLE as error:
        raise Error(f"{who} at {path} answers what cannot be read: {error}") from None
    if "error" in document:
        raise Error(f"{who} refuses: {document['error']}")
    return document


def listens(path: pathlib.Path) -> bool:
    """Whether somebody would answer there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(GLANCE)
        try:
            line.connect(str(path))
        except OSError:
            return False
    return True
