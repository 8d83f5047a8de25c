"""From root to ``server.user``, before anything is started: no code of the application ever runs as root.

What root has in memory by then is what the settings say; descriptors of root's are stdin, stdout and stderr alone. The
way back must be closed, or nothing is started.
"""

import logging
import os
import pwd

from qslots.daemon.folders import User
from qslots.errors import SettingsError

from . import linux

log = logging.getLogger("qmaster")


def user_to_become(name: str | None) -> User | None:
    """The user of this name; None if there is nothing to drop. SettingsError if we cannot become that user."""
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SettingsError(f"server.user: there is no user {name!r} on this machine") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise SettingsError(f"server.user: only root can run slots as {name}; start qmaster as root or as {name}")
    return User(name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def warn_of_root(name: str | None) -> None:
    """Once, unless the settings want it so."""
    if name is None and os.geteuid() == 0:
        log.warning("the application runs as root: name another user with server.user")


def become(name: str | None, *, no_new_privileges: bool) -> None:
    """Drops to this user, if there is something to drop."""
    user = user_to_become(name)
    if user is not None:
        drop(user, no_new_privileges=no_new_privileges)


def drop(user: User, *, no_new_privileges: bool) -> None:
    """Becomes the user for good. SettingsError if root could be had back."""
    try:
        os.initgroups(user.name, user.gid)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:  # a container that may not change users
        raise SettingsError(
            f"server.user: cannot become {user.name}: {error.strerror}; start qmaster as {user.name}"
        ) from None
    if _is_root_again():
        raise SettingsError(f"server.user: the rights of root stay with {user.name} here: start qmaster as {user.name}")
    if no_new_privileges:
        linux.no_new_privileges()
    linux.show_process()  # after setuid /proc/PID is root's, and nobody could measure or debug the master
    os.environ.update(HOME=user.home, USER=user.name, LOGNAME=user.name)
    os.environ.pop("XDG_RUNTIME_DIR", None)  # root's


def _is_root_again() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True
