"""``qmanager check``: whether a manager with these settings could reign from this machine, and who reigns just now.

It only reads, on the queue servers and here; it takes no epoch and leaves nothing behind.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from qslots import durability
from qslots.connection import translated, without_password
from qslots.control import Control
from qslots.daemon.folders import own_folder
from qslots.errors import QueueServerDown, QueueServerError, SettingsError
from qslots.reports import QueueDeclared
from qslots.servers import QueueServers
from qslots.settings import Settings
from qslots.units import counted, duration

from .admin.views import silence
from .changes import listed
from .loop import undeclared
from .place import SETTING, folder_of, sign_in
from .presence import living
from .published import clock, newest_plan

PATIENCE = 3.0  # seconds for one answer of a queue server


@dataclass(slots=True)
class Found:
    """The document of the command, and what is wrong: errors keep a manager from its work, warnings do not."""

    queue_servers: list[dict[str, Any]] = field(default_factory=list)
    manager: dict[str, Any] | None = None
    masters: list[dict[str, Any]] = field(default_factory=list)
    runtime_dir: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """With the keys that docs/commands.md lists."""
        return {name: getattr(self, name) for name in self.__slots__}


def check(settings: Settings) -> Found:
    """All that can be known. SettingsError if no queue server is named."""
    found = Found()
    servers = QueueServers.listed(settings, name="check", timeout=PATIENCE)
    queues: list[QueueDeclared] = []
    try:
        queues = _look_at_cluster(Control(servers.control), settings, found)
    except QueueServerError as error:
        found.errors.append(str(error))
    for name in servers.names:
        found.queue_servers.append(_queue_server(servers, name, queues, found))
    servers.close()
    _look_at_folder(settings, found)
    return found


def _look_at_cluster(control: Control, settings: Settings, found: Found) -> list[QueueDeclared]:
    """Who reigns, who reports. Returns the queues that are declared."""
    with translated(control.server.url):
        now = clock(control.server)
        newest, notes = newest_plan(control.server.redis)
    found.warnings += notes
    if newest is not None:
        found.manager = {"manager": newest.manager, "epoch": newest.epoch, "seq": newest.seq,
                         "age": round(now - newest.published, 3)}  # fmt: skip
        found.warnings += silence("the newest map", now - newest.published)
    heard = control.heard()
    ages = heard.ages
    found.warnings += [f"the report of master {name} cannot be read" for name in heard.unreadable]
    for name, report in sorted(heard.reports.items()):
        age = round(ages[name], 3) if math.isfinite(ages[name]) else None
        found.masters.append({"name": name, "host": report.host, "age": age, "epoch": report.epoch})
    lost_after = duration(settings.manager.lost_after)
    if min(ages.values(), default=math.inf) > lost_after:
        found.warnings.append("no master reports: start qmaster on the servers")
        return []
    there = living(heard, lost_after)
    if silent := sorted(heard.reports.keys() - there.keys()):
        found.warnings.append(f"lost, as they have not reported for {lost_after:g} s: {listed(silent)}")
    declared = control.declared({report.declared for report in there.values()})
    queues = {queue.name: queue for each in declared.values() for queue in each.queues}
    found.warnings += undeclared(settings.queues, set(queues))
    return list(queues.values())


def _queue_server(servers: QueueServers, name: str, queues: list[QueueDeclared], found: Found) -> dict[str, Any]:
    """One row; what is wrong with it goes to the errors, or to the warnings if a manager can do without it."""
    row: dict[str, Any] = {"name": name, "url": without_password(servers.urls[name]), "version": None, "aof": None}
    server = servers[name]
    try:
        row["version"] = ".".join(map(str, server.version()))
        row["aof"] = durability.info(server.link, "persistence")["aof_enabled"] == "1"
        server.check()
        for queue in queues:
            if name in servers.places(queue.name):
                server.promise(queue.name, durability.parse(queue.durability))
    except QueueServerDown as error:
        if str(error) not in found.errors:
            (found.errors if name == servers.names[0] else found.warnings).append(str(error))
    except QueueServerError as error:
        found.errors.append(str(error))
    if row["aof"] is False:
        found.warnings.append(
            f"queue server {row['url']} keeps no append-only file: its tasks end with it; appendonly yes"
        )
    return row


def _look_at_folder(settings: Settings, found: Found) -> None:
    """Whether a manager of this user, or of the folder's, could work there, and whether one does."""
    folder = folder_of(settings)
    sign = sign_in(folder)
    found.runtime_dir = {"path": str(folder), "pid": sign.pid if sign is not None and sign.lives() else None}
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        if there == folder:
            if os.geteuid() or not folder.stat().st_uid:  # root may look at what is another user's
                own_folder(folder, SETTING)
        elif not os.access(there, os.W_OK | os.X_OK):
            found.errors.append(f"folder {folder} cannot be made in {there} by this user; name another with {SETTING}")
    except (SettingsError, OSError) as error:
        found.errors.append(str(error))


def lines(found: Found) -> Iterator[str]:
    """For people."""
    for row in found.queue_servers:
        state = (
            "does not answer"
            if row["version"] is None
            else f"version {row['version']}, AOF {'on' if row['aof'] else 'off'}"
        )
        yield f"queue server {row['name']}, {row['url']}: {state}"
    if found.queue_servers[0]["version"] is not None:  # else nothing is known of it
        yield from _cluster(found)
    running = f", a manager runs here (pid {found.runtime_dir['pid']})" if found.runtime_dir["pid"] else ""
    yield f"runtime folder {found.runtime_dir['path']}{running}"
    yield from (f"warning: {line}" for line in found.warnings)
    yield from (f"error: {line}" for line in found.errors)
    yield (
        "it can reign from here"
        if not found.errors
        else f"it cannot reign from here: {counted(len(found.errors), 'error')}"
    )


def _cluster(found: Found) -> Iterator[str]:
    if found.manager is not None:
        yield "newest map: epoch {epoch} of manager {manager}, {age:.1f} s ago".format(**found.manager)
    else:
        yield "no manager has published a map yet"
    ages = [row["age"] for row in found.masters if row["age"] is not None]
    yield f"{counted(len(found.masters), 'master')} known" + (
        f", reports between {min(ages):.1f} and {max(ages):.1f} s old" if ages else ""
    )
