"""``qslots up``: a private queue server, qmanager and qmaster on one machine, started, watched and ended together.

It must leave nothing behind, however it ends: each child has a session of its own, so that a ^C of the terminal reaches
only us and the order of ending is ours (qmaster, qmanager, queue server), and dies with us if we are killed. What to do
about a child that ended is decided by ``judge``, a pure function; the loop only waits, asks it and acts.
"""

import contextlib
import dataclasses
import enum
import hashlib
import os
import pathlib
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from qslots import embedded, settings
from qslots.connection import translated, without_password
from qslots.errors import Error, QueueServerError, SettingsError
from qslots.queueserver import QueueServer
from qslots.servers import QueueServers
from qslots.settings import Settings
from qslots.units import duration

from ..place import BELOW, socket_in
from ..published import clock
from . import views

LOOK = 0.1  # s between two looks for the first report
PATIENCE = 300.0  # s for the application to be imported and the first report to come
MINUTE = 60.0
LONGEST_PAUSE = 30.0
BAD_STARTS = 3  # exits with 1 or 2 within a minute that end it all: such a child refuses to run
REFUSED = (1, 2)
SPARE = 5.0  # s beyond a child's own time to end
CATCH = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclasses.dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of a child's former lives."""

    born: float = 0.0  # the latest
    streak: int = 0  # deaths in a row without a minute of life between them
    refusals: tuple[float, ...] = ()  # when it ended with 1 or 2, within the last minute


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Start it again at ``again``, or, if that is None, end everything with ``code``."""

    again: float | None
    code: int = 0


def judge(past: Past, code: int, *, ready: bool, may_end: bool, now: float) -> tuple[Past, Verdict]:
    """What follows from a child that ended with ``code`` (negative: by a signal) though nobody asked it to."""
    refusals = tuple(at for at in past.refusals if at > now - MINUTE)
    if code in REFUSED:
        refusals = (*refusals, now)
    streak = 1 if now - past.born >= MINUTE else past.streak + 1
    after = Past(past.born, streak, refusals)
    if code == 0 and may_end:  # somebody told it to stop, e.g. `qmaster stop`
        return after, Verdict(None, 0)
    if code in REFUSED and not ready:
        return after, Verdict(None, code)
    if len(refusals) >= BAD_STARTS:
        return after, Verdict(None, 1)
    return after, Verdict(now + min(LONGEST_PAUSE, 2.0 ** min(streak - 1, 10)))


def describe(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        names = {known.value: known.name for known in signal.Signals}
        return f"was killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with exit code {code}"


@dataclasses.dataclass(slots=True)
class Child:
    """A program that is to run. ``due``: when to start it; None while it runs or when it is not to run again."""

    name: str
    spawn: Callable[[], "subprocess.Popen[bytes]"]
    patience: float  # s it may take to end
    may_end: bool = True
    process: "subprocess.Popen[bytes] | None" = None
    watch: int = -1  # pidfd
    due: float | None = 0.0
    past: Past = Past()
    kill_at: float | None = None  # set when it was told to end


class Phase(enum.IntEnum):
    """Only rises."""

    STARTING = 0
    READY = 1
    ENDING = 2
    HURRYING = 3  # a second ^C


class Fleet:
    """The children, in the order of starting; they end in the opposite order."""

    def __init__(self, children: list[Child], is_ready: Callable[[int], bool], place: str) -> None:
        self._children, self._is_ready, self._place = children, is_ready, place
        self._phase, self._code = Phase.STARTING, 0
        self._selector = selectors.DefaultSelector()
        self._wake, self._told = socket.socketpair()
        self._ready_by = time.monotonic() + PATIENCE

    def run(self) -> int:
        """Until all have ended; the exit code."""
        with _signals_to(self._told), self._wake, self._told, self._selector:
            self._selector.register(self._wake, selectors.EVENT_READ)
            try:
                while self._phase < Phase.ENDING or any(child.process for child in self._children):
                    self._turn()
            finally:
                self._kill_all()
        return 130 if self._phase is Phase.HURRYING else self._code

    def _turn(self) -> None:
        now = time.monotonic()
        self._start_due(now)
        self._look_for_readiness(now)
        self._press(now)
        for signum in self._wait(self._deadline()):
            self._heed(signum)
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, child.process.returncode, time.monotonic())

    def _wait(self, until: float | None) -> bytes:
        """The signals that came; the only line that sleeps."""
        events = self._selector.select(None if until is None else max(0.0, until - time.monotonic()))
        return self._wake.recv(64) if any(key.fileobj is self._wake for key, _ in events) else b""

    def _deadline(self) -> float | None:
        moments = [moment for child in self._children for moment in (child.due, child.kill_at) if moment is not None]
        if self._phase is Phase.STARTING:
            moments.append(time.monotonic() + LOOK)
        return min(moments, default=None)

    def _start_due(self, now: float) -> None:
        for child in self._children:
            if child.due is not None and child.due <= now and self._phase < Phase.ENDING:
                child.process = child.process or child.spawn()  # the queue server's was started before us
                child.due = None
                child.past = dataclasses.replace(child.past, born=now)
                child.watch = os.pidfd_open(child.process.pid)
                self._selector.register(child.watch, selectors.EVENT_READ)

    def _bury(self, child: Child, code: int, now: float) -> None:
        self._selector.unregister(child.watch)
        os.close(child.watch)
        child.process, child.kill_at = None, None
        if self._phase >= Phase.ENDING:
            return
        ready = self._phase is Phase.READY
        child.past, verdict = judge(child.past, code, ready=ready, may_end=child.may_end, now=now)
        child.due = verdict.again
        if verdict.again is not None:
            say(f"{child.name} {describe(code)}; starting it again in {verdict.again - now:.0f} s")
        else:
            if ready or not child.may_end:  # a program that refuses to start has said why
                say(f"{child.name} {describe(code)}; stopping all")
            self._end(verdict.code)

    def _heed(self, signum: int) -> None:
        if self._phase < Phase.ENDING:
            say("stopping: tasks that run may finish, a second ^C hurries")
            self._end(0)
        elif signum == signal.SIGINT:
            self._phase = Phase.HURRYING
            master = self._children[-1]
            if master.process is not None:
                master.process.send_signal(signal.SIGQUIT)
                master.kill_at = time.monotonic() + SPARE

    def _end(self, code: int) -> None:
        self._phase = Phase.ENDING
        self._code = code
        for child in self._children:
            child.due = None

    def _press(self, now: float) -> None:
        """While ending: the last living child is told; if it takes longer than it may, it is killed."""
        living = [child for child in self._children if child.process is not None]
        if self._phase < Phase.ENDING or not living:
            return
        child = living[-1]
        assert child.process is not None
        if child.kill_at is None:
            child.process.terminate()
            child.kill_at = now + child.patience
        elif child.kill_at <= now:
            say(f"{child.name} did not end in time: killed")
            child.process.kill()
            child.kill_at = now + SPARE

    def _look_for_readiness(self, now: float) -> None:
        if self._phase is not Phase.STARTING:
            return
        master = self._children[-1].process
        if master is not None and self._is_ready(master.pid):
            self._phase = Phase.READY
            say(f"ready at {self._place}, ^C stops")
        elif now > self._ready_by:
            say(f"qmaster has not reported within {PATIENCE:.0f} s; stopping all")
            self._end(1)

    def _kill_all(self) -> None:
        """Nothing to do unless the loop itself has failed."""
        for child in self._children:
            if child.process is not None and child.may_end:
                child.process.kill()


def run(chosen: Settings, *, data: pathlib.Path, file: str | None) -> int:
    """Start all, return when all have ended: 0, 1 or 2 of a child that refused to start, 130 after a second ^C."""
    if not chosen.app:
        raise SettingsError("no application: give --app MODULE, set QSLOTS_APP, or list it under app in the settings")
    with contextlib.ExitStack() as stack:
        children = []
        if chosen.queue_servers:
            url = chosen.url
            stack.callback(os.close, embedded.claim(data))
        else:
            server = stack.enter_context(embedded.start(data, say))
            url = server.url
            children.append(Child("the queue server", server.spawn, embedded.ENDING, False, server.process))
        servers = QueueServers.listed(chosen.with_url(url), name="up")
        stack.callback(servers.close)
        servers.control.version()  # one line and nothing started if it does not answer
        _look_at_others(servers)
        client, since = servers.control, clock(servers.control)
        environ = child_environ(os.environ, chosen, url=url, data=data.absolute(), file=file, cwd=pathlib.Path.cwd())
        run = run_folder(data.absolute(), chosen.server.name or socket.gethostname())
        if not chosen.server.runtime_dir:
            environ["QSLOTS_RUNTIME_DIR"] = str(run)
        if not chosen.manager.runtime_dir:  # two folders, two managers
            environ["QSLOTS_MANAGER_RUNTIME_DIR"] = str(run / BELOW)
        grace = duration(chosen.server.graceful_timeout) + SPARE
        # One `up` a folder, so a manager started again takes over from its own predecessor and waits for nobody.
        children += [_daemon("qmanager", 2 * SPARE, environ, "--take-over"), _daemon("qmaster", grace, environ)]
        place = without_password(url) + for_producers(url, file, pathlib.Path.cwd())
        return Fleet(children, lambda pid: _ready(client, pid, since), place).run()


def for_producers(url: str, file: str | None, cwd: pathlib.Path) -> str:
    """What a producer elsewhere must have in its environment to put its tasks where this fleet looks for them.

    The settings file if there is one: the URL alone would name one of its queue servers and none of its queues. The URL
    if the file does not say it; nothing if that would show a password.
    """
    words = [f"QSLOTS_CONFIG={shlex.quote(str(cwd / file))}"] if file else []
    if not file or next(iter(settings.read(file, {}).queue_servers.values()), None) != url:
        words.append(f"QSLOTS_REDIS={shlex.quote(url)}")
    told = " ".join(words)
    return f" (export {told})" if told == without_password(told) else ""


def _look_at_others(servers: QueueServers) -> None:
    """A queue server that is not the first may come later; the fleet begins with those that answer."""
    for name in servers.names[1:]:
        try:
            servers[name].version()
        except QueueServerError as error:
            say(f"{error}; its queues wait")


def child_environ(
    environ: Mapping[str, str], chosen: Settings, *, url: str, data: pathlib.Path, file: str | None, cwd: pathlib.Path
) -> dict[str, str]:
    """What the children see: our settings, whole, and the current folder on the import path."""
    result = {**environ, "QSLOTS_APP": ",".join(chosen.app), "QSLOTS_REDIS": url}
    if file:
        result["QSLOTS_CONFIG"] = str(cwd / file)
    if chosen.server.name:
        result["QSLOTS_SERVER"] = chosen.server.name
    if not chosen.server.state_dir:
        result["QSLOTS_STATE_DIR"] = str(data / "state")
    result["PYTHONPATH"] = os.pathsep.join(filter(None, (str(cwd), environ.get("PYTHONPATH"))))
    return result


def run_folder(data: pathlib.Path, server: str) -> pathlib.Path:
    """Where master and manager of this ``up`` keep what is theirs: two folders, two fleets of one host name.

    It is DIR/run, where `qmaster status` looks for it; on tmpfs if a socket in there would have too long a path.
    """
    beside = data / "run"
    sockets = beside / f"{server}.sock", socket_in(beside / BELOW)
    if all(len(os.fsencode(path)) <= embedded.LONGEST_SOCKET for path in sockets):
        return beside
    digest = hashlib.blake2b(os.fsencode(data), digest_size=8).hexdigest()
    return pathlib.Path(f"/dev/shm/qslots-up-{os.geteuid()}-{digest}")


def _ready(client: QueueServer, pid: int, since: float) -> bool:
    try:
        with translated(client.url):
            return views.is_loaded(client, pid, since)
    except Error:  # the queue server may be away for a moment; the deadline says when it is for too long
        return False


def say(line: str) -> None:
    """A line for people; that nobody reads it any more must not keep us from stopping in good order."""
    with contextlib.suppress(OSError):
        print(f"qslots up: {line}", flush=True)


def _daemon(package: str, patience: float, environ: Mapping[str, str], *options: str) -> Child:
    def spawn() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", package, "run", *options], stdin=subprocess.DEVNULL, env=environ,
            start_new_session=True, preexec_fn=embedded.die_with_parent(signal.SIGKILL),
        )  # fmt: skip

    return Child(package, spawn, patience)


@contextlib.contextmanager
def _signals_to(told: socket.socket) -> Iterator[None]:
    """Our signals become bytes in this socket."""
    told.setblocking(False)
    before = {signum: signal.signal(signum, lambda *_: None) for signum in CATCH}
    woken = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for signum, handler in before.items():
            signal.signal(signum, handler)
