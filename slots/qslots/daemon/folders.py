"""Makes the folders of a daemon so that nobody else can put anything into them or something else in their place.

Some lie where all users may write (/dev/shm), some are made by root for another user. Nothing is followed or given away
that this other user, or anybody else, could have put there.
"""

import os
import pathlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import SettingsError


@dataclass(frozen=True, slots=True)
class User:
    """Whom root makes folders for, and may become."""

    name: str
    uid: int
    gid: int
    home: str


def own_folder(path: pathlib.Path, setting: str, owner: User | None = None) -> pathlib.Path:
    """The folder, made if need be, for this user alone; by root for ``owner``. SettingsError if it cannot be had or
    somebody else could write there; ``setting`` names another one.
    """
    uid = os.geteuid() if owner is None else owner.uid
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_way(path.absolute(), {0, uid}, setting)
        folder = os.open(path.resolve(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(f"folder {path} cannot be used: {error.strerror}; name another with {setting}") from None
    try:
        if owner is not None and os.fstat(folder).st_uid == 0:
            _check_way_of_root(path.absolute(), setting)
            os.fchown(folder, uid, owner.gid)
        status = os.fstat(folder)
    finally:
        os.close(folder)
    if status.st_uid != uid or status.st_mode & 0o022:
        whose = "this user's" if owner is None else f"the user {owner.name}'s"
        raise SettingsError(
            f"folder {path} is not {whose} alone: give it another owner and mode 0700, or set {setting}"
        )
    return path


def _check_way(path: pathlib.Path, trusted: set[int], setting: str) -> None:
    """SettingsError if anybody could replace a step of the way. The owner of a folder above could too, and is trusted:
    it is another one's folder only where all users may make folders (and sticky bits keep them apart).
    """
    for step, status in _steps(path):
        is_shared = step.parent.stat().st_mode & 0o002
        is_open = stat.S_ISDIR(status.st_mode) and step != path and _writable(status, 0o002)
        if is_open or (is_shared and status.st_uid not in trusted):
            raise _unsafe(path, step, setting)


def _check_way_of_root(path: pathlib.Path, setting: str) -> None:
    """SettingsError if a step of the way is not root's alone: root would give away what another has put there."""
    for step, status in _steps(path):
        if status.st_uid != 0 or (stat.S_ISDIR(status.st_mode) and step != path and _writable(status, 0o022)):
            raise _unsafe(path, step, setting)


def _steps(path: pathlib.Path) -> Iterator[tuple[pathlib.Path, os.stat_result]]:
    """The path and all that lies above it, links as themselves and what they lead to."""
    real = path.resolve()
    for step in {path, *path.parents, *real.parents}:
        yield step, step.lstat()


def _writable(status: os.stat_result, by: int) -> bool:
    return bool(status.st_mode & by and not status.st_mode & stat.S_ISVTX)


def _unsafe(path: pathlib.Path, step: pathlib.Path, setting: str) -> SettingsError:
    return SettingsError(f"folder {path} is not safe: others could replace {step}; name another with {setting}")
