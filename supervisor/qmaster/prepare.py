"""The steps from settings to a master that may start, in the order that leaves no right of root to anything of the
application: limits, folders, the user, then everything else.
"""

import logging
import pathlib

from qslots.connection import DENIED, without_password
from qslots.daemon.folders import User, own_folder
from qslots.daemon.places import runtime_dir, state_dir
from qslots.errors import QueueServerDown, SettingsError
from qslots.rlimits import parse
from qslots.servers import QueueServers
from qslots.settings import ServerSettings, Settings
from qslots.units import counted

from . import privileges, rlimits, state
from .identity import server_name
from .lastmap import LastMap

log = logging.getLogger("qmaster")


def become_oneself(settings: ServerSettings) -> None:
    """Limits, folders and user as the settings want them. SettingsError; nothing is started yet."""
    user = privileges.user_to_become(settings.user)
    rlimits.apply(parse(settings.limits))
    rlimits.raise_own()
    if user is not None:
        own_folder(runtime_dir(settings), "server.runtime_dir", user)
        _state_folder(settings, user)
        privileges.drop(user, no_new_privileges=settings.no_new_privileges)


def last_map(settings: Settings) -> LastMap:
    """The map of the last run, as far as it is known."""
    name = server_name(settings.server)
    folder = _state_folder(settings.server)
    path = folder / f"{name}.state" if folder is not None else None
    row = state.read(path, name, without_password(settings.url)) if path is not None else None
    return LastMap(path, name, row)


def _state_folder(settings: ServerSettings, user: User | None = None) -> pathlib.Path | None:
    try:
        return own_folder(state_dir(settings), "server.state_dir", user)
    except SettingsError as error:  # a read-only disk is no reason not to work
        if user is None:
            log.warning("a restart without the queue server will not know the map: %s", error)
        return None


def check_queue_servers(settings: Settings, last: LastMap) -> None:
    """The first one must be there when a server starts for the first time; later its last map is enough."""
    servers = QueueServers.listed(settings, name="check")
    try:
        servers.check()
    except QueueServerDown as error:
        if last.row is None or error.code == DENIED:
            raise
        slots = counted(sum(map(bool, last.row.slots)), "slot")
        log.warning("%s; starting with the last map, %s, and trying again", error, slots)
    finally:
        servers.close()
