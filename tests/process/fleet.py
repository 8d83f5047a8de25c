"""A private fleet for one test: a Redis, an application, and the commands started against them as real processes.

It looks at the programs from outside only: commands, signals, /proc, the control socket and Redis. Every process of a
fleet has its working folder in the fleet's folder, and inherits it to whatever it starts; that is how what was left
behind is found (titles and environments are overwritten by setproctitle).
"""

import contextlib
import importlib.util
import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from support.processes import processes_in, title
from support.waiting import wait_for

import qslots
from qslots import embedded
from qslots.control import Control
from qslots.errors import QueueServerDown
from qslots.queueserver import QueueServer
from qslots.records import Fate, decode_fate
from qslots.reports import MapRow, Plan, QueueStats

SERVER = "unit-of-test"
APP = "shop"
START = 30.0  # s for a program to be ready on a busy machine
PRELUDE = """\
import os
import pathlib
import time

from qslots import Bury, Postpone, Retry, Task, task

HERE = pathlib.Path(__file__).parent


def note(*words: object) -> None:
    line = " ".join(str(word) for word in (*words, os.getpid(), time.monotonic())) + "\\n"
    file = os.open(HERE / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)


def times(*words: object) -> int:
    lines = (HERE / "runs").read_text().splitlines()
    return sum(line.split()[:-2] == [str(word) for word in words] for line in lines)


def gate(name: str) -> None:
    while not (HERE / name).exists():
        time.sleep(0.005)


"""
PACK = """\
@task(batch=4, lock="60s", backoff="100ms..100ms")
def work(n: int) -> None:
    note("begin", n)
    if n == 5:
        gate("open")
    note("end", n)
"""


@dataclass(frozen=True)
class Run:
    """One line that a handler has written: what it said, in which process, and when (monotonic)."""

    words: tuple[str, ...]
    pid: int
    at: float


