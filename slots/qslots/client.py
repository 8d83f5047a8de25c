"""The queue server that this process enqueues to: named once, or found in the environment or the settings file."""

import os
import urllib.parse

from .errors import SettingsError
from .queueserver import QueueServer
from .settings import LEFT_BY_UP, Settings, read

_current: QueueServer | None = None


def connect(url: str, *, timeout: float = 5.0) -> QueueServer:
    """Names the queue server of this process; nothing is sent yet. ``timeout`` in seconds bounds each call."""
    global _current
    _current = QueueServer(url, name="app", timeout=timeout)
    return _current


def current() -> QueueServer:
    """The queue server of ``connect``, QSLOTS_REDIS, the settings file, or the one that ``qslots up`` runs here."""
    if _current is not None:
        return _current
    return connect(url_of(read(None, os.environ)))


def url_of(settings: Settings) -> str:
    """The URL that settings name, or that of the private server in this folder, or SettingsError with the remedy."""
    if not settings.queue_servers and LEFT_BY_UP.exists():
        return "unix://" + urllib.parse.quote(str(LEFT_BY_UP.absolute()))
    try:
        return settings.url
    except SettingsError as error:
        raise SettingsError(f"{error}; or start one here with `qslots up`") from None
