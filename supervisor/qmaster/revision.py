"""The settings of a reload: read anew, but for what a master that runs cannot change.

The mold does it, before it imports the application: reading a file may wait, which a master must not. What is refused
here refuses the generation, and the settings in force stay as they are, whole.
"""

import os
from typing import Any

import msgspec

from qslots.errors import SettingsError
from qslots.settings import Settings, read

FOR_LIFE = (  # under server; all else but queue_servers may change
    *("name", "user", "runtime_dir", "state_dir", "log_file", "limits", "no_new_privileges"),
)


class Source(msgspec.Struct, frozen=True):
    """Where a master's settings came from, the environment apart, which its molds inherit."""

    file: str | None = None
    app: tuple[str, ...] = ()
    redis: str | None = None
    server: str | None = None


def reread(source: Source, running: Settings) -> tuple[Settings, list[str]]:
    """The settings for the next generation, and the keys whose new values wait for a restart. SettingsError."""
    found = read(source.file, os.environ, app=source.app, redis=source.redis, server=source.server)
    if not found.app:
        raise SettingsError("no application: list it under app in the settings file")
    return revised(running, found)


def revised(running: Settings, found: Settings) -> tuple[Settings, list[str]]:
    """``found`` with the lasting part of ``running``, and the keys in which they differ there."""
    kept = {name: getattr(running.server, name) for name in FOR_LIFE}
    later = [f"server.{name}" for name, value in kept.items() if getattr(found.server, name) != value]
    if found.queue_servers != running.queue_servers:
        later.append("queue_servers")
    for queue, places in found.places.items():
        for place in places:
            if place not in running.queue_servers:
                raise SettingsError(
                    f"queues.{queue}.queue_server: {place!r} is new in queue_servers: qmaster must be restarted for it"
                )
    server = msgspec.structs.replace(found.server, **kept)
    return msgspec.structs.replace(found, server=server, queue_servers=running.queue_servers), later


def changes(before: Settings, after: Settings) -> list[str]:
    """What differs, key by key, as "server.private_limit: '64M' (was '48M')"."""
    old, new = _flat(msgspec.to_builtins(before), ""), _flat(msgspec.to_builtins(after), "")
    different = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {new.get(key)!r} (was {old.get(key)!r})" for key in different]


def _flat(document: dict[str, Any], above: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in document.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found
