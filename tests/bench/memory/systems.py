"""The systems that are compared, each started on the same application in a folder of its own, and ended by pid.

A ``System`` says who its workers are and gives them tasks; it knows nothing of what is measured.
"""

import collections
import concurrent.futures
import contextlib
import http.client
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import processes

import qslots
from qmaster import asking
from qslots import embedded
from qslots.control import Control
from qslots.queueserver import QueueServer
from qslots.reports import MapRow, Plan
from qslots.scoreboard import Scoreboard

HERE = pathlib.Path(__file__).parent
PATIENCE = 900.0  # seconds for a system to be there or to have done its work on a busy machine
LOOK = 0.05
TASTE = 0.2  # seconds between two portions of tasks for slots that come
SERVER = "bench"
CLIENTS = 48  # requests under way at gunicorn: more than it has workers, so that all have work


class BenchError(Exception):
    """A system that did not do what it was started for."""


@dataclass(slots=True)
class Bench:
    """Where it all happens: a folder, a private queue server, and whom to tell."""

    folder: pathlib.Path
    queue_server: embedded.Embedded
    say: Callable[[str], None]
    workers: int
    tasks: int
    touched: int
    objects: int
    work: str = "small"
    folders: Iterator[int] = field(default_factory=iter(range(1000)).__iter__)

    def new_folder(self) -> pathlib.Path:
        """A folder for one system, with one in it where its work is counted."""
        folder = self.folder / str(next(self.folders))
        (folder / "work").mkdir(parents=True)
        return folder


class System:
    """One that runs: its root process, the folder where the work is counted, and how it is given tasks."""

    def __init__(self, root: "subprocess.Popen[bytes]", folder: pathlib.Path, put: Callable[[int], None]) -> None:
        self.root = root
        self.folder = folder
        self.put = put

    def pids(self) -> list[int]:
        """All its processes."""
        return processes.descendants(self.root.pid)

    def workers(self) -> list[int]:
        """Those of its processes that serve tasks."""
        return [pid for pid in self.pids() if processes.parent(pid) == self.root.pid]

    def done(self) -> dict[int, int]:
        """Tasks by the pid that did them; also those of workers that are gone."""
        return {int(file.name): file.stat().st_size for file in (self.folder / "work").iterdir()}

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Until it is so; BenchError if the system ends or it takes too long."""
        until = time.monotonic() + PATIENCE
        while not condition():
            if self.root.poll() is not None or time.monotonic() > until:
                how = "took too long" if self.root.returncode is None else f"ended with {self.root.returncode}"
                said = (self.folder / "said").read_text().strip()[-2000:]
                raise BenchError(f"{what}: the system {how}; it said:\n{said}")
            time.sleep(LOOK)

    def work(self, tasks: int) -> None:
        """Has it do so many more."""
        before = sum(self.done().values())
        self.put(tasks)
        self.wait(f"{tasks} tasks", lambda: sum(self.done().values()) >= before + tasks)
        done = sum(self.done().values()) - before
        if done != tasks:
            raise BenchError(f"{done} tasks were run instead of {tasks}")


class Slots(System):
    """A qmaster with its slots, told by this process what a manager would tell."""

    def workers(self) -> list[int]:
        """The slots."""
        slots = []
        for pid in super().workers():
            with contextlib.suppress(*processes.GONE):
                slots += [pid] if processes.title(pid).startswith("qmaster: slot") else []
        return slots

    def bound(self) -> str:
        """How many slots there may be, and why no more: a busy machine starts none."""
        [path] = (self.folder / "run").glob("*.sock")
        answer = asking.ask(path, {"command": "status"}, timeout=PATIENCE) or {}
        return f"{answer.get('max_slots')} by {answer.get('reason')}"

    def recycle(self, index: int) -> None:
        """One slot shall leave after its task and be forked again."""
        request = {"command": "recycle", "slots": [index], "all": False}
        asking.ask(self.folder / "run" / f"{SERVER}.sock", request, timeout=PATIENCE)

    def board(self) -> Scoreboard:
        """What its slots write of themselves."""
        [path] = (self.folder / "run").glob("*.board")
        return Scoreboard.open(str(path))


@contextlib.contextmanager
def started(
    command: Sequence[str], environ: dict[str, str], kind: type[System], put: Callable[[int], None]
) -> Iterator[System]:
    """Runs a command in a folder and session of its own; at the end it and all below it are gone."""
    folder = pathlib.Path(environ["MEMORY_BENCH"]).parent
    with (folder / "said").open("wb") as said:
        root = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True, preexec_fn=embedded.die_with_parent(signal.SIGTERM),
        )  # fmt: skip
    try:
        yield kind(root, folder, put)
    finally:
        stop(root)


def stop(root: "subprocess.Popen[bytes]") -> None:
    """The fast orderly end, then SIGKILL for whatever of it is left."""
    left = []
    for pid in processes.descendants(root.pid)[1:]:
        with contextlib.suppress(ProcessLookupError):
            left.append(os.pidfd_open(pid))
    root.send_signal(signal.SIGQUIT)
    try:
        root.wait(20.0)
    except subprocess.TimeoutExpired:
        root.kill()
        root.wait()
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])
        os.close(process)


def environment(bench: Bench, folder: pathlib.Path, **more: str) -> dict[str, str]:
    """The same for all systems: one thread for native libraries, and no setting that this shell happens to have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QSLOTS_", "CELERY", "GUNICORN"))}
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    ours = {"MEMORY_BENCH": str(folder / "work"), "PYTHONPATH": str(HERE), "HOME": str(folder)}
    sizes = {"MEMORY_BENCH_TOUCHED": str(bench.touched), "MEMORY_BENCH_OBJECTS": str(bench.objects)}
    return {**kept, **one, **ours, **sizes, "MEMORY_BENCH_WORK": bench.work, **more}


