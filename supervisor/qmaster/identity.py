"""Who this master is: its name, its folders, its locks, and what a predecessor of the same name has left.

``NAME.master`` is locked by the master alone: a second one of the same name on this machine is refused at once.
``NAME.lock`` is inherited by mold and slots: holding it proves that the last old slot is gone. It contains a random
name of this place, with which every incarnation begins: so the queue server can tell a predecessor, which our lock
proves dead, from a namesake on another machine. Scoreboards are named by incarnation and removed when all that they say
is settled; so a master killed twice in a row forgets nothing.
"""

import fcntl
import os
import pathlib
import re
import secrets
import socket
import time
from dataclasses import dataclass

from qslots.errors import Error, SettingsError
from qslots.scoreboard import Scoreboard
from qslots.settings import LEFT_BY_UP, ServerSettings

from . import linux

MARK = "QSLOTS_PLACE"  # in the environment of a mold, and so of all that its slots start
OLD_SLOTS_WITHIN = 10.0  # seconds: old slots end within one, unless the kernel holds them


@dataclass(slots=True)
class Identity:
    """What makes this master itself while it runs."""

    name: str
    incarnation: str
    runtime: pathlib.Path
    board: Scoreboard
    lock: int  # descriptor that mold and slots inherit
    alone: int  # descriptor that only the master holds
    place: str  # what the incarnations of all masters of this name on this machine begin with
    left: list[pathlib.Path]  # scoreboards of predecessors, to be settled

    @property
    def control_path(self) -> pathlib.Path:
        """The control socket."""
        return self.runtime / f"{self.name}.sock"


def server_name(settings: ServerSettings) -> str:
    """The configured name, or the host's."""
    return settings.name or re.sub(r"[^A-Za-z0-9_.\-]", "-", socket.gethostname().partition(".")[0]) or "server"


def runtime_dir(settings: ServerSettings) -> pathlib.Path:
    """Where scoreboard and control socket lie: as set, or that of ``qslots up`` here, or this user's on tmpfs."""
    if settings.runtime_dir:
        return pathlib.Path(settings.runtime_dir)
    beside_up = LEFT_BY_UP.parent / "run"
    if beside_up.exists():
        return beside_up.resolve()
    if os.geteuid() == 0:
        return pathlib.Path("/run/qslots")
    own = os.environ.get("XDG_RUNTIME_DIR")
    return pathlib.Path(own) / "qslots" if own else pathlib.Path(f"/dev/shm/qslots-{os.geteuid()}")


def own_folder(path: pathlib.Path) -> pathlib.Path:
    """The folder, made for this user alone; SettingsError if somebody else could write there."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise SettingsError(
            f"folder {path} cannot be used: {error.strerror}; name another with server.runtime_dir"
        ) from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise SettingsError(f"folder {path} is not this user's alone: give it another owner and mode 0700")
    return path


def assume(settings: ServerSettings) -> Identity:
    """Becomes the master of this name on this machine. Error if another one is; nothing is left behind then."""
    name = server_name(settings)
    runtime = own_folder(runtime_dir(settings))
    alone = os.open(runtime / f"{name}.master", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if not _locked(alone):
        holder = os.pread(alone, 64, 0).decode(errors="replace").split()
        os.close(alone)
        pid = f" (pid {holder[0]})" if holder else ""
        raise Error(f"a qmaster of the name {name} is running{pid}: stop it, or give this one another --server name")
    lock = os.open(runtime / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    place = _place(lock)
    _end_old_slots(lock, runtime / f"{name}.lock", place)
    left = boards_of(name, runtime)
    incarnation = f"{place}{int(time.time()):x}-{secrets.token_hex(3)}"
    board = Scoreboard.create(str(runtime / f"{name}.{incarnation}.board"))
    os.ftruncate(alone, 0)
    os.pwrite(alone, f"{os.getpid()}\n".encode(), 0)
    return Identity(name, incarnation, runtime, board, lock, alone, place, left)


def boards_of(name: str, runtime: pathlib.Path) -> list[pathlib.Path]:
    """The scoreboards of all incarnations of a master; those of ``a.b`` are none of ``a``'s."""
    found = runtime.glob(f"{name}.*.board")
    return sorted(path for path in found if path.name.count(".") == name.count(".") + 2)


def _place(lock: int) -> str:
    """The name of this place, made by the first master here."""
    known = os.pread(lock, 64, 0).decode(errors="replace").strip()
    if not known:
        known = f"{secrets.token_hex(4)}-"
        os.pwrite(lock, known.encode(), 0)
    return known


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_old_slots(lock: int, path: pathlib.Path, place: str) -> None:
    """The predecessor's slots die with it, what their tasks had started does not; the lock comes free with the last."""
    deadline = time.monotonic() + OLD_SLOTS_WITHIN
    mark = f"{MARK}={place}"
    linux.kill_leftovers(path, mark)
    while not _locked(lock):
        if time.monotonic() > deadline:
            raise Error(
                f"processes of an earlier qmaster still hold {path} after {OLD_SLOTS_WITHIN:.0f} s: end them first"
            )
        time.sleep(0.02)  # flock has no time-out, and an alarm could hit elsewhere
        linux.kill_leftovers(path, mark)


def give_up(identity: Identity) -> None:
    """The end in good order: nothing of this incarnation stays but the name of it."""
    identity.control_path.unlink(missing_ok=True)
    (identity.runtime / f"{identity.name}.{identity.incarnation}.board").unlink(missing_ok=True)
