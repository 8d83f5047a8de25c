"""A daemon's control socket: JSON lines, one request one answer, in order, for this user and root alone.

It is served from the daemon's loop and therefore never waits. A connection is served one request a turn, and the next
only when the answer before has been read; a client that sends too much or does not read is cut, of too many that say
nothing the idlest. An answer may come in a later turn: whoever is asked gets the ``Reply`` to call, once.
"""

import errno
import logging
import math
import os
import pathlib
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from ..errors import Error, UsageError

LARGEST = 1 << 16  # bytes of a request
LARGEST_ANSWER = 16 << 20  # bytes; 4,096 slots with long names are 2 MB
MOST = 64  # clients at a time
AT_ONCE = 16  # clients let in a turn
DEAF = 1.0  # seconds without new clients when we are out of descriptors
READ_WITHIN = 10.0  # seconds that a client may take to read an answer
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
Reply = Callable[[dict[str, Any]], None]
_Request = TypeVar("_Request")


@dataclass(slots=True, eq=False)
class Client:
    """One connection."""

    line: socket.socket
    heard_at: float
    inbox: bytes = b""
    outbox: bytearray = field(default_factory=bytearray)
    until: float = float("inf")  # when it must have read its answer
    waits: bool = False  # its request is not answered yet
    ended: bool = False  # it will say no more: to be closed when it has its answers

    @property
    def asks(self) -> bool:
        """Whether a whole request waits to be served."""
        return b"\n" in self.inbox

    @property
    def is_idle(self) -> bool:
        """Whether nothing is owed to it."""
        return not (self.waits or self.outbox or self.asks)


