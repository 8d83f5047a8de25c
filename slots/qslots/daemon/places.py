"""Where a daemon keeps what is its own on a machine, and the locks that let only one of a name run there."""

import fcntl
import os
import pathlib

from ..errors import Error
from ..settings import LEFT_BY_UP, ServerSettings

RUN, VAR_LIB = pathlib.Path("/run/qslots"), pathlib.Path("/var/lib/qslots")


def runtime_dir(settings: ServerSettings) -> pathlib.Path:
    """Where scoreboard and control socket lie: as set, or that of ``qslots up`` here, or this user's on tmpfs."""
    found = _known(settings.runtime_dir, "run", RUN)
    own = os.environ.get("XDG_RUNTIME_DIR")
    return found or (pathlib.Path(own) / "qslots" if own else pathlib.Path(f"/dev/shm/qslots-{os.geteuid()}"))


def state_dir(settings: ServerSettings) -> pathlib.Path:
    """Where what must outlive a reboot lies: as set, or that of ``qslots up`` here, or this user's."""
    found = _known(settings.state_dir, "state", VAR_LIB)
    own = os.environ.get("XDG_STATE_HOME")
    return found or (pathlib.Path(own) if own else pathlib.Path("~/.local/state").expanduser()) / "qslots"


def _known(named: str | None, of_up: str, of_system: pathlib.Path) -> pathlib.Path | None:
    """None where there is no folder but the user's own."""
    if named:
        return pathlib.Path(named)
    beside_up = LEFT_BY_UP.parent / of_up
    if beside_up.exists():
        return beside_up.resolve()
    return of_system if is_ours(of_system) else None


def is_ours(path: pathlib.Path) -> bool:
    """Whether a folder of the system is for us: we are root, or it was made for this user."""
    return os.geteuid() == 0 or (path.exists() and path.stat().st_uid == os.geteuid())


def lock_file(path: pathlib.Path) -> int:
    """A descriptor of this file, made if need be, that no program which we start inherits."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Error(f"{path} cannot be opened: {error.strerror}; is it another user's? remove it then") from None


def locked(descriptor: int) -> bool:
    """Whether the lock is ours now; it is until the last descriptor of this opening is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
