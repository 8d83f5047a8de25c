"""One way to reach a queue server: its URL, its time-outs, one round trip, and errors in our own words.

redis-py's own retries are off: it would repeat a script after a time-out without knowing whether that is safe.
"""

import contextlib
import os
import re
import threading
import time
import urllib.parse
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from . import sentinel
from .errors import DuplicateTask, Error, HolderDead, QueueServerDown, QueueServerError, SettingsError

OLDEST = (6, 2)
SCHEMES = ("redis://", "rediss://", "unix://", *sentinel.SCHEMES)
KINDS = "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"
_FOR_NOW = re.compile(
    r"(?:^|-)(OOM|READONLY|NOREPLICAS|MASTERDOWN|MISCONF|BUSY|TRYAGAIN|UNBLOCKED) "  # in a script, after a "-"
)
_FOR_NOW_KINDS = {  # redis-py takes the code off these
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
}
_DONE_ALL_THE_SAME = ("UNBLOCKED",)  # what was asked for behind a write was given up, not the write
_DENIED_IN_SCRIPT = re.compile("The user executing the script can't|ACL failure in script")
DENIED = "DENIED"  # the code where user or password are refused; they may be mended while we run
_SHORTEST = 0.01  # seconds that a server has at least
_FRESH = 0.001  # seconds after its last use that a connection is taken to be open without looking
_UNLIMITED = 1 << 31  # connections: an application may have any number of threads; redis-py has begun to stop at 100
# CLIENT SETINFO would cost two round trips a connection, and where users are limited two lines in the log of refusals.
_NO_SETINFO = ("driver_info",) if hasattr(redis, "DriverInfo") else ("lib_name", "lib_version")


class ListedUrl(str):
    """The URL of one of several queue servers: what is said of it begins with its name in the settings."""

    name: str

    def __new__(cls, url: str, name: str) -> "ListedUrl":
        """A plain text for whoever connects to it."""
        made = super().__new__(cls, url)
        made.name = name
        return made


def open_redis(url: str, *, name: str, timeout: float = 5.0, single: bool = False) -> redis.Redis:
    """A client of the server at ``url``, not yet connected. ``single``: one connection, for one thread, kept open.

    Under Sentinel each new connection goes to the server that is the primary then.
    """
    wanted = url, timeout
    client, connection = _PREPARED.pop(wanted) if wanted in _PREPARED else _made(url, timeout)
    client.connection_pool.connection_kwargs["client_name"] = connection.client_name = f"qslots-{name}"
    if single:
        connection.pid = os.getpid()  # it may have been made in a mold
        try:
            connection.connect()
        except (redis.exceptions.RedisError, OSError) as error:
            raise translation(url, error, sent=False) from None
        client.connection = connection
    return client


def prepare(url: str, timeout: float) -> None:
    """Makes now, not connected, what ``open_redis`` would: in a mold, so that slots share it."""
    _PREPARED[url, timeout] = _made(url, timeout)


_PREPARED: dict[tuple[str, float], tuple[redis.Redis, Any]] = {}


def _made(url: str, timeout: float) -> tuple[redis.Redis, Any]:
    try:
        pool = _pool(url, timeout)
        connection = pool.connection_class(**pool.connection_kwargs)  # an unknown option shows only here
    except (ValueError, TypeError, redis.exceptions.RedisError) as error:
        raise SettingsError(f"queue server {without_password(url)!r}: {error}") from None
    client = redis.Redis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client, connection


def check_url(url: object) -> None:
    """SettingsError if this is not the URL of a queue server by its form; nothing is sent."""
    if not isinstance(url, str):
        raise SettingsError(f"queue server {url!r}: write a URL as text, such as redis://host:6379/0")
    open_redis(url, name="form").close()


def _pool(url: str, timeout: float) -> ConnectionPool:
    if not url.isprintable():
        raise ValueError("it has a line break or another character that is not printed")
    if url.startswith("/"):
        raise ValueError(f"write unix://{url} for a socket on this machine")
    if not url.startswith(SCHEMES):
        raise ValueError(f"write {KINDS}")
    common = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        **dict.fromkeys(_NO_SETINFO),
    }
    if url.startswith(sentinel.SCHEMES):
        return sentinel.pool(url, common, max_connections=_UNLIMITED)
    _check_place(url)
    return ConnectionPool.from_url(url, **common, max_connections=_UNLIMITED)


def _check_place(url: str) -> None:
    """What redis-py lets through as database 0, or refuses with a part of the password in its message."""
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port  # noqa: B018
    except ValueError:
        raise ValueError("not a URL with a port; in a password write / ? # @ as %2F %3F %23 %40") from None
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise ValueError("write the path of the socket, such as unix:///run/redis.sock")
    if parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*/?", parts.path):
        raise ValueError("behind the host comes the number of the database, such as /0, or nothing")


