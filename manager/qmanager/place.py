"""The manager's place on a machine: one folder, one lock, one manager; and the line that says it lives.

``alive`` is one line, ``PID START PUBLISHED PATIENCE``: the process, when it began (clock ticks, field 22 of
/proc/PID/stat), when it last published a map (seconds of /proc/uptime; until the first one, when it began), and how
many seconds old that map may be before its absence means anything. So the shell alone can tell whether it runs, also
after its pid has become another's, and whether it is of use. A manager that ends in good order removes the line; one
that was killed leaves it. It is replaced whole: nobody reads half of it.
"""

import contextlib
import math
import os
import pathlib
import time
from dataclasses import dataclass

from qslots.daemon.folders import own_folder
from qslots.daemon.places import RUN, is_ours, lock_file, locked, runtime_dir
from qslots.errors import Error
from qslots.settings import Settings
from qslots.units import duration

SETTING = "manager.runtime_dir"
BELOW = "manager"  # in the folder where masters keep theirs
PATIENCE = 3  # intervals


@dataclass(frozen=True, slots=True)
class Sign:
    """What ``alive`` says."""

    pid: int
    start: int
    published: float

    def lives(self) -> bool:
        """Whether that very process runs still."""
        return self.start != 0 and _start_of(self.pid) == self.start


def folder_of(settings: Settings) -> pathlib.Path:
    """As set, or below the folder of masters."""
    if settings.manager.runtime_dir:
        return pathlib.Path(settings.manager.runtime_dir)
    if not settings.server.runtime_dir and not is_ours(RUN) and is_ours(RUN / BELOW):
        return RUN / BELOW  # made for us by a service manager
    return runtime_dir(settings.server) / BELOW


def socket_in(folder: pathlib.Path) -> pathlib.Path:
    """The control socket."""
    return folder / "control.sock"


def sign_in(folder: pathlib.Path) -> Sign | None:
    """Of the manager that runs here or was killed; None if the last one ended in good order, if none ever ran, or if
    that cannot be read.
    """
    try:
        pid, start, published, *_ = (folder / "alive").read_text().split()
        return Sign(int(pid), int(start), float(published))
    except (OSError, ValueError):
        return None


def seconds() -> float:
    """The clock of ``alive``: as /proc/uptime, it counts sleep and is never set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Place:
    """Ours until it is closed, or until this process is gone.

    The folder is held by a descriptor: if somebody removes it, what lies there under its name later is another's.
    """

    def __init__(self, settings: Settings) -> None:
        """Error if another manager has it, SettingsError if the folder cannot be used."""
        self.folder = own_folder(folder_of(settings), SETTING)
        self._lock = lock_file(self.folder / "lock")
        ours = locked(self._lock)  # before the sign is read: who ends in good order takes that away first
        sign = sign_in(self.folder)
        lives = sign is not None and sign.pid != os.getpid() and sign.lives()  # also if its lock was removed
        if not ours or lives:
            os.close(self._lock)
            pid = f" (pid {sign.pid})" if sign is not None else ""
            raise Error(f"a qmanager is running here{pid}: stop it, or give this one another folder with {SETTING}")
        self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._own = pathlib.Path(f"/proc/self/fd/{self._descriptor}")
        self._start = _start_of(os.getpid())
        self._patience = math.ceil(PATIENCE * duration(settings.manager.interval))
        try:
            self.say(seconds())
        except OSError as error:
            raise Error(f"folder {self.folder} cannot be used: {error.strerror}; name another with {SETTING}") from None

    def say(self, published: float) -> None:
        """We live, and have published a map then. OSError if that cannot be written."""
        fresh = self._own / "alive.new"
        fresh.write_text(f"{os.getpid()} {self._start} {published:.2f} {self._patience}\n")
        fresh.replace(self._own / "alive")

    def close(self) -> None:
        """In good order; what cannot be removed reads as if we had been killed."""
        for path in (socket_in(self._own), self._own / "alive"):
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(self._descriptor)
        os.close(self._lock)


def _start_of(pid: int) -> int:
    """When a process began, 0 if it is gone or about to go."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
