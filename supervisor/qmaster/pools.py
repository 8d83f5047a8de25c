"""Connections and event loops that the application has opened while it was imported.

What a library says is to be closed before a fork is closed here; the rest is told of. Nothing is imported: a library
that the application has not loaded has nothing open.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from qslots import client

from . import heap
from .findings import Finding, found


def _sqlite_file(connection: Any) -> str:
    """The file of an SQLite connection; "" if it is closed, or lives in memory and is as good as any object."""
    try:
        cursor = connection.cursor()
        cursor.row_factory = None
        return ", ".join(str(row[2]) for row in cursor.execute("PRAGMA database_list").fetchall() if row[2])
    except connection.ProgrammingError:
        return ""


_CONNECTIONS: dict[tuple[str, str], Callable[[Any], object]] = {  # class -> what is true of one that is open
    ("sqlite3", "Connection"): _sqlite_file,
    ("psycopg2.extensions", "connection"): lambda each: not each.closed,
    ("psycopg", "Connection"): lambda each: not each.closed,
    ("psycopg", "AsyncConnection"): lambda each: not each.closed,
    ("pymysql.connections", "Connection"): lambda each: each.open,
    ("MySQLdb.connections", "Connection"): lambda each: each.open,
    ("asyncpg.connection", "Connection"): lambda each: not each.is_closed(),
    ("oracledb", "Connection"): lambda each: each.is_healthy(),
}
_LOOP = ("asyncio.events", "AbstractEventLoop")
_REDIS = ("redis.connection", "AbstractConnection")
_ENGINE = ("sqlalchemy.engine.base", "Engine")
_CHANNEL = ("grpc._channel", "Channel")


class Open:
    """All objects of the heap that hold connections, found in one pass, and where modules keep them."""

    def __init__(self) -> None:
        self._kinds: dict[type, tuple[str, str]] = {}
        for each in (*_CONNECTIONS, _LOOP, _REDIS, _ENGINE, _CHANNEL):
            kind = heap.known(*each)
            if kind is not None:
                self._kinds |= dict.fromkeys(heap.with_subclasses(kind), each)
        self._objects = heap.instances(self._kinds) if self._kinds else []
        self._names = heap.names_of(self._objects)
        self.accounted: set[int | str] = set()  # descriptors and paths that a finding here tells of

    def _of(self, kind: tuple[str, str]) -> Iterator[Any]:
        return (each for each in self._objects if self._kinds[type(each)] == kind)

    def _where(self, each: object) -> str:
        return self._names.get(id(each), "")

    def engines(self) -> list[Finding]:
        """SQLAlchemy: what is idle in pools is closed, as its manual says for before a fork."""
        findings = []
        for engine in self._of(_ENGINE):
            checked_in = getattr(engine.pool, "checkedin", int)  # pools without it keep theirs: it may be all data
            idle = checked_in()
            if idle and not engine.dialect.is_async:
                engine.dispose()
                findings.append(found("engine", f"{idle} open in the pool of {engine!r}", self._where(engine)))
        return findings

    def django(self) -> list[Finding]:
        """Django's connections, which it opens again when they are needed."""
        database, conf = sys.modules.get("django.db"), sys.modules.get("django.conf")
        if database is None or conf is None or not conf.settings.configured:
            return []
        open_ones = [each for each in database.connections.all(initialized_only=True) if each.connection is not None]
        database.connections.close_all()
        closed = [each.alias for each in open_ones if each.connection is None]  # one in memory stays
        return [found("django", f"Django's connection {alias}") for alias in closed]

    def redis(self) -> list[Finding]:
        """Ours are closed; redis-py's own pools know the pid that they were made in."""
        before = list(self._connected())
        client.close()
        rest = list(self._connected())
        for each in rest:
            self.accounted.add(each._sock.fileno())
        closed = len(before) - len(rest)
        ours = [found("own connections", f"{closed} open to queue servers: something was enqueued")] if closed else []
        return ours + [found("redis", f"open Redis connection: {each!r}", self._where(each)) for each in rest]

    def _connected(self) -> Iterator[Any]:
        return (each for each in self._of(_REDIS) if getattr(each, "_sock", None) is not None)

    def connections(self) -> list[Finding]:
        """Those of databases that are open still."""
        findings = []
        for kind, is_open in _CONNECTIONS.items():
            for each in self._of(kind):
                detail = is_open(each)
                if detail:
                    self._account(each)
                    self.accounted.add(str(detail))
                    to = f" to {detail}" if isinstance(detail, str) else ""
                    findings.append(
                        found("connection", f"open {kind[0].partition('.')[0]} connection{to}", self._where(each))
                    )
        return findings  # fmt: skip

    def loops(self) -> list[Finding]:
        """Event loops that are not closed."""
        living = [each for each in self._of(_LOOP) if not each.is_closed()]
        for each in living:
            for name in ("_selector", "_ssock", "_csock"):
                self._account(getattr(each, name, None))
        return [found("event loop", f"open {type(each).__name__}", self._where(each)) for each in living]

    def channels(self) -> list[Finding]:
        """Channels of gRPC."""
        return [found("grpc", "open gRPC channel", self._where(each)) for each in self._of(_CHANNEL)]

    def _account(self, each: Any) -> None:
        fileno = getattr(each, "fileno", None)
        if fileno is not None:
            self.accounted.add(fileno())
