"""The queue servers that this process enqueues to: named once, or found in the environment or the settings file."""

import contextlib
import os
import urllib.parse
from collections.abc import Iterator, Mapping

from .connection import check_url
from .errors import SettingsError, UsageError
from .servers import QueueServers
from .settings import LEFT_BY_UP, QueueSettings, Settings, read
from .units import duration

_SHORTEST = 0.001  # seconds to wait for an answer
_current: QueueServers | None = None
_overrides: Mapping[str, QueueSettings] = {}
_instead: QueueServers | None = None  # of a test: whatever is connected to, before it or meanwhile, is left alone
_IN_TESTS = QueueSettings(durability="fast")  # there is no disk and no replica to wait for


def connect(url: str, *, timeout: str | float = 5.0) -> QueueServers:
    """Names the one queue server of this process; nothing is sent yet. ``timeout`` (5, "5s") bounds each call.

    SettingsError: the URL has not the form of one.
    """
    check_url(url)
    seconds = duration(timeout, "connect: timeout")
    if seconds < _SHORTEST:
        raise UsageError(f"connect: timeout is {timeout!r}: at least {_SHORTEST:g} s")
    return connect_listed(Settings(queue_servers={"main": url}), timeout=seconds)


def connect_listed(settings: Settings, *, timeout: float = 5.0) -> QueueServers:
    """Names the queue servers that settings list, and what they say of queues; nothing is sent yet."""
    global _current, _overrides
    _current, _overrides = QueueServers.listed(settings, name="app", timeout=timeout), settings.queues
    return _current


def current() -> QueueServers:
    """The queue servers of ``connect``, QSLOTS_REDIS, the settings file, or the one that ``qslots up`` runs here."""
    if _instead is not None:
        return _instead
    if _current is not None:
        return _current
    return connect_listed(found(read(None, os.environ)))


def close() -> None:
    """Closes what this process has open to its queue servers, if anything; what comes next opens it anew."""
    if _current is not None:
        _current.close()


def override(queue: str) -> QueueSettings | None:
    """What the settings that this process has read say of a queue."""
    return _overrides.get(queue) if _instead is None else _IN_TESTS


def in_test() -> bool:
    """Whether this is a block of ``qslots.testing``, where nothing runs by itself."""
    return _instead is not None


@contextlib.contextmanager
def instead(servers: QueueServers) -> Iterator[None]:
    """In this block the process enqueues to these servers, and no settings count; afterwards all is as it was."""
    global _instead
    before, _instead = _instead, servers
    try:
        yield
    finally:
        _instead = before


def found(settings: Settings) -> Settings:
    """Settings that name a queue server: if they do not, the private one in this folder; else SettingsError."""
    if settings.queue_servers:
        return settings
    if LEFT_BY_UP.exists():
        return settings.with_url("unix://" + urllib.parse.quote(str(LEFT_BY_UP.absolute())))
    try:
        return settings.with_url(settings.url)
    except SettingsError as error:
        raise SettingsError(f"{error}; or start one here with `qslots up`") from None
