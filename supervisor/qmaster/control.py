"""The master's control socket: JSON lines, one request one answer, for this user and root alone.

It is served from the master's loop and therefore never waits: a client that sends too much or does not read is cut.
"""

import json
import os
import pathlib
import selectors
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from qslots.errors import Error

LARGEST = 1 << 16
_CREDENTIALS = struct.Struct("3i")


class Later:
    """An answer that is not known yet; who asked is told when somebody says it."""

    def __init__(self) -> None:
        self.say: Callable[[dict[str, Any]], None] = lambda _: None


# None: the answer comes when the connection is closed
Answerer = Callable[[dict[str, Any]], dict[str, Any] | Later | None]


class ControlSocket:
    """The listening side."""

    def __init__(self, path: pathlib.Path, selector: selectors.BaseSelector, answer: Answerer) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        except OSError as error:
            raise Error(f"control socket {path} cannot be made: {error}; is the path too long?") from None
        finally:
            os.umask(mask)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._selector = selector
        self._answer = answer
        self._pending: dict[socket.socket, bytearray] = {}
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has hung up, or we are out of descriptors: work goes on, the client asks again
            return
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(raw)[1] not in (0, os.geteuid()):
            client.close()
            return
        client.setblocking(False)
        self._pending[client] = bytearray()
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        try:
            piece = client.recv(LARGEST)
        except (BlockingIOError, ConnectionError):
            piece = b""
        inbox = self._pending[client]
        inbox += piece
        if not piece or len(inbox) > LARGEST:
            self._drop(client)
        else:
            *lines, rest = bytes(inbox).split(b"\n")
            self._pending[client] = bytearray(rest)
            for line in lines:
                if client in self._pending:  # an answer it did not take may have ended it
                    self._reply(client, line)

    def _reply(self, client: socket.socket, line: bytes) -> None:
        try:
            request = json.loads(line)
            answer = self._answer(request) if isinstance(request, dict) else {"error": "a request is a JSON object"}
        except (ValueError, RecursionError) as error:
            answer = {"error": f"not JSON: {error}"}
        if isinstance(answer, Later):
            answer.say = partial(self._send, client)
        elif answer is not None:
            self._send(client, answer)

    def _send(self, client: socket.socket, answer: dict[str, Any]) -> None:
        if client not in self._pending:  # it has not waited for its answer
            return
        try:
            client.send(json.dumps(answer).encode() + b"\n", socket.MSG_NOSIGNAL)
        except (BlockingIOError, ConnectionError):
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._pending[client]
        client.close()

    def close(self) -> None:
        """Ends all conversations; a client that waits for the end of the master sees it now."""
        for client in list(self._pending):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()


def ask(path: pathlib.Path, request: dict[str, Any], timeout: float) -> dict[str, Any] | None:
    """One question to a running master; None if it closed the connection instead of answering. Error if none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout)
        try:
            line.connect(str(path))
            line.sendall(json.dumps(request).encode() + b"\n")
            answer = line.makefile("rb").readline()
        except (FileNotFoundError, ConnectionRefusedError):
            raise Error(f"no qmaster is running here: nobody listens at {path}") from None
        except TimeoutError:
            raise Error(f"qmaster at {path} did not answer within {timeout:.0f} s") from None
        except OSError as error:
            raise Error(f"qmaster at {path} cannot be asked: {error}") from None
    if not answer:
        return None
    document: dict[str, Any] = json.loads(answer)
    return document
