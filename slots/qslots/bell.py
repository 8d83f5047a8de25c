"""How an idle slot waits: for a token of one of its queues, an order of its master, a signal, or a due time.

It blocks on the queue server's list of tokens and on its own sockets at once, so nothing polls. Redis ends a blocking
command up to 100 ms late (its timer runs at 10 Hz), so the slot keeps the time itself and takes the command back.
"""

import select
import socket
from typing import Any

import redis

from .connection import down, translated
from .queueserver import QueueServer

_SLACK = 1.0  # seconds that the server waits longer than we do: only in case we are gone


class Bell:
    """The waiting side of a slot's one connection (so the server is ``single``). A second one only takes waits back."""

    def __init__(self, server: QueueServer) -> None:
        self._server = server
        self._side: redis.Redis | None = None

    def wait(self, lists: list[str], seconds: float, others: list[socket.socket]) -> str | None:
        """Waits until a token comes (then returns its list), or one of ``others`` can be read, or the time is over."""
        client: Any = self._server.redis
        with translated(self._server.url):
            try:
                return self._blocked(client.connection, lists, seconds, others)
            except BaseException:
                self._server.close()  # the answer may still come; nobody shall take it for another's
                raise

    def _blocked(self, connection: Any, lists: list[str], seconds: float, others: list[socket.socket]) -> str | None:
        connection.connect()
        connection.send_packed_command(
            connection.pack_commands([("CLIENT", "ID"), ("BLPOP", *lists, round(seconds + _SLACK, 3))])
        )
        me = connection.read_response()
        if not connection.can_read(0):  # a token that was there already has come with the id, in one read
            line = connection._sock  # redis-py has no public way to select on its socket
            ready, _, _ = select.select([line, *others], [], [], seconds)
            if line not in ready:
                self._take_back(int(me))
        token = connection.read_response()
        return token[0].decode() if token else None

    def _take_back(self, me: int) -> None:
        if self._side is None:
            self._side = QueueServer(self._server.url, name="bell", timeout=2.0).redis
        try:
            self._side.client_unblock(me)
        except (redis.exceptions.RedisError, OSError) as error:
            raise down(self._server.url, error) from None