def supported(link: "Link", url: str) -> tuple[int, ...]:
    """The version of the server, e.g. (7, 0, 15); QueueServerError if it is too old."""
    said = re.search(rb"redis_version:(\S+)", link.call("INFO", "server"))
    text = said[1].decode() if said else "of an unknown version"
    version = numbers(text)
    if version < OLDEST:
        raise QueueServerError(f"queue server {without_password(url)} is Redis {text}: 6.2 or later is needed")
    return version


def numbers(version: str) -> tuple[int, ...]:
    """The parts of a version: "7.0.15" is (7, 0, 15)."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def without_password(url: str) -> str:
    """The URL fit for a log, with the server's name if it is one of several.

    A password that breaks the URL's form goes too, be it with a bit too much.
    """
    shown = re.sub(r"//([^:@/?,]*):.*@", r"//\1:***@", re.sub(r"(password=)[^&]*", r"\1***", url))
    return f"{url.name} ({shown})" if isinstance(url, ListedUrl) else shown


def user_of(url: str) -> str:
    """The user of the queue server that this URL logs in as."""
    before, _, query = url.partition("?")
    named = re.match(r"[^/]+://([^:@/]*)[^@/]*@", before)
    in_query = urllib.parse.parse_qs(query).get("username", [""])[0]
    return (urllib.parse.unquote(named[1]) if named else "") or in_query or "default"


class Link:
    """Round trips, each on one connection of a client: cheaper than redis-py's own, and surer in what they tell.

    After an error that is not an answer to the request the connection is closed: the next use begins from scratch, and
    under Sentinel with the question who the primary is. NoScriptError is the caller's, who has the script.

    Unless the client is ``single``, each thread keeps a connection of its own as long as it lives: to borrow one from
    the pool and give it back takes longer than a task's way to the server.
    """

    def __init__(self, client: redis.Redis, url: str) -> None:
        self._client = client
        self._url = url
        self._own = threading.local()
        self._kept: weakref.WeakSet[Any] = weakref.WeakSet()

    def close(self) -> None:
        """Closes all connections; each thread's next call opens one, from scratch."""
        for connection in list(self._kept):
            connection.disconnect()

    def call(self, *command: Any) -> Any:
        """The reply, as raw as it came. QueueServerDown says in ``sent`` if the request can have reached the server."""
        return self.calls(command)[0]

    def calls(self, *commands: tuple[Any, ...], wait: float = 0.0) -> list[Any]:
        """The replies to commands sent together; the first error among them is raised when all have been read.

        ``wait``: seconds that the server may take beyond the time-out, because a command (WAIT) is told to wait; below
        0, so much less than the time-out is left for all, also for opening a connection.
        """
        began = time.monotonic() if wait < 0 else 0.0
        connection = self._connected(wait)
        if wait < 0:
            spent = time.monotonic() - began  # on opening a connection; else too little for another time-out each time
            wait = max(wait - spent if spent > _SHORTEST else wait, _SHORTEST - connection.socket_timeout)
        try:
            return self._exchanged(connection, [packed(commands)], len(commands), wait)
        except redis.exceptions.NoScriptError:
            raise
        except (redis.exceptions.RedisError, OSError) as error:
            raise self._closing_if_down(connection, error) from None
        except BaseException:
            connection.disconnect()  # the answer may still come; nobody shall take it for another's
            raise

    def _connected(self, wait: float) -> Any:
        connection: Any = self._client.connection or self._own_connection()
        try:
            if connection._sock is None:  # to send would connect too, but without asking the Sentinels
                with _hurried(connection, wait):
                    connection.connect()
        except (redis.exceptions.RedisError, OSError) as error:
            raise translation(self._url, error, sent=False) from None
        except BaseException:
            connection.disconnect()  # greeted by half
            raise
        return connection

    def _own_connection(self) -> Any:
        """This thread's; a forked child has none of its parent's. What the server has closed is opened anew."""
        connection = getattr(self._own, "connection", None)
        if connection is None or connection.pid != os.getpid():
            pool = self._client.connection_pool
            connection = self._own.connection = pool.connection_class(**pool.connection_kwargs)
            self._kept.add(connection)
        elif time.monotonic() > self._own.fresh_until and connection._sock is not None and _is_stale(connection):
            connection.disconnect()
        self._own.fresh_until = time.monotonic() + _FRESH
        return connection

    @staticmethod
    def _exchanged(connection: Any, packed: Any, count: int, wait: float) -> list[Any]:
        line, patience = connection._sock, connection.socket_timeout + wait
        if line.gettimeout() != patience:  # to set it is a system call; puts, one after the other, want the same
            line.settimeout(patience)
        connection.send_packed_command(packed, check_health=False)
        replies, refusal = [], None
        for _ in range(count):
            try:
                replies.append(connection.read_response())
            except redis.exceptions.ResponseError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return replies

    def _closing_if_down(self, connection: Any, error: Exception) -> Error:
        ours = translation(self._url, error)
        if isinstance(ours, QueueServerDown) or not isinstance(error, redis.exceptions.ResponseError):
            connection.disconnect()
        return ours