class ControlSocket(Generic[_Request]):
    """The listening side. ``read`` makes a request of a line, or raises UsageError; ``who`` is the daemon's name."""

    def __init__(
        self, path: pathlib.Path, selector: selectors.BaseSelector, *, who: str, read: Callable[[bytes], _Request],
        answer: Callable[[_Request, Reply], None],
    ) -> None:  # fmt: skip
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)
            self._listener.bind(str(path))
        except OSError as error:
            raise Error(f"control socket {path} cannot be made: {error}; is the path too long?") from None
        finally:
            os.umask(mask)
        self._listener.listen(MOST)
        self._listener.setblocking(False)
        self._selector = selector
        self._who, self._log = who, logging.getLogger(who)
        self._read, self._answer = read, answer
        self._clients: list[Client] = []
        self._deaf_until = math.inf  # while there is room
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def check(self, now: float) -> float:
        """Serves one request of each client, cuts who does not read; returns when to look again."""
        for client in self._clients[:]:
            if now >= client.until:
                self._log.debug("a client of the control socket does not read its answer: cut")
                self._drop(client)
            elif client.asks and not client.waits and not client.outbox:
                self._serve(client)
        if now >= self._deaf_until:
            self._deaf_until = math.inf
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        again = [self._deaf_until, *(client.until for client in self._clients)]
        again += [now for client in self._clients if client.asks and not client.waits and not client.outbox]
        return min(again)

    def _accept(self) -> None:
        """Lets in a few a turn: far fewer than there are places, so that each is heard before it may be cut."""
        for _ in range(AT_ONCE):
            try:
                line, _address = self._listener.accept()
            except OSError as error:  # nobody more, it has hung up, or we are out of descriptors: the client asks again
                if error.errno in (errno.EMFILE, errno.ENFILE) and not self._make_room():
                    self._selector.unregister(self._listener)  # who waits would wake us for nothing, turn after turn
                    self._deaf_until = time.monotonic() + DEAF
                return
            self._let_in(line)

    def _let_in(self, line: socket.socket) -> None:
        line.setblocking(False)
        raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(raw)[1] not in (0, os.geteuid()):
            line.close()
            return
        if len(self._clients) >= MOST and not self._make_room():
            line.close()
            return
        client = Client(line, time.monotonic())
        self._clients.append(client)
        self._selector.register(line, selectors.EVENT_READ, partial(self._ready, client))

    def _make_room(self) -> bool:
        """Cuts the client that has said nothing for longest, else one that does not read; False if we owe all of them
        an answer.
        """
        known = (client for client in self._clients if not client.waits)
        idlest = min(known, key=lambda client: (not client.is_idle, client.heard_at), default=None)
        if idlest is not None:
            self._drop(idlest)
        return idlest is not None

    def _ready(self, client: Client) -> None:
        """It can be read from, or written to."""
        if client.line.fileno() < 0:  # cut earlier in this turn
            return
        self._flush(client)
        if client.line.fileno() < 0 or client.ended or client.asks:
            return
        try:
            piece = client.line.recv(LARGEST)
        except BlockingIOError:
            return
        except ConnectionError:
            piece = b""
        client.heard_at = time.monotonic()
        client.inbox += piece
        client.ended = not piece
        if client.ended and (client.waits or client.is_idle):
            self._drop(client)
            return
        if client.inbox.find(b"\n", 0, LARGEST + 1) < 0 and len(client.inbox) > LARGEST:
            client.inbox, client.ended, client.waits = b"", True, True
            self._reply(client, {"error": f"a request has {LARGEST} bytes at most"})
            return
        self._watch(client)

    def _serve(self, client: Client) -> None:
        line, _, client.inbox = client.inbox.partition(b"\n")
        client.waits = True
        reply = partial(self._reply, client)
        try:
            self._answer(self._read(line), reply)
        except UsageError as error:
            reply({"error": str(error)})
        except Exception as error:  # a fault of ours in one answer is no reason to end
            self._log.exception("a request could not be answered: %s", line[:200])
            reply({"error": f"{self._who} has failed to answer: {error}; its log has more"})
        if client.waits and client.ended:  # it has hung up: nobody would read what comes later
            self._drop(client)
        else:
            self._watch(client)

    def _reply(self, client: Client, document: dict[str, Any]) -> None:
        """The answer, whenever it comes; the client may be gone by now."""
        if client.line.fileno() < 0 or not client.waits:
            return
        client.waits = False
        client.outbox += _encoded(document)
        client.until = time.monotonic() + READ_WITHIN
        self._flush(client)

    def _flush(self, client: Client) -> None:
        """Sends what can be sent now."""
        try:
            while client.outbox:
                del client.outbox[: client.line.send(client.outbox, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._drop(client)
            return
        if not client.outbox:
            client.until = float("inf")
        if client.ended and client.is_idle:
            self._drop(client)
        else:
            self._watch(client)

    def _watch(self, client: Client) -> None:
        """Reads only who has no request waiting; so nobody makes us keep more than one request and one answer."""
        if client.line.fileno() < 0:
            return
        reading = 0 if client.ended or client.asks else selectors.EVENT_READ
        writing = selectors.EVENT_WRITE if client.outbox else 0
        known = client.line in self._selector.get_map()
        if reading | writing:
            watch = self._selector.modify if known else self._selector.register
            watch(client.line, reading | writing, partial(self._ready, client))
        elif known:
            self._selector.unregister(client.line)

    def _drop(self, client: Client) -> None:
        if client.line in self._selector.get_map():
            self._selector.unregister(client.line)
        if client in self._clients:
            self._clients.remove(client)
        client.line.close()

    def close(self) -> None:
        """Ends all conversations; a client that waits for our end sees it now."""
        for client in self._clients[:]:
            self._drop(client)
        if self._deaf_until == math.inf:
            self._selector.unregister(self._listener)
        self._listener.close()


def _encoded(document: dict[str, Any]) -> bytes:
    try:
        raw = msgspec.json.encode(document) + b"\n"
    except (TypeError, ValueError) as error:
        raw = msgspec.json.encode({"error": f"the answer cannot be written as JSON: {error}"}) + b"\n"
    if len(raw) > LARGEST_ANSWER:
        return msgspec.json.encode({"error": f"the answer would have {len(raw)} bytes, too many to be kept"}) + b"\n"
    return raw
