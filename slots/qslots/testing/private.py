"""The private queue server of this process' tests: started when the first test wants it, gone with the process.

It is never anybody else's: a process (a worker of pytest-xdist, a forked child) starts its own. However the process
ends, the server ends with it; a folder that a killed process has left is removed by the next one.
"""

import atexit
import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
import time

from .. import embedded

_PREFIX = "qslots-testing-"
_IN_MEMORY = {"appendonly": "no"}
_ORPHANED = 60.0  # seconds: a younger folder without a lock may be about to be locked


class PrivateServer:
    """At most one server of this process."""

    def __init__(self) -> None:
        self._server: embedded.Embedded | None = None
        self._owner = 0

    def url(self) -> str:
        """Of the running server; it is started if need be. NoServerProgram: there is none on this machine."""
        if self._server is None or self._owner != os.getpid() or not self._runs():
            self._start()
        assert self._server is not None
        return self._server.url

    def _runs(self) -> bool:
        """It ends with the thread that started it, too."""
        assert self._server is not None
        assert self._server.process is not None
        return self._server.process.poll() is None

    def _start(self) -> None:
        self.stop()
        place = _place()
        _sweep(place)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        try:
            self._server, self._owner = embedded.start(folder, lambda _: None, _IN_MEMORY), os.getpid()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        atexit.register(self.stop)

    def stop(self) -> None:
        """Ends the server, unless it is that of the parent, and removes its folder."""
        server, self._server = self._server, None
        if server is None or self._owner != os.getpid():
            return
        assert server.process is not None
        server.process.kill()  # there is nothing to be kept
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        atexit.unregister(self.stop)


PRIVATE = PrivateServer()


def _place() -> str:
    """The folder for temporary files, if the path of a socket in it is short enough."""
    place = tempfile.gettempdir()
    fits = len(os.fsencode(f"{place}/{_PREFIX}12345678/redis.sock")) <= embedded.LONGEST_SOCKET
    return place if fits else "/tmp"


def _sweep(place: str) -> None:
    """Removes folders of processes that were killed: nobody holds their lock."""
    for folder in pathlib.Path(place).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _ORPHANED:
                _remove_unlocked(folder)


def _remove_unlocked(folder: pathlib.Path) -> None:
    """BlockingIOError if its owner, or its server, still lives."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
