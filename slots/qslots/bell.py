"""How an idle slot waits: for a token of one of its queues, an order of its master, a signal, or a due time.

It blocks on the lists of tokens of all its queue servers and on its own sockets at once, so nothing polls. Redis ends a
blocking command up to 100 ms late (its timer runs at 10 Hz), so the slot keeps the time itself and takes the commands
back: also those on other servers when one has rung. A token that another server has handed out in that moment is not
lost: it is told too.
"""

import contextlib
import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .connection import packed, translated
from .errors import QueueServerDown
from .servers import QueueServers

_SLACK = 1.0  # seconds that a server waits longer than we do: only in case we are gone


@dataclass(slots=True)
class Rung:
    """What a wait has brought: tokens, each as (server, list); and the servers that do not answer."""

    tokens: list[tuple[str, str]] = field(default_factory=list)
    down: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Wait:
    """One server's blocking command under way, on the connection of this number."""

    server: str
    connection: Any
    number: int


class Bell:
    """The waiting side of a slot's connections (so the servers are ``single``). Others only take waits back."""

    def __init__(self, servers: QueueServers) -> None:
        self._servers = servers
        self._side = QueueServers(servers.urls, {}, name="bell", timeout=2.0)
        self._numbers: dict[str, tuple[object, int]] = {}  # server -> the number that it has given to this socket

    def wait(self, lists: Mapping[str, Sequence[str]], seconds: float, others: Sequence[socket.socket]) -> Rung:
        """Waits until a token comes to one of these lists (server -> names), or one of ``others`` can be read, or a
        server falls silent, or the time is over. QueueServerError passes through.
        """
        rung = Rung()
        waits = [self._begun(server, names, seconds, rung) for server, names in lists.items()]
        blocked = [wait for wait in waits if wait is not None]
        ringing = self._ringing(blocked, 0.0 if rung.down else seconds, others, rung)
        for wait in blocked:
            if wait.server not in rung.down:
                with self._noted(wait.server, rung):
                    if wait.server not in ringing:
                        self._side[wait.server].link.call("CLIENT", "UNBLOCK", wait.number)
                    token = wait.connection.read_response()
                    if token:
                        rung.tokens.append((wait.server, token[0].decode()))
        return rung

    @contextlib.contextmanager
    def _noted(self, server: str, rung: Rung) -> Iterator[None]:
        """A server that does not answer is noted; its connection is closed, so that nobody takes its late answer for
        another's.
        """
        try:
            with translated(self._servers.urls[server]):
                yield
        except QueueServerDown:
            self._servers[server].close()
            rung.down.append(server)
        except BaseException:
            self._servers.close()
            raise

    def _begun(self, server: str, names: Sequence[str], seconds: float, rung: Rung) -> _Wait | None:
        with self._noted(server, rung):
            client: Any = self._servers[server].redis
            connection = client.connection
            connection.connect()
            blocking = ("BLPOP", *names, round(seconds + _SLACK, 3))
            line, number = self._numbers.get(server, (None, 0))
            if line is connection._sock:  # a slot that idles wakes with cold caches: each round trip counts
                connection.send_packed_command([packed([blocking])])
            else:
                connection.send_packed_command([packed([("CLIENT", "ID"), blocking])])
                number = int(connection.read_response())
                self._numbers[server] = connection._sock, number
            return _Wait(server, connection, number)
        return None

    def _ringing(
        self, blocked: Sequence[_Wait], seconds: float, others: Sequence[socket.socket], rung: Rung
    ) -> set[str]:
        """The servers with something to read, once there is one, or an end of the wait."""
        at_once = set()
        for wait in blocked:
            with self._noted(wait.server, rung):
                if wait.connection.can_read(0):  # a token that was there already has come with the id, in one read
                    at_once.add(wait.server)
        if at_once or rung.down:
            return at_once
        lines = {wait.connection._sock: wait.server for wait in blocked}  # redis-py has no public way to select on it
        ready, _, _ = select.select([*lines, *others], [], [], seconds)
        return {lines[each] for each in ready if each in lines}
