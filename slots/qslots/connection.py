"""One way to reach a queue server: its URL, its time-outs, and errors in our own words.

redis-py's own retries are off: it would repeat a script after a time-out without knowing whether that is safe.
"""

import contextlib
import re
from collections.abc import Iterator

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import DuplicateTask, HolderDead, QueueServerDown, QueueServerError, SettingsError

OLDEST = (6, 2)
SCHEMES = ("redis://", "rediss://", "unix://")
_FOR_NOW = re.compile(r"(?:^|-)(OOM|READONLY|NOREPLICAS|MASTERDOWN|MISCONF|BUSY|TRYAGAIN) ")  # in a script, after a "-"
_FOR_NOW_KINDS = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
)  # redis-py takes the code off these


def open_redis(url: str, *, name: str, timeout: float = 5.0, single: bool = False) -> redis.Redis:
    """A client of the server at ``url``, not yet connected. ``single``: one connection, for one thread, kept open."""
    if not url.startswith(SCHEMES):
        raise SettingsError(f"queue server {without_password(url)!r}: write redis://, rediss:// or unix://")
    try:
        return redis.Redis.from_url(
            url,
            client_name=f"qslots-{name}",
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            single_connection_client=single,
        )
    except (ValueError, TypeError) as error:
        raise SettingsError(f"queue server {without_password(url)!r}: {error}") from None
    except redis.exceptions.RedisError as error:  # `single` connects at once
        raise down(url, error) from None


def supported(client: redis.Redis, url: str) -> tuple[int, ...]:
    """The version of the server, e.g. (7, 0, 15); QueueServerError if it is too old."""
    with translated(url):
        text = str(client.info("server")["redis_version"])
    version = tuple(int(part) for part in re.findall(r"\d+", text))
    if version < OLDEST:
        raise QueueServerError(f"queue server {without_password(url)} is Redis {text}: 6.2 or later is needed")
    return version


def without_password(url: str) -> str:
    """The URL fit for a log."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"//([^:@/]*):[^@/]*@", r"//\1:***@", url))


def down(url: str, error: BaseException) -> QueueServerDown:
    """The one-line error for a server that does not answer."""
    why = " ".join(str(error).split()).rstrip(".")
    return QueueServerDown(
        f"queue server {without_password(url)} does not answer: {why}; is it running, is the URL right?"
    )


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Errors of redis-py as ours, each naming the server."""
    try:
        yield
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise down(url, error) from error
    except redis.exceptions.ResponseError as error:
        code, _, rest = str(error).partition(" ")
        if code in ("DEAD", "STALE"):
            raise HolderDead(rest) from None
        if code == "DUPLICATE":
            raise DuplicateTask(rest) from None
        if isinstance(error, _FOR_NOW_KINDS) or _FOR_NOW.search(str(error)):
            raise QueueServerDown(f"queue server {without_password(url)} refuses for now: {error}") from None
        raise QueueServerError(f"queue server {without_password(url)}: {error}", code) from None
    except redis.exceptions.RedisError as error:
        why = " ".join(str(error).split())
        raise QueueServerError(
            f"{without_password(url)} does not speak as Redis does ({why}): is the URL right?"
        ) from None