@dataclass(frozen=True)
class Program:
    """A command that runs, with what it says in files."""

    words: tuple[str, ...]
    process: "subprocess.Popen[bytes]"
    out: pathlib.Path
    err: pathlib.Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, within: float = 10.0) -> int:
        """The exit code, once it has ended."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.words} has not ended within {within:g} s") from None

    def said(self) -> str:
        return self.out.read_text() + self.err.read_text()


class Fleet:
    """One queue server, one application, and the programs started on them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.redis: embedded.Embedded | None = None
        self.second: embedded.Embedded | None = None
        self.programs: list[Program] = []
        self.app: Any = None
        self.prefix: list[str] = []  # what stands before each command
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("QSLOTS_")}
        self.environ |= {
            "QSLOTS_SERVER": SERVER,
            "QSLOTS_RUNTIME_DIR": str(folder / "run"), "QSLOTS_STATE_DIR": str(folder / "state"),
            "QSLOTS_PRIVATE_LIMIT": "48M", "QSLOTS_RESERVE_MEMORY": "1%", "HOME": str(folder),
        }  # fmt: skip
        self._seq = 0
        self._epoch = 0
        self._client: QueueServer | None = None

    # What it is made of

    def start_redis(self) -> None:
        self.redis = embedded.start(self.folder / "redis", lambda _: None)
        self.environ["QSLOTS_REDIS"] = self.redis.url
        self.connect(self.redis.url)

    def spread(self, *queues: str) -> embedded.Embedded:
        """Starts a second queue server, called b; these queues are spread over both. Both may be killed: what they
        have acknowledged is on disk.
        """
        assert self.redis is not None
        self.second = embedded.start(self.folder / "second", lambda _: None)
        places = {queue: {"queue_server": ["main", "b"]} for queue in queues}
        settings = {"queue_servers": {"main": self.redis.url, "b": self.second.url}, "queues": places}
        (self.folder / "qslots.yml").write_text(json.dumps(settings))
        self.environ["QSLOTS_CONFIG"] = str(self.folder / "qslots.yml")
        self.client.redis.config_set("appendfsync", "always")  # everysec holds writes back while it syncs
        with self.at_second() as there:
            there.redis.config_set("appendfsync", "always")
        return self.second

    @contextlib.contextmanager
    def at_second(self) -> Iterator[QueueServer]:
        """In this block the second queue server is the one that tests enqueue to and look at."""
        assert self.redis is not None and self.second is not None
        first = self._client
        self.connect(self.second.url)
        try:
            yield self.client
        finally:
            self.client.close()
            qslots.connect(self.redis.url)
            self._client = first

    def connect(self, url: str) -> None:
        """What the test enqueues goes there."""
        self._client = qslots.connect(url).control

    def write_app(self, source: str, name: str = APP) -> Any:
        """Writes the application's module and imports it here too, to enqueue."""
        path = self.folder / f"{name}.py"
        path.write_text(PRELUDE + source)
        spec = importlib.util.spec_from_file_location(f"{name}_of_{self.folder.name}", path)
        assert spec is not None and spec.loader is not None
        module = types.ModuleType(spec.name)
        module.__file__ = str(path)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        self.app = module
        return module

    @property
    def client(self) -> QueueServer:
        assert self._client is not None
        return self._client

    def start(
        self, *words: str, folder: pathlib.Path | None = None, environ: Mapping[str, str] | None = None
    ) -> Program:
        """Starts ``python -m`` these words, with more variables if need be."""
        number = len(self.programs)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", *words], cwd=folder or self.folder,
                env={**self.environ, **(environ or {})}, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                start_new_session=True, preexec_fn=embedded.die_with_parent(signal.SIGKILL),
            )  # fmt: skip
        program = Program(words, process, out, err)
        self.programs.append(program)
        return program

    def start_master(self, environ: Mapping[str, str] | None = None) -> Program:
        return self.start("qmaster", "run", "--app", APP, environ=environ)

    def launch(self, source: str, *slots: tuple[str, ...]) -> Program:
        """The application, a map of these slots, and a master that has them all alive."""
        self.write_app(source)
        self.publish(*slots)
        master = self.start_master()
        self.slots(len(slots))
        return master

    # What a manager would do

    def publish(self, *slots: tuple[str, ...]) -> None:
        """A new map row of our server: the queues of slot 0, 1, …"""
        control = Control(self.client)
        if not self._epoch:
            self._epoch = control.take_epoch("the test", 0, respect=0.0, take_over=True)
        self._seq += 1
        row = MapRow(self._epoch, self._seq, "the test", slots)
        control.publish(Plan(self._epoch, self._seq, "the test", time.time(), ()), {SERVER: row}, [])

    # What can be seen

    def status(self, path: pathlib.Path | None = None) -> dict[str, Any]:
        """What the master says on its control socket, {} while nobody listens."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5.0)
            try:
                line.connect(str(path or self.folder / "run" / f"{SERVER}.sock"))
                line.sendall(b'{"command": "status"}\n')
                answer = line.makefile("rb").readline()
            except (FileNotFoundError, ConnectionError):
                return {}
        found: dict[str, Any] = json.loads(answer) if answer else {}
        return found

    def live(self) -> list[dict[str, Any]]:
        return [slot for slot in self.status().get("slots", []) if slot["pid"] and slot["state"] != "starting"]

    def slots(self, count: int) -> list[dict[str, Any]]:
        """The slots by index, once so many live."""
        wait_for(lambda: len(self.live()) == count, lambda: f"{count} slots; {self.all_said()}", START)
        return self.live()

    def pid_of(self, index: int) -> int:
        return next(int(slot["pid"]) for slot in self.live() if slot["index"] == index)

    def stats(self, queue: str = "work") -> QueueStats:
        return self.client.stats([queue])[0]

    def fates(self, queue: str = "work") -> dict[str, Fate]:
        """The tasks that had trouble."""
        stored: Any = self.client.redis.hgetall(f"qs:{{{queue}}}:fate")
        return {task.decode(): decode_fate(raw) for task, raw in stored.items()}

    def buried(self, queue: str = "work") -> set[str]:
        stored: Any = self.client.redis.zrange(f"qs:{{{queue}}}:buried", 0, -1)
        return {task.decode() for task in stored}

    def locked(self, queue: str = "work") -> list[int]:
        """The sizes of the packs that are held."""
        stored: Any = self.client.redis.hvals(f"qs:{{{queue}}}:packs")
        return [len(msgspec.msgpack.decode(raw, type=list[Any])[1]) for raw in stored]

    def runs(self, *words: object) -> list[Run]:
        """What handlers have written, beginning with these words."""
        try:
            text = (self.folder / "runs").read_text()
        except FileNotFoundError:
            return []
        wanted = tuple(str(word) for word in words)
        found = (line.split() for line in text.splitlines())
        every = (Run(tuple(line[:-2]), int(line[-2]), float(line[-1])) for line in found)
        return [run for run in every if run.words[: len(wanted)] == wanted]

    def wait_run(self, *words: object, count: int = 1, within: float = START) -> list[Run]:
        """These lines of handlers, once there are so many."""
        wait_for(
            lambda: len(self.runs(*words)) >= count,
            lambda: f"{count} runs of {words}; {[run.words for run in self.runs()]}; {self.all_said()}", within,
        )  # fmt: skip
        return self.runs(*words)

    def wait_empty(self, queue: str = "work", within: float = START) -> None:
        def is_empty() -> bool:
            try:
                stats = self.stats(queue)
            except QueueServerDown:
                return False
            return not (stats.active or stats.inactive or stats.locked)

        wait_for(is_empty, lambda: f"queue {queue} to be empty; {self.all_said()}", within)

    def open(self, gate: str = "open") -> None:
        (self.folder / gate).touch()

    def all_said(self) -> str:
        return "\n".join(f"{program.words}:\n{program.said()}" for program in self.programs)

    # The end

    def stop_all(self) -> None:
        """Ends what still runs the fast way; AssertionError names what would not go or was left behind."""
        self.stop_programs()
        if self.redis is not None:
            self.client.close()
            self.redis.stop()
        if self.second is not None:
            self.second.stop()
        wait_for(lambda: not processes_in(self.folder), lambda: f"left behind: {titles(self.folder)}", 5.0)

    def stop_programs(self) -> None:
        """Ends them, the queue server stays."""
        for program in self.programs:
            if program.process.poll() is None:
                program.signal(signal.SIGQUIT if "qmaster" in program.words else signal.SIGTERM)
        for program in self.programs:
            program.ended(20.0)

    def kill_all(self) -> None:
        """After a failure: nothing of ours stays."""
        for program in self.programs:
            program.process.kill()
            program.process.wait()
        for pid in processes_in(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for redis in (self.redis, self.second):
            if redis is not None:
                redis.stop()


def stands_in_a_pack(fleet: Fleet) -> int:
    """PACK's tasks 0 to 6 in packs of 1, 2 and 4 through slot 0: it stands in task 5, with 3 and 4 marked and 6 not
    begun. Returns its pid.
    """
    fleet.write_app(PACK)
    fleet.app.work.enqueue_many([(n,) for n in range(7)])
    fleet.publish(("work",))
    fleet.start_master()
    [run] = fleet.wait_run("begin", 5)
    assert fleet.locked() == [4]
    return run.pid


def titles(folder: pathlib.Path) -> dict[int, str]:
    return {pid: title(pid) for pid in processes_in(folder)}


def titled(folder: pathlib.Path, beginning: str) -> list[int]:
    """The processes of a folder whose title begins so."""
    return [pid for pid, found in titles(folder).items() if found.startswith(beginning)]


def alone_titled(folder: pathlib.Path, beginning: str) -> int:
    """The one process whose title begins so; a slot that is just being born still has that of its mold."""
    found: list[int] = []

    def alone() -> bool:
        found[:] = titled(folder, beginning)
        return len(found) == 1

    wait_for(alone, lambda: f"one {beginning}: {titles(folder)}", START)
    return found[0]


def children_of(fleet: Fleet) -> list[int]:
    """Mold, couriers and slots."""
    return [pid for kind in ("mold", "courier", "slot") for pid in titled(fleet.folder, f"qmaster: {kind}")]


def parent_and_session(pid: int) -> tuple[int, int]:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), int(fields[3])


def began(pid: int) -> float:
    """When a process began, ticks since the machine did; later than all others if it is gone."""
    try:
        return float(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return math.inf


def lives(pid: int) -> bool:
    """Whether this process runs (a zombie does not)."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is done in this block takes no longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"took {took:.2f} s instead of {seconds:g}"