@contextlib.contextmanager
def qmaster(bench: Bench, app: str = "served_by_qslots", slots: int | None = None, **more: str) -> Iterator[Slots]:
    """A master with so many slots for the queue ``work``."""
    count = slots or bench.workers
    folder, server = bench.new_folder(), QueueServer(bench.queue_server.url, name="bench")
    server.redis.flushall()
    environ = environment(
        bench, folder, QSLOTS_REDIS=bench.queue_server.url, QSLOTS_SERVER=SERVER,
        QSLOTS_RUNTIME_DIR=str(folder / "run"), QSLOTS_STATE_DIR=str(folder / "state"), QSLOTS_RESERVE_MEMORY="1%",
        QSLOTS_PRIVATE_LIMIT="64M", QSLOTS_MAX_SLOTS=str(count), **more,
    )  # fmt: skip
    publish(server, count)
    qslots.connect(bench.queue_server.url)
    command = [sys.executable, str(HERE / "unbraked.py"), "run", "--app", app]
    with started(command, environ, Slots, put_slots) as system:
        assert isinstance(system, Slots)
        if app == "weightless":
            give_a_taste(system, count, bench.say)
        system.wait(f"{count} slots", lambda: len(system.workers()) == count)
        yield system
    server.close()


def give_a_taste(system: Slots, count: int, say: Callable[[str], None]) -> None:
    """Tasks for slots while they come, until there are so many. They come by twos, fours, eights, as those before them
    turn out to fit: one that has done a task shows it at once, an idle one after ten seconds.
    """
    told = 0

    def all_there() -> bool:
        nonlocal told
        there = len(system.workers())
        if there != told:
            told = there
            say(f"  {there} of {count} slots, at most {system.bound()}")
        system.put(2 * there + 1)
        time.sleep(TASTE)
        return there == count

    system.wait(f"{count} slots", all_there)


@contextlib.contextmanager
def in_work(system: System, slots: int) -> Iterator[None]:
    """In this block there are tasks: about one a second for each slot."""
    over = threading.Event()

    def put() -> None:
        while not over.wait(1.0):
            system.put(slots)

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def publish(server: QueueServer, slots: int) -> None:
    """What a manager would: a map of so many slots."""
    control = Control(server)
    epoch = control.take_epoch("bench", 0, respect=0.0, take_over=True)
    row = MapRow(epoch, 1, "bench", (("work",),) * slots)
    control.publish(Plan(epoch, 1, "bench", time.time(), ()), {SERVER: row}, [])


def put_slots(tasks: int) -> None:
    """Tasks for the slots, by name: this process does not have the application."""
    qslots.Queue("work").put_many(({"n": n} for n in range(tasks)), handler="work")


@contextlib.contextmanager
def celery(bench: Bench, *options: str) -> Iterator[System]:
    """Celery's prefork pool, as it is by itself."""
    from celery import Celery  # of an extra that nothing else here needs

    folder = bench.new_folder()
    broker = "redis+socket://" + str(bench.queue_server.socket)
    with contextlib.closing(QueueServer(bench.queue_server.url, name="bench")) as server:
        server.redis.flushall()
    environ = environment(bench, folder, MEMORY_BENCH_BROKER=broker)
    command = [sys.executable, "-m", "celery", "-A", "served_by_celery", "worker", "-c", str(bench.workers), *options]
    with Celery(broker=broker) as client:

        def put(tasks: int) -> None:
            for n in range(tasks):
                client.send_task("work", (n,))

        with started(command, environ, System, put) as system:
            system.wait(f"{bench.workers} workers", lambda: len(system.workers()) == bench.workers)
            yield system


@contextlib.contextmanager
def gunicorn(bench: Bench) -> Iterator[System]:
    """gunicorn's own sync workers, forked from the application without any further care."""
    folder = bench.new_folder()
    path = str(folder / "s")
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--workers", str(bench.workers), "--bind", f"unix:{path}",
        "served_by_gunicorn:app",
    ]  # fmt: skip
    with started(command, environment(bench, folder), System, lambda tasks: ask_all(path, tasks)) as system:
        system.wait(f"{bench.workers} workers", lambda: len(system.workers()) == bench.workers)
        yield system


class _Asking(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def ask_all(path: str, tasks: int) -> None:
    """A request for each task, CLIENTS at a time."""
    left = collections.deque(range(tasks))
    failed = threading.Event()

    def ask() -> None:
        while left and not failed.is_set():
            with contextlib.suppress(IndexError), contextlib.closing(_Asking(path)) as asking:
                asking.request("GET", f"/{left.popleft()}")
                answer = asking.getresponse()
                answer.read()  # to its end, else the connection stays open and the worker waits for that
                if answer.status != 200:
                    failed.set()
                    raise BenchError(f"gunicorn answered {answer.status}")

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        for each in [pool.submit(ask) for _ in range(min(CLIENTS, tasks))]:
            each.result()