def packed(commands: Iterable[tuple[Any, ...]]) -> bytes:
    """Commands as they are sent. Three times as fast as redis-py's own way to it; nothing may be raised in here by a
    signal: hiredis does not survive it.
    """
    return b"".join(map(hiredis.pack_command, commands))


@contextlib.contextmanager
def _hurried(connection: Any, wait: float) -> Iterator[None]:
    """In this block the time-outs of a connection are shorter, if ``wait`` is below 0."""
    usual = connection.socket_timeout, connection.socket_connect_timeout
    if wait < 0:
        connection.socket_timeout = connection.socket_connect_timeout = max(usual[0] + wait, _SHORTEST)
    try:
        yield
        connection._sock.settimeout(usual[0])
    finally:
        connection.socket_timeout, connection.socket_connect_timeout = usual


def _is_stale(connection: Any) -> bool:
    """Whether something can be read though nothing was asked: the end of the connection, or what is none of ours."""
    try:
        return bool(connection.can_read(0))
    except (redis.exceptions.RedisError, OSError):
        return True


def down(url: str, error: BaseException, *, sent: bool = True) -> QueueServerDown:
    """The one-line error for a server that does not answer. ``sent``: whether something can have reached it."""
    why = " ".join(str(error).split()).rstrip(".")
    place = without_password(url)
    denied = isinstance(error, redis.exceptions.AuthenticationError)
    if denied:
        text = f"queue server {place} does not let user {user_of(url)!r} in: {why}; is its password right, is it on?"
    else:
        text = f"queue server {place} does not answer: {why}; is it running, is the URL right?"
    absent = isinstance(error, redis.exceptions.BusyLoadingError) or "refused" in why or "No such file" in why
    return QueueServerDown(
        text, DENIED if denied else "", sent=sent and not isinstance(error, MasterNotFoundError),
        serves_nobody=absent and not url.startswith(sentinel.SCHEMES),
    )  # fmt: skip


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Errors of redis-py as ours, each naming the server."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise translation(url, error) from None


@contextlib.contextmanager
def understood(url: str, what: str) -> Iterator[None]:
    """Around the reading of an answer: one that no script of ours gives is a QueueServerError, for a key is damaged."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        place = f"queue server {without_password(url)}"
        raise QueueServerError(f"{place}: {what} cannot be understood ({error}): is a key damaged?") from error


def translation(url: str, error: Exception, *, sent: bool = True) -> Error:
    """Our error for one of redis-py or of the operating system, naming the server."""
    if isinstance(error, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)):
        return down(url, error, sent=sent and not isinstance(error, redis.exceptions.BusyLoadingError))
    if isinstance(error, redis.exceptions.ResponseError):
        return _refusal(url, error, sent=sent)
    why = " ".join(str(error).split())
    return QueueServerError(f"{without_password(url)} does not speak as Redis does ({why}): is the URL right?")


def _refusal(url: str, error: redis.exceptions.ResponseError, *, sent: bool) -> Error:
    code, _, rest = str(error).partition(" ")
    place = f"queue server {without_password(url)}"
    if code in ("DEAD", "STALE"):
        return HolderDead(rest)
    if code == "DUPLICATE":
        return DuplicateTask(rest)
    refused = _FOR_NOW.search(str(error))
    word = refused[1] if refused else _FOR_NOW_KINDS.get(type(error), "")
    if word:
        return QueueServerDown(f"{place} refuses for now: {error}", word, sent=sent and word in _DONE_ALL_THE_SAME)
    if isinstance(error, redis.exceptions.NoPermissionError) or _DENIED_IN_SCRIPT.search(str(error)):
        remedy = "give it the rights of its role in deploy/redis/users.acl, or use another user"
        return QueueServerError(f"{place} does not allow this to user {user_of(url)!r}: {error}; {remedy}", "NOPERM")
    return QueueServerError(f"{place}: {error}", code)
