"""Who this master is: its name, its folders, its locks, and what a predecessor of the same name has left.

``NAME.master`` is locked by the master alone: a second one of the same name on this machine is refused at once.
``NAME.lock`` is inherited by mold and slots: holding it proves that the last old slot is gone. It contains a random
name of this place and boot, with which every incarnation begins: so the queue server can tell a predecessor, which our
lock proves dead, from a namesake on another machine. Scoreboards are named by incarnation and removed when all that is
on them is settled; so a master killed twice in a row forgets nothing.
"""

import logging
import os
import pathlib
import re
import secrets
import socket
import time
from dataclasses import dataclass

from qslots.daemon.folders import own_folder
from qslots.daemon.places import lock_file, locked, runtime_dir
from qslots.errors import Error
from qslots.scoreboard import Scoreboard
from qslots.settings import ServerSettings

from . import ledger, linux

log = logging.getLogger("qmaster")
MARK = "QSLOTS_PLACE"  # in the environment of a mold, and so of all that its slots start
OLD_SLOTS_WITHIN = 10.0  # seconds: old slots end within one, unless the kernel holds them


@dataclass(slots=True)
class Identity:
    """What makes this master itself while it runs."""

    name: str
    incarnation: str
    runtime: pathlib.Path
    board_path: pathlib.Path
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


def assume(settings: ServerSettings) -> Identity:
    """Becomes the master of this name on this machine. Error if another one is; nothing is left behind then."""
    runtime = own_folder(runtime_dir(settings), "server.runtime_dir")
    try:
        return _assumed(server_name(settings), runtime)
    except OSError as error:
        raise Error(
            f"folder {runtime} cannot be used: {error.strerror}; make room there, or name another with "
            "server.runtime_dir"
        ) from None


def _assumed(name: str, runtime: pathlib.Path) -> Identity:
    alone = lock_file(runtime / f"{name}.master")
    if not locked(alone):
        holder = os.pread(alone, 64, 0).decode(errors="replace").split()
        os.close(alone)
        pid = f" (pid {holder[0]})" if holder else ""
        raise Error(f"a qmaster of the name {name} is running{pid}: stop it, or give this one another --server name")
    lock = lock_file(runtime / f"{name}.lock")
    place = _place(lock)
    _end_old_slots(lock, runtime / f"{name}.lock", place)
    left = _left_here(boards_of(name, runtime), f"{name}.{place}")
    incarnation = f"{place}{int(time.time()):x}-{secrets.token_hex(3)}"
    board_path = runtime / f"{name}.{incarnation}.board"
    board = Scoreboard.create(str(board_path))
    os.ftruncate(alone, 0)
    os.pwrite(alone, f"{os.getpid()}\n".encode(), 0)
    return Identity(name, incarnation, runtime, board_path, board, lock, alone, place, left)


def boards_of(name: str, runtime: pathlib.Path) -> list[pathlib.Path]:
    """The scoreboards of all incarnations of a master; those of ``a.b`` are none of ``a``'s."""
    found = runtime.glob(f"{name}.*.board")
    return sorted(path for path in found if path.name.count(".") == name.count(".") + 2)


def _place(lock: int) -> str:
    """The name of this place, made by the first master here since the machine has started. In a copy of the file (a
    cloned disk, another container of an image) the name does not count: the master it speaks of may live.
    """
    status = os.fstat(lock)
    here = f"{linux.boot_id()} {status.st_dev}:{status.st_ino}"
    known, _, where = os.pread(lock, 256, 0).decode(errors="replace").strip().partition(" ")
    if not known or where != here:
        known = f"{secrets.token_hex(4)}-"
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{known} {here}".encode(), 0)
    return known


def _left_here(boards: list[pathlib.Path], beginning: str) -> list[pathlib.Path]:
    """Those of masters that are dead for certain: what comes from a copy, or from before a reboot, is removed. Nobody
    knows how much of it had reached the disk; the locks it speaks of expire.
    """
    here = [path for path in boards if path.name.startswith(beginning)]
    for path in set(boards) - set(here):
        log.info("scoreboard %s is not of this boot of this machine: removed; what it held expires", path)
        path.unlink(missing_ok=True)
        ledger.path_beside(path).unlink(missing_ok=True)
    return here


def _end_old_slots(lock: int, path: pathlib.Path, place: str) -> None:
    """The predecessor's slots die with it, what their tasks had started does not; the lock comes free with the last."""
    deadline = time.monotonic() + OLD_SLOTS_WITHIN
    mark = f"{MARK}={place}"
    linux.kill_leftovers(path, mark)
    while not locked(lock):
        if time.monotonic() > deadline:
            raise Error(
                f"processes of an earlier qmaster still hold {path} after {OLD_SLOTS_WITHIN:.0f} s: end them first"
            )
        time.sleep(0.02)  # flock has no time-out, and an alarm could hit elsewhere
        linux.kill_leftovers(path, mark)


def give_up(identity: Identity) -> None:
    """The end in good order: nothing of this incarnation stays but the name of it."""
    identity.control_path.unlink(missing_ok=True)
    ledger.path_beside(identity.board_path).unlink(missing_ok=True)
    identity.board_path.unlink(missing_ok=True)
